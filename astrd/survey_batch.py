"""A batch of a survey into two tables of Arrow: answers, and rows that cannot be classified with the reason why not."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
import pyarrow as pa

from astrd import survey
from astrd.answer_table import Answers
from astrd.channels import channel_faults
from astrd.classifier import Classifier
from astrd.spectra import Spectra, spectra_of
from astrd.spectrum import Spectrum
from astrd.survey import Layout

_PLACE: Final = [("file", pa.string()), ("row", pa.int64())]
REJECTED_SCHEMA: Final = pa.schema([*_PLACE, ("designation", pa.string()), ("reason", pa.string())])


@functools.cache
def classified_schema(with_draws: bool) -> pa.Schema:
    """Columns of answers; `file` and `row` (counted from 0) tell where a spectrum stands in the survey."""
    return pa.schema([*_PLACE, *Answers.none(with_draws).table().schema])


def score_batch(
    batch: pa.RecordBatch,
    layout: Layout,
    classifier: Classifier,
    coverage: float,
    draws: int,
    file: str = "",
    first: int = 0,
) -> tuple[pa.Table, pa.Table]:
    """Classify the rows of a batch that can be, and say of the others why not.

    Parameters
    ----------
    coverage, draws
        As `Classifier.classify` takes them.
    file, first
        Where the batch comes from, and the place of its first row there.

    Returns
    -------
    classified, rejected
        As `classified_schema` and `REJECTED_SCHEMA` say.
    """
    names = survey.designations(batch)
    faults: list[str | None]
    if layout == "raw":
        wavelength, reflectance, uncertainty = (
            survey.lists(batch, name) for name in ("wavelength", "reflectance", "uncertainty")
        )
        found = spectra_of(wavelength, reflectance, uncertainty, names)
        if isinstance(found, Spectra):
            faults = [None] * len(found)
        else:
            faults = [None if isinstance(spectrum, Spectrum) else str(spectrum) for spectrum in found]

        def answers_of(rows: list[int]) -> Answers:
            if isinstance(found, Spectra) and len(rows) == len(found):
                return classifier.answers(found, coverage, draws)
            spectra = [spectrum for row in rows if isinstance(spectrum := found[row], Spectrum)]
            return classifier.answers(spectra, coverage, draws)
    else:
        on_channels, faults = survey.channels(batch)
        faults = [fault or other for fault, other in zip(faults, channel_faults(on_channels), strict=True)]

        def answers_of(rows: list[int]) -> Answers:
            return classifier.channel_answers(on_channels[rows], [names[row] for row in rows], coverage)

    schema = classified_schema(with_draws=draws > 0)
    sound = [row for row, fault in enumerate(faults) if fault is None]
    answered = [
        pa.Table.from_arrays(
            [pa.repeat(file, len(rows)), pa.array(np.add(rows, first)), *answers.table().columns], schema=schema
        )
        for rows, answers in _answered(answers_of, sound, faults)
    ]
    broken = [row for row, fault in enumerate(faults) if fault is not None]
    rejected = {
        "file": [file] * len(broken),
        "row": [first + row for row in broken],
        "designation": [names[row] for row in broken],
        "reason": [faults[row] for row in broken],
    }
    return pa.concat_tables([schema.empty_table(), *answered]), pa.Table.from_pydict(rejected, REJECTED_SCHEMA)


def _answered(
    answers_of: Callable[[list[int]], Answers], rows: list[int], faults: list[str | None]
) -> Iterator[tuple[list[int], Answers]]:
    """Answers for rows; one that turns out to be broken in spite of the checks is found by halving."""
    if not rows:
        return
    try:
        yield rows, answers_of(rows)
    except ValueError as error:
        if len(rows) == 1:
            faults[rows[0]] = re.sub(r"^row \d+: ", "", str(error))
            return
        middle = len(rows) // 2
        yield from _answered(answers_of, rows[:middle], faults)
        yield from _answered(answers_of, rows[middle:], faults)
