"""Features: every spectrum on the 49 channels, with its labels and its part of the fixed split."""

from __future__ import annotations

import numpy as np
import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE

from astrd import dataset, plots, tracking
from astrd.dataset import FEATURES_PATH, FEATURES_SCHEMA, DatasetRef
from tasks.progress import step


@task(name="features", cache_policy=NO_CACHE)
def prepare_features(parent_run_id: str, raw: DatasetRef) -> DatasetRef:
    """Smooth, normalise, label and split the raw spectra; write `data/processed/features.parquet`."""
    with step("features") as shown, tracking.step_run(parent_run_id, "features", "features") as run:
        run.log_dataset(raw, "features", "raw")
        spectra = raw.read()
        table = dataset.features(spectra)
        features = dataset.write(table, FEATURES_PATH, FEATURES_SCHEMA, raw.data_source)
        # Logged here, before the steps that use it at the same time: of two that are the first, MLflow fails one.
        run.log_dataset(features, "result", "features")
        difference = np.array(table["reflectance"].tolist()) - np.array(spectra["reference_reflectance"].tolist())
        rms = np.sqrt((difference**2).mean(axis=1))
        parts = table["split"].value_counts()
        run.log_metrics(
            {
                "spectra": len(table),
                "train": int(parts.get("train", 0)),
                "test": int(parts.get("test", 0)),
                "reference_rms_median": float(np.median(rms)),
                "reference_rms_p95": float(np.quantile(rms, 0.95)),
                "reference_rms_above_2e-4": int((rms > 2e-4).sum()),
            }
        )
        counts = pd.crosstab(table["bus_class"], table["split"]).reset_index()
        run.log_table(counts, "split.csv")
        for part in ("train", "test"):
            classes = table.loc[table["split"] == part, "bus_class"].tolist()
            run.log_figure(plots.class_counts(classes, f"{part} part: {len(classes)} spectra"), f"classes_{part}.png")
        run.log_file(features.path)
        shown.show(note=f"{parts.get('train', 0)} to train, {parts.get('test', 0)} to test")
        return features
