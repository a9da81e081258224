"""The model repository on disk: which models and versions exist, which one new sessions get, and how a version is added.

    <root>/<model>/<version>/model.onnx     a version, complete from the moment its folder has that name
    <root>/<model>/<version>/trace.onnx     what its cells do, gate by gate: for `statewise trace`, never served
    <root>/<model>/<version>/report.html    how it came about and how good it is, for people; may be absent
    <root>/<model>/serving.json             what new sessions get; absent, the newest version:
                                            {"default": 3, "previous": 2, "canary": {"version": 4, "share": 0.1}}

A version is written in a hidden folder beside its place and moved there by one rename, so a reader never sees half of it.
This module knows files only; `statewise.engine` loads what they hold. The training package writes through `publish`.
"""

from __future__ import annotations

import hashlib
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
TRACE_FILE = "trace.onnx"
REPORT_FILE = "report.html"
SERVING_FILE = "serving.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_VERSION = re.compile(r"[1-9][0-9]*")
_File = tuple[int, int, int]
Stamp = tuple[_File, _File]


class RepositoryError(Exception):
    """The repository has no such model or version, or cannot be read or written."""


@dataclass(frozen=True, slots=True)
class Serving:
    """What new sessions of a model get.

    Attributes:
        default: the version.
        previous: what it was before the last promotion.
        canary: the version that a share of new sessions gets instead, or `None`.
        share: 0 to 1; which sessions are among them follows from their ids.
    """

    default: int
    previous: int | None = None
    canary: int | None = None
    share: float = 0.0

    def choose(self, session_id: str) -> int:
        """Returns the version that a new session of this id gets; the same id always gets the same."""
        if self.canary is None:
            return self.default
        drawn = int.from_bytes(hashlib.sha256(session_id.encode()).digest()[:8], "big") / 2**64
        return self.canary if drawn < self.share else self.default

    def to_dict(self) -> dict[str, object]:
        """Returns what serving.json holds."""
        held: dict[str, object] = {"default": self.default}
        if self.previous is not None:
            held["previous"] = self.previous
        if self.canary is not None:
            held["canary"] = {"version": self.canary, "share": self.share}
        return held


@dataclass(frozen=True, slots=True)
class Published:
    """A version in a repository.

    Attributes:
        model, version: its name and number.
        path: its ONNX file.
    """

    model: str
    version: int
    path: Path

    def __str__(self) -> str:
        """Returns the words that name it: `demand@7`."""
        return f"{self.model}@{self.version}"


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

    def named(self, words: str) -> Published:
        """Returns the version that `MODEL@VERSION` names; of `MODEL` alone, the one that new sessions get.

        Raises:
            RepositoryError: there is no such model or version, or the words name none.
        """
        model, mark, number = words.partition("@")
        if mark and not number.isdecimal():
            raise RepositoryError(f"a version is named MODEL or MODEL@NUMBER, not {words!r}")
        version = int(number) if mark else self.default(model)
        return Published(model, version, self.path(model, version))

    def default(self, model: str) -> int:
        """Returns the version that new sessions get: what serving.json names, else the newest."""
        return self.serving(model).default

    def serving(self, model: str) -> Serving:
        """Returns what new sessions get; raises `RepositoryError` if serving.json cannot be followed."""
        versions = self.versions(model)
        file = self.root / model / SERVING_FILE
        try:
            raw = json.loads(file.read_text())
            canary = raw.get("canary") or {}
            serving = Serving(raw["default"], raw.get("previous"), canary.get("version"), float(canary.get("share", 0.0)))
        except FileNotFoundError:
            return Serving(versions[-1])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise RepositoryError(f'{file} must hold {{"default": VERSION}}: {error!r}') from error
        for named in (serving.default, *([] if serving.canary is None else [serving.canary])):
            if type(named) is not int or named not in versions:
                raise RepositoryError(f"{file} names version {json.dumps(named)}, {model!r} has: {', '.join(map(str, versions))}")
        if not 0 <= serving.share <= 1:
            raise RepositoryError(f"{file}: the canary's share must be 0 to 1, not {serving.share:g}")
        return serving

    def stamp(self, model: str) -> Stamp:
        """Returns what changes whenever a version comes or goes, or serving.json is written."""
        folder = self.root / check_name(model)
        return _told_apart(folder), _told_apart(folder / SERVING_FILE)

    def promote(self, model: str, version: int) -> None:
        """Makes `version` what new sessions get, atomically, and ends a canary."""
        self.path(model, version)
        before = self._before(model)
        previous = before.previous if before and before.default == version else before.default if before else None
        self._write(model, Serving(version, previous))

    def rollback(self, model: str) -> int:
        """Makes what new sessions got before the last promotion what they get, and returns it; a second call undoes the first."""
        serving = self.serving(model)
        if serving.previous is None:
            raise RepositoryError(f"{model!r} has no version to go back to: it was never promoted from one to another")
        self.path(model, serving.previous)
        self._write(model, Serving(serving.previous, serving.default))
        return serving.previous

    def set_canary(self, model: str, version: int | None, share: float = 0.0) -> None:
        """Gives a share of new sessions another version than the others; `None` ends that."""
        serving = self.serving(model)
        if version is not None:
            self.path(model, version)
            if not 0 < share <= 1:
                raise RepositoryError(f"a canary's share is more than 0 and at most 1, not {share:g}")
            if version == serving.default:
                raise RepositoryError(f"version {version} is what all new sessions get already")
        self._write(model, Serving(serving.default, serving.previous, version, share if version else 0.0))

    def publish(
        self,
        model: str,
        write: Callable[[Path], None],
        *,
        describe: Callable[[Path, int], None] | None = None,
        promote: bool = False,
    ) -> int:
        """Adds the next version of `model` and returns its number.

        `write` is given a hidden folder and must leave `model.onnx` in it; `describe` is then given the folder and the number
        that it is about to have, and called again if another version takes that number first. If either raises, nothing
        remains. The first version becomes what new sessions get, later ones only with `promote`.

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
            for file in {incoming / MODEL_FILE, *filter(Path.is_file, incoming.iterdir())}:
                _flush(file)
            incoming.chmod(0o755)
            version = self._move(incoming, folder, describe or (lambda *_: None))
        except OSError as error:
            raise RepositoryError(f"cannot write to {folder}: {error.strerror}") from error
        finally:
            shutil.rmtree(incoming, ignore_errors=True)
            with suppress(OSError):
                folder.rmdir()  # succeeds only where nothing was ever published
        if promote or self._numbers(model) == [version]:
            self.promote(model, version)
        return version

    def _before(self, model: str) -> Serving | None:
        """Returns what serving.json says, `None` where it is absent or says nothing that can be followed."""
        if not (self.root / model / SERVING_FILE).exists():
            return None
        try:
            return self.serving(model)
        except RepositoryError:
            return None

    def _write(self, model: str, serving: Serving) -> None:
        folder = self.root / model
        try:
            with tempfile.TemporaryDirectory(dir=folder, prefix=".serving-") as scratch:
                written = Path(scratch) / SERVING_FILE
                written.write_text(json.dumps(serving.to_dict()) + "\n")
                _flush(written)
                written.replace(folder / SERVING_FILE)
        except OSError as error:
            raise RepositoryError(f"cannot write {folder / SERVING_FILE}: {error.strerror}") from error

    def _move(self, incoming: Path, folder: Path, describe: Callable[[Path, int], None]) -> int:
        while True:
            taken = [int(entry.name) for entry in folder.iterdir() if _VERSION.fullmatch(entry.name)]  # be it a version or not
            version = max(taken, default=0) + 1
            describe(incoming, version)
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


def _told_apart(path: Path) -> _File:
    """Returns what tells a file from what it was before; its time alone does not, where it is written twice within a tick."""
    try:
        told = path.stat()
    except OSError:
        return 0, 0, 0
    return told.st_mtime_ns, told.st_ino, told.st_size


def _flush(file: Path) -> None:
    with file.open("rb") as stream:
        os.fsync(stream.fileno())
