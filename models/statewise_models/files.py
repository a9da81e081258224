"""Files of a training run, each complete or absent: written beside its place, flushed, then moved there by one rename."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

PROBE_BYTES = 4096


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
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    finally:
        incoming.unlink(missing_ok=True)


def replace_bytes(path: Path, data: bytes) -> None:
    """Puts `data` in `path`'s place, whole or not at all; raises `OSError` as `replace_file`."""
    replace_file(path, lambda incoming: incoming.write_bytes(data))


def check_writable(folder: Path) -> None:
    """Makes sure, before hours are spent, that files can be made in `folder` (or where it will be); leaves nothing.

    Raises:
        OSError: they cannot.
    """
    standing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=standing) as probe:
            probe.write(bytes(PROBE_BYTES))
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from error
