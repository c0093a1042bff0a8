"""Cluster: what spectra tell without labels. Autoencoders beside PCA, clusters of their latent space, outliers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE

from astrd import clusters, dataset, discovery_plots, outliers, plots, registry, tracking
from astrd.autoencoder import (
    LATENT_DIMENSIONS,
    PLANE,
    PRIMARY,
    Autoencoder,
    FittedAutoencoder,
    HeldOut,
    PrincipalComponents,
    autoencoder,
    cross_validate_compression,
    rms,
)
from astrd.clusters import BUS_CLASS_TABLE, LATENT_SPACE_TABLE, MAIN_GROUP_TABLE, STABILITY_TABLE, Array, Mixture
from astrd.dataset import FOLDS, DatasetRef, LabelledSpectra, concatenated
from astrd.smoothing import WAVELENGTH, smoothed_uncertainty
from astrd.taxonomy import BUS_CLASSES, MAIN_GROUPS
from astrd.tracking import StepRun, Tag
from astrd.workers import Workers, workers_at
from tasks.priority import Priority
from tasks.progress import Step, step

Advance = Callable[[int], None]

TABLE_OF_LEVEL = {"main_group": MAIN_GROUP_TABLE, "bus_class": BUS_CLASS_TABLE}


@dataclass(frozen=True)
class Discovery:
    """What the step hands on: its run, the number of clusters, and the autoencoders' held-out scores by name."""

    run_id: str
    clusters: int
    scores: dict[str, float]


@dataclass(frozen=True)
class Survey:
    """The features' training part before its test part, and the propagated 1 sigma of each channel, (n, 49)."""

    features: DatasetRef
    train: LabelledSpectra
    test: LabelledSpectra
    uncertainty: Array

    @property
    def spectra(self) -> LabelledSpectra:
        return concatenated(self.train, self.test)

    @property
    def training(self) -> np.ndarray:
        return self.spectra.fold >= 0

    @classmethod
    def read(cls, features: DatasetRef, raw: DatasetRef) -> Survey:
        train, test = dataset.labelled(features.read())
        table = raw.read().set_index("designation").loc[[*train.designation, *test.designation]]
        columns = (table[name].tolist() for name in ("wavelength", "reflectance", "uncertainty"))
        return cls(features, train, test, smoothed_uncertainty(*columns))


@dataclass(frozen=True)
class Compressed:
    """An autoencoder, and what it and PCA left over of each spectrum while they had not seen it, (n, 49)."""

    fitted: FittedAutoencoder
    held_out: HeldOut
    left_over: Array
    left_over_by_pca: Array
    scores: dict[str, float]


@task(name="cluster", cache_policy=NO_CACHE)
def cluster(
    parent_run_id: str, features: DatasetRef, raw: DatasetRef, seed: int, epochs: int, address: str = ""
) -> Discovery:
    """Learn latent spaces, cluster them, and log tables with a row for each asteroid and cluster.

    Parameters
    ----------
    address
        Of the Dask cluster that learns; empty: this process.
    """
    parts = 2 * (FOLDS + 1) + 2 * clusters.MOST_COMPONENTS
    with (
        step("cluster", parts) as shown,
        tracking.step_run(parent_run_id, "cluster", "cluster") as run,
        workers_at(address, Priority.MUCH_AFTERWARDS) as workers,
    ):
        run.log_dataset(raw, "noise", "raw")
        run.log_dataset(features, "clustering", "features")
        run.log_params({"seed": seed, "epochs": epochs, "plane": PLANE, "primary": PRIMARY})
        survey = Survey.read(features, raw)
        plane, primary = (
            _compress(run.run_id, survey, autoencoder(latent, epochs, seed), _further(shown), workers)
            for latent in LATENT_DIMENSIONS
        )
        latent = primary.fitted.encode(survey.spectra.reflectance)
        shape = clusters.slope_and_shape(survey.spectra.reflectance, survey.training)
        mixture, stability = _cluster_space(
            run.run_id, survey, f"autoencoder-{PRIMARY}", latent, _further(shown), workers
        )
        _, stability_of_shape = _cluster_space(run.run_id, survey, "slope-and-shape", shape, _further(shown), workers)
        run.log_table(pd.concat([stability, stability_of_shape]), STABILITY_TABLE)
        strange, found = _outliers(survey, primary, mixture)
        run.log_metrics(found)
        table = _latent_space(survey, plane, primary, mixture).assign(outlier_score=strange)
        run.log_table(table.round(6), LATENT_SPACE_TABLE)
        scores = {**plane.scores, **primary.scores}
        run.log_metrics({**scores, **_log_clusters(run, survey, mixture, latent, f"autoencoder-{PRIMARY}")})
        gain = {k: 1 - scores[f"cv_rms_median_{k}"] / scores[f"cv_pca_rms_median_{k}"] for k in (PLANE, PRIMARY)}
        shown.show(
            note=f"{mixture.components} clusters; reconstruction below PCA by {gain[PLANE]:.1%} with {PLANE} numbers, "
            f"{gain[PRIMARY]:.1%} with {PRIMARY}"
        )
        return Discovery(run.run_id, mixture.components, scores)


def _further(shown: Step) -> Advance:
    """Shows how much of a part is done, beyond what was done before it."""
    before = shown.done
    return lambda done: shown.show(before + done)


@contextmanager
def _child(parent_run_id: str, kind: str, name: str, features: DatasetRef) -> Iterator[StepRun]:
    tags = {Tag.MODEL: name, Tag.SOURCE_NAME: "flows cluster"}
    with tracking.step_run(parent_run_id, kind, name, tags) as run:
        run.log_dataset(features, "training", "features")
        yield run


def _compress(parent_run_id: str, survey: Survey, model: Autoencoder, advance: Advance, workers: Workers) -> Compressed:
    train, test, latent = survey.train, survey.test, model.latent
    with _child(parent_run_id, "autoencoder", model.name, survey.features) as run:
        run.log_params(model.params)
        held_out = cross_validate_compression(model.fit_each, train, model.together, advance, workers)
        by_pca = cross_validate_compression(partial(PrincipalComponents.fit_each, latent=latent), train)
        fitted = held_out.whole
        assert isinstance(fitted, FittedAutoencoder)
        left_over, left_over_by_pca = (
            np.concatenate([held.reconstructed, held.whole.reconstruct(test.reflectance)]) - survey.spectra.reflectance
            for held in (held_out, by_pca)
        )
        errors = {"": rms(left_over), "pca_": rms(left_over_by_pca), "noise_": rms(survey.uncertainty)}
        scores = {
            f"{part}_{kind}rms_{name}_{latent}": float(np.quantile(values[rows], share))
            for part, rows in (("cv", survey.training), ("test", ~survey.training))
            for kind, values in errors.items()
            for name, share in (("median", 0.5), ("p95", 0.95))
        }
        run.log_metrics({name.removesuffix(f"_{latent}"): value for name, value in scores.items()})
        run.log_table(_by_class(survey.spectra, errors), "rms_by_class.csv")
        run.log_curves(fitted.curves.drop(columns="member"))
        run.log_figure(plots.learning_curves(fitted.curves, f"{model.name}: learning curve"), "learning_curves.png")
        figure = discovery_plots.reconstructions(
            test, fitted.reconstruct(test.reflectance), f"{model.name}: reconstructions of the test part"
        )
        run.log_figure(figure, "reconstructions.png")
        if latent == PLANE:
            figure = discovery_plots.latent_map(fitted.encode(survey.spectra.reflectance), survey.spectra, model.name)
            run.log_figure(figure, "latent_map.png")
        registry.log_network(fitted.keras_model(), len(WAVELENGTH), test)
        return Compressed(fitted, held_out, left_over, left_over_by_pca, scores)


def _by_class(spectra: LabelledSpectra, errors: dict[str, Array]) -> pd.DataFrame:
    """Median RMS of each main group and Bus class, by kind of error."""
    tables = []
    for level, names in (("main_group", MAIN_GROUPS), ("bus_class", BUS_CLASSES)):
        table = pd.DataFrame({f"{kind}rms": values for kind, values in errors.items()})
        groups = table.groupby(np.array(names, dtype=object)[spectra.codes(level)])
        medians = groups.median().add_suffix("_median").assign(spectra=groups.size())
        tables.append(medians.rename_axis("class").reset_index().assign(level=level))
    return pd.concat(tables, ignore_index=True).round(6)


def _cluster_space(
    parent_run_id: str, survey: Survey, space: str, coordinates: Array, advance: Advance, workers: Workers
) -> tuple[Mixture, pd.DataFrame]:
    with _child(parent_run_id, "mixture", f"clusters of {space}", survey.features) as run:
        run.log_params(
            {
                "space": space,
                "dimensions": coordinates.shape[1],
                "most_components": clusters.MOST_COMPONENTS,
                "seeds": clusters.SEEDS,
                "bootstraps": clusters.BOOTSTRAPS,
                "stable": clusters.STABLE,
            }
        )
        found = clusters.cluster(coordinates[survey.training], on_components=advance, workers=workers)
        stability = found.stability.copy()
        stability.insert(0, "space", space)
        chosen = stability.loc[stability["chosen"]].iloc[0]
        run.log_metrics(
            {name: chosen[name] for name in ("bic", "ari_seeds_mean", "ari_bootstrap_mean")}
            | _log_clusters(run, survey, found.mixture, coordinates, space)
        )
        run.log_table(stability, STABILITY_TABLE)
        run.log_figure(
            discovery_plots.bic_and_stability(stability, clusters.STABLE, f"Mixtures over {space}"),
            "bic_and_stability.png",
        )
        memberships = pd.DataFrame(found.mixture.memberships(coordinates)).rename(
            columns=lambda i: f"membership_{i + 1}"
        )
        memberships.insert(0, "designation", list(survey.spectra.designation))
        run.log_table(memberships.round(6), "memberships.csv")
        return found.mixture, stability


def _log_clusters(run: StepRun, survey: Survey, mixture: Mixture, coordinates: Array, space: str) -> dict[str, float]:
    """Log the clusters' tables and figures; returns their number and agreement with the taxonomy."""
    numbers, spectra = mixture.clusters(coordinates), survey.spectra
    for level, path in TABLE_OF_LEVEL.items():
        counts = clusters.counts_by(level, numbers, spectra)
        run.log_table(counts, path)
        title = f"Clusters of {space} and {plots.TARGET_TITLE[level]}"
        run.log_figure(discovery_plots.heat_map(counts, title), path.replace(".csv", ".png"))
    portraits = clusters.portraits(mixture, coordinates, spectra)
    run.log_table(portraits.round(6), "clusters.csv")
    titles = {
        row.cluster: f"{row.cluster}: {row.asteroids}, {row.main_group_share:.0%} {row.main_group}"
        for row in portraits.itertuples()
    }
    means = clusters.cluster_spectra(numbers, spectra.reflectance)
    run.log_figure(discovery_plots.cluster_spectra(means, titles, f"Clusters of {space}"), "cluster_spectra.png")
    run.log_table(
        pd.concat(
            [
                pd.DataFrame({"cluster": number, "wavelength": WAVELENGTH, "mean": mean, "sigma": sigma})
                for number, (mean, sigma) in means.items()
            ]
        ).round(6),
        "cluster_spectra.csv",
    )
    tested = clusters.agreement(numbers[~survey.training], survey.test)
    return {
        "clusters": mixture.components,
        **clusters.agreement(numbers, spectra),
        **{f"test_{name}": value for name, value in tested.items()},
    }


def _latent_space(survey: Survey, plane: Compressed, primary: Compressed, mixture: Mixture) -> pd.DataFrame:
    """One row an asteroid. Reconstruction errors are those of networks that had not seen it."""
    reflectance = survey.spectra.reflectance
    latent = primary.fitted.encode(reflectance)
    return pd.DataFrame(
        {
            "designation": survey.spectra.designation,
            **{f"latent_{i}": values for i, values in enumerate(plane.fitted.encode(reflectance).T, 1)},
            **{f"latent{PRIMARY}_{i}": values for i, values in enumerate(latent.T, 1)},
            "cluster": mixture.clusters(latent),
            **{f"membership_{i}": values for i, values in enumerate(mixture.memberships(latent).T, 1)},
            "reconstruction_error": rms(primary.left_over),
        }
    )


def _outliers(survey: Survey, primary: Compressed, mixture: Mixture) -> tuple[Array, dict[str, float]]:
    """Outlier scores of all spectra, and how well each kind of them finds the rare classes of the training part."""
    density = outliers.held_out_log_density(primary.held_out, survey.train, mixture.components)
    tested = mixture.log_density(primary.fitted.encode(survey.test.reflectance))
    scores = {
        "reconstruction": outliers.strangeness(primary.left_over, survey.uncertainty),
        "pca_reconstruction": outliers.strangeness(primary.left_over_by_pca, survey.uncertainty),
        "density": -np.concatenate([density, tested]),
    }
    found = {
        f"{part}_rare_class_auc_{name}": outliers.rare_class_auc(values[rows], spectra)
        for name, values in scores.items()
        for part, rows, spectra in (("cv", survey.training, survey.train), ("test", ~survey.training, survey.test))
    }
    return scores["density"], found
