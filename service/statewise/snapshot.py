"""A session's state as bytes: position, the digest of its model's file and the state tensors, with a checksum.

The form is a NumPy archive behind a SHA-256 of it. The checksum tells damage, not malice: who may open from bytes that a client
holds is decided where they are accepted.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FORMAT = b"SWS1"
FARTHEST = 1 << 62
"""The farthest position; what a session consumes from there on still fits into 64 bits."""
_CHECKSUM_BYTES = 32


class SnapshotError(ValueError):
    """Bytes that are not a snapshot, or a damaged one."""


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """A committed state.

    Attributes:
        digest: SHA-256 of the model's file, in hexadecimal.
        position: timesteps consumed.
        states: `[*state.shape]` each, by the name of the plain graph's input.
    """

    model: str
    version: int
    digest: str
    position: int
    states: Mapping[str, NDArray[np.generic]]

    def to_bytes(self) -> bytes:
        """Returns the snapshot as bytes."""
        about = {"model": self.model, "version": self.version, "digest": self.digest, "position": self.position}
        body = io.BytesIO()
        arrays = {f"state/{name}": array for name, array in self.states.items()}
        np.savez(body, about=np.frombuffer(json.dumps(about).encode(), np.uint8), **arrays)  # type: ignore[arg-type]
        return FORMAT + hashlib.sha256(body.getvalue()).digest() + body.getvalue()

    @classmethod
    def from_bytes(cls, raw: bytes) -> Snapshot:
        """Reads what `to_bytes` wrote; raises `SnapshotError`."""
        start = len(FORMAT) + _CHECKSUM_BYTES
        if raw[: len(FORMAT)] != FORMAT:
            raise SnapshotError("these bytes are not a snapshot of this version of Statewise")
        if hashlib.sha256(raw[start:]).digest() != raw[len(FORMAT) : start]:
            raise SnapshotError("its checksum is wrong: it was damaged")
        try:
            with np.load(io.BytesIO(raw[start:]), allow_pickle=False) as held:
                if any(member.file_size != member.compress_size for member in held.zip.infolist()):
                    raise SnapshotError("it is compressed")
                about = json.loads(held["about"].tobytes())
                states = {name.removeprefix("state/"): held[name] for name in held.files if name != "about"}
            read = cls(str(about["model"]), int(about["version"]), str(about["digest"]), int(about["position"]), states)
        except SnapshotError:
            raise
        except Exception as error:  # what a client may have made of it is without end
            raise SnapshotError(f"it cannot be read: {error}") from error
        if not 0 <= read.position <= FARTHEST:
            raise SnapshotError(f"its position is {read.position}")
        return read
