"""Files of spectra as observers have them: columns of text, CSV, ECSV, VOTable or FITS tables, in µm, nm or Å.

What is assumed, converted or dropped on the way is said in the spectrum's notes; what cannot be decided is an error.
"""

from __future__ import annotations

import csv
import io
import math
import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from glob import glob
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from astrd.spectrum import COMMENTS, Array, Spectrum, SpectrumError, covers, shown

MOST_BYTES: Final = 20 * 2**20
HEADER: Final = "# wavelength(nm) reflectance uncertainty"
"""A line that says what the columns are, and in which unit. Errors show it as a way out."""

_MICRONS: Final = {"µm": 1.0, "nm": 1e3, "Å": 1e4, "m": 1e-6}  # how many make 1 µm
_UNIT_NAMES: Final = {
    "µm": r"[uμ]m|mum|μ|mic|microns?|micromet(er|re)s?",
    "nm": r"nm|nanomet(er|re)s?",
    "Å": r"a|å|aa|angs?|[aå]ngstr[oö]ms?|0\.1 ?nm",
    "m": r"m|met(er|re)s?",
}
_NO_WAVELENGTH: Final = r"cm\W*-1|(1|per) ?/? ?cm|[kmgt]?hz|[km]?ev"
_GUESSED: Final = (0.2, 3.0)  # µm: where the wavelengths lie if the file does not name their unit
_STATED: Final = (0.1, 6.0)  # µm: and if it does
_WIDEST_JUMP: Final = 3.0  # between neighbouring wavelengths; nm beside Å make a wider one

# What a word of a column's name says. The first that matches any word of the name holds.
_ROLES: Final = (
    ("other", r"flags?|qual\w*|mask\w*|snr|id|index|numbers?|counts?|n"),
    ("uncertainty", r"unc\w*|\w*err(or)?s?|\w*sigma|sig|std\w*|sd|rms|noise|e|dr|drefl\w*|delta"),
    ("no wavelength", r"wavenum\w*|wn|freq\w*|energ\w*"),
    ("wavelength", r"wavel\w*|waves?|wav|wvl\w*|lambda|lam|λ|wl|w"),
    ("reflectance", r"refl\w*|ref|albedo|r"),
    ("flux", r"flux\w*|rel|relative|norm\w*|intensity|brightness|spectrum"),
)
_ADJECTIVES: Final = r"(?i)\b(relative|normali[sz]ed|scaled|mean|spectral|standard|rms|1[- ]?sigma|std\.?)\s+(?=[a-z])"

_MOST_CELLS: Final = 1_000_000  # that a VOTable may announce
_MISSING: Final = {"", "nan", "null", "none", "na", "n/a"}
_REMARK: Final = re.compile(r"\s+[#!].*")
_FORTRAN: Final = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))[dD]([+-]?\d+)")
_FLAGS_BELOW: Final = 10.0
_NINES: Final = [float("9" * whole + "." + "9" * decimals) for whole in range(2, 6) for decimals in range(4)]
_HUGE: Final = 1e30  # -1.23e34 and the like stand for deleted channels
_FAR: Final = 50.0  # times the median reflectance: 99.99 there is no measurement


class _AtPlace(SpectrumError):
    """A fault at a place in the file, such as `line 3`."""

    def __init__(self, place: str, message: str) -> None:
        super().__init__(message)
        self.place = place


@dataclass(frozen=True, eq=False)
class _Table:
    """Columns as a file has them: text to be read as numbers, or numbers. `names` is empty if it names none."""

    columns: tuple[list[str] | Array, ...]
    places: Sequence[str]  # of each row
    names: tuple[str, ...] = ()
    units: tuple[str, ...] = ()  # as the file says; empty, or one each
    rows: Sequence[str] = ()  # of text: as the file has them
    notes: tuple[str, ...] = ()


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
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise SpectrumError(f"{path}: expected a file that can be read: {reason}") from None
    return read_bytes(data, str(path))


def read_bytes(data: bytes, name: str) -> Spectrum:
    """Read what a file holds, as `read` does. `name` is the file's, for errors and the designation."""
    try:
        return _spectrum(_table(data), Path(name).name)
    except _AtPlace as error:
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


# From bytes to columns


def _table(data: bytes) -> _Table:
    if len(data) > MOST_BYTES:
        raise SpectrumError(f"expected one spectrum, got more than {MOST_BYTES // 2**20} MB; cut it out of the file")
    if data.startswith(b"SIMPLE  ="):
        return _with_astropy("FITS", lambda: _fits_tables(data))
    text = _text(data)
    if text.lstrip().startswith("<"):
        if re.search(r"<(\w+:)?VOTABLE\b", text) is None:
            raise SpectrumError("expected columns of numbers or a VOTable, got a web page or other XML")
        return _with_astropy("VOTable", lambda: _votable_tables(_harmless(text)))
    if text.startswith("# %ECSV"):
        return _with_astropy("ECSV", lambda: _ecsv_table(text))
    return _text_table(re.split(r"\r\n|\r|\n", text))


def _text(data: bytes) -> str:
    try:
        text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    text = text.rstrip().removesuffix("\x1a")  # ended files of DOS
    if re.search(r"[\x00-\x08\x0e-\x1f\x7f]", text):
        raise SpectrumError(
            "expected text, ECSV, VOTable or a FITS table, got binary data; unpack it, or export it as CSV"
        )
    return text


def _text_table(lines: list[str]) -> _Table:
    headings: list[tuple[int, str]] = []  # all lines above the first numbers, with a comment's sign or without
    rows: list[tuple[int, str]] = []
    for number, line in enumerate(map(str.strip, lines), start=1):
        if line and line[0] not in COMMENTS and (rows or _has_numbers(line)):
            rows.append((number, line))
        elif line and not rows:
            headings.append((number, line))
    if not rows:
        raise SpectrumError(f"expected columns of numbers, got none; begin with a line such as {HEADER}")
    notes = []
    if remarked := [
        place for place, (_, line) in enumerate(rows) if ("#" in line or "!" in line) and _REMARK.search(line)
    ]:
        for place in remarked:
            rows[place] = (rows[place][0], _REMARK.sub("", rows[place][1]))
        notes.append(f"remarks at the end of {len(remarked)} lines ignored")

    separator = _separator([line for _, line in rows])
    cells = [_cells(line, separator) for _, line in rows]
    filled = [
        len(row) if row[-1] else max((n for n, cell in enumerate(row, start=1) if cell), default=0) for row in cells
    ]
    width = max(count for count in filled if count <= len(cells[0]))
    for (number, line), row, count in zip(rows, cells, filled, strict=True):
        if width < 2 or count > width or len(row) < width:
            expected = "2 to 4 columns" if width < 2 else f"{width} columns as above"
            raise _AtPlace(f"line {number}", f"expected {expected}, got {count}: {shown(line)}")

    names = next((found for _, line in reversed(headings) if (found := _names(line, separator, width))), ())
    plain = [(number, line) for number, line in headings if line[0] not in COMMENTS]
    if plain and not names:
        number, line = plain[-1]
        names = tuple(_cells(line, separator))
        if len(names) != width:
            names = ()
            notes.append(f"line {number}, {shown(line)}, taken as a title, columns in their order")
    return _Table(
        columns=tuple([row[at] if at < len(row) else "" for row in cells] for at in range(width)),
        places=[f"line {number}" for number, _ in rows],
        names=names,
        rows=[line for _, line in rows],
        notes=tuple(notes),
    )


def _has_numbers(line: str) -> bool:
    """Whether it is a row of numbers rather than a heading: `433 Eros` and `Flux (1 at 0.55)` are headings."""
    words = [word for word in re.split(r"[\s,;]+", line) if word]
    numbers = sum(_number(word) is not None for word in words)
    return numbers > 0 and (numbers == len(words) or (numbers >= 2 and 2 * numbers >= len(words)))


def _separator(lines: list[str]) -> str | None:
    """None stands for blanks; tabs too are blanks, unless some lie beside an empty cell."""
    for mark in ";,":
        if mark in lines[0]:
            return mark
    return "\t" if "\t" in lines[0] and len({len(line.split()) for line in lines}) > 1 else None


def _cells(line: str, separator: str | None) -> list[str]:
    if separator is None:
        return line.split()
    if '"' in line:
        try:
            (cells,) = csv.reader([line], delimiter=separator, skipinitialspace=True)
            return [cell.strip() for cell in cells]
        except (csv.Error, ValueError):
            pass
    return [cell.strip() for cell in line.split(separator)]


def _names(line: str, separator: str | None, width: int) -> tuple[str, ...]:
    """The names of the columns, if this line above them tells them; in a comment all have to be known."""
    text = line.lstrip("".join(COMMENTS)).strip()
    together = re.sub(r"\s+(?=[(\[])", "", re.sub(_ADJECTIVES, r"\1_", text))  # `Relative reflectance (%)` is one name
    for cells in (_cells(text, separator), *(_cells(text, mark) for mark in ",;\t"), re.split(r"\s{2,}|\t", text),
                  together.split()):  # fmt: skip
        roles = set(map(_role, cells))
        sure = line[0] not in COMMENTS or ("unknown" not in roles and roles & {"reflectance", "flux"})
        if len(cells) == width and sure and roles & {"wavelength", "no wavelength"}:
            return tuple(cells)
    return ()


def _number(cell: str) -> float | None:
    """The number that a cell holds, NaN if it says that there is none; None if it is no number."""
    try:
        return float(cell)
    except ValueError:
        if fortran := _FORTRAN.fullmatch(cell):
            return float("e".join(fortran.groups()))
        return math.nan if cell.lower() in _MISSING or set(cell) == {"*"} else None


# From tables that astropy reads to columns


def _with_astropy(kind: str, tables: Callable[[], Iterable[Any]]) -> _Table:
    """The first table that names wavelength and reflectance, else the first that has two columns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = [_of_astropy(table) for table in tables() if len(table.colnames) > 1]
        except SpectrumError:
            raise
        except Exception as error:  # broken files make these readers raise whatever their insides do
            reason = shown(" ".join(str(error).split()))
            raise SpectrumError(f"expected a {kind} file that can be read; astropy says {reason}") from None
    if not found:
        raise SpectrumError(f"expected a table of wavelengths and reflectances in this {kind} file, got none")
    chosen = next((table for table in found if {"wavelength", "reflectance"} <= set(map(_role, table.names))), found[0])
    if len(found) == 1:
        return chosen
    return replace(chosen, notes=(f"table {found.index(chosen) + 1} of {len(found)} used",))


def _fits_tables(data: bytes) -> Iterable[Any]:
    from astropy.io import fits  # type: ignore[import-untyped]
    from astropy.table import Table  # type: ignore[import-untyped]

    with fits.open(io.BytesIO(data), memmap=False) as units:
        for unit in units:
            if isinstance(unit, fits.BinTableHDU | fits.TableHDU):
                yield Table.read(unit)


def _votable_tables(text: str) -> Iterable[Any]:
    from astropy.io import votable

    for table in votable.parse(io.BytesIO(text.encode()), verify="ignore").iter_tables():
        yield table.to_table(use_names_over_ids=True)


def _ecsv_table(text: str) -> Iterable[Any]:
    from astropy.table import Table

    return [Table.read(text.splitlines(), format="ascii.ecsv")]


def _harmless(text: str) -> str:
    """The VOTable without its word on encoding, by which it could hide that its data lie elsewhere."""
    if re.search(r"<!(ENTITY|DOCTYPE)", text):
        raise SpectrumError("expected a VOTable without DOCTYPE and entities; leave them out")
    if re.search(r"STREAM\b[^>]*\shref", text):
        raise SpectrumError("expected a VOTable that holds its data, got one that names another place for them")
    sizes = re.findall(r"""(?:nrows|arraysize)\s*=\s*["']([^"']*)""", text)  # astropy makes room for these
    if sum(math.prod(int(size[:9]) for size in re.findall(r"\d+", size)) for size in sizes) > _MOST_CELLS:
        raise SpectrumError(f"expected a VOTable of one spectrum, got one of more than {_MOST_CELLS} numbers")
    return re.sub(r"^\s*<\?xml.*?\?>", "", text, flags=re.DOTALL)


def _of_astropy(table: Any) -> _Table:
    columns = [table[name] for name in table.colnames]
    if len(table) == 1 and any(getattr(column, "ndim", 1) > 1 or column.dtype.kind == "O" for column in columns):
        # One row that holds arrays: keep those of the longest kind.
        arrays = [np.ma.asarray(column[0]).ravel() for column in columns]
        rows = max(map(len, arrays))
        kept = [at for at, array in enumerate(arrays) if len(array) == rows]
    else:
        arrays, rows = columns, len(table)
        kept = [at for at, column in enumerate(columns) if getattr(column, "ndim", 2) == 1]
    return _Table(
        columns=tuple(_plain(arrays[at]) for at in kept),
        places=[f"row {number}" for number in range(1, rows + 1)],
        names=tuple(table.colnames[at] for at in kept),
        units=tuple(str(getattr(columns[at], "unit", None) or "") for at in kept),
    )


def _plain(column: Any) -> list[str] | Array:
    values = np.asarray(column)
    if values.dtype.kind not in "fiu":
        return [str(value) for value in column]
    if values.dtype.kind == "f" and values.dtype.itemsize < 8:
        values = values.astype(str)  # the decimal number that was meant: 0.55, not 0.550000012
    return np.where(np.ma.getmaskarray(column), np.nan, values.astype(np.float64))


# From columns to a spectrum


def _spectrum(table: _Table, designation: str) -> Spectrum:
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
            raise _AtPlace(table.places[kept[int((w == error.wavelength).argmax())]], message) from None
        raise SpectrumError(message) from None
    return replace(spectrum, notes=(*notes, *spectrum.notes))


def _chosen(table: _Table) -> tuple[list[int], list[str]]:
    """Which columns are wavelength, reflectance and perhaps uncertainty, and what has to be said of the others."""
    width = len(table.columns)
    if not table.names:
        if not 2 <= width <= 4:
            raise _AtPlace(
                table.places[0],
                f"expected 2 to 4 columns, got {width}; name them in a line above, such as {HEADER}",
            )
        return list(range(min(width, 3))), ["column 4 not used"] if width == 4 else []
    roles = [_role(name) for name in table.names]
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


def _role(name: str) -> str:
    return _meaning(name)[0]


def _meaning(name: str) -> tuple[str, str | None]:
    """What a column's name says that it holds, and in which unit."""
    bare = unicodedata.normalize("NFKC", name).lower()
    unit = None
    if bracket := re.search(r"[(\[{]([^)\]}]*)", bare):
        unit = _unit_of(bracket[1])
        bare = bare[: bracket.start()]
    words = re.findall(r"[^\W\d_]+", bare)
    role = next((role for role, known in _ROLES if any(re.fullmatch(known, word) for word in words)), "unknown")
    if words and len(words[-1]) > 1 - (role == "wavelength"):
        unit = unit or _unit_of(words[-1])
    if unit == "none":
        role = "no wavelength" if role in ("wavelength", "unknown") else role
    elif unit and role == "unknown":
        role = "wavelength"
    return role, unit


def _unit_of(text: str) -> str | None:
    """The unit that a text names: one of µm, nm, Å and m, `none` for those of no length, None if it is not known."""
    text = unicodedata.normalize("NFKC", text).strip().lower()
    if re.search(_NO_WAVELENGTH, text):
        return "none"
    return next((unit for unit, names in _UNIT_NAMES.items() if re.fullmatch(names, text)), None)


def _numbers(table: _Table, column: int) -> Array:
    cells = table.columns[column]
    if isinstance(cells, np.ndarray):
        return cells
    numbers = [_number(cell) for cell in cells]
    if None in numbers:
        row = numbers.index(None)
        raise _AtPlace(
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


def _unit(table: _Table, column: int, w: Array, kept: NDArray[np.intp]) -> tuple[str, str]:
    """The unit of the wavelengths, and what told it.

    A unit is possible if all wavelengths lie where spectra of asteroids do. No two units are and cover 0.50 to
    0.85 µm as well, so that an error about coverage can be made in µm.
    """
    said = [(_unit_of(table.units[column]), "the column's unit")] if table.units else []
    said += [(_meaning(table.names[column])[1], "the column's name")] if table.names else []
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


def _mixed(table: _Table, w: Array, kept: NDArray[np.intp], stated: str | None) -> SpectrumError:
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
    return _AtPlace(
        table.places[kept[odd]],
        f"expected wavelengths in one unit, got {w[odd]:g} here and {w[other]:g} in {table.places[kept[other]]}; put "
        f"all in one, and name it in a line above them, such as {HEADER}",
    )
