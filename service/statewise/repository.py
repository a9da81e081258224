"""The model repository on disk: which models and versions exist, which one new sessions get, and how a version is added.

    <root>/<model>/<version>/model.onnx     a version, complete from the moment its folder has that name
    <root>/<model>/serving.json             what new sessions get: {"default": 3}; absent, the newest version

A version is written in a hidden folder beside its place and moved there by one rename, so a reader never sees half of it.
This module knows files only; `statewise.engine` loads what they hold. The training package writes through `publish`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MODEL_FILE = "model.onnx"
SERVING_FILE = "serving.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_VERSION = re.compile(r"[1-9][0-9]*")


class RepositoryError(Exception):
    """The repository has no such model or version, or cannot be read or written."""


@dataclass(frozen=True, slots=True)
class Repository:
    """A folder of models.

    Attributes:
        root: the folder; it need not exist before the first `publish`.
    """

    root: Path

    def models(self) -> list[str]:
        """Returns the names of all models that have a version, sorted."""
        if not self.root.is_dir():
            return []
        return sorted(entry.name for entry in self.root.iterdir() if _NAME.fullmatch(entry.name) and self._numbers(entry.name))

    def versions(self, model: str) -> list[int]:
        """Returns the versions of `model`, oldest first; raises `RepositoryError` if there are none."""
        numbers = self._numbers(check_name(model))
        if not numbers:
            raise RepositoryError(f"no model {model!r} in {self.root} (it has: {', '.join(self.models()) or 'none'})")
        return numbers

    def path(self, model: str, version: int) -> Path:
        """Returns the ONNX file of a version; raises `RepositoryError` if there is no such version."""
        versions = self.versions(model)
        if version not in versions:
            raise RepositoryError(f"model {model!r} has no version {version} (it has: {', '.join(map(str, versions))})")
        return self.root / model / str(version) / MODEL_FILE

    def default(self, model: str) -> int:
        """Returns the version that new sessions get: what serving.json names, else the newest."""
        versions = self.versions(model)
        file = self.root / model / SERVING_FILE
        if not file.exists():
            return versions[-1]
        try:
            named = json.loads(file.read_text())["default"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RepositoryError(f'{file} must hold {{"default": VERSION}}: {error!r}') from error
        if type(named) is not int or named not in versions:
            raise RepositoryError(f"{file} names version {json.dumps(named)}, {model!r} has: {', '.join(map(str, versions))}")
        return named

    def promote(self, model: str, version: int) -> None:
        """Makes `version` what new sessions get, atomically."""
        self.path(model, version)
        folder = self.root / model
        try:
            with tempfile.TemporaryDirectory(dir=folder, prefix=".serving-") as scratch:
                written = Path(scratch) / SERVING_FILE
                written.write_text(json.dumps({"default": version}) + "\n")
                _flush(written)
                written.replace(folder / SERVING_FILE)
        except OSError as error:
            raise RepositoryError(f"cannot write {folder / SERVING_FILE}: {error.strerror}") from error

    def publish(self, model: str, write: Callable[[Path], None], *, promote: bool = False) -> int:
        """Adds the next version of `model` and returns its number.

        `write` is given a hidden folder and must leave `model.onnx` in it; if it raises, nothing remains. The first version
        becomes what new sessions get, later ones only with `promote`.

        Raises:
            RepositoryError: the repository cannot be written, or the disk is full.
        """
        folder = self.root / check_name(model)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            incoming = Path(tempfile.mkdtemp(dir=folder, prefix=".incoming-"))
        except OSError as error:
            raise RepositoryError(f"cannot write to {folder}: {error.strerror}") from error
        try:
            write(incoming)
            _flush(incoming / MODEL_FILE)
            incoming.chmod(0o755)
            version = self._move(incoming, folder)
        except OSError as error:
            raise RepositoryError(f"cannot write to {folder}: {error.strerror}") from error
        finally:
            shutil.rmtree(incoming, ignore_errors=True)
            with suppress(OSError):
                folder.rmdir()  # succeeds only where nothing was ever published
        if promote or self._numbers(model) == [version]:
            self.promote(model, version)
        return version

    def _move(self, incoming: Path, folder: Path) -> int:
        while True:
            taken = [int(entry.name) for entry in folder.iterdir() if _VERSION.fullmatch(entry.name)]  # be it a version or not
            version = max(taken, default=0) + 1
            try:
                incoming.rename(folder / str(version))
            except OSError:
                if not (folder / str(version)).exists():
                    raise
            else:
                return version

    def _numbers(self, model: str) -> list[int]:
        folder = self.root / model
        if not folder.is_dir():
            return []
        return sorted(int(e.name) for e in folder.iterdir() if _VERSION.fullmatch(e.name) and (e / MODEL_FILE).is_file())


def check_name(model: str) -> str:
    """Returns `model` if it can name a model; raises `RepositoryError` otherwise."""
    if not _NAME.fullmatch(model):
        raise RepositoryError(f"{model!r} cannot name a model: it takes letters, digits, '_', '-' and '.', and starts with no mark")
    return model


def _flush(file: Path) -> None:
    with file.open("rb") as stream:
        os.fsync(stream.fileno())
