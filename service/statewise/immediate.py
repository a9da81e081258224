"""Steps that run at once: read, run and answered in one go of the event loop.

Most steps of a server that is not full find no other before them, and their run is over sooner than it could be handed to the
engine's thread and back. Nothing can happen meanwhile, since the loop does nothing else: nobody can send such a step again, cancel
it or come behind it while it is pending, so it never is, and none of what keeps pending steps apart is needed. Whatever is not as
simple, or goes wrong, takes the way through `Pending` and the scheduler, as if this one had not been tried.
"""

from __future__ import annotations

from collections.abc import Callable

from statewise.answering import Answering
from statewise.columns import Column, Part, batch_of
from statewise.engine import Batch, Outcome
from statewise.masks import every, some
from statewise.models import Served
from statewise.runs import is_short
from statewise.runtime import EngineError
from statewise.sessions import Digests, Sessions


class Immediate:
    """Runs columns at once."""

    def __init__(self, sessions: Sessions, batch: int, answering: Answering, clock: Callable[[], float]) -> None:
        self._sessions = sessions
        self._batch = batch
        self._answering = answering
        self._clock = clock

    def run(self, column: Column, told: Digests) -> bool:
        """Runs a column while the engine is free and no step waits; returns whether it did, and if not, nothing has changed."""
        if not self._may_run(column):
            return False
        sessions, started = self._sessions, self._clock()
        source, targets = sessions.depart(column.sessions)
        part = Part(column, None, None, 0, column.timesteps)
        outcome = _outcome(column.model, batch_of(column.model.spec, [part], source, targets))
        if outcome is None:
            sessions.turn_back(column.sessions, targets)
            return False
        ended = self._clock()
        self._answering.began(part, len(targets), started)
        outputs = self._answering.outputs(part, targets, outcome.by_step)
        rings, positions = sessions.advance(column.sessions, targets, column.timesteps, told, ended)
        self._answering.answer(part, rings, positions, outputs, ended)
        self._answering.ran(column.model, [part], len(targets), started, ended)
        return True

    def _may_run(self, column: Column) -> bool:
        model, steps, durable = column.model, len(column.sessions), self._sessions.durable
        return (
            steps <= model.bounds.most(self._batch)
            and column.timesteps <= model.bounds.timesteps
            and is_short(model, steps, column.timesteps)
            and not model.spec.controls
            and (column.deadlines is None or not some(column.deadlines < self._clock()))
            and not (durable.committing and some(durable.commits[column.sessions]))
            and self._sessions.unhindered(column.sessions, column.positions)
        )


def _outcome(model: Served, batch: Batch) -> Outcome | None:
    """Returns what a run brought, `None` if any of its steps failed; raises `EngineError` if the engine can go on no more."""
    try:
        outcome = model.loaded.engine.run(batch, model.pool.states)
    except EngineError as problem:
        if problem.fatal:
            raise
        return None
    return outcome if every(outcome.finite) else None
