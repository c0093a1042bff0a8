"""The model whose speed is measured, in two forms: as it is served, and its network as MLflow's keras flavor."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import mlflow
import pandas as pd

from astrd import catalogue, dataset, registry, tracking
from astrd.analogues import Archive
from astrd.calibrated import Calibration

KIND: Final = "bus-ensemble"
"""What is trained where there is no champion: the kind that is champion on the archive."""

EPOCHS: Final = 2  # its speed does not depend on how well it learned


@dataclass(frozen=True)
class TwoForms:
    """Folders of models that MLflow loads and serves, and what the model is."""

    served: Path
    keras: Path
    name: str


def find_or_make(folder: Path, raw: pd.DataFrame, tell: Callable[[str], None]) -> TwoForms:
    """The champion of the registry, or a model of its kind that learned from raw spectra for a moment.

    Parameters
    ----------
    folder
        Where its files are copied to.
    raw
        Spectra to learn from if there is no champion.
    """
    if tracking.store_exists():
        tracking.connect()
        if (champion := registry.version_named(tracking.Alias.CHAMPION)) and champion.run_id:
            tell("fetching the champion")
            return _copied(champion.run_id, folder, f"champion, version {champion.version}")
    tell(f"no champion: training a {KIND} for {EPOCHS} epochs")
    with _own_store(folder):
        return _copied(_logged(raw), folder, f"{KIND}, trained here for {EPOCHS} epochs")


def _copied(run_id: str, folder: Path, name: str) -> TwoForms:
    served, keras = (
        Path(mlflow.artifacts.download_artifacts(f"runs:/{run_id}/{logged}", dst_path=str(folder / logged)))
        for logged in (registry.CLASSIFIER, registry.MODEL)
    )
    return TwoForms(served, keras, name)


def _logged(raw: pd.DataFrame) -> str:
    table = dataset.features(raw)
    train, _ = dataset.labelled(table)
    fitted = catalogue.model(KIND, catalogue.Settings(epochs=EPOCHS)).fit(train)
    calibration = Calibration.fit(train, fitted.probabilities(train.reflectance))
    example = {name: [raw[name].iat[0].tolist()] for name in ("wavelength", "reflectance", "uncertainty")}
    with warnings.catch_warnings(), mlflow.start_run() as run:
        warnings.filterwarnings("ignore", "In the future `np.object`", FutureWarning)  # Keras, when it exports
        registry.log_candidate(fitted, calibration, Archive.of(table), train, pd.DataFrame(example))
    return run.info.run_id


@contextlib.contextmanager
def _own_store(folder: Path) -> Iterator[None]:
    """MLflow in this process speaks to a store in the folder while the block runs."""
    folder.mkdir(parents=True, exist_ok=True)
    before, uri = os.environ.get("MLFLOW_TRACKING_URI"), mlflow.get_tracking_uri()
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder / tracking.DEFAULT_STORE}"
    try:
        tracking.connect()
        yield
    finally:
        if before is None:
            del os.environ["MLFLOW_TRACKING_URI"]
        else:
            os.environ["MLFLOW_TRACKING_URI"] = before
        mlflow.set_tracking_uri(uri)
