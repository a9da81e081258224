"""The chains of sessions: the admitted steps of each, one behind another. Only the first of a chain may run.

`Sessions` is the only one to change them.
"""

from __future__ import annotations

import numpy as np

from statewise.masks import every, some
from statewise.sessions.digest import Digests
from statewise.sessions.rows import Indices
from statewise.sessions.steps import NONE, Steps

_NOBODY = np.empty(0, np.int64)


class Chains:
    """Columns, `[sessions]` each.

    Attributes:
        first: the step that may run, or `NONE`.
        last: the step that came last, or `NONE`.
        length: how many steps.
        tail: the position behind them, at which the next one is admitted.
    """

    def __init__(self, sessions: int, steps: Steps) -> None:
        self.first = np.full(sessions, NONE, np.int64)
        self.last = np.full(sessions, NONE, np.int64)
        self.length = np.zeros(sessions, np.int64)
        self.tail = np.zeros(sessions, np.int64)
        self._steps = steps

    def begin(self, session: int, position: int) -> None:
        """Gives a session an empty chain."""
        self.first[session] = self.last[session] = NONE
        self.length[session] = 0
        self.tail[session] = position

    def append(self, sessions: Indices, positions: Indices, timesteps: int, digests: Digests) -> tuple[Indices, Indices]:
        """Returns new steps, at the ends of their chains, and those that are alone in theirs; see `Steps`."""
        steps = self._steps.take(sessions, positions, timesteps, digests)
        self.tail[sessions] += timesteps
        self.length[sessions] += 1
        ends = self.last[sessions]
        self.last[sessions] = steps
        waits = ends != NONE
        if not some(waits):
            self.first[sessions] = steps
            return steps, steps
        self._steps.next[ends[waits]] = steps[waits]
        ready = steps[~waits]
        self.first[sessions[~waits]] = ready
        return steps, ready

    def of(self, session: int) -> list[int]:
        """Returns the steps of a session."""
        return self._from(int(self.first[session]))

    def behind(self, step: int) -> list[int]:
        """Returns the steps behind one."""
        return self._from(int(self._steps.next[step]))

    def find(self, session: int, position: int, start: int) -> int:
        """Returns the step that will run at a position, or `NONE`; the chain's first one will at `start`."""
        for step in self.of(session):
            if start == position:
                return step
            start += int(self._steps.timesteps[step])
        return NONE

    def drop_first(self, steps: Indices, sessions: Indices) -> Indices:
        """Lets go of the first steps of chains, which ran; returns those that are first now."""
        following = self._steps.next[steps]
        self.first[sessions] = following
        alone = following == NONE
        ready = _NOBODY
        if every(alone):
            self.last[sessions] = NONE
        else:
            self.last[sessions[alone]] = NONE
            ready = following[~alone]
        self.length[sessions] -= 1
        self._steps.free(steps)
        return ready

    def take_out(self, session: int, gone: set[int]) -> Indices:
        """Takes steps that will not run out of a chain, and its tail back; returns the first that is left, if it was not before."""
        chain = self.of(session)
        kept = [step for step in chain if step not in gone]
        for step, following in zip(kept, [*kept, NONE][1:], strict=True):
            self._steps.next[step] = following
        self.first[session], self.last[session] = (kept[0], kept[-1]) if kept else (NONE, NONE)
        self.length[session] -= len(gone)
        steps = np.array(sorted(gone))
        self.tail[session] -= self._steps.timesteps[steps].sum()
        self._steps.free(steps)
        return np.array(kept[:1], np.int64) if chain[0] in gone else _NOBODY

    def _from(self, step: int) -> list[int]:
        steps = []
        while step != NONE:
            steps.append(step)
            step = int(self._steps.next[step])
        return steps
