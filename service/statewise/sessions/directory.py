"""By which names sessions are found: ids, handles and open tokens; and how those that are gone ended.

A handle is 64 bits: the session's number in the low 24 and 40 random bits that change whenever the number is given to another
session, so a handle of a closed session, of an earlier run of the server, or out of thin air finds nothing.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

from statewise.errors import Reason, StatewiseError, error
from statewise.masks import every
from statewise.sessions.rows import Indices
from statewise.sessions.steps import NONE

TOMBSTONES = 100_000
TOMBSTONE_SECONDS = 3600.0
_NUMBER_BITS = 24
MOST_SESSIONS = 1 << _NUMBER_BITS
_NUMBER = MOST_SESSIONS - 1
_TOLD = {
    Reason.CLOSED: "was closed",
    Reason.EXPIRED: "was idle for too long and has expired",
    Reason.MOVED: "is in the store: resume it",
    Reason.OWNER_CHANGED: "was taken over by another server: resume it",
}

_NOBODY = 2**64 - 1  # the handle of a number that nobody has; it names another number than any of these
Handles = NDArray[np.uint64]


class Directory:
    """The names of `capacity` sessions. `Sessions` is the only one to change it.

    Attributes:
        endings: how many sessions have ended; as long as it stays the same, whatever was found is still there.
    """

    def __init__(self, capacity: int) -> None:
        self.endings = 0
        self.ids: list[str] = [""] * capacity
        self.handles: Handles = np.full(capacity + 1, _NOBODY, np.uint64)
        self.handles[capacity] = 0  # stands for all numbers beyond; no handle of them is 0
        self._numbers: dict[str, int] = {}
        self._tokens: dict[bytes, int] = {}
        self._token_of: dict[int, bytes] = {}
        self._ended: OrderedDict[str, tuple[Reason, float]] = OrderedDict()
        self._ended_handles: dict[int, tuple[int, Reason]] = {}
        self._stack = list(range(capacity - 1, -1, -1))
        self._capacity = capacity

    def __len__(self) -> int:
        return len(self._numbers)

    def number(self, session_id: str) -> int | None:
        """Returns the number of an open session, or `None`."""
        return self._numbers.get(session_id)

    def find(self, session_id: str) -> int:
        """Returns the number of an open session; raises `SessionGone` saying how it ended, or that it never was."""
        number = self._numbers.get(session_id)
        if number is None:
            reason = self._ended.get(session_id, (Reason.UNKNOWN, 0.0))[0]
            raise error(reason, f"session {session_id!r} {_TOLD.get(reason, 'is not known to this server')}")
        return number

    def token(self, number: int) -> bytes:
        """Returns the token of the open that made a session, or empty."""
        return self._token_of.get(number, b"")

    def ended(self, session_id: str) -> Reason | None:
        """Returns how a session ended that was open here, or `None`."""
        return self._ended.get(session_id, (None, 0.0))[0]

    def told(self, number: int, reason: Reason) -> StatewiseError:
        """Returns the error of who asks for a session that ends now."""
        return error(reason, f"session {self.ids[number]!r} {_TOLD[reason]}")

    def opened_by(self, token: bytes) -> int | None:
        """Returns the open session that an open with this token made, or `None`."""
        return self._tokens.get(token) if token else None

    def find_handles(self, handles: Handles) -> Indices:
        """Returns the number of each handle's open session, `NONE` where there is none."""
        numbers: Indices = np.minimum(handles.view(np.int64) & _NUMBER, self._capacity)
        known = self.handles[numbers] == handles
        if not every(known):
            numbers[~known] = NONE
        return numbers

    def short_handle(self, number: int) -> int:
        """Returns 31 bits above 0 that no other open session has, for those to whom a handle is too long."""
        return int(self.handles[number]) & 0x3FFF_FFFF | 0x4000_0000

    def why_not(self, handle: int) -> StatewiseError:
        """Returns why a handle finds no session."""
        ended, reason = self._ended_handles.get(handle & _NUMBER, (0, None))
        if reason and ended == handle:
            return error(reason, f"the session of handle {handle:#x} {_TOLD[reason]}")
        return error(Reason.NOT_HERE, f"handle {handle:#x} is not of this server, or of a session long gone: open it again")

    def add(self, session_id: str, token: bytes) -> int:
        """Enters a session and returns its number; raises `AlreadyOpen` or `Overloaded`."""
        if session_id in self._numbers:
            raise error(Reason.ALREADY_OPEN, f"session {session_id!r} is open already: choose another id, or none")
        if not self._stack:
            raise error(Reason.OVERLOADED, f"all {self._capacity} sessions are taken", retry_after_seconds=1.0)
        number = self._stack.pop()
        self._ended.pop(session_id, None)
        self._ended_handles.pop(number, None)
        self.ids[number] = session_id
        self.handles[number] = (secrets.randbits(64 - _NUMBER_BITS) or 1) << _NUMBER_BITS | number
        self._numbers[session_id] = number
        if token:
            self._tokens[token] = number
            self._token_of[number] = token
        return number

    def end(self, number: int, reason: Reason, now: float) -> None:
        """Notes how a session ended; its number stays taken until `release`."""
        self.endings += 1
        session_id = self.ids[number]
        del self._numbers[session_id]
        self._ended_handles[number] = int(self.handles[number]), reason
        self.handles[number] = _NOBODY
        self._tokens.pop(self._token_of.pop(number, b""), None)
        self._ended[session_id] = (reason, now)
        oldest = next(iter(self._ended.values()))
        while len(self._ended) > TOMBSTONES or (self._ended and now - oldest[1] > TOMBSTONE_SECONDS):
            self._ended.popitem(last=False)
            oldest = next(iter(self._ended.values()), (reason, now))

    def release(self, number: int) -> None:
        """Makes a number free to be taken again."""
        self.ids[number] = ""
        self._stack.append(number)
