"""Places on this machine or in any storage that fsspec knows: how they are reached, named and looked at.

A URL of fsspec may name what its path does not: a host, an account, an archive within which the path lies. So a place
holds the file system itself, which pickles. Its own URL is there to be read by people, without passwords.
"""

from __future__ import annotations

import copy
import os
import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TypeVar

import fsspec
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

Part = TypeVar("Part")
Result = TypeVar("Result")

_AT_ONCE: Final = 16  # threads that look at places: a storage far away answers many at once
_STAMPS: Final = (
    "ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "updated", "modify", "modificationTime",
    "Last-Modified",
)  # fmt: skip
"""What storages call that which is another once a file was written anew."""


@dataclass(frozen=True)
class Place:
    """A file or folder: its path in a storage, and what else of its URL may be read by anyone."""

    path: str
    host: str = ""
    """Where the path does not name it."""

    chain: str = ""
    """What the storage lies in, such as `::file:///nights.zip`."""

    storage: AbstractFileSystem = field(default_factory=LocalFileSystem, compare=False, repr=False)

    @classmethod
    def of(cls, name: str) -> Place:
        """The place that a path or any fsspec URL names.

        Raises
        ------
        ValueError
            If the storage is of no known kind, or its package is not installed.
        """
        first, *rest = name.split("::")
        if "://" not in name and first not in fsspec.available_protocols():
            return cls(str(LocalFileSystem._strip_protocol(name)))  # also one with :: in its name
        try:
            system, path = fsspec.core.url_to_fs(name)
        except (ImportError, ValueError) as error:
            raise ValueError(f"{without_secrets(name)} cannot be reached: {error}") from error
        host, _, below = first.partition("://")[2].partition("/")
        is_lost = path.strip("/") == below.strip("/")
        chain = "".join(f"::{without_secrets(part)}" for part in rest)
        return cls(path, host.rpartition("@")[2] if is_lost else "", chain, system)

    @property
    def system(self) -> AbstractFileSystem:
        """The file system for this thread; those that wait for one answer at a time get a connection of its own."""
        return self.storage if self.storage.async_impl else copy.copy(self.storage)

    @property
    def url(self) -> str:
        """The place for people to read, without passwords."""
        scheme, _, path = self.storage.unstrip_protocol(self.path).partition("://")
        below = f"{self.host}/{path.lstrip('/')}" if self.host else path
        return without_secrets(f"{scheme}://{below}{self.chain}")

    def __truediv__(self, name: str) -> Place:
        return replace(self, path=f"{self.path.rstrip('/')}/{name}" if self.path else name)

    def lies_in(self, folder: Place) -> bool:
        """Whether the place is the folder, or below it, also by way of links."""
        here, there = (
            os.path.realpath(place.path) if isinstance(place.storage, LocalFileSystem) else place.url
            for place in (self, folder)
        )
        return f"{here}/".startswith(f"{there.rstrip('/')}/")

    def exists(self) -> bool:
        return bool(self.system.exists(self.path))

    @contextmanager
    def open(self) -> Iterator[Any]:
        """A file whose bytes are read while the block runs."""
        system = self.system  # held for as long: an archive closes with it
        with system.open(self.path, "rb") as file:
            yield file

    def read(self) -> bytes:
        """All bytes of a file."""
        return bytes(self.system.cat_file(self.path))

    def write(self, content: bytes) -> None:
        """Write a file whole or not at all; readers of tables pass over names that begin with _."""
        system = self.system
        folder, _, last = self.path.rpartition("/")
        unfinished = f"{folder}/_{last}.{uuid.uuid4().hex}"
        system.makedirs(folder, exist_ok=True)
        system.pipe_file(unfinished, content)
        try:
            system.mv(unfinished, self.path)
        except FileNotFoundError:  # a run beside this one finished, and took it for what a killed one left
            if not self.exists():
                raise

    def fingerprint(self) -> str:
        """What is another once the file was written anew, and stays the same where only its mode or links change."""
        info = self.system.info(self.path)
        stamp = next((info[name] for name in _STAMPS if info.get(name) is not None), None)
        return str(self.system.checksum(self.path)) if stamp is None else f"{info['size']} {stamp}"

    def files(self, suffixes: tuple[str, ...]) -> list[Place]:
        """All files that the place names, in order.

        The file itself; those in a folder, and in folders below it, that end so; or what matches a pattern, with the
        files in folders that do. Files and folders whose names begin with `.` or `_` are passed over, as all readers
        of tables do.
        """
        system = _Linked() if isinstance(self.storage, LocalFileSystem) else self.system
        if system.isdir(self.path):
            found = _in_folder(system, self.path, suffixes)
        elif system.exists(self.path):
            found = {self.path}
        elif sign := re.search(r"[*?[]", self.path):
            above = self.path[: sign.start()].rpartition("/")[0]
            found = set()
            for name, info in system.glob(self.path, detail=True).items():
                if not _is_hidden(name, above):
                    is_folder = info["type"] == "directory"
                    found |= _in_folder(system, name, suffixes) if is_folder else {name}
        else:
            found = set()
        return [replace(self, path=name) for name in sorted(found)]


def at_once(look: Callable[[Part], Result], places: Sequence[Part]) -> Iterator[Result]:
    """What a function finds at each of many places, in their order."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        yield from pool.map(look, places)


def without_secrets(name: str) -> str:
    """A URL without a user and password, and without the query that may sign it."""
    without_password = re.sub(r"(?<=://)[^/@:]*:[^/@]*@", "", name)
    return re.sub(r"(https?://[^?]*)\?[^:]*=[^:]*", r"\1", without_password)


def _in_folder(system: AbstractFileSystem, folder: str, suffixes: tuple[str, ...]) -> set[str]:
    return {name for name in system.find(folder) if name.lower().endswith(suffixes) and not _is_hidden(name, folder)}


def _is_hidden(name: str, folder: str) -> bool:
    return any(part.startswith((".", "_")) for part in name.removeprefix(folder).split("/"))


class _Linked(LocalFileSystem):  # type: ignore[misc]
    """This machine's files, with the folders that links lead to, and an error for one that must not be read."""

    def ls(self, path: str, detail: bool = False, **options: Any) -> list[Any]:
        infos = [
            {**info, "type": "directory"} if info["islink"] and Path(info["name"]).is_dir() else info
            for info in super().ls(path, detail=True, **options)
            if not (info["islink"] and _leads_back(info["name"]))
        ]
        return infos if detail else [info["name"] for info in infos]

    def walk(self, path: str, maxdepth: int | None = None, topdown: bool = True, **options: Any) -> Iterator[Any]:
        yield from super().walk(path, maxdepth, topdown, **{**options, "on_error": _tell_what_is_refused})


def _leads_back(link: str) -> bool:
    """Whether what a link leads to holds the link itself: there would be no end."""
    there = os.path.realpath(link).rstrip("/") + "/"
    return any(f"{os.path.realpath(above)}/".startswith(there) for above in Path(link).parents)


def _tell_what_is_refused(error: OSError) -> None:
    if isinstance(error, PermissionError):
        raise error
