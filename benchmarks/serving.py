"""Serving: what a client of the model over HTTP waits for, and what its server needs."""

from __future__ import annotations

import io
import json
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

import numpy as np
import pandas as pd

from astrd import simulate
from astrd.request import JSON, PARQUET
from astrd.smoothing import WAVELENGTH
from benchmarks.measuring import MEGABYTES, MILLISECONDS, Comparison, Reading, Way, spectra_a_second
from benchmarks.servers import Client, Server, ServerError, Servers, served
from benchmarks.setting import Setting

UNCERTAINTY: Final = 0.01
DECIMALS: Final = 4  # those of the archive

KERAS: Final = "`mlflow models serve` of the keras flavor"


def one(setting: Setting) -> Iterator[Comparison]:
    """The median of one client's requests, one after the other, of one spectrum each."""
    servers, requests = setting.servers, setting.amounts.requests
    spectra = _spectra(1)
    theirs = _one_by_one(servers.keras, for_keras(spectra), requests)
    for name, server, command in _ours(servers):
        yield Comparison(
            f"serve-one {name}", f"{command}: one spectrum, one client, p50 of {requests} ({setting.model.name})",
            KERAS, _one_by_one(server, as_json(spectra), requests), theirs, target=8, unit=MILLISECONDS,
        )  # fmt: skip


def many(setting: Setting) -> Iterator[Comparison]:
    """Spectra a second with all clients at once; the keras flavor is sent JSON, its only quick way.

    Answers are asked for in the form of the request. MLflow's server gives JSON whatever it is asked for.
    """
    servers, amounts = setting.servers, setting.amounts
    spectra = _spectra(amounts.rows)
    unit = spectra_a_second(amounts.clients * amounts.rounds * amounts.rows)
    theirs = _at_once(setting, servers.keras, for_keras(spectra), JSON)
    for form, body, kind, target in (
        ("JSON", as_json(spectra), JSON, 2.5),
        ("Parquet", as_parquet(spectra), PARQUET, 8.0),
    ):
        for name, server, command in _ours(servers):
            said = f"{command}: {amounts.clients} clients, {amounts.rows} spectra a request as {form}"
            ours = _at_once(setting, server, body, kind)
            yield Comparison(f"serve-many {form} {name}", said, f"{KERAS}, as JSON", ours, theirs, target, unit=unit)


def memory(setting: Setting) -> Iterator[Comparison]:
    """The largest memory of the process that answers, while it answers: first one client, then all of them at once.

    Servers of its own, because they keep much of what they took for the clients of other benchmarks.
    """
    amounts, few, many = setting.amounts, _spectra(1), _spectra(setting.amounts.rows)
    setting.tell("starting three servers whose memory is measured")
    with served(setting.model, setting.folder) as servers:
        if np.isnan(servers.keras.peak_memory):
            setting.tell("memory: this system does not tell the largest memory of a process; left out")
            return
        since = ""
        if not servers.keras.clear_peak():
            setting.tell("memory: peaks cannot be cleared here; they are since the start")
            since = ", since its start"

        def one_client(server: Server, of: Callable[[Spectra], bytes]) -> Way:
            return _peak(server, [_one_by_one(server, of(spectra), 1) for spectra in (few, many)])

        def all_clients(server: Server, of: Callable[[Spectra], bytes]) -> Way:
            return _peak(server, [_at_once(setting, server, of(many), JSON)])

        for name, said, way in (
            ("memory", f"1 and {amounts.rows} spectra a request", one_client),
            ("memory clients", f"{amounts.clients} clients, {amounts.rows} spectra a request", all_clients),
        ):
            theirs = way(servers.keras, for_keras)
            for by, server, command in _ours(servers):
                yield Comparison(
                    f"{name} {by}", f"{command}: peak of the process{since}, {said}", KERAS,
                    way(server, as_json), theirs, target=3, unit=MEGABYTES,
                )  # fmt: skip


def _ours(servers: Servers) -> tuple[tuple[str, Server, str], ...]:
    return ("astrd", servers.astrd, "`astrd serve`"), ("mlflow", servers.mlflow, "`mlflow models serve`")


Spectra = pd.DataFrame
"""Columns wavelength (µm), reflectance and uncertainty, a list each, on the 49 channels: both models can take them."""


def _spectra(rows: int) -> Spectra:
    reflectance, _ = simulate.channels(rows)
    return pd.DataFrame(
        {
            "wavelength": [WAVELENGTH.tolist()] * rows,
            "reflectance": reflectance.round(DECIMALS).tolist(),
            "uncertainty": [[UNCERTAINTY] * len(WAVELENGTH)] * rows,
        }
    )


def as_json(spectra: Spectra) -> bytes:
    return json.dumps({"dataframe_records": spectra.to_dict(orient="records")}).encode()


def as_parquet(spectra: Spectra) -> bytes:
    body = io.BytesIO()
    spectra.to_parquet(body)
    return body.getvalue()


def for_keras(spectra: Spectra) -> bytes:
    return json.dumps({"inputs": spectra["reflectance"].tolist()}).encode()


def _one_by_one(server: Server, body: bytes, requests: int) -> Way:
    """The cost is the median time of a request, the processor's that of the server for one."""

    def way() -> Reading:
        client, times, processor = Client(server), [], server.processor
        for _ in range(requests):
            started = time.perf_counter()
            client.send(body, JSON)
            times.append(time.perf_counter() - started)
        client.close()
        return Reading(statistics.median(times), (server.processor - processor) / requests)

    return way


def _at_once(setting: Setting, server: Server, body: bytes, kind: str) -> Way:
    """The cost is the time until all clients have all their answers, the processor's that of the server."""
    amounts = setting.amounts

    def way() -> Reading:
        clients = [Client(server) for _ in range(amounts.clients)]
        processor, clock = server.processor, time.perf_counter()
        _in_threads([partial(_repeat, client, body, kind, amounts.rounds) for client in clients])
        reading = Reading(time.perf_counter() - clock, server.processor - processor)
        for client in clients:
            client.close()
        return reading

    return way


def _peak(server: Server, requests: list[Way]) -> Way:
    """The cost is the largest memory while these requests are answered."""

    def way() -> Reading:
        server.clear_peak()
        for request in requests:
            request()
        return Reading(server.peak_memory)

    return way


def _repeat(client: Client, body: bytes, kind: str, rounds: int) -> None:
    for _ in range(rounds):
        client.send(body, kind, accept=kind)


def _in_threads(work: list[Callable[[], object]]) -> None:
    """Do all of it at once; the first error is raised again."""
    errors: list[ServerError] = []

    def kept(one: Callable[[], object]) -> None:
        try:
            one()
        except ServerError as error:
            errors.append(error)

    threads = [threading.Thread(target=kept, args=(one,)) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
