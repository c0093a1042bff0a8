"""Ingest: the archive's two files to one Parquet table, or one `pandas.read_csv` a file and a join."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from astrd import dataset, smass, smass_spectra
from astrd.dataset import RAW_SCHEMA, DataSource
from astrd.smass import ArchivePaths
from astrd.smoothing import WAVELENGTH
from benchmarks.measuring import Comparison, timed
from benchmarks.setting import ASTEROIDS, Setting


def comparisons(setting: Setting) -> Iterator[Comparison]:
    """The archive if it is here and all of it is asked for; else such files, written from spectra that are.

    Both ways are found to write equal tables before they are measured. Unpacking, which the other way needs, is not.
    """
    table, origin = setting.spectra
    whole = setting.archive is not None and setting.amounts.asteroids == ASTEROIDS
    paths = setting.archive if setting.archive and whole else _written(table, setting.amounts.asteroids, setting.folder)
    unpacked = setting.folder / "unpacked"
    with tarfile.open(paths.spectra) as tar:
        tar.extractall(unpacked, filter="data")
    ours, theirs = setting.folder / "ours.parquet", setting.folder / "theirs.parquet"
    data_source: DataSource = "smass2" if whole else "simulated"

    def at_once() -> None:
        survey = smass.read(paths) if whole else _read(paths)
        dataset.write(survey.table, ours, RAW_SCHEMA, data_source)

    def file_by_file() -> None:
        dataset.write(_joined(paths.taxonomy, unpacked), theirs, RAW_SCHEMA, data_source)

    at_once(), file_by_file()
    content = pq.read_table(ours)
    if not content.equals(pq.read_table(theirs)):
        raise AssertionError("expected equal tables of both ways to read the archive")
    files = f"{len(content)} asteroids, {'SMASS II' if whole else f'files written from {origin} spectra'}"
    yield Comparison(
        "ingest", f"{files}: out of the tar, once", "unpacked before; one `pandas.read_csv` a file, and a join",
        timed(at_once), timed(file_by_file), target=8, equal="tables",
    )  # fmt: skip


def _joined(taxonomy: Path, folder: Path) -> pd.DataFrame:
    """The table of raw spectra, read file by file as one would who has pandas."""
    rows = []
    for path in folder.rglob("*.spfit.[[]2]"):
        smoothed = pd.read_csv(path, sep=r"\s+", header=None, names=["wavelength", "reflectance"])
        raw_path = path.with_name(path.name.replace(".spfit", ""))
        if not raw_path.exists():
            continue
        raw = pd.read_csv(raw_path, sep=r"\s+", header=None, names=["wavelength", "reflectance", "uncertainty"])
        kept = raw[raw["wavelength"] != 0]
        code = path.name.partition(".")[0]
        designation = f"{code[2:6]} {code[6:]}" if code.startswith("au") else str(int(code[1:]))
        columns = [kept[name].to_numpy() for name in ("wavelength", "reflectance", "uncertainty")]
        rows.append((designation, *columns, len(raw) - len(kept), smoothed["reflectance"].to_numpy()))
    spectra = pd.DataFrame(rows, columns=["designation", *RAW_SCHEMA.names[5:]])
    # The classes are no table that `read_csv` can read: some of their rows have tabs too many.
    table = smass.read_classes(taxonomy).dropna(subset=["bus_class"]).merge(spectra, on="designation")
    table["main_group"] = table["bus_class"].map(smass.MAIN_GROUP_OF)
    order = [smass._order(designation) for designation in table["designation"]]
    return table.iloc[sorted(range(len(table)), key=order.__getitem__)][RAW_SCHEMA.names].reset_index(drop=True)


def _read(paths: ArchivePaths) -> smass.Survey:
    """As `smass.read`, of files whose hashes are not those of the archive."""
    with paths.spectra.open("rb") as spectra:
        return smass.join(smass.read_classes(paths.taxonomy), smass_spectra.read_spectra(spectra))


def _written(table: pd.DataFrame, asteroids: int, folder: Path) -> ArchivePaths:
    """Files as those of the archive, of some spectra whose asteroids are numbered from 1."""
    folder = folder / "written"
    folder.mkdir()
    taxonomy, spectra = (folder / file.name for file in smass.FILES)
    taxonomy.write_text(
        "".join(f"{n} A{n}\t\t{name}\n" for n, name in enumerate(table["bus_class"].head(asteroids), 1))
    )
    with tarfile.open(spectra, "w:gz") as tar:
        for number, row in enumerate(table.head(asteroids).itertuples(index=False), start=1):
            raw = np.column_stack([row.wavelength, row.reflectance, row.uncertainty])
            smoothed = np.column_stack([WAVELENGTH, row.reference_reflectance])
            for name, values in ((f"a{number:06}.[2]", raw), (f"a{number:06}.spfit.[2]", smoothed)):
                text = io.BytesIO()
                np.savetxt(text, values, fmt="%.4f")
                member = tarfile.TarInfo(f"smass2/{name}")
                member.size = text.tell()
                text.seek(0)
                tar.addfile(member, text)
    return ArchivePaths(taxonomy, spectra)
