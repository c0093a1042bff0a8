"""What a candidate for the registry is besides a model: calibrated, tried on worse spectra, logged as it is served."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from astrd import metrics, plots, registry, stress, stress_figures
from astrd.analogues import Archive
from astrd.calibrated import Calibration, fit_bus_temperature
from astrd.calibration import expected_calibration_error
from astrd.classifier import Classifier
from astrd.dataset import DatasetRef, LabelledSpectra, labelled, raw_of
from astrd.degraded import Degraded, degrade
from astrd.evaluation import CrossValidation
from astrd.smoothing import WAVELENGTH
from astrd.spectra import checked
from astrd.spectrum import Spectrum
from astrd.tracking import StepRun
from astrd.workers import Workers, each


def log_candidate(
    run: StepRun,
    name: str,
    fitted: registry.Deployable,
    validation: CrossValidation,
    features: DatasetRef,
    table: pd.DataFrame,
    workers: Workers,
) -> Classifier:
    """Calibrate a Bus network by its cross-validation, try it, and log all of it with what would be served.

    Parameters
    ----------
    table
        That of `features`, as it was read.
    """
    train, test = labelled(table)
    raw = _raw_spectra(features, train)
    temperature = fit_bus_temperature(train, validation.probabilities)
    degraded = degrade(train, raw, validation.fitted, temperature, workers)
    (calibration,) = each(workers, Calibration.fit, [(train, validation.probabilities, degraded)])
    classifier = registry.log_candidate(fitted, calibration, Archive.of(table), train, _request(test))
    _log_calibration(run, name, train, validation, calibration, degraded[0])
    draws = stress.by_draws(train, raw, validation.fitted, workers)
    _log_stress(run, name, train, degraded, stress.served(train, degraded, workers), draws)
    return classifier


def _raw_spectra(features: DatasetRef, spectra: LabelledSpectra) -> list[Spectrum]:
    """The raw spectra of labelled ones, in their order."""
    rows = raw_of(features).read().set_index("designation")
    if missing := set(spectra.designation) - set(rows.index):
        raise ValueError(
            f"expected the raw spectra that the features were made of, but {len(missing)} are not there (such as "
            f"{min(missing)}): make the features again with `python -m flows features`"
        )
    columns = rows.loc[list(spectra.designation), ["wavelength", "reflectance", "uncertainty"]]
    return checked(*(columns[name].tolist() for name in columns))


def _log_calibration(
    run: StepRun,
    name: str,
    train: LabelledSpectra,
    validation: CrossValidation,
    calibration: Calibration,
    as_observed: Degraded,
) -> None:
    kinds = {"before": validation.probabilities, "after": calibration.widening.of_degraded(as_observed)[0]}
    run.log_metrics({"temperature": calibration.temperature})
    panels: dict[str, dict[str, metrics.Array]] = {}
    for kind, probabilities in kinds.items():
        for level, answer in metrics.levels("bus_class", probabilities).items():
            error = expected_calibration_error(answer, train.codes(level))
            run.log_metrics({f"cv_calibration_error_{level}_{kind}": error})
            panels.setdefault(plots.TARGET_TITLE[level], {})[kind] = answer
    truths = {title: train.codes(level) for level, title in plots.TARGET_TITLE.items()}
    title = f"{name}: out-of-fold confidence, temperature {calibration.temperature:.2f}"
    run.log_figure(plots.reliability(panels, truths, title), "reliability.png")


def _log_stress(
    run: StepRun,
    name: str,
    train: LabelledSpectra,
    degraded: list[Degraded],
    answers: Mapping[str, stress.Answers],
    draws: pd.DataFrame,
) -> None:
    conditions = stress.by_condition(train, answers, degraded)
    classes = stress.by_class(train, answers[degraded[0].condition])
    strangers = stress.by_stranger(train, degraded[0].outlier_score)
    for table, path in zip((conditions, classes, draws, strangers), stress.TABLES.values(), strict=True):
        run.log_table(table.round(4), path)
    run.log_figure(
        stress_figures.conditions(conditions, f"{name}: shorter and noisier spectra"), "stress/conditions.png"
    )
    run.log_figure(stress_figures.classes(classes, f"{name}: each Bus class"), "stress/classes.png")
    run.log_figure(stress_figures.draws(draws, f"{name}: noise draws that agree"), "stress/draws.png")
    run.log_metrics(
        {
            "outlier_auc": float(strangers["auc"].iat[-1]),
            **{f"draws_auc_{level}": float(auc) for level, auc in draws.groupby("level")["auc"].first().items()},
            **{
                f"cv_{name}_at_{coverage:.0%}".replace("%", ""): float(conditions[f"{name}_at_{coverage:.0%}"].iat[0])
                for name in ("held", "set_size")
                for coverage in stress.COVERAGES
            },
        }
    )


def _request(spectra: LabelledSpectra, rows: int = 2) -> pd.DataFrame:
    """Rows as a client of the served model would send them."""
    return pd.DataFrame(
        {
            "wavelength": [WAVELENGTH.tolist()] * rows,
            "reflectance": spectra.reflectance[:rows].tolist(),
            "designation": list(spectra.designation[:rows]),
        }
    )
