"""The choice of the next batch, and nothing else: pure, over the numbers of steps.

What waits lies in lines, one for each kind (a model and a length class), and in each line a queue for each client. The lines take
turns, a batch each; a batch takes from its clients in turn, about an equal share each, until it is full: a client that sends a
thousand steps does not hold up one that sends one, of the same model or another, and single timesteps never pay for the padding of
long steps. Steps that came as one column stay together if they can, since a frame that is split is answered in pieces. A long step
is cut; after each cut it goes to the back of its line, so single steps run in between. There is no timer: what is ready runs.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

CUT = 32
"""The most timesteps of one step in one engine run."""

Indices = NDArray[np.int64]


class Bounds(NamedTuple):
    """What one run of a model takes.

    Attributes:
        steps: at most so many, 0 for as many as the scheduler's.
        timesteps: at most so many of each.
        ragged: whether steps of unlike length may share a run.
    """

    steps: int = 0
    timesteps: int = CUT
    ragged: bool = True

    def most(self, batch: int) -> int:
        """Returns how many steps a run takes at most, where a batch has at most `batch`."""
        return min(self.steps or batch, batch)

    def length(self, timesteps: int) -> int:
        """Returns the length class of steps that have so many timesteps left: those of one class share runs."""
        run = min(timesteps, self.timesteps)
        return length_class(run) if self.ragged else run


UNBOUND = Bounds()
Kind = tuple[int, int, int]
_Queues = OrderedDict[object, deque[tuple[int, Indices]]]


class Scheduler:
    """The lines of ready steps; the only place that orders them.

    Attributes:
        batch: the most steps of one batch.
    """

    def __init__(self, capacity: int, batch: int) -> None:
        self.batch = batch
        self._lines: OrderedDict[Kind, _Queues] = OrderedDict()
        self._turn_of_step = np.zeros(capacity, np.int64)
        self._turn = 0
        self._waiting = 0

    def __len__(self) -> int:
        return self._waiting

    def add(self, steps: Indices, model: int, timesteps: int, client: object, bounds: Bounds = UNBOUND) -> None:
        """Puts ready steps in line; `timesteps` is what each has left to run, `bounds` what a run of the model takes."""
        if not len(steps):
            return
        self._turn += 1
        self._turn_of_step[steps] = self._turn
        kind = model, bounds.length(timesteps), bounds.most(self.batch)
        queues = self._lines.setdefault(kind, OrderedDict())
        queues.setdefault(client, deque()).append((self._turn, steps))
        self._waiting += len(steps)

    def remove(self, steps: Indices) -> None:
        """Takes waiting steps out of line; those that do not wait are left alone."""
        waiting = self._turn_of_step[steps] > 0
        self._waiting -= int(waiting.sum())
        self._turn_of_step[steps] = 0

    def next(self) -> Indices:
        """Removes and returns the next batch, steps of one kind; empty if nothing is ready."""
        while self._lines:
            kind, queues = next(iter(self._lines.items()))
            steps = self._take(queues, kind[2])
            if queues:
                self._lines.move_to_end(kind)
            else:
                del self._lines[kind]
            if len(steps):
                self._turn_of_step[steps] = 0
                self._waiting -= len(steps)
                return steps
        return np.empty(0, np.int64)

    def _take(self, queues: _Queues, room: int) -> Indices:
        """Takes up to `room` steps, from each client in turn; whoever was served is put behind the others."""
        parts: list[Indices] = []
        served = True
        while queues and room and served:
            served = False
            share = max(1, room // len(queues))
            for client in list(queues):
                part = self._take_of(queues[client], share, room, split=not parts)
                if not queues[client]:
                    del queues[client]
                elif len(part):
                    queues.move_to_end(client)
                if len(part):
                    parts.append(part)
                    room -= len(part)
                    served = True
                if not room:
                    break
        return _joined(parts)

    def _take_of(self, queue: deque[tuple[int, Indices]], share: int, room: int, *, split: bool) -> Indices:
        """Takes whole columns until a share is reached; one that does not fit is left, or split where nothing else would run."""
        parts: list[Indices] = []
        count = 0
        while queue and count < share:
            turn, steps = queue[0]
            steps = steps[self._turn_of_step[steps] == turn]  # without those that were removed since
            if len(steps) > room - count:
                if split and not parts:
                    queue[0] = turn, steps[room:]
                    parts.append(steps[:room])
                break
            queue.popleft()
            if len(steps):
                parts.append(steps)
                count += len(steps)
        return _joined(parts)


def _joined(parts: list[Indices]) -> Indices:
    return parts[0] if len(parts) == 1 else np.concatenate(parts) if parts else np.empty(0, np.int64)


def length_class(timesteps: int) -> int:
    """Returns the power of two at or above `timesteps`: a batch pads less than it computes."""
    return 1 << (timesteps - 1).bit_length()
