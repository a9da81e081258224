"""Sessions and the rows that hold their states: every transition of either lives here.

A session's row is immutable. A step reads it (`source`) and writes a fresh one (`target`); `commit` makes the fresh row the
session's and frees the old, `abandon` frees the fresh one and leaves everything as it was. A long step is cut: between its cuts it
keeps an uncommitted row of its own. So whatever fails, the last committed row still stands, and nothing needs rolling back.

Nothing here awaits, reads a clock or does I/O: `now` is an argument, in seconds of any steady clock.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

from statewise.errors import Reason, error

PADDING_ROW = 0
INITIAL_ROW = 1
RESERVED_ROWS = 2
TOMBSTONES = 100_000


class Rows:
    """Which rows of a state pool are free. Last freed, first taken: the row most likely to be in the processor's cache."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._free = list(range(count - 1, RESERVED_ROWS - 1, -1))

    def __repr__(self) -> str:
        return f"<Rows {self.used} of {self.count - RESERVED_ROWS} used>"

    @property
    def used(self) -> int:
        """How many rows are taken."""
        return self.count - RESERVED_ROWS - len(self._free)

    @property
    def free(self) -> frozenset[int]:
        """The rows that are free."""
        return frozenset(self._free)

    def take(self) -> int:
        """Returns a row that nobody reads; the pool is sized so that an admitted step never lacks one."""
        return self._free.pop()

    def give(self, row: int) -> None:
        """Frees a row. The reserved rows are never taken, so freeing them means nothing."""
        if row >= RESERVED_ROWS:
            self._free.append(row)


M = TypeVar("M")


@dataclass(slots=True, eq=False)
class Session(Generic[M]):
    """One client's conversation. Only `Sessions` changes it.

    Attributes:
        model: what the session is pinned to.
        row: the committed row; `INITIAL_ROW` until the first commit.
        position: timesteps consumed.
        tail: position + timesteps of the admitted steps.
        pending: admitted steps.
    """

    id: str
    model: M
    rows: Rows
    idle_timeout_seconds: float
    last_used: float
    row: int = INITIAL_ROW
    position: int = 0
    tail: int = 0
    pending: int = 0
    ended: Reason | None = None


class Sessions(Generic[M]):
    """All sessions of a server, and how those that are gone ended."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._live: dict[str, Session[M]] = {}
        self._ended: OrderedDict[str, Reason] = OrderedDict()

    def __len__(self) -> int:
        return len(self._live)

    def __repr__(self) -> str:
        return f"<Sessions {len(self._live)} of {self._limit}>"

    def live(self) -> list[Session[M]]:
        """Returns every session that is open."""
        return list(self._live.values())

    def open(self, session_id: str, model: M, rows: Rows, idle_timeout_seconds: float, now: float) -> Session[M]:
        """Starts a session from the initial state; raises `AlreadyOpen` or `Overloaded`."""
        if session_id in self._live:
            raise error(Reason.ALREADY_OPEN, f"session {session_id!r} is open already: choose another id, or none")
        if len(self._live) >= self._limit:
            raise error(Reason.OVERLOADED, f"all {self._limit} sessions are taken", retry_after_seconds=1.0)
        self._ended.pop(session_id, None)
        session = Session(session_id, model, rows, idle_timeout_seconds, last_used=now)
        self._live[session_id] = session
        return session

    def find(self, session_id: str) -> Session[M]:
        """Returns an open session; raises `SessionGone` saying how it ended, or that it never was."""
        if session := self._live.get(session_id):
            return session
        reason = self._ended.get(session_id, Reason.UNKNOWN)
        told = {Reason.CLOSED: "was closed", Reason.EXPIRED: "was idle for too long and has expired"}
        raise error(reason, f"session {session_id!r} {told.get(reason, 'is not known to this server')}")

    def admit(self, session: Session[M], position: int | None, timesteps: int, now: float) -> None:
        """Takes on a step; raises `OutOfOrder` if its position is not the session's tail."""
        if position is not None and position != session.tail:
            reason, relation = (Reason.STALE, "behind") if position < session.tail else (Reason.AHEAD, "ahead of")
            message = f"position {position} is {relation} session {session.id!r}, which expects {session.tail}"
            raise error(reason, message, expected=session.tail)
        session.tail += timesteps
        session.pending += 1
        session.last_used = now

    def commit(self, session: Session[M], target: int, timesteps: int, now: float) -> None:
        """Makes the fresh row the session's own and frees the old one."""
        session.rows.give(session.row)
        session.row = target
        session.position += timesteps
        session.last_used = now
        self._settle(session)

    def withdraw(self, session: Session[M], timesteps: int) -> None:
        """Takes an admitted step back: it failed, expired or was cancelled; the tail goes back by its timesteps."""
        session.tail -= timesteps
        self._settle(session)

    def close(self, session_id: str) -> Session[M] | None:
        """Ends a session and returns it; `None` if it is not open."""
        session = self._live.get(session_id)
        if session:
            self._end(session, Reason.CLOSED)
        return session

    def expire(self, now: float) -> list[Session[M]]:
        """Ends the sessions that have nothing pending and were idle for longer than their timeout, and returns them."""
        idle = [s for s in self._live.values() if not s.pending and now - s.last_used > s.idle_timeout_seconds]
        for session in idle:
            self._end(session, Reason.EXPIRED)
        return idle

    def _end(self, session: Session[M], reason: Reason) -> None:
        del self._live[session.id]
        session.ended = reason
        self._release(session)
        self._ended[session.id] = reason
        if len(self._ended) > TOMBSTONES:
            self._ended.popitem(last=False)

    def _settle(self, session: Session[M]) -> None:
        session.pending -= 1
        if session.ended:
            self._release(session)

    def _release(self, session: Session[M]) -> None:
        """Frees the row of a session that has ended, once no running step can read it any more."""
        if not session.pending:
            session.rows.give(session.row)
            session.row = INITIAL_ROW
