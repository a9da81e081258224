"""How durable each session is, and how far its snapshots have come: columns beside the table, empty where nothing is durable.

A session in memory has no entry. One with checkpoints is due for the next at a position of its own, so that those that were opened
together are not all snapshotted together. `epochs` are the ownerships under which this server holds its durable sessions.
"""

from __future__ import annotations

import secrets

import numpy as np
from numpy.typing import NDArray

from statewise.durability import Durability, Epoch, Keeping
from statewise.sessions.rows import Indices

NO_TIMESTEPS = 1 << 62


class Durable:
    """Columns `[capacity]`; `Sessions` says when a session ends.

    Attributes:
        count: sessions that are durable at all.
        committing: those of them whose steps are in the store before they are answered.
        commits: bool, which these are.
        stored: the position that the store holds; 0 where nothing is durable.
        stored_at: when it was put there.
        busy: bool, whether a checkpoint is on its way.
    """

    def __init__(self, capacity: int) -> None:
        self.count = 0
        self.committing = 0
        self.commits = np.zeros(capacity, np.bool_)
        self.stored = np.zeros(capacity, np.int64)
        self.stored_at = np.full(capacity, np.inf)
        self.busy = np.zeros(capacity, np.bool_)
        self._every = np.zeros(capacity, np.int64)
        self._due = np.full(capacity, NO_TIMESTEPS, np.int64)
        self._epochs: dict[int, Epoch] = {}

    def begin(self, session: int, keeping: Keeping, epoch: Epoch, position: int, now: float) -> None:
        """Enters a session whose snapshot at `position` the store holds."""
        assert session not in self._epochs, "the session is durable already"
        self.count += 1
        self._epochs[session] = epoch
        self.stored[session], self.stored_at[session] = position, now
        if keeping.durability is Durability.COMMIT:
            self.commits[session] = True
            self.committing += 1
        else:
            self._every[session] = keeping.every
            self._due[session] = position + 1 + secrets.randbelow(keeping.every)

    def end(self, session: int) -> None:
        """Forgets a session, if it was durable."""
        if self._epochs.pop(session, None) is None:
            return
        self.count -= 1
        self.committing -= int(self.commits[session])
        self.commits[session] = self.busy[session] = False
        self.stored[session], self.stored_at[session] = 0, np.inf
        self._due[session], self._every[session] = NO_TIMESTEPS, 0

    def keeping(self, session: int) -> Keeping:
        """Returns what a session's client asked for."""
        if session not in self._epochs:
            return Keeping()
        if self.commits[session]:
            return Keeping(Durability.COMMIT)
        return Keeping(Durability.CHECKPOINT, int(self._every[session]))

    def epoch(self, session: int) -> Epoch | None:
        """Returns under which ownership this server holds a session, or `None` if it is not durable."""
        return self._epochs.get(session)

    def due(self, positions: Indices) -> Indices:
        """Returns the sessions that have come to a checkpoint, and are `busy` from now on; positions are `[capacity]`."""
        sessions = np.flatnonzero((positions >= self._due) & ~self.busy)
        self.busy[sessions] = True
        return sessions

    def kept(self, session: int, position: int, now: float) -> None:
        """Notes that the store holds a session's snapshot at a position."""
        self.stored[session], self.stored_at[session] = position, now
        self.busy[session] = False
        if not self.commits[session]:
            self._due[session] = position + self._every[session]

    def put_off(self, session: int, position: int) -> None:
        """Notes that the store has not taken a checkpoint: the next is due as far on as if it had."""
        self.busy[session] = False
        if not self.commits[session]:
            self._due[session] = position + self._every[session]

    def overdue(self, positions: Indices, last_used: NDArray[np.float64], idle_timeout: NDArray[np.float64], now: float) -> Indices:
        """Returns the sessions that are to be put into the store whether or not they are stepped; all columns `[capacity]`.

        Those whose checkpoint the store has not taken, and those that were used since they were last put there, half an idle
        timeout ago and more: the store forgets what is not put again.
        """
        missed = (self._every > 0) & (positions - self.stored >= self._every) & np.isfinite(self.stored_at)
        old = (last_used > self.stored_at) & (now - self.stored_at > idle_timeout / 2)
        return np.flatnonzero((missed | old) & ~self.busy)

    def told(self, sessions: Indices) -> Indices | None:
        """Returns up to where the store holds sessions, as their clients are told; `None` where no session is durable."""
        return self.stored[sessions] if self.count else None

    def lag(self, positions: Indices) -> int:
        """Returns the most timesteps that any durable session is ahead of the store; positions are `[capacity]`."""
        sessions = list(self._epochs)
        return int((positions[sessions] - self.stored[sessions]).max()) if sessions else 0

    @property
    def sessions(self) -> list[int]:
        """The durable sessions."""
        return list(self._epochs)
