"""From what a run has brought to what is told of it: to the replies that sessions retain, to who asked, and to the metrics.

Steps run at once or after they were pending; both ways end here. All of it happens on the event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from statewise.accuracy import Committed
from statewise.columns import Part
from statewise.commits import Commits
from statewise.conversation import Answer
from statewise.metrics import ServerMetrics
from statewise.models import Served
from statewise.sessions import Sessions
from statewise.tracing import StepTraces

Array = NDArray[np.generic]
Indices = NDArray[np.int64]


class Answering:
    """What is told.

    Attributes:
        traces: of single steps; `None` where none are made.
        commits: what makes sessions durable; `None` where there is no store.
    """

    def __init__(self, sessions: Sessions, metrics: ServerMetrics, clock: Callable[[], float]) -> None:
        self.traces: StepTraces | None = None
        self.commits: Commits | None = None
        self._sessions = sessions
        self._metrics = metrics
        self._clock = clock
        self._busy_until = 0.0

    def outputs(self, part: Part, targets: Indices, computed: Mapping[str, Array]) -> dict[str, Array]:
        """Returns what steps are answered of what they computed, `[steps, timesteps, …]` each, after forecasts are judged by it.

        Args:
            targets: `[steps]`, the rows that are about to be committed.
        """
        column = part.column
        if column.model.accuracy:
            sessions = part.placed(column.sessions)
            inputs = {name: part.placed(array) for name, array in column.inputs.items()}
            starts = self._sessions.position[sessions]
            committed = Committed(sessions, part.placed(column.handles), starts, targets, inputs, computed)
            column.model.accuracy.judge(committed)
        return {name: array[:, -1:] if column.last_only else array for name, array in computed.items()}

    def answer(self, part: Part, rings: Indices, positions: Indices, outputs: Mapping[str, Array], now: float) -> Answer:
        """Answers steps that have been committed, and returns what they were told.

        Args:
            rings: `[steps]`, the places of the replies in their sessions' rings.
            positions: `[steps]`, after the steps.
            outputs: `[steps, timesteps, …]` each.
        """
        column, model, count = part.column, part.column.model, len(positions)
        sessions, durable = part.placed(column.sessions), self._sessions.durable
        self._sessions.replies.store(model.number, sessions, rings, outputs)
        if durable.count > durable.committing:
            assert self.commits
            self.commits.checkpoint_soon()
        answer = Answer(positions, outputs, model.retiring, durable.told(sessions))
        column.audience.answer(part.places, answer)
        self._metrics.steps(*model.labels, "OK").inc(count)
        self._metrics.timesteps(*model.labels).inc(count * column.timesteps)
        self._metrics.step_seconds(*model.labels).observe(now - column.arrived, count)
        model.statistics.answer(count, now - column.arrived)
        return answer

    def began(self, part: Part, count: int, started: float) -> None:
        """Measures how long steps have waited for their first run."""
        model, waited = part.column.model, started - part.column.arrived
        self._metrics.queue_seconds(*model.labels).observe(waited, count)
        model.statistics.queued.add(waited, count)

    def ran(self, model: Served, parts: Sequence[Part], count: int, started: float, ended: float) -> None:
        """Measures a run of `count` steps that have been answered."""
        labels, seconds, now = model.labels, ended - started, self._clock()
        self._metrics.compute_seconds(*labels).observe(seconds)
        self._metrics.commit_seconds(*labels).observe(now - ended)
        self._metrics.engine_busy_seconds.inc(ended - max(started, self._busy_until))  # the next may wait for this one's end
        self._busy_until = ended
        if self.traces:
            self.traces.ran(labels, parts, count, started, ended, now)
        self._metrics.batch_steps(*labels).observe(count)
        model.statistics.ran(count, seconds)
