"""Files of spectra as observers have them: columns of text, CSV, ECSV, VOTable or FITS tables, in µm, nm or Å.

What is assumed, converted or dropped on the way is said in the spectrum's notes; what cannot be decided is an error.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from glob import glob
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from astrd.columns import HEADER, MOST_BYTES, AtPlace, Table, meaning_of, number_of, role_of, table_of, unit_of
from astrd.spectrum import Array, Spectrum, SpectrumError, covers, shown

_MICRONS: Final = {"µm": 1.0, "nm": 1e3, "Å": 1e4, "m": 1e-6}  # how many make 1 µm
_GUESSED: Final = (0.2, 3.0)  # µm: where the wavelengths lie if the file does not name their unit
_STATED: Final = (0.1, 6.0)  # µm: and if it does
_WIDEST_JUMP: Final = 3.0  # between neighbouring wavelengths; nm beside Å make a wider one

_FLAGS_BELOW: Final = 10.0
_NINES: Final = [float("9" * whole + "." + "9" * decimals) for whole in range(2, 6) for decimals in range(4)]
_HUGE: Final = 1e30  # -1.23e34 and the like stand for deleted channels
_FAR: Final = 50.0  # times the median reflectance: 99.99 there is no measurement


def read(path: str | Path) -> Spectrum:
    """Read a file that holds one spectrum.

    It may be text of 2 to 4 columns (wavelength, reflectance, perhaps 1 sigma, perhaps a flag, which is ignored),
    separated by blanks, tabs, commas or semicolons, with or without comments (`#`, `;`, `!`) and names of columns; or
    an ECSV, VOTable or FITS table. Columns with known names may stand in any order, among others. Wavelengths are in
    the unit that name or column tells; without one, their range tells µm, nm or Å.

    Rows without a measurement are dropped: wavelength 0 (as in SMASS), below 0 or missing; reflectance or uncertainty
    0, -1, -99, -999 and the like, missing, or 99.99 and the like far above all others. An uncertainty that no row has
    counts as not given. The designation is the file's name.

    Raises
    ------
    SpectrumError
        If the file cannot be read, or its points make no spectrum; the message names the file, where there is one
        the line, and what to do.
    """
    path = Path(path)
    name = printable(path)
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise SpectrumError(f"{name}: expected a file that can be read: {reason}") from None
    return read_bytes(data, name)


def printable(path: Path) -> str:
    """A path as text that can be printed and written; bytes of a name that are no text become `?`."""
    return str(path).encode("utf-8", "replace").decode()


def read_bytes(data: bytes, name: str) -> Spectrum:
    """Read what a file holds, as `read` does. `name` is the file's, for errors and the designation."""
    try:
        return _spectrum(table_of(data), Path(name).name)
    except AtPlace as error:
        raise SpectrumError(f"{name}, {error.place}: {error}") from None
    except SpectrumError as error:
        raise SpectrumError(f"{name}: {error}") from None


def expand(arguments: Sequence[str | Path]) -> list[Path]:
    """The files that paths, folders and glob patterns name, each once.

    Arguments keep their order; what a folder or pattern brings is sorted. A folder brings the files in it, neither
    hidden ones nor those of folders in it; a pattern brings files only. A path that is there is no pattern, and a
    pattern that matches nothing is tried with `.[2]`, which ends the names of SMASS, and then with every `[` taken by
    the letter.

    Raises
    ------
    SpectrumError
        If an argument brings no file. Where that must not stop the others, expand them one by one.
    """
    paths: dict[Path, None] = {}
    for argument in map(str, arguments):
        try:
            brought = _files(argument)
        except SpectrumError:
            raise
        except (OSError, ValueError, RuntimeError) as error:  # no permission, NUL in a path, no such home
            raise SpectrumError(f"{argument}: expected a path that can be read: {error}") from None
        paths |= dict.fromkeys(brought)
    return list(paths)


def _files(argument: str) -> list[Path]:
    path = Path(argument).expanduser()
    if path.is_dir():
        found = sorted(entry for entry in path.iterdir() if entry.is_file() and not entry.name.startswith("."))
        if not found:
            raise SpectrumError(f"{argument}: expected files of spectra in this folder, got none")
        return found
    if path.exists():
        return [path]
    if not any(letter in argument for letter in "*?["):
        raise SpectrumError(f"{argument}: expected a file or folder, got the name of none")
    pattern = str(path)
    hits = _matches(pattern) or _matches(pattern.replace(".[2]", ".[[]2]")) or _matches(pattern.replace("[", "[[]"))
    if not hits:
        raise SpectrumError(f"{argument}: expected a pattern of files, got one that none matches")
    return hits


def _matches(pattern: str) -> list[Path]:
    # Path.glob takes no absolute pattern, and lists hidden files.
    return sorted(path for path in map(Path, glob(pattern, recursive=True)) if path.is_file())  # noqa: PTH207


# From columns to a spectrum


def _spectrum(table: Table, designation: str) -> Spectrum:
    at, notes = _chosen(table)
    w, r = (_numbers(table, column) for column in at[:2])
    u = _numbers(table, at[2]) if len(at) > 2 else None
    notes = [*table.notes, *notes]

    reason = np.full(len(w), "", dtype=object)
    _reject(reason, "wavelength", w, ~np.isfinite(w) | (w <= 0) | (w >= _HUGE))
    measured = np.abs(r[(reason == "") & ~_is_sentinel(r, np.inf)])
    level = float(np.median(measured)) if len(measured) else 0.0
    _reject(reason, "reflectance", r, _is_sentinel(r, level))
    left = reason == ""
    if u is not None and left.any():
        # Flags are whole numbers beside reflectances of about 1; beside counts, whole numbers may be uncertainties.
        whole = level < _FLAGS_BELOW and not np.mod(u[left & np.isfinite(u)], 1).any() and np.mod(r[left], 1).any()
        absent = _is_sentinel(u, level)
        if absent[left].all():
            notes.append("uncertainties all 0, -1 or missing: taken as not given")
            u = None
        elif whole and not table.names:
            notes.append("column 3 holds whole numbers: ignored, as no uncertainties")
            u = None
        elif not table.names and np.median(u[left & ~absent]) > level / 2:
            raise SpectrumError(
                "expected 1 sigma of the reflectance in column 3, got values nearly as large; say what the "
                f"columns are in a line above them, such as {HEADER}"
            )
        else:
            _reject(reason, "uncertainty", u, absent)
    kept = np.flatnonzero(reason == "")
    w, r, u = w[kept], r[kept], None if u is None else u[kept]
    dropped = [f"{n} rejected points ({why}) dropped" for why, n in Counter(reason[reason != ""].tolist()).items()]
    notes = [*dropped, *notes]
    if len(kept):
        unit, how = _unit(table, at[0], w, kept)
        if unit != "µm":
            w = np.round(w / _MICRONS[unit], 9)  # as the decimal number in µm would be read
            notes.append(f"wavelengths converted from {unit}, by {how}")
    try:
        spectrum = Spectrum.of(w, r, u, designation)
    except SpectrumError as error:
        message = f"{error} ({'; '.join(notes)})" if notes else str(error)
        if error.wavelength is not None:
            raise AtPlace(table.places[kept[int((w == error.wavelength).argmax())]], message) from None
        raise SpectrumError(message) from None
    return replace(spectrum, notes=(*notes, *spectrum.notes))


def _chosen(table: Table) -> tuple[list[int], list[str]]:
    """Which columns are wavelength, reflectance and perhaps uncertainty, and what has to be said of the others."""
    width = len(table.columns)
    if not table.names:
        if not 2 <= width <= 4:
            raise AtPlace(
                table.places[0],
                f"expected 2 to 4 columns, got {width}; name them in a line above, such as {HEADER}",
            )
        return list(range(min(width, 3))), ["column 4 not used"] if width == 4 else []
    roles = [role_of(name) for name in table.names]
    named = ", ".join(map(shown, table.names))
    ways_out = "name them wavelength, reflectance and uncertainty"
    if "wavelength" not in roles and "no wavelength" in roles:
        raise SpectrumError(f"expected wavelengths, got columns {named}; convert them to µm, nm or Å")
    if width < 2:
        raise SpectrumError(f"expected 2 columns or more, got {named}")
    notes: list[str] = []
    at: list[int] = []
    for role, others in (("wavelength", ()), ("reflectance", ("flux",))):
        place = next((roles.index(name) for name in (role, *others) if name in roles), None)
        if place is None:
            free = [n for n in range(width) if n not in at and roles[n] == "unknown"]
            if not free or width > 4:
                raise SpectrumError(f"expected a column of {role}s, got columns {named}; {ways_out}")
            place = free[0]
            notes.append(f"column {shown(table.names[place])} taken as {role}")
        at.append(place)
    if "uncertainty" in roles:
        at.append(roles.index("uncertainty"))
    if unused := [shown(name) for n, name in enumerate(table.names) if n not in at]:
        notes.append(f"columns not used: {', '.join(unused)}")
    return at, notes


def _numbers(table: Table, column: int) -> Array:
    cells = table.columns[column]
    if isinstance(cells, np.ndarray):
        return cells
    numbers = [number_of(cell) for cell in cells]
    if None in numbers:
        row = numbers.index(None)
        raise AtPlace(
            table.places[row],
            f"expected numbers, got {shown(table.rows[row] if table.rows else cells[row])}; "
            "numbers have a decimal point, comments begin with #",
        )
    return np.array(numbers, dtype=np.float64)


def _is_sentinel(values: Array, level: float) -> NDArray[np.bool_]:
    """Which values stand for no measurement, where `level` is the usual size of the reflectance."""
    nines = np.isin(values, np.negative(_NINES)) | (np.isin(values, _NINES) & (values > _FAR * level))
    return ~np.isfinite(values) | (np.abs(values) >= _HUGE) | (values == 0) | (values == -1) | nines


def _reject(reason: NDArray[np.object_], what: str, values: Array, rejected: NDArray[np.bool_]) -> None:
    """Note why rows are dropped, where nothing has been noted before."""
    for row in np.flatnonzero(rejected & (reason == "")):
        value = values[row]
        if not np.isfinite(value):
            said = "missing"
        elif what == "wavelength" and value < 0:
            said = "below 0"
        else:
            said = f"{value:g}"
        reason[row] = f"{what} {said}"


# The unit of the wavelengths


def _unit(table: Table, column: int, w: Array, kept: NDArray[np.intp]) -> tuple[str, str]:
    """The unit of the wavelengths, and what told it.

    A unit is possible if all wavelengths lie where spectra of asteroids do. No two units are and cover 0.50 to
    0.85 µm as well, so that an error about coverage can be made in µm.
    """
    said = [(unit_of(table.units[column]), "the column's unit")] if table.units else []
    said += [(meaning_of(table.names[column])[1], "the column's name")] if table.names else []
    stated, how = next(((unit, how) for unit, how in said if unit), (None, "their range"))
    if stated == "none":
        raise SpectrumError(f"expected wavelengths in µm, nm or Å, got {shown(table.units[column])}; convert them")
    possible = [unit for unit in ("µm", "nm", "Å") if _lie_in(_GUESSED, w, unit)]
    covering = [unit for unit in possible if covers(w / _MICRONS[unit])]
    if stated:
        if _lie_in(_STATED, w, stated) and _steps_are_small(w) and (covers(w / _MICRONS[stated]) or not covering):
            return stated, how
        if covering:
            raise SpectrumError(
                f"expected wavelengths in {stated}, by {how}, got {w.min():g} to {w.max():g}: that looks like "
                f"{covering[0]}; correct the unit"
            )
    elif len(covering or possible) == 1:
        return (covering or possible)[0], how
    elif possible:
        raise SpectrumError(
            f"expected wavelengths in µm, nm or Å, got {w.min():g} to {w.max():g}, which may be "
            f"{' or '.join(possible)}; name the unit in a line above them, such as {HEADER}"
        )
    raise _mixed(table, w, kept, stated)


def _lie_in(limits: tuple[float, float], wavelength: Array, unit: str) -> bool:
    low, high = limits
    return bool(low * _MICRONS[unit] <= wavelength.min() and wavelength.max() <= high * _MICRONS[unit])


def _steps_are_small(wavelength: Array) -> bool:
    ordered = np.sort(wavelength)
    return bool((ordered[1:] <= _WIDEST_JUMP * ordered[:-1]).all())


def _mixed(table: Table, w: Array, kept: NDArray[np.intp], stated: str | None) -> SpectrumError:
    """Name a wavelength that is in no unit in which most others are."""
    low, high = _STATED if stated else _GUESSED
    inside = {
        unit: (w >= low * scale) & (w <= high * scale)
        for unit, scale in _MICRONS.items()
        if unit == stated or not stated
    }
    unit = max(inside, key=lambda name: int(inside[name].sum()))
    usual = inside[unit]
    if not usual.any() or usual.all():
        return SpectrumError(
            f"expected wavelengths in one unit, {stated or 'µm, nm or Å'}, got {w.min():g} to {w.max():g}; convert "
            f"them, and name the unit in a line above them, such as {HEADER}"
        )
    odd, other = int((~usual).argmax()), int(usual.argmax())
    return AtPlace(
        table.places[kept[odd]],
        f"expected wavelengths in one unit, got {w[odd]:g} here and {w[other]:g} in {table.places[kept[other]]}; put "
        f"all in one, and name it in a line above them, such as {HEADER}",
    )
