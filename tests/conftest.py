"""What several tests share: the real archive, where this machine has it."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest

from astrd import dataset, simulate, smass
from astrd.dataset import LabelledSpectra

RAW_FOLDER = Path(__file__).parents[1] / "data" / "raw"


@pytest.fixture(scope="session")
def archive_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both files of the archive. No test goes to the official address for them."""
    if all((RAW_FOLDER / file.name).is_file() for file in smass.FILES):
        return RAW_FOLDER
    if mirror := os.environ.get(smass.MIRROR_VARIABLE):
        folder = tmp_path_factory.mktemp("archive")
        smass.fetch(folder, mirror)
        return folder
    reason = f"the SMASS II archive is not here: put its files into data/raw, or set {smass.MIRROR_VARIABLE}"
    if os.environ.get("ASTRD_REQUIRE_ARCHIVE") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def archive_survey(archive_folder: Path) -> smass.Survey:
    """The archive as it is read; a file in data/raw with a wrong hash is an error here."""
    return smass.read(smass.ArchivePaths(*(archive_folder / file.name for file in smass.FILES)))


@pytest.fixture(scope="session")
def raw_table(archive_survey: smass.Survey) -> pd.DataFrame:
    """The table of raw spectra. Tests share it and must not change it."""
    return archive_survey.table


@pytest.fixture(scope="session")
def simulated_raw() -> pd.DataFrame:
    """A small simulated survey. Tests share it and must not change it."""
    return simulate.survey(400, seed=1)


@pytest.fixture(scope="session")
def simulated_parts(simulated_raw: pd.DataFrame) -> tuple[LabelledSpectra, LabelledSpectra]:
    """Training and test part of the small simulated survey."""
    return dataset.labelled(dataset.features(simulated_raw))
