"""How a session outlives the server that it was on, on the client's side and without any I/O.

The inputs of answered steps that the store does not hold yet are kept. When the session is resumed, on whatever server, it may
stand before them: `replay` makes the steps that bring it to where it was, whose answers the caller has already; what was not
answered is sent again after that, as after any broken connection.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary, WeakSet

import numpy as np
from numpy.typing import NDArray

from statewise.errors import Overloaded, OwnerChanged, Reason, StatewiseError, Unavailable
from statewise.tensors import encode
from statewise.v1 import sequence_pb2

Array = NDArray[Any]
Session = TypeVar("Session")
RESUMED = frozenset({Reason.NOT_HERE, Reason.MOVED, Reason.OWNER_CHANGED, Reason.STORE_UNAVAILABLE})
"""Reasons for which a session is resumed and the step sent again; the step has not run, or has run in vain."""
BEHIND = frozenset({Reason.BEHIND_FAILED, Reason.AHEAD})
"""Reasons that a step is told which comes after such a one."""
CALLED_AGAIN = frozenset({Reason.MOVED, Reason.STORE_UNAVAILABLE, Reason.MODEL_NOT_HERE})
"""Reasons for which a call is made again for a while: another server may answer it, or this one later."""
REPLAYED = 512
"""The most timesteps of one message that are sent again."""
KEPT_BYTES = 64 * 1024 * 1024
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.05, 1.0


class Whereabouts(Generic[Session]):
    """Finds out when a router sends a client's calls to another server than the one that its stream is on.

    So it is when the client's key has moved, since replicas came or went: a stream stays where it was opened. The sign is a session
    that was resumed while the stream was up, and that the stream's server does not know all the same.
    """

    def __init__(self, patience_seconds: float) -> None:
        self._patience_seconds = patience_seconds
        self._found: WeakSet[Session] = WeakSet()
        self._since: WeakKeyDictionary[Session, tuple[int, float]] = WeakKeyDictionary()

    def begin(self) -> None:
        """A stream is opened anew."""
        self._found.clear()

    def found(self, session: Session, position: int, now: float) -> None:
        """A session has been resumed; `position` is that of its last answer."""
        self._found.add(session)
        if self._since.get(session, (None, now))[0] != position:
            self._since[session] = (position, now)

    def astray(self, session: Session, position: int, reason: Reason, now: float) -> bool:
        """Whether a session that is gone for this reason shows that the stream is to be opened anew.

        Raises:
            Unavailable: it was resumed again and again for as long as the client has patience, and nothing was answered.
        """
        answered, since = self._since.get(session, (None, now))
        if answered == position and now - since > self._patience_seconds:
            del self._since[session]
            raise Unavailable("the session is resumed, and its steps go to another server: does the router go by x-session-id?")
        return reason is Reason.NOT_HERE and session in self._found


def too_far(kept_bytes: int, position: int, durable: int) -> StatewiseError:
    """Returns the error of a step that is not sent because too much is kept."""
    message = f"kept_bytes: the store holds the session at {durable}, and what was sent up to {position} takes {kept_bytes} bytes"
    return Overloaded(f"{message}, as much as may be kept", Reason.OVERLOADED, retry_after_seconds=1.0)


def replay(inputs: Mapping[str, Array], position: int, handle: int) -> Iterator[sequence_pb2.StepFrameRequest]:
    """Yields what brings a session up again from a position: the same timesteps in the same order, many in one message.

    Args:
        inputs: `[timesteps, …]` each.
    """
    for start in range(0, len(next(iter(inputs.values()))), REPLAYED):
        yield sequence_pb2.StepFrameRequest(
            request_id=position + start,
            handles=np.array([handle], "<u8").tobytes(),
            positions=np.array([position + start], "<u8").tobytes(),
            inputs=[encode(name, array[None, start : start + REPLAYED]) for name, array in inputs.items()],
            output_timesteps=sequence_pb2.OUTPUT_TIMESTEPS_LAST,
        )


def may_be_tried_again(problem: StatewiseError) -> bool:
    """Whether what was asked may succeed on another server or later; NOT_HERE is what a replay is told that has come to another."""
    return isinstance(problem, Unavailable | OwnerChanged | Overloaded) or problem.reason is Reason.NOT_HERE


def waits() -> Iterator[float]:
    """Yields how long to wait before each further attempt, in seconds: doubling, and never the same for all clients."""
    wait = FIRST_WAIT_SECONDS
    while True:
        yield wait * (0.5 + secrets.randbelow(1000) / 1000)
        wait = min(2 * wait, LONGEST_WAIT_SECONDS)
