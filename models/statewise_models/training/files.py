"""Files of a training run, each complete or absent: written beside its place, flushed, then moved there by one rename."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Puts what `write` leaves at the path it is given in `path`'s place; if it raises, what was there stands.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".incoming-", suffix=path.suffix)
    os.close(handle)
    incoming = Path(name)
    try:
        write(incoming)
        with incoming.open("rb") as stream:
            os.fsync(stream.fileno())
        incoming.chmod(0o644)
        incoming.replace(path)
    finally:
        incoming.unlink(missing_ok=True)


def replace_bytes(path: Path, data: bytes) -> None:
    """Puts `data` in `path`'s place, whole or not at all; raises `OSError` as `replace_file`."""
    replace_file(path, lambda incoming: incoming.write_bytes(data))


def check_writable(folder: Path) -> None:
    """Makes sure, before hours are spent, that files can be made in `folder`; makes the folder.

    Raises:
        OSError: they cannot.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as probe:
        probe.write(b"\0" * 4096)
