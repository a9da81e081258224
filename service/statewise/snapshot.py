"""A session at one position, as bytes: its states, the replies that it retains, how it was opened, and whose it was; checksummed.

The form is `protos/statewise/v1/snapshot.proto` behind the format's number and a SHA-256. The checksum tells damage, not malice:
`sealing` keeps who holds the bytes from reading or changing them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from statewise.durability import Durability, Epoch, Keeping
from statewise.errors import StatewiseError
from statewise.sessions import Kept
from statewise.tensors import decode, encode
from statewise.v1 import snapshot_pb2, tensor_pb2

Array = NDArray[np.generic]
FORMAT = b"SWS2"
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
    replies: tuple[Kept, ...] = ()
    terms: Terms = field(default_factory=Terms)

    def to_bytes(self) -> bytes:
        """Returns the snapshot as bytes."""
        terms = snapshot_pb2.Terms(
            idle_timeout_seconds=self.terms.idle_timeout_seconds,
            retained_replies=self.terms.retained_replies,
            durability=self.terms.keeping.durability,
            checkpoint_every=self.terms.keeping.every,
            open_token=self.terms.token,
            number=self.terms.number,
        )
        body = snapshot_pb2.Snapshot(
            model=self.model,
            version=self.version,
            model_digest=self.digest,
            spec_digest=self.spec_digest,
            session_id=self.session_id,
            position=self.position,
            epoch=snapshot_pb2.Epoch(counter=self.epoch.counter, random=self.epoch.random) if self.epoch else None,
            states=[encode(name, array) for name, array in self.states.items()],
            replies=map(_reply, self.replies),
            terms=terms,
        ).SerializeToString()
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
                tuple(Kept(each.start, each.timesteps, each.digest, _named(each.outputs)) for each in read.replies),
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


def _reply(reply: Kept) -> snapshot_pb2.Reply:
    return snapshot_pb2.Reply(
        start=reply.start,
        timesteps=reply.timesteps,
        digest=reply.digest,
        outputs=[encode(name, array) for name, array in reply.outputs.items()],
    )


def _named(tensors: Iterable[tensor_pb2.Tensor]) -> dict[str, Array]:
    arrays = {tensor.name: decode(tensor) for tensor in tensors}
    if any(array.ndim and not array.size for array in arrays.values()):
        raise ValueError("one of its tensors is empty")
    return arrays


def _terms(read: snapshot_pb2.Terms) -> Terms:
    keeping = Keeping(Durability(read.durability), read.checkpoint_every)
    return Terms(read.idle_timeout_seconds, read.retained_replies, keeping, read.open_token, read.number)
