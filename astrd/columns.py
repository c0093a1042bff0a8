"""Columns of numbers as files hold them: text of any usual form, ECSV, VOTable and FITS tables.

What a name of a column says (wavelength, reflectance, a unit) is known here; what the numbers mean is not.
"""

from __future__ import annotations

import csv
import io
import math
import re
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from astrd.spectrum import COMMENTS, Array, SpectrumError, shown

MOST_BYTES: Final = 20 * 2**20
HEADER: Final = "# wavelength(nm) reflectance uncertainty"
"""A line that says what the columns are, and in which unit. Errors show it as a way out."""

_UNIT_NAMES: Final = {
    "µm": r"[uμ]m|mum|μ|mic|microns?|micromet(er|re)s?",
    "nm": r"nm|nanomet(er|re)s?",
    "Å": r"a|å|aa|angs?|[aå]ngstr[oö]ms?|0\.1 ?nm",
    "m": r"m|met(er|re)s?",
}
_NO_WAVELENGTH: Final = r"cm\W*-1|(1|per) ?/? ?cm|[kmgt]?hz|[km]?ev"
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


class AtPlace(SpectrumError):
    """A fault at a place in the file, such as `line 3`."""

    def __init__(self, place: str, message: str) -> None:
        super().__init__(message)
        self.place = place


@dataclass(frozen=True, eq=False)
class Table:
    """Columns as a file has them: text to be read as numbers, or numbers. `names` is empty if it names none."""

    columns: tuple[list[str] | Array, ...]
    places: Sequence[str]  # of each row
    names: tuple[str, ...] = ()
    units: tuple[str, ...] = ()  # as the file says; empty, or one each
    rows: Sequence[str] = ()  # of text: as the file has them
    notes: tuple[str, ...] = ()


# From bytes to columns


def table_of(data: bytes) -> Table:
    """The columns that a file holds; raises a SpectrumError, where there is one with its place, if it holds none."""
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


def _text_table(lines: list[str]) -> Table:
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
            raise AtPlace(f"line {number}", f"expected {expected}, got {count}: {shown(line)}")

    names = next((found for _, line in reversed(headings) if (found := _names(line, separator, width))), ())
    plain = [(number, line) for number, line in headings if line[0] not in COMMENTS]
    if plain and not names:
        number, line = plain[-1]
        names = tuple(_cells(line, separator))
        if len(names) != width:
            names = ()
            notes.append(f"line {number}, {shown(line)}, taken as a title, columns in their order")
    return Table(
        columns=tuple([row[at] if at < len(row) else "" for row in cells] for at in range(width)),
        places=[f"line {number}" for number, _ in rows],
        names=names,
        rows=[line for _, line in rows],
        notes=tuple(notes),
    )


def _has_numbers(line: str) -> bool:
    """Whether it is a row of numbers rather than a heading: `433 Eros` and `Flux (1 at 0.55)` are headings."""
    words = [word for word in re.split(r"[\s,;]+", line) if word]
    numbers = sum(number_of(word) is not None for word in words)
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
        roles = set(map(role_of, cells))
        sure = line[0] not in COMMENTS or ("unknown" not in roles and roles & {"reflectance", "flux"})
        if len(cells) == width and sure and roles & {"wavelength", "no wavelength"}:
            return tuple(cells)
    return ()


def number_of(cell: str) -> float | None:
    """The number that a cell holds, NaN if it says that there is none; None if it is no number."""
    try:
        return float(cell)
    except ValueError:
        if fortran := _FORTRAN.fullmatch(cell):
            return float("e".join(fortran.groups()))
        return math.nan if cell.lower() in _MISSING or set(cell) == {"*"} else None


# From tables that astropy reads to columns


def _with_astropy(kind: str, tables: Callable[[], Iterable[Any]]) -> Table:
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
    chosen = next(
        (table for table in found if {"wavelength", "reflectance"} <= set(map(role_of, table.names))), found[0]
    )
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


def _of_astropy(table: Any) -> Table:
    columns = [table[name] for name in table.colnames]
    if len(table) == 1 and any(getattr(column, "ndim", 1) > 1 or column.dtype.kind == "O" for column in columns):
        # One row that holds arrays: keep those of the longest kind.
        arrays = [np.ma.asarray(column[0]).ravel() for column in columns]
        rows = max(map(len, arrays))
        kept = [at for at, array in enumerate(arrays) if len(array) == rows]
    else:
        arrays, rows = columns, len(table)
        kept = [at for at, column in enumerate(columns) if getattr(column, "ndim", 2) == 1]
    return Table(
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


def role_of(name: str) -> str:
    """What a column of this name holds, such as `wavelength`; `unknown` if the name does not say."""
    return meaning_of(name)[0]


def meaning_of(name: str) -> tuple[str, str | None]:
    """What a column's name says that it holds, and in which unit."""
    bare = unicodedata.normalize("NFKC", name).lower()
    unit = None
    if bracket := re.search(r"[(\[{]([^)\]}]*)", bare):
        unit = unit_of(bracket[1])
        bare = bare[: bracket.start()]
    words = re.findall(r"[^\W\d_]+", bare)
    role = next((role for role, known in _ROLES if any(re.fullmatch(known, word) for word in words)), "unknown")
    if words and len(words[-1]) > 1 - (role == "wavelength"):
        unit = unit or unit_of(words[-1])
    if unit == "none":
        role = "no wavelength" if role in ("wavelength", "unknown") else role
    elif unit and role == "unknown":
        role = "wavelength"
    return role, unit


def unit_of(text: str) -> str | None:
    """The unit that a text names: one of µm, nm, Å and m, `none` for those of no length, None if it is not known."""
    text = unicodedata.normalize("NFKC", text).strip().lower()
    if re.search(_NO_WAVELENGTH, text):
        return "none"
    return next((unit for unit, names in _UNIT_NAMES.items() if re.fullmatch(names, text)), None)
