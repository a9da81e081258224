"""The columns of the steps that are admitted and not yet settled. A step is a number: its place in these columns.

Steps of one session form a chain in the order of their admission; only the first of a chain may run. `Sessions` is the only one to
change them.
"""

from __future__ import annotations

import numpy as np

from statewise.sessions.rows import INITIAL_ROW, Indices

NONE = -1


class Steps:
    """Columns, `[capacity]` each.

    Attributes:
        session: whose step it is.
        timesteps: of the whole step.
        done: timesteps that earlier cuts have run.
        row: the uncommitted row of the earlier cuts; meaningless while `done` is 0.
        start: the position that the client told, or `NONE`.
        digest: what tells it from another step at that position.
        next: the step behind it, or `NONE`.
        running: whether it is in a run now.
        waiters: how many requests wait for its reply.
    """

    def __init__(self, capacity: int) -> None:
        self.session = np.zeros(capacity, np.int64)
        self.timesteps = np.zeros(capacity, np.int64)
        self.done = np.zeros(capacity, np.int64)
        self.row = np.zeros(capacity, np.int64)
        self.start = np.zeros(capacity, np.int64)
        self.digest = np.zeros(capacity, np.uint64)
        self.next = np.zeros(capacity, np.int64)
        self.running = np.zeros(capacity, np.bool_)
        self.waiters = np.zeros(capacity, np.int64)
        self._stack = np.arange(capacity - 1, -1, -1, dtype=np.int64)
        self._free = capacity

    def __len__(self) -> int:
        return len(self._stack) - self._free

    @property
    def room(self) -> int:
        """How many more steps there is room for."""
        return self._free

    def take(self, sessions: Indices, starts: Indices, timesteps: int, digests: np.ndarray) -> Indices:
        """Returns new steps, waited for once each, at the ends of no chain yet."""
        count = len(sessions)
        self._free -= count
        steps = self._stack[self._free : self._free + count][::-1].copy()
        self.session[steps] = sessions
        self.timesteps[steps] = timesteps
        self.done[steps] = 0
        self.row[steps] = INITIAL_ROW
        self.start[steps] = starts
        self.digest[steps] = digests
        self.next[steps] = NONE
        self.running[steps] = False
        self.waiters[steps] = 1
        return steps

    def free(self, steps: Indices) -> None:
        """Gives the places of settled steps back."""
        self._stack[self._free : self._free + len(steps)] = steps
        self._free += len(steps)
