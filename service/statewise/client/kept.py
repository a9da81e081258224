"""What a client has sent and no store holds yet: the inputs of answered steps of sessions that are resumed from checkpoints.

They stay in the arrays in which they were sent, many sessions side by side, so that to keep them costs next to nothing. What the
store holds by now is looked for a little at a time, the oldest first: for every `AT_ONCE` arrays that come, arrays with
`LOOKED_AT` times as many rows have their turn. If one of three rows of an array, others at each turn, is still needed, so probably
are most, and it stays as it is; otherwise all its rows are looked at, and if less than half are needed it is replaced by its rest.
So no more is held than a few times what is needed, however idle some of the sessions are, and nobody ever waits for it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol
from weakref import ReferenceType

import numpy as np
from numpy.typing import NDArray

from statewise.errors import Reason, error

Array = NDArray[Any]
AT_ONCE = 4
"""The first look finds nothing in the caches and takes several times as long as those that follow it."""
LOOKED_AT = 2
"""With one, what is needed no more would grow as fast as it is looked for."""
GOLDEN = (5**0.5 - 1) / 2
"""Its multiples, without their whole parts, are spread evenly over 0 to 1, and so are every second of them, every third, …"""


class Stored(Protocol):
    """What is asked of a session."""

    durable_position: int
    """Up to where the store holds it."""


class Sent(NamedTuple):
    """Steps that were answered together: `[rows, timesteps, …]` each, their sessions, and where those stood after it."""

    sessions: Sequence[ReferenceType[Any]]
    positions: Sequence[int]
    arrays: Mapping[str, Array]
    timesteps: int


class Kept:
    """The inputs of all sessions of a client; for any thread.

    When a server is gone, all its sessions are asked for at once. So the first that is asked for makes an index of all, which goes
    when as many rows have come as it had.
    """

    def __init__(self) -> None:
        self._sent: deque[Sent] = deque()
        self._came = 0
        self._due = 0  # rows that are to be looked at
        self._turns = 0
        self._index: dict[Stored, list[tuple[int, Sent, int]]] = {}
        self._index_lasts = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Returns how many steps are held."""
        with self._lock:
            return sum(len(sent.positions) for sent in self._sent)

    def add(self, sent: Sent) -> None:
        """Keeps steps that were answered."""
        with self._lock:
            self._sent.append(sent)
            self._came += 1
            self._due += LOOKED_AT * len(sent.positions)
            if not self._came % AT_ONCE:
                self._look()
            if self._index:
                self._enter(sent)
                self._index_lasts -= len(sent.positions)
                if self._index_lasts <= 0:
                    self._index = {}

    def since(self, session: Stored, position: int, until: int) -> dict[str, Array]:
        """Returns the inputs of a session from one position to another, `[timesteps, …]` each; raises `SessionGone`.

        So it does where they are not all there, or one of the positions is inside a step.
        """
        with self._lock:
            if not self._index:
                self._index_lasts = sum(len(sent.positions) for sent in self._sent)
                for sent in self._sent:
                    self._enter(sent)
            found = sorted((step for step in self._index.get(session, ()) if position < step[0] <= until), key=lambda step: step[0])
        at = position
        for end, sent, _ in found:
            if end - sent.timesteps != at:
                break
            at = end
        if at != until:
            message = f"the session is resumed at {position}, {until} was answered, and what was sent since is not kept"
            raise error(Reason.LOST, message)
        return {name: np.concatenate([sent.arrays[name][row] for _, sent, row in found]) for name in found[0][1].arrays}

    def _look(self) -> None:
        """Lets go of what the oldest arrays hold in vain."""
        for _ in range(len(self._sent)):
            if self._due <= 0:
                return
            oldest = self._sent.popleft()
            self._due -= len(oldest.positions)
            self._turns += 1
            if rest := _rest(oldest, self._turns * GOLDEN % 1):
                self._sent.append(rest)
        self._due = 0

    def _enter(self, sent: Sent) -> None:
        """Enters steps into the index."""
        for row, (reference, end) in enumerate(zip(sent.sessions, sent.positions, strict=True)):
            if (session := reference()) is not None:
                self._index.setdefault(session, []).append((end, sent, row))


def _rest(sent: Sent, look: float) -> Sent | None:
    """Returns what is still needed, `None` for nothing; all if a row at `look`, of 0 to 1, or at a third or two from there is."""
    count = len(sent.positions)
    if _needed(sent, [int((look + third) % 1 * count) for third in (0, 1 / 3, 2 / 3)]):
        return sent
    rows = _needed(sent, range(count))
    if 2 * len(rows) >= count:
        return sent
    if not rows:
        return None
    arrays = {name: array[rows] for name, array in sent.arrays.items()}
    return Sent([sent.sessions[row] for row in rows], [sent.positions[row] for row in rows], arrays, sent.timesteps)


def _needed(sent: Sent, rows: Iterable[int]) -> list[int]:
    """Returns those of the rows that the store does not hold, and whose session somebody still has."""
    sessions, positions = sent.sessions, sent.positions
    return [row for row in rows if (session := sessions[row]()) is not None and session.durable_position < positions[row]]
