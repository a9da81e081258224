"""How a session outlives the server that it was on, on the client's side and without any I/O.

The inputs of answered steps that the store does not hold yet are kept. When the session is resumed, on whatever server, it may
stand before them: `replay` makes the steps that bring it to where it was, whose answers the caller has already; what was not
answered is sent again after that, as after any broken connection.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar
from weakref import WeakKeyDictionary, WeakSet

import numpy as np
from numpy.typing import NDArray

from statewise.errors import Overloaded, OwnerChanged, Reason, StatewiseError, Unavailable, error
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


class Given(NamedTuple):
    """The inputs of an answered step, `[timesteps, …]` each."""

    position: int
    timesteps: int
    arrays: Mapping[str, Array]


class Kept:
    """The inputs since the last position that the store holds, of one session.

    Attributes:
        bytes: what they take.
        limit_bytes: past it no step is sent, until the store has caught up.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.bytes = 0
        self.limit_bytes = limit_bytes
        self._given: deque[Given] = deque()

    def __len__(self) -> int:
        return len(self._given)

    @property
    def full(self) -> bool:
        """Whether no step may be sent now."""
        return self.bytes >= self.limit_bytes

    def add(self, given: Given) -> None:
        """Keeps the inputs of a step that was answered."""
        self._given.append(given)
        self.bytes += _size(given)

    def drop(self, durable: int) -> None:
        """Lets go of what the store holds."""
        while self._given and self._given[0].position + self._given[0].timesteps <= durable:
            self.bytes -= _size(self._given.popleft())

    def since(self, position: int, until: int) -> list[Given]:
        """Returns what was given from one position to another; raises `SessionGone` if it is not all there."""
        given = [each for each in self._given if position <= each.position < until]
        at = position
        for each in given:
            if each.position != at:
                break
            at += each.timesteps
        if at != until:
            message = f"the session is resumed at {position}, {until} was answered, and what was sent since is not kept"
            raise error(Reason.LOST, message)
        return given


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


def too_far(kept: Kept, position: int, durable: int) -> StatewiseError:
    """Returns the error of a step that is not sent because too much is kept."""
    message = f"kept_bytes: the store holds the session at {durable}, and what was sent up to {position} takes {kept.bytes} bytes"
    return Overloaded(f"{message}, as much as may be kept", Reason.OVERLOADED, retry_after_seconds=1.0)


def replay(given: Sequence[Given], handle: int) -> Iterator[sequence_pb2.StepFrameRequest]:
    """Yields the steps that bring a session up again: the same timesteps in the same order, many in one message."""
    while given:
        count, timesteps = 0, 0
        while count < len(given) and (not count or timesteps + given[count].timesteps <= REPLAYED):
            timesteps += given[count].timesteps
            count += 1
        arrays = {name: np.concatenate([each.arrays[name] for each in given[:count]])[None] for name in given[0].arrays}
        yield sequence_pb2.StepFrameRequest(
            request_id=given[0].position,
            handles=np.array([handle], "<u8").tobytes(),
            positions=np.array([given[0].position], "<u8").tobytes(),
            inputs=[encode(name, array) for name, array in arrays.items()],
            output_timesteps=sequence_pb2.OUTPUT_TIMESTEPS_LAST,
        )
        given = given[count:]


def may_be_tried_again(problem: StatewiseError) -> bool:
    """Whether what was asked may succeed on another server or later; NOT_HERE is what a replay is told that has come to another."""
    return isinstance(problem, Unavailable | OwnerChanged | Overloaded) or problem.reason is Reason.NOT_HERE


def waits() -> Iterator[float]:
    """Yields how long to wait before each further attempt, in seconds: doubling, and never the same for all clients."""
    wait = FIRST_WAIT_SECONDS
    while True:
        yield wait * (0.5 + secrets.randbelow(1000) / 1000)
        wait = min(2 * wait, LONGEST_WAIT_SECONDS)


def _size(given: Given) -> int:
    return sum(array.nbytes for array in given.arrays.values())
