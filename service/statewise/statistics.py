"""What one model version has done since it was loaded: how often and how long, and how large its batches were.

The metrics tell the same of the whole server in buckets, for Prometheus; this is exact, and costs a few additions a batch.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable


class Spent:
    """How often something was done, and how long it took in all."""

    __slots__ = ("count", "seconds")

    def __init__(self) -> None:
        self.count = 0
        self.seconds = 0.0

    def __repr__(self) -> str:
        return f"<{self.count} times, {self.seconds:g} s>"

    def add(self, seconds: float, count: int = 1) -> None:
        """Enters something that took `seconds`, `count` times."""
        self.count += count
        self.seconds += seconds * count


class Statistics:
    """The counts of one model version. The batcher alone changes them.

    Attributes:
        answered: steps that ran, from arrival to reply.
        failed: steps that did not, from arrival to refusal.
        queued: steps, from arrival to their first run.
        computed: steps, each by the runs that it was in.
        runs: runs by their number of steps.
        last_seconds: when a step was last answered, in seconds since 1970; 0 for never.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.answered = Spent()
        self.failed = Spent()
        self.queued = Spent()
        self.computed = Spent()
        self.runs: defaultdict[int, Spent] = defaultdict(Spent)
        self.last_seconds = 0.0
        self._clock = clock

    def ran(self, steps: int, seconds: float) -> None:
        """Enters a run."""
        self.runs[steps].add(seconds)
        self.computed.add(seconds, steps)

    def answer(self, steps: int, seconds: float) -> None:
        """Enters steps that were answered together."""
        self.answered.add(seconds, steps)
        self.last_seconds = self._clock()
