"""The classifier over HTTP, with the requests, answers and refusals of `mlflow models serve`, several times as fast.

MLflow's server reads JSON twice, and writes every number of an answer by itself in Python: of a thousand spectra, three
fifths of its time. Here a request is read once, and answers leave as one text, or as Parquet if the client asks for it.
Each core has a process of its own, because Python runs one thread at a time; the first one shares out the connections.

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
import time
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from astrd import request
from astrd.answer_table import Answers
from astrd.classifier import Classifier
from astrd.request import RequestError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_WAITING: Final = 2048  # connections that may wait for an answer


@dataclass(frozen=True)
class Answer:
    """Status, body and content type of a response."""

    status: int
    body: bytes
    kind: str = request.JSON


class Service:
    """An ASGI application: `POST /invocations`, and `GET /ping`, `/health`."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier
        self._thread = ThreadPoolExecutor(1)  # more at once would wait for each other, and hold memory

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        answer = await self._answer(scope, receive)
        headers = [(b"content-type", answer.kind.encode()), (b"content-length", str(len(answer.body)).encode())]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    async def _answer(self, scope: Message, receive: Receive) -> Answer:
        place = scope["method"], scope["path"]
        if place in (("GET", "/ping"), ("GET", "/health")):
            return Answer(200, b"\n")
        if place != ("POST", "/invocations"):
            return _refused(404, "NOT_FOUND", f"expected POST /invocations or GET /ping, got {' '.join(place)}")
        headers = dict(scope["headers"])
        kind, accept = (headers.get(name, b"").decode("latin-1") for name in (b"content-type", b"accept"))
        body = await _body(receive)
        return await asyncio.get_running_loop().run_in_executor(self._thread, self.answer, body, kind, accept)

    def answer(self, body: bytes, kind: str, accept: str = "") -> Answer:
        """The predictions for a body of this content type, in the form that the client accepts.

        It is a 406 if that is none, and a 400 that says what is wrong with the body if something is.
        """
        try:
            form = request.wanted(accept)
        except RequestError as error:
            return _refused(406, "NOT_ACCEPTABLE", str(error))
        try:
            columns, params = request.read(body, kind)
            spectra = request.spectra_of(columns)
            answers = self._classifier.answers(spectra, params.coverage, params.draws, params.explain)
        except ValueError as error:
            return _refused(400, "INVALID_PARAMETER_VALUE", str(error))
        return Answer(200, _as_parquet(answers) if form == request.PARQUET else _as_json(answers), form)


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
        fork, processes = multiprocessing.get_context("fork"), deque[socket.socket]()
        for number in range(workers):
            handing, handed = socket.socketpair()
            processes.append(handing)
            connections = _Handed(handed.family, handed.type, handed.proto, handed.detach())
            if number < workers - 1:
                with connections:  # its copy in that process stays; it fails when that ends
                    fork.Process(target=_work, args=(classifier, connections), daemon=True).start()
        threading.Thread(target=_share_out, args=(listening, processes), daemon=True).start()
        _answer_all(classifier, connections)


class _Handed(socket.socket):
    """Connections that the first process has accepted for this one; asyncio takes it for a socket that listens."""

    def listen(self, backlog: int = 0) -> None:
        pass

    def accept(self) -> tuple[socket.socket, None]:
        _, descriptors, _, _ = socket.recv_fds(self, 1, 1)
        if not descriptors:
            raise ConnectionAbortedError("the process that accepts connections has ended")
        return socket.socket(fileno=descriptors[0]), None


def _share_out(listening: socket.socket, processes: deque[socket.socket]) -> None:
    """Give each process its turn to take a connection.

    Where all wait at one port, whichever wakes first takes all connections that are there, and keeps them.
    """
    while listening.fileno() >= 0:
        try:
            connection, _ = listening.accept()
        except OSError:  # such as too many open files, of which there may be fewer soon
            time.sleep(0.1)
            continue
        with connection:
            while processes:
                try:
                    socket.send_fds(processes[0], [b"\0"], [connection.fileno()])
                    processes.rotate(-1)
                    break
                except OSError:
                    processes.popleft()  # that one has ended


def _work(classifier: Classifier, connections: socket.socket) -> None:
    """Answer as long as the process that started this one lives, however it ends."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=follow, daemon=True).start()
    _answer_all(classifier, connections)


def _answer_all(classifier: Classifier, connections: socket.socket) -> None:
    import uvicorn

    config = uvicorn.Config(Service(classifier), lifespan="off", log_level="warning")
    uvicorn.Server(config).run(sockets=[connections])


async def _body(receive: Receive) -> bytes:
    parts, more = [], True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


def _as_json(answers: Answers) -> bytes:
    import orjson

    return orjson.dumps({"predictions": answers.records()})


def _as_parquet(answers: Answers) -> bytes:
    """A file of Parquet as quickly as it can be written: numbers that hardly repeat gain little by being packed."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = pa.BufferOutputStream()
    pq.write_table(answers.table(), file, compression="none", use_dictionary=False, write_statistics=False)
    return bytes(file.getvalue())


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
        sys.exit(no_port(host, port, error))


def no_port(host: str, port: int | str, error: OSError) -> str:
    """What to say where a port cannot be had."""
    return f"expected a free port, got {port} on {host}: {error.strerror}. Name another with --port."


if __name__ == "__main__":
    main(*sys.argv[1:])
