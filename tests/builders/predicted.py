"""What the core must answer, in plain Python: an object a session, an object a step; no columns, no numbers that are used again.

The state is a running sum, as in `builders.summing`. The model knows what is admitted and what comes of it, and nothing of rows,
batches or time.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from statewise.errors import Reason


class Twin(NamedTuple):
    """What tells one step from another: its values."""

    value: int
    timesteps: int


@dataclass(eq=False)
class Pending:
    """A step that is admitted and not settled; `told` is its position if the client gave one."""

    twin: Twin
    told: bool


class Reply(NamedTuple):
    """A retained reply: where the step began, and the sum before it."""

    start: int
    twin: Twin
    before: int

    @property
    def totals(self) -> list[int]:
        """The output of each timestep."""
        return [self.before + self.twin.value * (now + 1) for now in range(self.twin.timesteps)]


@dataclass(eq=False)
class Conversation:
    """One session."""

    retained: int
    position: int = 0
    total: int = 0
    chain: list[Pending] = field(default_factory=list)
    replies: deque[Reply] = field(default_factory=deque)

    @property
    def tail(self) -> int:
        """Where the next step is expected."""
        return self.position + sum(step.twin.timesteps for step in self.chain)

    def start_of(self, pending: Pending) -> int:
        """Returns the position at which a step in flight would run."""
        return self.position + sum(step.twin.timesteps for step in self.chain[: self.chain.index(pending)])

    def ask(self, position: int | None, twin: Twin, room: int) -> Pending | Reply | Reason:
        """Returns the step that is admitted or joined, the reply that is given again, or why neither; joined are in the chain."""
        if position in (None, self.tail):
            if len(self.chain) >= self.retained or not room:
                return Reason.OVERLOADED
            self.chain.append(Pending(twin, position is not None))
            return self.chain[-1]
        if position > self.tail:
            return Reason.AHEAD
        at = {self.start_of(step): step for step in self.chain} | {reply.start: reply for reply in self.replies}
        if position not in at:
            return Reason.STALE
        return at[position] if at[position].twin == twin else Reason.POSITION_REUSED

    def commit(self) -> Reply:
        """Runs the first step of the chain."""
        twin = self.chain.pop(0).twin
        self.replies.append(Reply(self.position, twin, self.total))
        if len(self.replies) > self.retained:
            self.replies.popleft()
        self.position += twin.timesteps
        self.total += twin.value * twin.timesteps
        return self.replies[-1]

    def fail(self, pending: Pending) -> list[Pending]:
        """Takes a step out, and returns those behind it that fail with it."""
        place = self.chain.index(pending)
        behind = [step for step in self.chain[place + 1 :] if step.told]
        self.chain = [step for step in self.chain if step is not pending and step not in behind]
        return behind

    def fork(self, retained: int) -> Conversation:
        """Returns a session that goes on from what is committed."""
        return Conversation(retained, self.position, self.total)
