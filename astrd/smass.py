"""The SMASS II archive: where its two files are, what their content must hash to, how they are read and joined.

Source: Bus & Binzel 2002, Icarus 158, 106, doi:10.1006/icar.2002.6857 (spectra), and Icarus 158, 146,
doi:10.1006/icar.2002.6856 (taxonomy).
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pandas as pd

from astrd.dataset import RAW_SCHEMA, sha256_of
from astrd.smass_spectra import ArchiveError, Refusal, SpectraFiles, read_spectra
from astrd.taxonomy import BUS_CLASSES, MAIN_GROUP_OF

log = logging.getLogger(__name__)

MIRROR_VARIABLE: Final = "ASTRD_MIRROR"
OFFICIAL_ADDRESS: Final = "http://smass.mit.edu/data/smass"


class ArchiveUnavailable(ArchiveError):
    """A file of the archive could not be had from where it was looked for."""


@dataclass(frozen=True)
class ArchiveFile:
    """One official file: its name and the SHA-256 of its content."""

    name: str
    sha256: str

    @property
    def address(self) -> str:
        """Where the observers publish it."""
        return f"{OFFICIAL_ADDRESS}/{self.name}"


TAXONOMY_FILE: Final = ArchiveFile(
    "Bus.Taxonomy.txt", "0ce970a6972dd7c49d512848b9736d00b621c9d6395a035bd1b4f3780d4b56c6"
)
SPECTRA_FILE: Final = ArchiveFile(
    "smass2data.tar.gz", "dacf575eb1403c08bdfbffcd5dbfe12503a588e09b04ed19cc4572584a57fa97"
)
FILES: Final = (TAXONOMY_FILE, SPECTRA_FILE)

# Together they let a host that is out of reach, or silent, fail within 20 seconds.
_ATTEMPTS: Final = 2
_TIMEOUT: Final = (4.0, 9.0)  # seconds to connect, and between two pieces of an answer
_BACK_OFF: Final = 1.0  # seconds

_PROVISIONAL: Final = re.compile(r"\d{4} [A-Z]{2}\d*")
_NUMBERED: Final = re.compile(r"(\d+) (\S.*)")


@dataclass(frozen=True)
class ArchivePaths:
    """The two files of the archive on this machine."""

    taxonomy: Path
    spectra: Path


@dataclass(frozen=True)
class Survey:
    """What was read: one row an asteroid in the columns of `dataset.RAW_SCHEMA`, and what was left out.

    Numbered asteroids come first, by number, then the provisional designations.
    """

    table: pd.DataFrame
    refused: tuple[Refusal, ...]
    rejected_rows: int


def fetch(folder: Path, mirror: str = "", progress: bool = True) -> ArchivePaths:
    """Have the two files in `folder`, verified by SHA-256.

    A file that is there with the right hash is kept. Otherwise it comes from the mirror if one is named, else from
    the official address. Nothing appears under a file's name before its hash was found right.

    Parameters
    ----------
    folder
        Where the files belong, such as `data/raw`. Made if missing.
    mirror
        A folder, or a `file://`, `http://` or `https://` address, that holds files of the official names.
        Empty means the environment variable `ASTRD_MIRROR`, if set.
    progress
        Whether to draw a bar for downloads. It is drawn only on a terminal.

    Raises
    ------
    ArchiveUnavailable
        If a file cannot be had. A named mirror is never passed over in favour of the official address.
    ArchiveError
        If what came has the wrong hash.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    origin = (mirror or os.environ.get(MIRROR_VARIABLE, "")).strip()
    taxonomy, spectra = (_obtain(file, folder, origin, progress) for file in FILES)
    return ArchivePaths(taxonomy, spectra)


def read(paths: ArchivePaths) -> Survey:
    """Read both files and join each spectrum with its class.

    Raises
    ------
    ArchiveError
        If a file is not the official one, byte for byte.
    """
    for path, file in ((paths.taxonomy, TAXONOMY_FILE), (paths.spectra, SPECTRA_FILE)):
        if (found := sha256_of(path)) != file.sha256:
            raise _wrong_hash(file, str(path), found)
    with paths.spectra.open("rb") as spectra:
        return join(read_classes(paths.taxonomy), read_spectra(spectra))


def read_classes(path: Path) -> pd.DataFrame:
    """The table of classes: columns designation, name, tholen_class and bus_class, null where there is none.

    Raises
    ------
    ArchiveError
        If a row has no designation, or a class that is not in the Bus taxonomy.
    """
    rows = []
    for number, line in enumerate(path.read_text(encoding="ascii").splitlines(), start=1):
        first, *classes = (cell.strip() for cell in line.split("\t"))
        if not classes:
            continue  # the header has no tabs
        # 523, 614 and 1998 MQ have tabs too many before their Bus class: take the first cell that holds one.
        bus_class: str | None = next((cell for cell in classes[1:] if cell), "-")
        if bus_class == "-":
            bus_class = None
        elif bus_class not in BUS_CLASSES:
            raise ArchiveError(f"{path.name}, line {number}: expected a Bus class or -, got {bus_class!r}")
        if _PROVISIONAL.fullmatch(first):
            designation, name = first, None
        elif numbered := _NUMBERED.fullmatch(first):
            designation, name = numbered.groups()
        else:
            raise ArchiveError(f"{path.name}, line {number}: expected a name like 1 Ceres or 1996 PW, got {first!r}")
        rows.append((designation, name, classes[0] or None, bus_class))
    return pd.DataFrame(rows, columns=["designation", "name", "tholen_class", "bus_class"], dtype="str")


def join(classes: pd.DataFrame, spectra: SpectraFiles) -> Survey:
    """Join spectra with the table of classes; those without a class or without Bus's smoothing are refused."""
    columns = [classes[c].astype(object).where(classes[c].notna(), None).tolist() for c in classes]
    by_designation = {row[0]: row for row in zip(*columns, strict=True)}
    rows, refused = [], list(spectra.refused)
    for designation in sorted(spectra.raw, key=_order):
        _, name, tholen_class, bus_class = by_designation.get(designation, (None,) * 4)
        if designation not in by_designation:
            reason = f"{designation} has no row in the table of classes"
        elif bus_class is None:
            reason = f"{designation} has no Bus class"
        elif designation not in spectra.smoothed:
            reason = f"{designation} has no smoothed spectrum"
        else:
            wavelength, reflectance, uncertainty = spectra.raw[designation].T
            rejected, reference = spectra.rejected_rows[designation], spectra.smoothed[designation]
            group = MAIN_GROUP_OF[bus_class]
            labels = (designation, name, tholen_class, bus_class, group)
            rows.append((*labels, wavelength, reflectance, uncertainty, rejected, reference))
            continue
        refused.append(Refusal(spectra.member[designation], reason))
    for designation in sorted(spectra.smoothed.keys() - spectra.raw.keys(), key=_order):
        refused.append(Refusal(spectra.member[designation], f"{designation} has no raw spectrum"))
    table = pd.DataFrame(rows, columns=RAW_SCHEMA.names)
    text = ("designation", "name", "tholen_class", "bus_class", "main_group")
    table = table.astype(dict.fromkeys(text, "str"))
    return Survey(table, tuple(refused), sum(spectra.rejected_rows.values()))


def _order(designation: str) -> tuple[bool, int, str]:
    numbered = designation.isdecimal()
    return not numbered, int(designation) if numbered else 0, designation


def _obtain(file: ArchiveFile, folder: Path, mirror: str, progress: bool) -> Path:
    path = folder / file.name
    if path.is_file():
        if (found := sha256_of(path)) == file.sha256:
            return path
        log.warning(
            "%s has the wrong content (expected SHA-256 %s, found %s); it is fetched again and then replaced",
            path, file.sha256, found,
        )  # fmt: skip
    source = _source(file, mirror)
    partial = folder / f".{file.name}.{os.getpid()}.part"
    try:
        try:
            if isinstance(source, Path):
                shutil.copyfile(source, partial)
            else:
                _download(source, partial, progress)
        except OSError as error:  # all of requests' errors are OSErrors too
            raise _unavailable(file, mirror, str(error)) from error
        if (found := sha256_of(partial)) != file.sha256:
            raise _wrong_hash(file, f"the mirror {mirror}" if mirror else file.address, found)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def _source(file: ArchiveFile, mirror: str) -> Path | str:
    if not mirror:
        return file.address
    scheme, host, path, *_ = urlsplit(mirror)
    if scheme in ("http", "https"):
        return f"{mirror.rstrip('/')}/{file.name}"
    if scheme == "file" and host in ("", "localhost"):
        return Path(url2pathname(path)) / file.name
    if "://" in mirror:
        raise _unavailable(file, mirror, "expected a folder, or an address with file://, http:// or https://")
    return Path(mirror).expanduser() / file.name


def _download(address: str, target: Path, progress: bool) -> None:
    import pooch

    def keep_as_sent(response: object, *_: object, **__: object) -> None:
        # Some servers declare a .tar.gz as an encoding of its transfer; decoded, its hash would be another.
        response.raw.headers.pop("Content-Encoding", None)  # type: ignore[attr-defined]

    download = pooch.HTTPDownloader(
        progressbar=progress and sys.stderr.isatty(),
        chunk_size=2**16,
        timeout=_TIMEOUT,
        headers={"Accept-Encoding": "identity"},
        hooks={"response": keep_as_sent},
    )
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            download(address, str(target), None)
            return
        except OSError as error:
            answer = getattr(error, "response", None)
            if answer is not None:
                answer.close()  # its body was not read, so its connection is still open
            if attempt == _ATTEMPTS or (answer is not None and answer.status_code < 500):
                raise
            time.sleep(_BACK_OFF * attempt)


def _wrong_hash(file: ArchiveFile, origin: str, found: str) -> ArchiveError:
    return ArchiveError(
        f"{file.name} from {_without_password(origin)} is not the official file: expected SHA-256 {file.sha256}, "
        f"found {found}. It was not used. Get it from {file.address} or from another mirror."
    )


def _unavailable(file: ArchiveFile, mirror: str, reason: str) -> ArchiveUnavailable:
    origin = f"the mirror {mirror}" if mirror else file.address
    hashes = ", ".join(f"{f.name} (SHA-256 {f.sha256})" for f in FILES)
    return ArchiveUnavailable(
        _without_password(f"{file.name} could not be had from {origin}: {reason}.\n")
        + f"There are three ways to the archive: put {hashes} into data/raw; name a mirror that holds them with "
        f"--mirror or {MIRROR_VARIABLE} (a folder or an address); or let it come from {OFFICIAL_ADDRESS}, with no "
        "mirror named. Without the archive, --source simulated runs on a simulated survey."
    )


def _without_password(text: str) -> str:
    return re.sub(r"://[^/@\s]+@", "://", text)
