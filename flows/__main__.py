"""`python -m flows NAME`: run a flow here and now. Options are read from the flows' signatures."""

from __future__ import annotations

import functools
import os
import signal
import warnings
from collections.abc import Callable
from typing import Any

# Prefect, TensorFlow and NumPy's BLAS read these when they are imported. What a user has set is left alone.
os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")  # the progress display says it better, errors end up below
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
# Matrices here are small: a second thread costs more than it brings, and twenty times as much where others work too.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import typer
from prefect import Flow
from prefect.settings import PREFECT_API_URL
from rich.console import Console

from astrd.smass import ArchiveError
from flows import audit, cluster, features, ingest, pipeline, promote, schedule, score, summary, train, tune
from flows.stopping import STOPPING, console, take_signals
from tasks.progress import display

app = typer.Typer(help="The flows of the platform.", no_args_is_help=True, add_completion=False, rich_markup_mode=None)

USER_ERRORS = (ArchiveError, LookupError, OSError, RuntimeError, ValueError)


def command(flow: Flow[..., Any], tell: Callable[[Console, Any], None]) -> None:
    """Offer a flow as a command that shows its progress and then what it came to."""

    @functools.wraps(flow.fn)
    def run(**options: Any) -> None:
        before = {number: signal.getsignal(number) for number in STOPPING}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of third parties, about each other; the tests make them errors
            try:
                if not PREFECT_API_URL.value():
                    console.print("Starting Prefect's own server ...", style="dim")  # it takes some seconds
                with display(console):
                    result = flow.with_options(on_running=[take_signals])(**options)
            except USER_ERRORS as error:
                console.print(f"[bold red]{type(error).__name__}:[/] {error}", highlight=False, soft_wrap=True)
                raise typer.Exit(1) from error
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)
        tell(console, result)

    app.command(flow.name)(run)


command(pipeline.pipeline, summary.of_pipeline)
command(ingest.ingest, summary.of_dataset)
command(features.features, summary.of_dataset)
command(train.train, summary.of_models)
command(tune.tune, summary.of_models)
command(cluster.cluster, summary.of_discovery)
command(audit.audit, summary.of_audit)
command(promote.promote, summary.of_promotion)
command(score.score, summary.of_survey)
app.command("schedule")(schedule.schedule)

if __name__ == "__main__":
    app(prog_name="python -m flows")
