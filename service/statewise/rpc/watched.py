"""Files that may be replaced while the server runs, as Kubernetes and certificate managers do: looked at when they are needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import structlog

from statewise.access import AccessError

T = TypeVar("T")
log = structlog.get_logger()


class Watched(Generic[T]):
    """A value that is read from files, and read again once they have changed. What cannot be read leaves the value as it was.

    Looking costs a `stat` of each file, some microseconds: once a call or handshake, never once a step.

    Raises:
        AccessError: they cannot be read the first time.
    """

    def __init__(self, files: Sequence[Path], read: Callable[[], T]) -> None:
        self._files = tuple(files)
        self._read = read
        self._seen = self._stamps()
        self._value = read()

    def current(self) -> T:
        """Returns the value of the files as they are now, or as they were when they could last be read."""
        stamps = self._stamps()
        if stamps != self._seen:
            self._seen = stamps
            try:
                self._value = self._read()
                log.info("read again", files=[str(file) for file in self._files])
            except AccessError as problem:
                log.error("what was read before stays in force", problem=str(problem))
        return self._value

    def _stamps(self) -> list[tuple[int, ...] | None]:
        return [_stamp(file) for file in self._files]


def _stamp(file: Path) -> tuple[int, ...] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
