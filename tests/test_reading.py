"""Files as observers have them become spectra; what was assumed is said, and what is no spectrum is refused."""

from __future__ import annotations

import io
import random
import subprocess
import sys
import tarfile
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.table import MaskedColumn, Table
from hypothesis import given, settings
from hypothesis import strategies as st

from astrd import reading, smass
from astrd.reading import HEADER, MOST_BYTES, expand, read_bytes
from astrd.spectrum import Spectrum, SpectrumError, covers

W = np.round(np.linspace(0.45, 0.90, 46), 2)
R = np.round(1 + 0.3 * (W - 0.55) + 0.02 * np.sin(40 * W), 6)
U = np.round(0.01 + 0.005 * np.cos(30 * W), 6)
EXPECTED = Spectrum.of(W, R, U, "433.txt")
SCALES = {"µm": 1.0, "nm": 1e3, "Å": 1e4}
CONVERTED = "wavelengths converted from {}, by {}"


def number(value: float) -> str:
    return f"{value:.10g}"


def lines(
    *columns: np.ndarray, wavelength: np.ndarray = W, unit: str = "µm", separator: str = " ", end: str = ""
) -> list[str]:
    """Rows of wavelength and these columns; by default reflectance and uncertainty."""
    rows = zip(wavelength * SCALES[unit], *(columns or (R, U)), strict=True)
    return [separator.join(map(number, row)) + end for row in rows]


def text(*parts: str | list[str], newline: str = "\n", encoding: str = "utf-8") -> bytes:
    rows = [row for part in parts for row in ([part] if isinstance(part, str) else part)]
    return (newline.join(rows) + newline).encode(encoding)


def written(table: Table, form: str, **options: str) -> bytes:
    file: io.BytesIO | io.StringIO = io.StringIO() if form == "ascii.ecsv" else io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of units that VOTable spells in another way
        table.write(file, format=form, **options)
    content = file.getvalue()
    return content.encode() if isinstance(content, str) else content


def table(unit: str = "nm", named: str | None = "nm") -> Table:
    columns = {"wavelength": W * SCALES[unit], "reflectance": R, "error": U}
    return Table(columns, units={"wavelength": named} if named else None)


def assert_same(first: Spectrum, second: Spectrum, rtol: float = 0) -> None:
    for name in ("wavelength", "reflectance", "uncertainty"):
        np.testing.assert_allclose(getattr(first, name), getattr(second, name), rtol=rtol, atol=0, err_msg=name)


def refused(data: bytes, message: str) -> str:
    """The error of a file `433.txt`, which has to match after the file's name."""
    with pytest.raises(SpectrumError, match=rf"^433\.txt(, (line|row) \d+)?: .*{message}") as raised:
        read_bytes(data, "433.txt")
    return str(raised.value)


# Columns of text


@pytest.mark.parametrize("separator", [" ", "   ", "\t", "\t\t", " \t ", ",", ", ", " , ", ";", "; "])
@pytest.mark.parametrize("end", ["", "s"])
def test_columns_may_be_separated_in_any_usual_way(separator: str, end: str) -> None:
    spectrum = read_bytes(text(lines(separator=separator, end=separator if end else "")), "433.txt")
    assert_same(spectrum, EXPECTED)
    assert (spectrum.designation, spectrum.notes) == ("433.txt", ())


@pytest.mark.parametrize("separator", ["|", ":", "/"])
def test_an_unusual_separator_is_refused(separator: str) -> None:
    refused(text(lines(separator=separator)), "expected columns of numbers, got none; begin with a line such as #")


@pytest.mark.parametrize("separator", [" ", "\t", ";", ","])
def test_decimal_commas_are_refused_with_the_line(separator: str) -> None:
    rows = [row.replace(".", ",") for row in lines(separator=separator)]
    if separator == ",":
        refused(text(rows), "expected 2 to 4 columns, got 6")
    else:
        assert "433.txt, line 2:" in refused(text("# eros", rows), "expected numbers.*numbers have a decimal point")


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16"])
def test_any_line_end_and_usual_encoding_is_read(newline: str, encoding: str) -> None:
    data = text("# µ Å, by Öpik", HEADER.replace("nm", "Å"), lines(unit="Å"), newline=newline, encoding=encoding)
    spectrum = read_bytes(data, "433.txt")
    assert_same(spectrum, EXPECTED)
    assert spectrum.notes == (CONVERTED.format("Å", "the column's name"),)


def test_comments_blank_lines_titles_and_remarks_are_no_data() -> None:
    rows = lines()
    rows[7] += "  # cloud"
    data = text("# by hand", "", "433 Eros", rows[0], "! a note", rows[1:], "; the end", "   ", "\x1a")
    spectrum = read_bytes(data, "433.txt")
    assert_same(spectrum, EXPECTED)
    assert spectrum.notes == (
        "remarks at the end of 1 lines ignored",
        "line 3, '433 Eros', taken as a title, columns in their order",
    )


def test_text_between_numbers_is_refused_with_its_line() -> None:
    rows = lines()
    assert "line 3:" in refused(text(rows[:2], "a note", rows[2:]), "expected 3 columns as above, got 2: 'a note'")
    assert "line 3:" in refused(text(rows[:2], "0.5 1.0 --", rows[2:]), "expected numbers, got '0.5 1.0 --'")
    assert "line 3:" in refused(text(rows[:2], "0.5 1.0", rows[2:]), "expected 3 columns as above, got 2")
    assert "line 3:" in refused(text(rows[:2], "0.5 1.0 0.1 1", rows[2:]), "expected 3 columns as above, got 4")


def test_fortran_writes_numbers_too() -> None:
    rows = [row.replace(f"{r:.10g}", f"{r * 1000:.7f}D-3") for row, r in zip(lines(), R, strict=True)]
    assert_same(read_bytes(text(rows), "433.txt"), EXPECTED, rtol=1e-12)
    refused(text([row.replace("D", "X") for row in rows]), "expected numbers")


def test_the_third_column_may_be_missing() -> None:
    spectrum = read_bytes(text(lines(R)), "433.txt")
    assert_same(spectrum, Spectrum.of(W, R))
    assert "no uncertainty given" in spectrum.notes[0]
    assert "line 1:" in refused(text([number(w) for w in W]), "expected 2 to 4 columns, got 1")


def test_a_fourth_column_is_not_used_and_five_need_names() -> None:
    flags = np.arange(46) % 3
    spectrum = read_bytes(text(lines(R, U, flags)), "433.txt")
    assert_same(spectrum, EXPECTED)
    assert spectrum.notes == ("column 4 not used",)
    rows = lines(R, U, flags, flags)
    assert "line 1:" in refused(text(rows), "expected 2 to 4 columns, got 5; name them in a line above")
    spectrum = read_bytes(text("wavelength refl err flag chip", rows), "433.txt")
    assert_same(spectrum, EXPECTED)
    assert spectrum.notes == ("columns not used: 'flag', 'chip'",)


def test_flags_and_signal_to_noise_are_not_taken_as_uncertainties() -> None:
    spectrum = read_bytes(text(lines(R, np.arange(46) % 2)), "433.txt")
    assert_same(spectrum, Spectrum.of(W, R))
    assert spectrum.notes[0] == "column 3 holds whole numbers: ignored, as no uncertainties"
    refused(text(lines(R, R / U)), "expected 1 sigma of the reflectance in column 3, got values nearly as large")
    assert_same(read_bytes(text("wave refl snr", lines(R, R / U)), "433.txt"), Spectrum.of(W, R))


# Names of columns


@pytest.mark.parametrize("sign", ["", "# ", "#", "! ", "; "])
@pytest.mark.parametrize(
    "header",
    [
        "wavelength,reflectance,uncertainty",
        "Wavelength (nm), Relative Reflectance, 1-sigma error",
        "Wavelength(nm)  Relative Reflectance  Std. dev.",
        "wavelength_nm\tnormalized reflectance\tsigma",
        "WAVE REFL ERR",
        "lambda[nm];flux;flux_err",
        "wl (nanometers) Refl. e_Refl.",
        "λ/nm refl unc",
        '"Wavelength, nm","Reflectance","Std"',
        "nm, R, dR",
    ],
)
@pytest.mark.parametrize("separator", [" ", "\t", ",", ";"])
def test_the_usual_names_of_columns_are_known(sign: str, header: str, separator: str) -> None:
    if '"' in header and separator != ",":
        return
    spectrum = read_bytes(text(sign + header, lines(unit="nm", separator=separator)), "433.txt")
    assert_same(spectrum, EXPECTED)
    how = "their range" if header == "WAVE REFL ERR" or header.startswith("wavelength,") else "the column's name"
    assert spectrum.notes == (CONVERTED.format("nm", how),)


@given(order=st.permutations(range(5)), separator=st.sampled_from([" ", "\t", ",", ";"]))
def test_named_columns_may_stand_in_any_order(order: list[int], separator: str) -> None:
    columns = [*(list(map(number, column)) for column in (W * 1000, R, U)), ["2"] * 46, ["good"] * 46]
    names = ["wavelength(nm)", "reflectance", "error", "nights", "remark"]
    rows = [separator.join(row[at] for at in order) for row in zip(*columns, strict=True)]
    spectrum = read_bytes(text(separator.join(names[at] for at in order), rows), "433.txt")
    assert_same(spectrum, EXPECTED)
    assert spectrum.notes[-1] == CONVERTED.format("nm", "the column's name")


def test_an_index_that_pandas_left_is_not_used() -> None:
    frame = pd.DataFrame({"Wavelength (Angstrom)": W * 1e4, "Reflectance": R, "Uncertainty": U})
    spectrum = read_bytes(frame.to_csv().encode(), "433.txt")
    assert_same(spectrum, EXPECTED, rtol=1e-15)
    assert spectrum.notes == ("columns not used: ''", CONVERTED.format("Å", "the column's name"))


def test_an_error_of_the_wavelength_is_none_of_the_reflectance() -> None:
    spectrum = read_bytes(text("wavelength,reflectance,wavelength error", lines(separator=",")), "433.txt")
    assert_same(spectrum, EXPECTED)  # no other column could be meant


def test_of_unknown_names_only_wavelength_and_reflectance_are_guessed() -> None:
    for header in ("wavelength,433 Eros,951 Gaspra", "x,y,z"):
        spectrum = read_bytes(text(header, lines(R, R, separator=",")), "433.txt")
        assert_same(spectrum, Spectrum.of(W, R))
        first, *others = header.split(",")
        assert spectrum.notes[-3:-1] == (
            f"column '{others[0]}' taken as reflectance",
            f"columns not used: '{others[1]}'",
        )
        assert (f"column '{first}' taken as wavelength" in spectrum.notes) == (first == "x")
    refused(text("a,b,c,d,e", lines(R, R, R, R, separator=",")), "expected a column of wavelengths, got columns 'a'")


def test_a_comment_of_three_words_is_no_header() -> None:
    data = text("# flux of wave", "# energy stored twice", "# reflectance wavelength calibrated", lines())
    assert_same(read_bytes(data, "433.txt"), EXPECTED)


@pytest.mark.parametrize("name", ["wavenumber", "frequency (THz)", "wave (cm-1)", "Energy [eV]"])
def test_what_is_no_wavelength_is_refused(name: str) -> None:
    refused(text(f"{name},reflectance,error", lines(separator=",")), "expected wavelengths.*convert them to µm")


# Units


@pytest.mark.parametrize("unit", SCALES)
@pytest.mark.parametrize(("first", "last"), [(0.45, 0.90), (0.35, 1.1), (0.43, 2.5), (0.50, 0.85), (0.22, 3.0)])
def test_the_range_tells_the_unit(unit: str, first: float, last: float) -> None:
    w = np.round(np.arange(first, last + 0.001, 0.01), 2)
    r = 1 + 0.1 * np.sin(9 * w)
    spectrum = read_bytes(text(lines(r, wavelength=w, unit=unit)), "433.txt")
    np.testing.assert_array_equal(spectrum.wavelength, w)
    assert (CONVERTED.format(unit, "their range") in spectrum.notes) == (unit != "µm")


@given(first=st.floats(0.2, 0.5), last=st.floats(0.85, 3.0), unit=st.sampled_from(list(SCALES)))
def test_no_range_of_a_spectrum_is_taken_in_another_unit(first: float, last: float, unit: str) -> None:
    w = np.round(np.linspace(first, last, 200), 6)
    spectrum = read_bytes(text(lines(np.ones(200), wavelength=w, unit=unit)), "433.txt")
    np.testing.assert_allclose(spectrum.wavelength, w, rtol=1e-9)


@pytest.mark.parametrize("unit", SCALES)
def test_a_range_that_covers_too_little_is_told_in_micrometres(unit: str) -> None:
    refused(text(lines(unit=unit)[10:]), r"expected wavelengths that cover 0.50 to 0.85 µm, got 0.55 to 0.9 µm")


def test_a_range_that_may_be_two_units_asks_for_the_unit() -> None:
    w = np.linspace(2000, 3000, 50)
    refused(text(lines(w, wavelength=w)), "may be nm or Å; name the unit in a line above them, such as #")
    refused(text(HEADER, lines(w, w, wavelength=w)), "cover 0.50 to 0.85 µm, got 2 to 3 µm .*converted from nm")
    refused(text(lines(wavelength=W / 1e6)), "expected wavelengths in one unit, µm, nm or Å, got 4.5e-07 to 9e-07")


def test_beyond_the_usual_range_the_unit_has_to_be_said() -> None:
    w = np.append(W, [1.5, 2.5, 4.5])
    rows = lines(np.append(R, [1, 1, 1]), wavelength=w)
    assert "line 49:" in refused(text(rows), "expected wavelengths in one unit, got 4.5 here and 0.45 in line 1")
    assert read_bytes(text("# wavelength(microns) reflectance", rows), "433.txt").wavelength[-1] == 4.5


@pytest.mark.parametrize("unit", SCALES)
@pytest.mark.parametrize("other", SCALES)
@pytest.mark.parametrize("stated", [None, *SCALES])
def test_units_that_are_mixed_are_refused(unit: str, other: str, stated: str | None) -> None:
    header = ["# nothing"] if stated is None else [f"wavelength({stated}) reflectance uncertainty"]
    data = text(header, lines(unit=unit)[:30], lines(unit=other)[30:])
    if unit != other and stated in (None, unit, other):
        assert "433.txt, line" in refused(data, "expected wavelengths in one unit, got .* here and .* in line")
    elif unit != other:
        refused(data, "expected wavelengths in one unit")
    elif stated in (None, unit):
        assert_same(read_bytes(data, "433.txt"), EXPECTED)
    else:
        refused(data, f"expected wavelengths in {stated}, by the column's name, got .*: that looks like {unit}")


def test_one_wavelength_in_another_unit_is_found() -> None:
    rows = lines()
    rows[20] = rows[20].replace("0.65", "6500")
    assert "line 21:" in refused(text(rows), "expected wavelengths in one unit, got 6500 here and 0.45 in line 1")


# Rows without a measurement


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("0.0 0.0 0.0", "wavelength 0"),
        ("-1 1 0.01", "wavelength below 0"),
        ("nan 1 0.01", "wavelength missing"),
        ("0.555 nan 0.01", "reflectance missing"),
        ("0.555 inf 0.01", "reflectance missing"),
        ("0.555 ****** 0.01", "reflectance missing"),
        ("0.555 0 0.01", "reflectance 0"),
        ("0.555 -1.0 0.01", "reflectance -1"),
        ("0.555 -99 0.01", "reflectance -99"),
        ("0.555 -99.99 0.01", "reflectance -99.99"),
        ("0.555 -999.0 0.01", "reflectance -999"),
        ("0.555 99.99 0.01", "reflectance 99.99"),
        ("0.555 -1.23e34 0.01", "reflectance -1.23e+34"),
        ("0.555 1 0", "uncertainty 0"),
        ("0.555 1 -1", "uncertainty -1"),
        ("0.555 1 -999", "uncertainty -999"),
        ("0.555 1 NaN", "uncertainty missing"),
        ("0.555 1 9999", "uncertainty 9999"),
    ],
)
def test_rows_without_a_measurement_are_dropped_and_counted(row: str, why: str) -> None:
    spectrum = read_bytes(text(row, lines(), row), "433.txt")
    assert_same(spectrum, EXPECTED)
    assert spectrum.notes == (f"2 rejected points ({why}) dropped",)


def test_nothing_but_rejected_points_is_no_spectrum() -> None:
    for row in ("0 0 0", "0.555 nan 0.01", "0.555 -1 0.01"):
        refused(text([row] * 20), r"expected at least 10 points, got an empty list \(20 rejected points")


@pytest.mark.parametrize("row", ["0.555 -0.9 0.01", "0.555 1.99 0.01", "0.555 9 0.01", "0.555 -9 0.01"])
def test_numbers_that_may_be_measured_stay(row: str) -> None:
    assert len(read_bytes(text(lines(), row), "433.txt").wavelength) == 47


def test_a_usual_reflectance_of_nines_stays() -> None:
    """99.99 is a sentinel beside 1, and none beside 100."""
    spectrum = read_bytes(text(lines(100 * R, 100 * U), "0.555 99.99 1"), "433.txt")
    assert len(spectrum.wavelength) == 47


def test_an_empty_cell_is_no_measurement() -> None:
    rows = lines(separator=",")
    rows[3], rows[5] = "0.48,,0.01", "0.50,1.0,"
    spectrum = read_bytes(text(rows), "433.txt")
    assert len(spectrum.wavelength) == 44
    assert spectrum.notes == (
        "1 rejected points (reflectance missing) dropped",
        "1 rejected points (uncertainty missing) dropped",
    )
    for first in ("0.44,1.0,", "0.44,,"):
        assert_same(read_bytes(text(first, lines(separator=",")), "433.txt"), EXPECTED)


@pytest.mark.parametrize("value", ["0", "-1", "nan", "-999", "99.99"])
def test_uncertainties_that_no_row_has_are_not_given(value: str) -> None:
    spectrum = read_bytes(text([f"{row} {value}" for row in lines(R)]), "433.txt")
    assert_same(spectrum, Spectrum.of(W, R))
    assert spectrum.notes[0] == "uncertainties all 0, -1 or missing: taken as not given"


def test_a_negative_uncertainty_is_no_sentinel() -> None:
    rows = lines()
    rows[4] = "0.49 1.0 -0.1"
    assert "line 6:" in refused(text("#", rows), "expected uncertainties above 0, got -0.1 at 0.49 µm")
    rows[4] = "0.49 1000 0.1"
    assert "line 6:" in refused(text("#", rows), "expected reflectances of the size .* got 1000 at 0.49 µm")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "expected columns of numbers, got none"),
        (lines()[::6], "expected at least 10 points"),
        (lines()[:20] + lines()[31:], "expected no gap wider than 0.1 µm .* from 0.64 to 0.76 µm"),
        (lines(-R, U), "expected a reflectance above 0 at 0.55 µm"),
        (lines(R * 1e200, U), "expected at least 10 points, got an empty list"),
        (lines(R, U * 1e-200), "expected uncertainties above 0"),
    ],
)
def test_what_makes_no_spectrum_is_refused_with_the_file(rows: list[str], message: str) -> None:
    refused(text(rows), message)


# Tables


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("ascii.ecsv", {}),
        ("ascii.ecsv", {"delimiter": ","}),
        ("votable", {}),
        ("votable", {"tabledata_format": "binary"}),
        ("votable", {"tabledata_format": "binary2"}),
        ("fits", {}),
    ],
)
class TestTables:
    @pytest.mark.parametrize("unit", SCALES)
    def test_the_unit_is_the_columns_or_told_by_the_range(self, form: str, options: dict, unit: str) -> None:
        for named, how in (({"µm": "um", "Å": "angstrom"}.get(unit, unit), "the column's unit"), (None, "their range")):
            spectrum = read_bytes(written(table(unit, named), form, **options), "433.txt")
            assert_same(spectrum, EXPECTED)
            assert spectrum.notes == ((CONVERTED.format(unit, how),) if unit != "µm" else ())

    def test_a_unit_that_is_wrong_is_refused(self, form: str, options: dict) -> None:
        refused(written(table("Å", "nm"), form, **options), "in nm, by the column's unit, got 4500 to 9000.*like Å")
        refused(written(table("Å", "Hz"), form, **options), "expected wavelengths in µm, nm or Å, got 'Hz'")

    def test_what_is_masked_is_dropped_and_other_columns_are_not_used(self, form: str, options: dict) -> None:
        more = table()
        more["reflectance"] = MaskedColumn(R, mask=W == 0.47)
        more["remark"] = "good"
        spectrum = read_bytes(written(more, form, **options), "433.txt")
        assert W[W != 0.47].tolist() == spectrum.wavelength.tolist()
        assert spectrum.notes[:2] == ("1 rejected points (reflectance missing) dropped", "columns not used: 'remark'")

    def test_a_bad_row_is_named(self, form: str, options: dict) -> None:
        wrong = table()
        wrong["error"][4] = -0.1
        assert "433.txt, row 5:" in refused(written(wrong, form, **options), "expected uncertainties above 0, got -0.1")

    def test_a_file_that_is_cut_is_refused(self, form: str, options: dict) -> None:
        whole = written(table(), form, **options)
        refused(whole[: len(whole) // 5], "expected")


def test_single_precision_means_the_decimal_number() -> None:
    single = Table({"wavelength": W.astype("f4"), "reflectance": R.astype("f4"), "error": U.astype("f4")})
    assert_same(read_bytes(written(single, "fits"), "433.txt"), EXPECTED)


@pytest.mark.parametrize("form", ["fits", "votable"])
def test_one_row_that_holds_arrays_is_a_spectrum(form: str) -> None:
    row = Table({"OBJECT": ["Eros"], "WAVE": W[None] * 1e4, "FLUX": R[None], "ERR": U[None]})
    assert_same(read_bytes(written(row, form), "433.txt"), EXPECTED)


def test_of_several_tables_the_one_with_a_spectrum_is_used() -> None:
    from astropy.io import fits

    tables = [Table({"a": [1, 2], "b": [3, 4]}), table()]
    file = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), *map(fits.table_to_hdu, tables)]).writeto(file)
    spectrum = read_bytes(file.getvalue(), "433.txt")
    assert_same(spectrum, EXPECTED)
    assert spectrum.notes[0] == "table 2 of 2 used"
    image = io.BytesIO()
    fits.PrimaryHDU(np.ones((9, 9))).writeto(image)
    refused(image.getvalue(), "expected a table of wavelengths and reflectances in this FITS file, got none")


VOTABLE = (
    '<?xml version="1.0"?>{}<VOTABLE version="1.3"><RESOURCE><TABLE{}><FIELD name="wavelength" datatype="double"/>'
    '<FIELD name="flux" datatype="double"/><DATA>{}</DATA></TABLE></RESOURCE></VOTABLE>'
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (VOTABLE.format("", "", "<BINARY><STREAM href='file:///etc/passwd'/></BINARY>"), "another place for them"),
        (VOTABLE.format("<!DOCTYPE x [<!ENTITY a 'b'>]>", "", "<TABLEDATA/>"), "without DOCTYPE and entities"),
        (VOTABLE.format("", " nrows='99999999999'", "<TABLEDATA/>"), "one of more than 1000000 numbers"),
        (VOTABLE.format("", "", "<TABLEDATA/>"), "at least 10 points, got an empty list"),
        (VOTABLE.format("", "", "<TABLEDATA>"), "expected a VOTable file that can be read"),
        ("<!DOCTYPE html><html>404</html>", "got a web page or other XML"),
        ("Dear all,\nthe spectrum of Eros.", "expected columns of numbers, got none"),
        ("PK\x03\x04", "got binary data; unpack it, or export it as CSV"),
        ("\x1f\x8b\x08", "got binary data; unpack it"),
    ],
)
def test_what_is_no_table_is_refused(content: str, message: str) -> None:
    refused(content.encode(), message)


# The same spectrum in any guise

FORMS = [*((f"text{sep}", {}) for sep in (" ", "\t", ",", ";")), ("ascii.ecsv", {}), ("votable", {}), ("fits", {})]


@settings(max_examples=150, deadline=None)
@given(
    form=st.sampled_from([form for form, _ in FORMS]),
    unit=st.sampled_from(list(SCALES)),
    header=st.sampled_from(["none", "comment", "plain", "with unit"]),
    scale=st.floats(1e-6, 1e6),
    order=st.sampled_from(["rising", "falling", "any"]),
    twice=st.booleans(),
    rejects=st.integers(0, 3),
    seed=st.integers(0, 2**32 - 1),
)
def test_form_unit_order_scale_and_repeats_change_nothing(
    form: str, unit: str, header: str, scale: float, order: str, twice: bool, rejects: int, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    r = R * (1 + generator.normal(0, 0.02, 46))
    expected = Spectrum.of(W, scale * r, scale * U)
    columns = np.array([W * SCALES[unit], scale * r, scale * U])
    if twice:  # two points of sqrt(2) the uncertainty are as good as one
        columns = np.hstack([columns * [[1], [1], [np.sqrt(2)]]] * 2)
    if order != "rising":
        places = np.arange(columns.shape[1])[::-1] if order == "falling" else generator.permutation(columns.shape[1])
        columns = columns[:, places]
    columns = np.hstack([columns, np.zeros((3, rejects))])
    if form.startswith("text"):
        separator = form[4:]
        names = [f"Wavelength ({unit})" if header == "with unit" else "wavelength", "reflectance", "error"]
        title = ("# " if header == "comment" else "") + separator.join(names)
        rows = [separator.join(map(repr, row)) for row in columns.T.tolist()]
        data = text([] if header == "none" else title, rows)
    else:
        units = {"wavelength": {"µm": "um", "Å": "angstrom"}.get(unit, unit)} if header == "with unit" else {}
        data = written(Table(columns.T, names=["wavelength", "reflectance", "error"], units=units), form)
    spectrum = read_bytes(data, "433.txt")
    np.testing.assert_array_equal(spectrum.wavelength, W)
    assert_same(spectrum, expected, rtol=1e-9)
    dropped = [note for note in spectrum.notes if "rejected points" in note]
    assert dropped == ([f"{rejects} rejected points (wavelength 0) dropped"] if rejects else [])


# Files


def test_a_file_is_read_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "433.txt"
    path.write_bytes(text(lines()))
    for spectrum in (Spectrum.read(path), Spectrum.read(str(path)), reading.read(path)):
        assert_same(spectrum, EXPECTED)
        assert spectrum.designation == "433.txt"


@pytest.mark.parametrize("name", ["no-such-file", "", "a\0b"])
def test_a_path_that_cannot_be_read_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SpectrumError, match="expected a file that can be read: ") as raised:
        reading.read(tmp_path / name)
    assert str(raised.value).startswith(str(tmp_path))


def test_a_file_that_is_too_large_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "all.txt"
    with path.open("wb") as file:
        file.truncate(100 * MOST_BYTES)
    with pytest.raises(SpectrumError, match=r"all.txt: expected one spectrum, got more than 20 MB"):
        reading.read(path)
    assert len(read_bytes(text(lines(), "#" * (2**20)), "433.txt").wavelength) == 46


def test_folders_and_patterns_bring_their_files(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt", "c.csv", ".hidden", "d.[2]", "[e]/f.txt", "[e]/g/h.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    def names(*arguments: str) -> list[str]:
        return [path.relative_to(tmp_path).as_posix() for path in expand([str(tmp_path / a) for a in arguments])]

    assert names("") == ["a.txt", "b.txt", "c.csv", "d.[2]"]
    assert names("*.txt") == ["a.txt", "b.txt"]
    assert names("**/*.txt") == ["[e]/f.txt", "[e]/g/h.txt", "a.txt", "b.txt"]
    assert names("c.csv", "*", "a.txt") == ["c.csv", "a.txt", "b.txt", "d.[2]"]
    assert names("d.[2]") == names("*.[2]") == names("[a-d].[2]") == ["d.[2]"]
    assert names("[e]") == names("[e]/*.txt") == ["[e]/f.txt"]
    assert names("[ab].txt") == ["a.txt", "b.txt"]


def test_an_argument_that_brings_no_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").touch()
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    for argument, message in (
        ("empty", "empty: expected files of spectra in this folder, got none"),
        ("b.txt", "b.txt: expected a file or folder, got the name of none"),
        ("*.csv", r"\*.csv: expected a pattern of files, got one that none matches"),
        ("a\0b", "expected a"),
    ):
        with pytest.raises(SpectrumError, match=message):
            expand(["a.txt", argument])
    assert expand(["a.txt"]) == [Path("a.txt")]


def test_text_is_read_without_astropy() -> None:
    code = (
        "import sys; from astrd.reading import read_bytes; "
        f"read_bytes({text(lines())!r}, 'x'); print('astropy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.archive
def test_all_files_of_the_archive_are_read_as_the_table_has_them(
    archive_folder: Path, raw_table: pd.DataFrame, tmp_path: Path
) -> None:
    with tarfile.open(archive_folder / smass.SPECTRA_FILE.name) as archive:
        archive.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()
    spectra = {path.name: Spectrum.read(path) for path in expand([f"{folder}/*.[2]"]) if "spfit" not in path.name}
    assert len(spectra) == len(raw_table) == 1341
    dropped: Counter[str] = Counter()
    for row in raw_table.itertuples():
        number, _, letters = row.designation.partition(" ")
        spectrum = spectra[f"au{number}{letters}.[2]" if letters else f"a{int(number):06d}.[2]"]
        np.testing.assert_array_equal(spectrum.wavelength, row.wavelength)
        np.testing.assert_array_equal(spectrum.reflectance, row.reflectance)
        np.testing.assert_array_equal(spectrum.uncertainty, row.uncertainty)
        for note in spectrum.notes:
            count, what = note.split(" ", 1)
            dropped[what] += int(count)
    assert dropped == {"rejected points (wavelength 0) dropped": 24}


# Anything else

PIECES = (
    *(b"nan", b"-999", b"1e308", b"-1e-308", b"1e400", b"99.99", b"inf", b"1D5", b"1_0", b"5500", b"0", b"-1", b"-"),
    *(b",", b";", b"\t", b"#", b'"', b"!", b"*", b"\n", b"\r", b"\x00", b"\xff", b"<", b">", b"&", b"\xe2\x84\xab"),
    *(b"wavelength", b"(nm)", b"flux", b"cm-1"),
)  # fmt: skip


def mutated(data: bytes, random: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 4, 16))):
        at = random.randrange(len(changed) + 1)
        match random.randrange(5):
            case 0:
                changed[at : at + 1] = random.randbytes(1)
            case 1:
                changed[at:at] = random.choice(PIECES)
            case 2:
                changed[at : at + 3] = random.choice(PIECES)
            case 3:
                del changed[at : at + random.choice((1, 3, 30, 300))]
            case 4:
                start = random.randrange(len(changed) + 1)
                changed[at:at] = changed[start : start + random.choice((1, 10, 100))]
    return bytes(changed)


def junk(random: random.Random) -> bytes:
    size = random.randrange(300)
    return (
        random.randbytes(size) if random.random() < 0.5 else bytes(random.choices(b"0123456789.,; \n\t-+eD#na", k=size))
    )


def test_nothing_but_a_spectrum_or_a_spectrum_error_comes_of_any_bytes() -> None:
    """10,000 inputs: files with small damage, and junk. Warnings would be errors here as well."""
    texts = [
        text(lines()),
        text(lines()[::4]),
        text(HEADER, lines(unit="nm")),
        text("Wavelength (Angstrom),Refl,Err", lines(unit="Å", separator=",")),
        text(lines(R, U, np.ones(46), separator=";")),
    ]
    tables = [
        written(table(), "ascii.ecsv"),
        written(table(), "fits"),
        written(table(), "votable"),
        written(table(), "votable", tabledata_format="binary2"),
    ]
    seeded = random.Random(3)
    makers: list[tuple[int, Callable[[], bytes]]] = [
        (6000, lambda: mutated(seeded.choice(texts), seeded)),
        (2000, lambda: mutated(seeded.choice(tables), seeded)),
        (2000, lambda: junk(seeded)),
    ]
    ended: Counter[str] = Counter()
    for count, make in makers:
        for _ in range(count):
            data = make()
            try:
                spectrum = read_bytes(data, "433.txt")
            except SpectrumError as error:
                assert str(error).startswith("433.txt"), data
                ended["refused"] += 1
                continue
            except BaseException as error:
                raise AssertionError(f"{error!r} came of {data!r}") from error
            ended["read"] += 1
            assert all(np.isfinite(v).all() for v in (spectrum.wavelength, spectrum.reflectance, spectrum.uncertainty))
            assert (spectrum.uncertainty > 0).all()
            assert covers(spectrum.wavelength)
    assert sum(ended.values()) == 10_000
    assert min(ended.values()) > 500
