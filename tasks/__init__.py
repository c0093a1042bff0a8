"""Prefect tasks: one tracked step each. They load, call the library, log to MLflow and return a small reference."""
