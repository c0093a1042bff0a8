"""The classifier over HTTP, with the requests, answers and refusals of `mlflow models serve`, several times as fast.

MLflow's server reads JSON twice, and writes every number of an answer by itself in Python: of a thousand spectra, three
fifths of its time. Here a request is read once, and answers leave as one text. Each core has a process of its own,
because Python runs one thread at a time; they share one port.

`python -m astrd.server FOLDER HOST PORT WORKERS` is what `astrd serve` becomes, so that MLflow is not in its memory.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd

from astrd import request
from astrd.classifier import Classifier

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_WAITING: Final = 2048  # connections that may wait for an answer


@dataclass(frozen=True)
class Answer:
    """Status and JSON body of a response."""

    status: int
    body: bytes


class Service:
    """An ASGI application: `POST /invocations`, and `GET /ping`, `/health`."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier
        self._thread = ThreadPoolExecutor(1)  # more at once would wait for each other, and hold memory

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        answer = await self._answer(scope, receive)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer.body)).encode())]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    async def _answer(self, scope: Message, receive: Receive) -> Answer:
        place = scope["method"], scope["path"]
        if place in (("GET", "/ping"), ("GET", "/health")):
            return Answer(200, b"\n")
        if place != ("POST", "/invocations"):
            return _refused(404, "NOT_FOUND", f"expected POST /invocations or GET /ping, got {' '.join(place)}")
        kind = dict(scope["headers"]).get(b"content-type", b"").decode("latin-1")
        body = await _body(receive)
        return await asyncio.get_running_loop().run_in_executor(self._thread, self.answer, body, kind)

    def answer(self, body: bytes, kind: str) -> Answer:
        """The predictions for a body of this content type, or a 400 that says what is wrong with it."""
        import orjson

        try:
            columns, params = request.read(body, kind)
            spectra = request.spectra_of(columns)
            answers = self._classifier.classify(spectra, params.coverage, params.draws, params.explain)
        except ValueError as error:
            return _refused(400, "INVALID_PARAMETER_VALUE", str(error))
        return Answer(200, orjson.dumps({"predictions": _records(answers)}))


def serve(classifier: Classifier, host: str, port: int, workers: int) -> None:
    """Answer at a port, in so many processes, until stopped.

    Raises
    ------
    OSError
        If the port is not free.
    """
    with socket.create_server((host, port), backlog=_WAITING) as listening:
        # Connections inherit it. asyncio sets it only on sockets that it made; without, each answer waits 40 ms.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        gc.freeze()  # the collector need not look at all that was imported, again and again
        fork = multiprocessing.get_context("fork")
        for _ in range(workers - 1):
            fork.Process(target=_work, args=(classifier, listening), daemon=True).start()
        _answer_at(classifier, listening)


def _work(classifier: Classifier, listening: socket.socket) -> None:
    """Answer as long as the process that started this one lives, however it ends."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=follow, daemon=True).start()
    _answer_at(classifier, listening)


def _answer_at(classifier: Classifier, listening: socket.socket) -> None:
    import uvicorn

    config = uvicorn.Config(Service(classifier), lifespan="off", log_level="warning")
    uvicorn.Server(config).run(sockets=[listening])


async def _body(receive: Receive) -> bytes:
    parts, more = [], True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


def _records(answers: pd.DataFrame) -> list[dict[str, Any]]:
    names = answers.columns.tolist()
    columns = [answers[name].tolist() for name in names]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def _refused(status: int, code: str, message: str) -> Answer:
    import orjson

    return Answer(status, orjson.dumps({"error_code": code, "message": message}))


def main(folder: str, host: str, port: str, workers: str) -> None:
    """Serve the classifier of a folder, and remove the folder once it is read."""
    classifier = Classifier.load(folder)
    shutil.rmtree(folder)
    try:
        serve(classifier, host, int(port), int(workers))
    except OSError as error:
        sys.exit(f"expected a free port, got {port} on {host}: {error.strerror}. Name another with --port.")


if __name__ == "__main__":
    main(*sys.argv[1:])
