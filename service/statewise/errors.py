"""Errors that say whose fault they are. They know no transport: `statewise.rpc` maps them to status codes.

`Reason` is the vocabulary of the protocol's error table (docs/protocol.md): the server raises a class with a reason, the reason
travels as `google.rpc.ErrorInfo`, and the client raises the same class again.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Reason(StrEnum):
    """Why a request failed."""

    AHEAD = "AHEAD"
    BEHIND_FAILED = "BEHIND_FAILED"
    STALE = "STALE"
    POSITION_REUSED = "POSITION_REUSED"
    BAD_FIELD = "BAD_FIELD"
    NON_FINITE_INPUT = "NON_FINITE_INPUT"
    NON_FINITE_STATE = "NON_FINITE_STATE"
    OVERLOADED = "OVERLOADED"
    EXPIRED_IN_QUEUE = "EXPIRED_IN_QUEUE"
    DRAINING = "DRAINING"
    ENGINE_FAILED = "ENGINE_FAILED"
    ALREADY_OPEN = "ALREADY_OPEN"
    MODEL_UNKNOWN = "MODEL_UNKNOWN"
    NOT_HERE = "NOT_HERE"
    UNKNOWN = "UNKNOWN"
    EXPIRED = "EXPIRED"
    CLOSED = "CLOSED"
    LOST = "LOST"
    STORE_UNAVAILABLE = "STORE_UNAVAILABLE"
    MOVED = "MOVED"
    MODEL_NOT_HERE = "MODEL_NOT_HERE"
    OWNER_CHANGED = "OWNER_CHANGED"
    ROLLED_BACK = "ROLLED_BACK"
    UNREADABLE = "UNREADABLE"
    UNAUTHENTICATED = "UNAUTHENTICATED"


class StatewiseError(Exception):
    """Any refusal or failure of a request.

    Attributes:
        reason: the row of the error table, or `None` for a failure below the protocol (no connection, say).
        metadata: facts for programs, such as `expected` (a position) or `field`.
        retry_after_seconds: when to try again, where the server knows.
    """

    def __init__(
        self,
        message: str,
        reason: Reason | None = None,
        *,
        retry_after_seconds: float | None = None,
        **metadata: str | int,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.metadata = {key: str(value) for key, value in metadata.items()}
        self.retry_after_seconds = retry_after_seconds


class InvalidInput(StatewiseError):
    """The request is wrong and will be wrong again; the session has not advanced."""


class OutOfOrder(StatewiseError):
    """The step's position is not the session's; `metadata["expected"]` is."""


class NonFiniteState(StatewiseError):
    """The step would have left NaN or infinity in the session's state; the session keeps its last good one."""


class Overloaded(StatewiseError):
    """A limit is reached; the same request may succeed after `retry_after_seconds`."""


class StepExpired(StatewiseError):
    """The step's timeout passed before it began to run; the session has not advanced."""


class Unavailable(StatewiseError):
    """The server cannot be reached or is about to stop."""


class OwnerChanged(StatewiseError):
    """Another server has taken the session over; what this one did since is not part of it. To be resumed."""


class DataLost(StatewiseError):
    """What the store holds of the session is older than the client was told, or cannot be read."""


class EngineFailed(StatewiseError):
    """The model could not be run on this step; the session has not advanced."""


class AlreadyOpen(StatewiseError):
    """The session id is taken."""


class ModelUnknown(StatewiseError):
    """The repository has no such model or version."""


class SessionGone(StatewiseError):
    """The session does not exist (any more): never opened, closed, or expired."""


class Unauthenticated(StatewiseError):
    """The server does not know the bearer key, or none was sent."""


class FrameFailed(StatewiseError):
    """Some sessions of a frame failed; the others have advanced.

    Attributes:
        problems: row of the frame → why it failed.
        outputs: as the frame's step returns them; the rows that failed are zero. `None` or empty if all did.
    """

    def __init__(self, problems: Mapping[int, StatewiseError], outputs: object) -> None:
        row = min(problems)
        super().__init__(
            f"{len(problems)} sessions of the frame failed, the first in row {row}: {problems[row]}", problems[row].reason
        )
        self.problems = dict(problems)
        self.outputs = outputs


CLASS_OF_REASON: dict[Reason, type[StatewiseError]] = {
    Reason.AHEAD: OutOfOrder,
    Reason.BEHIND_FAILED: OutOfOrder,
    Reason.STALE: OutOfOrder,
    Reason.POSITION_REUSED: InvalidInput,
    Reason.BAD_FIELD: InvalidInput,
    Reason.NON_FINITE_INPUT: InvalidInput,
    Reason.NON_FINITE_STATE: NonFiniteState,
    Reason.OVERLOADED: Overloaded,
    Reason.EXPIRED_IN_QUEUE: StepExpired,
    Reason.DRAINING: Unavailable,
    Reason.ENGINE_FAILED: EngineFailed,
    Reason.ALREADY_OPEN: AlreadyOpen,
    Reason.MODEL_UNKNOWN: ModelUnknown,
    Reason.NOT_HERE: Unavailable,
    Reason.UNKNOWN: SessionGone,
    Reason.EXPIRED: SessionGone,
    Reason.CLOSED: SessionGone,
    Reason.LOST: SessionGone,
    Reason.STORE_UNAVAILABLE: Unavailable,
    Reason.MOVED: Unavailable,
    Reason.MODEL_NOT_HERE: Unavailable,
    Reason.OWNER_CHANGED: OwnerChanged,
    Reason.ROLLED_BACK: DataLost,
    Reason.UNREADABLE: DataLost,
    Reason.UNAUTHENTICATED: Unauthenticated,
}


def error(reason: Reason, message: str, retry_after_seconds: float | None = None, **metadata: str | int) -> StatewiseError:
    """Returns the error of `reason`'s class, ready to raise."""
    return CLASS_OF_REASON[reason](message, reason, retry_after_seconds=retry_after_seconds, **metadata)
