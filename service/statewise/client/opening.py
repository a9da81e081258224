"""The requests by which a session comes to be, or is found again."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from google.protobuf.duration_pb2 import Duration

from statewise.client.exchange import Exchange
from statewise.errors import Reason, error
from statewise.v1 import sequence_pb2, tensor_pb2


def open_request(
    model: str,
    version: int = 0,
    session_id: str = "",
    idle_timeout_seconds: float | None = None,
    resume: bool = False,
    retained_replies: int = 0,
    snapshot: bytes = b"",
    constants: Sequence[tensor_pb2.Tensor] = (),
    durability: str = "",
    checkpoint_every: int = 0,
) -> sequence_pb2.OpenSessionRequest:
    """Returns the request that opens a session; its token makes it safe to be sent again."""
    if resume and not session_id:
        raise error(Reason.BAD_FIELD, "session_id: to resume takes one", field="session_id")
    return sequence_pb2.OpenSessionRequest(
        model=model,
        version=version,
        session_id=session_id or secrets.token_hex(16),
        idle_timeout=_duration(idle_timeout_seconds),
        mode=sequence_pb2.OPEN_MODE_CREATE_OR_RESUME if resume else sequence_pb2.OPEN_MODE_CREATE,
        retained_replies=retained_replies,
        open_token=secrets.token_bytes(16),
        snapshot=snapshot,
        constants=constants,
        durability=_durability(durability),
        checkpoint_every=checkpoint_every,
    )


def resume_request(exchange: Exchange) -> sequence_pb2.OpenSessionRequest:
    """Returns the request that finds a session again."""
    return sequence_pb2.OpenSessionRequest(
        session_id=exchange.session_id,
        mode=sequence_pb2.OPEN_MODE_RESUME,
        server_instance=exchange.server_instance,
        durable_position=exchange.durable_position,
    )


def fork_request(exchange: Exchange) -> sequence_pb2.ForkSessionRequest:
    """Returns the request that forks a session."""
    return sequence_pb2.ForkSessionRequest(
        session_id=exchange.session_id, new_session_id=secrets.token_hex(16), open_token=secrets.token_bytes(16)
    )


def _durability(asked: str) -> sequence_pb2.Durability:
    named = f"DURABILITY_{asked.upper() or 'UNSPECIFIED'}"
    if named not in sequence_pb2.Durability.keys():  # noqa: SIM118 (no mapping)
        raise error(Reason.BAD_FIELD, f"durability: takes memory, checkpoint or commit, not {asked!r}", field="durability")
    return sequence_pb2.Durability.Value(named)  # type: ignore[return-value]


def _duration(length_seconds: float | None) -> Duration | None:
    if length_seconds is None:
        return None
    duration = Duration()
    duration.FromNanoseconds(round(length_seconds * 1e9))
    return duration
