"""The classifier that lies beside a survey's answers: from there workers load it, and a later run goes on with it."""

from __future__ import annotations

import functools
import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from astrd.classifier import Classifier
from astrd.storage import Place

Files = Mapping[str, bytes]


class ModelChangedError(RuntimeError):
    """A folder whose model is not the one that answered."""


@dataclass(frozen=True)
class ModelName:
    """What names a model: its URI, and its version where it is registered."""

    uri: str = ""
    version: str = ""

    def __str__(self) -> str:
        return f"{self.uri or 'without a name'}{self.version and f', version {self.version}'}"


UNNAMED: Final = ModelName()


def files_of(classifier: Classifier) -> Files:
    """A classifier as files: their names and content."""
    with tempfile.TemporaryDirectory() as folder:
        classifier.save(folder)
        return {file.name: file.read_bytes() for file in Path(folder).iterdir()}


def sha256_of(files: Files) -> str:
    """Hash of a classifier's files."""
    return hashlib.sha256(b"".join(files[name] for name in sorted(files))).hexdigest()


def write(folder: Place, files: Files) -> None:
    """Write what is not there, or not whole."""
    for name, content in files.items():
        place = folder / name
        if not place.exists() or place.system.size(place.path) != len(content):
            place.write(content)


@functools.lru_cache(maxsize=1)
def load(folder: Place, sha256: str) -> Classifier:
    """The classifier of a folder; a worker loads it once.

    Raises
    ------
    ModelChangedError
        If it is another one, or not whole.
    """
    names = folder.system.ls(folder.path, detail=False) if folder.exists() else []
    last = [name.rsplit("/", 1)[-1] for name in names]
    files = {name: (folder / name).read() for name in last if not name.startswith("_")}
    if sha256_of(files) != sha256:
        raise ModelChangedError(f"the model in {folder.url} changed: remove the answers and score the survey anew")
    with tempfile.TemporaryDirectory() as local:
        for name, content in files.items():
            (Path(local) / name).write_bytes(content)
        return Classifier.load(local)
