"""The life of sessions, told: each event moves a metric and writes a line of the log.

A line takes some tens of microseconds, and thousands of sessions may open in a second; so of each event `LINES` lines are written
between two looks, a second apart, and then one that says how many more there were. Steps that are refused are told in one line for
each reason at the next look, however many they are: nothing is written for a step. No line holds a handle, a token, or a tensor.

Some refusals are how a session goes from one server to another: its client resumes it, and nothing has failed. They are a warning
only if they go on, as they do for a client that is sent to and fro.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

import structlog

from statewise.errors import Reason, StatewiseError
from statewise.metrics import ServerMetrics

LINES = 50
LONGEST_WHY = 200
PASSING = frozenset({Reason.NOT_HERE, Reason.MOVED})
LASTING, LASTING_SECONDS = 20, 60.0
"""So many seconds with such refusals among so many are no passing matter: a client in a circle asks about once a second."""
log = structlog.get_logger()


@dataclass(slots=True)
class _Burst:
    """Steps refused for one reason since the last look, and the first of them."""

    count: int = 0
    first: dict[str, Any] = field(default_factory=dict)


class Passing:
    """Tells the refusals of sessions on their way to another server from those that go on. `note` alone changes it."""

    def __init__(self) -> None:
        self._noted: dict[str, deque[float]] = {}

    def note(self, reason: str, now: float) -> bool:
        """Notes that steps were refused for a reason in the second that ends `now`; returns whether that will pass by itself."""
        if reason not in PASSING:
            return False
        noted = self._noted.setdefault(reason, deque(maxlen=LASTING))
        if not noted or noted[-1] != now:
            noted.append(now)
        return len(noted) < LASTING or now - noted[0] > LASTING_SECONDS


class Events:
    """Tells what happens to sessions. `look` is called once a second, on the event loop like all else."""

    def __init__(self, metrics: ServerMetrics) -> None:
        self._metrics = metrics
        self._told: Counter[str] = Counter()
        self._bursts: dict[str, _Burst] = {}
        self._passing = Passing()
        self._looks = 0

    def opened(self, session_id: str, version: tuple[str, str], position: int, how: str = "opened") -> None:
        """A session has begun: opened, forked or restored."""
        self._metrics.sessions_opened.labels(*version).inc()
        if how == "restored":
            self._metrics.sessions_restored.inc()
        self.tell(f"session {how}", session=session_id, model=version[0], version=version[1], position=position)

    def resumed(self, session_id: str, position: int) -> None:
        """An open has found its session."""
        self._metrics.sessions_resumed.inc()
        self.tell("session resumed", session=session_id, position=position)

    def refused(self, session_id: str, model: str, problem: StatewiseError) -> None:
        """An open was refused."""
        self._metrics.sessions_refused.labels(str(problem.reason)).inc()
        told = {"session": session_id, "model": model, "reason": str(problem.reason), "why": str(problem)[:LONGEST_WHY]}
        self.tell("session refused", **told)

    def ended(self, session_id: str, how: str, age_seconds: float, timesteps: int) -> None:
        """A session is over; `how` is one of the metric's ends."""
        self._metrics.sessions_ended.labels(how).inc()
        self._metrics.session_age_seconds.observe(age_seconds)
        self._metrics.session_timesteps.observe(timesteps)
        self.tell(f"session {how}", session=session_id, age_seconds=round(age_seconds, 3), timesteps=timesteps)

    def steps_refused(self, problem: StatewiseError, **who: object) -> None:
        """A step has failed; `who` asked for it, for the line if it is the first."""
        burst = self._bursts.setdefault(str(problem.reason), _Burst())
        if not burst.count:
            burst.first = {**who, "why": str(problem)[:LONGEST_WHY]}
        burst.count += 1

    def tell(self, event: str, **facts: object) -> None:
        """Writes a line unless there were enough of its kind since the last look."""
        self._told[event] += 1
        if self._told[event] <= LINES:
            log.info(event, **facts)

    def look(self) -> None:
        """Says what was not said, and begins anew."""
        for event, count in self._told.items():
            if count > LINES:
                log.info(event, more=count - LINES)
        self._told.clear()
        self._looks += 1
        for reason, burst in self._bursts.items():
            write = log.debug if self._passing.note(reason, self._looks) else log.warning
            write("steps refused", reason=reason, steps=burst.count, **burst.first)
        self._bursts.clear()
