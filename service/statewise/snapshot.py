"""A session at one position, as bytes: its states, the replies that it retains, how it was opened, and whose it was; checksummed.

The form is `protos/statewise/v1/snapshot.proto` behind the format's number and a SHA-256. The checksum tells damage, not malice:
`sealing` keeps who holds the bytes from reading or changing them.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from statewise.durability import Durability, Epoch, Keeping
from statewise.errors import StatewiseError
from statewise.sessions import Retained
from statewise.tensors import NUMBERS, decode, encode
from statewise.v1 import snapshot_pb2, tensor_pb2

Array = NDArray[np.generic]
FORMAT = b"SWS3"
FARTHEST = 1 << 62
"""The farthest position; what a session consumes from there on still fits into 64 bits."""
_KIND = b"SWS"
_CHECKSUM_BYTES = 32


class SnapshotError(ValueError):
    """Bytes that are not a snapshot, or a damaged one, or one of another format."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How a session was opened; 0 and empty are the server's defaults."""

    idle_timeout_seconds: float = 0.0
    retained_replies: int = 0
    keeping: Keeping = field(default_factory=Keeping)
    token: bytes = b""
    number: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """A committed state.

    Attributes:
        digest: SHA-256 of the model's file, in hexadecimal.
        position: timesteps consumed.
        states: `[*state.shape]` each, by the name of the plain graph's input.
        spec_digest: SHA-256 of the model's spec.
        epoch: under which ownership it was taken, where there is a store.
        replies: the oldest first.
    """

    model: str
    version: int
    digest: str
    position: int
    states: Mapping[str, Array]
    spec_digest: str = ""
    session_id: str = ""
    epoch: Epoch | None = None
    replies: Retained = field(default_factory=Retained)
    terms: Terms = field(default_factory=Terms)

    def to_bytes(self) -> bytes:
        """Returns the snapshot as bytes."""
        told = snapshot_pb2.Snapshot()  # filled field by field: to give them all at once would take twice as long
        told.model, told.version = self.model, self.version
        told.model_digest, told.spec_digest = self.digest, self.spec_digest
        told.session_id, told.position = self.session_id, self.position
        if self.epoch:
            told.epoch.counter, told.epoch.random = self.epoch.counter, self.epoch.random
        if self.replies:
            replies, retained = told.replies, self.replies
            replies.starts.extend(retained.starts)
            replies.timesteps.extend(retained.timesteps)
            replies.digests.extend(retained.digests)
            replies.lengths.extend(retained.lengths)
        terms, opened = told.terms, self.terms
        terms.idle_timeout_seconds, terms.retained_replies = opened.idle_timeout_seconds, opened.retained_replies
        terms.durability, terms.checkpoint_every = opened.keeping.durability, opened.keeping.every
        terms.open_token, terms.number = opened.token, opened.number
        body = told.SerializeToString() + _tensors("states", self.states) + _tensors("outputs", self.replies.outputs)
        return FORMAT + hashlib.sha256(body).digest() + body

    @classmethod
    def from_bytes(cls, raw: bytes) -> Snapshot:
        """Reads what `to_bytes` wrote; raises `SnapshotError`."""
        body = _checked(raw)
        try:
            read = snapshot_pb2.Snapshot.FromString(body)
            made = cls(
                read.model,
                read.version,
                read.model_digest,
                read.position,
                _named(read.states),
                read.spec_digest,
                read.session_id,
                Epoch(read.epoch.counter, read.epoch.random) if read.HasField("epoch") else None,
                _replies(read.replies, _named(read.outputs)),
                _terms(read.terms) if read.HasField("terms") else Terms(),
            )
        except (DecodeError, StatewiseError, ValueError) as error:
            raise SnapshotError(f"it cannot be read: {error}") from error
        if not made.position <= FARTHEST:
            raise SnapshotError(f"its position is {made.position}")
        for reply in made.replies:
            if not 0 < reply.timesteps <= made.position or reply.start > made.position - reply.timesteps:
                raise SnapshotError(f"it retains a reply of {reply.timesteps} timesteps from {reply.start} at {made.position}")
        return made


def _checked(raw: bytes) -> bytes:
    """Returns what lies behind format and checksum."""
    start = len(FORMAT) + _CHECKSUM_BYTES
    if raw[: len(FORMAT)] != FORMAT:
        if raw.startswith(_KIND) and len(raw) > len(FORMAT):
            told, ours = raw[len(_KIND) : len(FORMAT)].decode("ascii", "replace"), FORMAT[len(_KIND) :].decode()
            raise SnapshotError(f"it is of format {told}, and this version of Statewise reads format {ours} alone")
        raise SnapshotError("these bytes are not a snapshot of Statewise")
    body = raw[start:]
    if hashlib.sha256(body).digest() != raw[len(FORMAT) : start]:
        raise SnapshotError("its checksum is wrong: it was damaged")
    return body


def _tensors(field: str, arrays: Mapping[str, Array]) -> bytes:
    """Returns arrays as a field of a snapshot, to be put behind others: messages one behind another are one message.

    Snapshots of a model differ in the data of their tensors, which are the last of each; to make the rest anew, every time, would
    take longer than all else.
    """
    return b"".join(_stencil(field, name, array.dtype, array.shape) + array.tobytes() for name, array in arrays.items())


@functools.lru_cache(1024)
def _stencil(field: str, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """Returns what comes before the data of a tensor, and of nothing but it, in a field of a snapshot."""
    if dtype not in NUMBERS:
        raise TypeError(f"{name}: {dtype} cannot travel")
    zeros = np.zeros(shape, dtype)
    message = snapshot_pb2.Snapshot()
    getattr(message, field).append(encode(name, zeros))
    raw = message.SerializeToString()
    return raw[: len(raw) - zeros.nbytes]


def _replies(told: snapshot_pb2.Replies, outputs: Mapping[str, Array]) -> Retained:
    starts, timesteps, digests, lengths = list(told.starts), list(told.timesteps), list(told.digests), list(told.lengths)
    if {len(timesteps), len(digests), len(lengths)} != {len(starts)}:
        raise ValueError("its replies are not told side by side")
    if any(array.shape[:1] != (sum(lengths),) for array in outputs.values()):
        raise ValueError("the outputs of its replies are not as long as those")
    return Retained(starts, timesteps, digests, lengths, outputs)


def _named(tensors: Iterable[tensor_pb2.Tensor]) -> dict[str, Array]:
    arrays = {tensor.name: decode(tensor) for tensor in tensors}
    if any(array.ndim and not array.size for array in arrays.values()):
        raise ValueError("one of its tensors is empty")
    return arrays


def _terms(read: snapshot_pb2.Terms) -> Terms:
    keeping = Keeping(Durability(read.durability), read.checkpoint_every)
    return Terms(read.idle_timeout_seconds, read.retained_replies, keeping, read.open_token, read.number)
