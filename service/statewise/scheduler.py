"""The choice of the next batch, and nothing else: pure, over sessions and lengths.

Steps of one session run in the order of their admission, so only the first of each session is *ready*. A batch takes ready steps of
one model and one length class, oldest first: single timesteps never pay for the padding of long steps. A long step is cut; between
its cuts it goes to the back of the line, so single steps join in between. There is no timer: what is ready runs.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from statewise.sessions import INITIAL_ROW, Session

CUT = 32
"""The most timesteps of one step in one engine run."""

M = TypeVar("M")
P = TypeVar("P")


@dataclass(slots=True, eq=False)
class Pending(Generic[M, P]):
    """An admitted step.

    Attributes:
        timesteps: of the whole step.
        arrived: seconds of the steady clock.
        deadline: when it expires if it has not begun, or `None`.
        positioned: whether the client told its position, so that it must not run after a failure before it.
        payload: whatever the caller needs to run and answer it.
        done: timesteps that earlier cuts have run.
        row: the uncommitted row of the earlier cuts.
        turn: its place in the line, set by the scheduler.
    """

    session: Session[M]
    timesteps: int
    arrived: float
    deadline: float | None
    positioned: bool
    payload: P
    done: int = 0
    row: int = INITIAL_ROW
    turn: int = 0

    @property
    def chunk(self) -> int:
        """The timesteps of its next cut."""
        return min(self.timesteps - self.done, CUT)

    @property
    def source(self) -> int:
        """The row that its next cut reads."""
        return self.row if self.done else self.session.row


Line = OrderedDict["Session[M]", "Pending[M, P]"]


@dataclass(slots=True)
class Scheduler(Generic[M, P]):
    """The lines of pending steps. This is the only place that orders them.

    Attributes:
        batch: the most steps of one batch.
    """

    batch: int
    _ready: dict[tuple[M, int], Line[M, P]] = field(default_factory=dict)
    _behind: dict[Session[M], deque[Pending[M, P]]] = field(default_factory=dict)
    _turn: int = 0

    def __len__(self) -> int:
        """How many steps wait to run (those in a batch are not among them)."""
        return sum(map(len, self._ready.values())) + sum(map(len, self._behind.values()))

    def add(self, step: Pending[M, P]) -> None:
        """Puts a new step behind those of its session, or in line."""
        if step.session in self._behind:
            self._behind[step.session].append(step)
        else:
            self._behind[step.session] = deque()
            self._line_up(step)

    def next(self) -> list[Pending[M, P]]:
        """Removes and returns the next batch, steps of distinct sessions; empty if nothing is ready."""
        if not self._ready:
            return []
        key = min(self._ready, key=lambda key: next(iter(self._ready[key].values())).turn)
        line = self._ready[key]
        steps = [line.popitem(last=False)[1] for _ in range(min(self.batch, len(line)))]
        if not line:
            del self._ready[key]
        return steps

    def again(self, step: Pending[M, P]) -> None:
        """Puts a cut step back in line for its next cut."""
        self._line_up(step)

    def finish(self, step: Pending[M, P]) -> None:
        """Says that a step taken by `next` is over, so that its session's following step is ready."""
        behind = self._behind[step.session]
        if behind:
            self._line_up(behind.popleft())
        else:
            del self._behind[step.session]

    def fail_behind(self, step: Pending[M, P]) -> list[Pending[M, P]]:
        """Removes and returns the steps behind a failed one that told their position; call it before `finish`."""
        behind = self._behind[step.session]
        failed = [other for other in behind if other.positioned]
        self._behind[step.session] = deque(other for other in behind if not other.positioned)
        return failed

    def drop(self, session: Session[M]) -> list[Pending[M, P]]:
        """Removes and returns every waiting step of a session; one that is in a batch stays there."""
        behind = self._behind.get(session)
        if behind is None:
            return []
        dropped = list(behind)
        behind.clear()
        for key, line in self._ready.items():
            if session in line:
                dropped.insert(0, line.pop(session))
                del self._behind[session]
                if not line:
                    del self._ready[key]
                break
        return dropped

    def _line_up(self, step: Pending[M, P]) -> None:
        self._turn += 1
        step.turn = self._turn
        key = (step.session.model, _length_class(step.chunk))
        self._ready.setdefault(key, OrderedDict())[step.session] = step


def _length_class(timesteps: int) -> int:
    """Returns the power of two at or above `timesteps`: a batch pads less than it computes."""
    return 1 << (timesteps - 1).bit_length()
