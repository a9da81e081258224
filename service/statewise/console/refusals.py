"""What was refused of late: a bounded ring. What is refused again and again, for one reason, is one entry that counts."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

from statewise.events import Passing

KEPT = 40
APART_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """Steps that were refused for one reason.

    Attributes:
        reason: a row of the protocol's error table.
        model: whose; empty where the step was refused before it was pending.
        count: how many.
        first, last: Unix seconds.
        passing: whether sessions are on their way to another server, and nothing has failed; see `Passing`.
    """

    reason: str
    model: str
    count: int
    first: float
    last: float
    passing: bool = False


class Refusals:
    """The last refusals, newest last; `note` alone changes them."""

    def __init__(self) -> None:
        self._ring: deque[Refusal] = deque(maxlen=KEPT)
        self._passing = Passing()

    def note(self, reason: str, model: str, count: int, now: float) -> None:
        """Notes that steps were refused in the second until `now`."""
        passing = self._passing.note(reason, now)
        for known in self._ring:
            if (known.reason, known.model) == (reason, model) and now - known.last < APART_SECONDS:
                self._ring.remove(known)
                self._ring.append(replace(known, count=known.count + count, last=now, passing=passing))
                return
        self._ring.append(Refusal(reason, model, count, now, now, passing))

    def newest_first(self) -> list[Refusal]:
        """Returns what is kept."""
        return list(reversed(self._ring))
