"""What has been read and is not yet admitted: gathered until the event loop comes round, and then admitted in columns.

stream ─→ `step`, `frame` ─→ gathered … ─┬─→ one column, and nothing before it: run at once
                                         └─→ `Sessions.admit` ─┬─→ new: into `Pending`, and in line
                                                               ├─→ joined: waits for the step that is pending
                                                               ├─→ replayed: answered with the retained reply
                                                               └─→ refused
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from statewise.columns import Column, Frames
from statewise.config import Limits
from statewise.conversation import Answer, Asker, Frame, Step
from statewise.errors import Reason, StatewiseError, error
from statewise.gathering import Arrival, in_columns
from statewise.inputs import check_shapes, check_values
from statewise.metrics import ServerMetrics
from statewise.models import Models
from statewise.pending import Pending
from statewise.rosters import Rosters
from statewise.sessions import NONE, RETRY_SECONDS, Digests, Sessions, digests

Indices = NDArray[np.int64]
LOOKS = 3
"""How often the loop comes round, at most, before what has arrived is admitted while more is arriving."""


class Running(Protocol):
    """Who runs what is admitted."""

    def run_at_once(self, column: Column, told: Digests) -> bool:
        """Runs the steps of a column that are not admitted, if nothing is before them; returns whether it did."""

    def wait(self, steps: Indices, column: Column, left: int) -> None:
        """Puts ready steps of a column in line, with `left` timesteps to run."""

    def pump(self) -> None:
        """Runs what is ready."""

    def guarded(self, work: Callable[..., None], *arguments: object) -> None:
        """Runs a callback of the loop."""


class Arrivals:
    """Steps on their way from the streams to the table. The event loop alone changes it."""

    def __init__(
        self,
        sessions: Sessions,
        models: Models,
        limits: Limits,
        metrics: ServerMetrics,
        clock: Callable[[], float],
        pending: Pending,
        running: Running,
    ) -> None:
        self._sessions = sessions
        self._models = models
        self._limits = limits
        self._metrics = metrics
        self._clock = clock
        self._pending = pending
        self._running = running
        self._rosters = Rosters(sessions, models)
        self._arrived: list[Arrival | Column] = []
        self._endings = 0  # of sessions, when the first of these was read
        self._ticking = False
        self._looks = 0
        self._seen = 0
        told = f"{limits.pending_steps} steps are pending already"
        self._full = error(Reason.OVERLOADED, told, retry_after_seconds=RETRY_SECONDS)

    def __len__(self) -> int:
        return len(self._arrived)

    def full(self) -> bool:
        """Whether a new step would be refused for want of a place."""
        return len(self._arrived) >= self._sessions.steps.room

    def step(self, step: Step, asker: Asker, tag: object) -> None:
        """Takes a single step on, to be answered through `asker`; raises `StatewiseError` if it is refused at once."""
        session = self._sessions.directory.find(step.session_id)
        if self.full() and self._is_new(session, step.position):
            self._shed(session, asker, tag)
            return
        model = self._models[int(self._sessions.model[session])]
        timesteps = check_shapes(model.spec, step.inputs, self._limits.timesteps)
        handle = int(self._sessions.directory.handles[session])
        self._arrive(Arrival(session, handle, model, timesteps, step, asker, tag))

    def frame(self, frame: Frame, asker: Asker, tag: object) -> None:
        """Takes a frame on; raises `StatewiseError` if it is refused as a whole."""
        roster = self._rosters.of(frame.handles)
        sessions, model = roster.sessions, roster.model
        if model:
            timesteps = check_shapes(model.spec, frame.inputs, self._limits.timesteps, steps=len(sessions))
        refused = {} if roster.whole else self._rosters.strangers(frame.handles, sessions)
        for row, problem in refused.items():
            position = int(self._sessions.position[sessions[row]]) if sessions[row] != NONE else 0
            self._metrics.steps_rejected.labels(str(problem.reason)).inc()
            asker.refuse(tag, row, position, problem)
        if model is None or len(refused) == len(sessions):
            return
        now, timeout = self._clock(), frame.timeout_seconds
        column = Column(
            model,
            sessions,
            frame.handles,
            np.full(len(sessions), NONE, np.int64) if frame.positions is None else frame.positions,
            frame.inputs,
            timesteps,
            frame.last_only,
            now,
            None if timeout is None else np.full(len(sessions), now + timeout),
            Frames(asker, tag, None),
        )
        self._arrive(column.only(_others(len(sessions), refused)) if refused else column)

    def forget(self, asker: Asker) -> None:
        """Lets go of what `asker` has asked."""
        self._arrived = [a for a in self._arrived if (a.asker if isinstance(a, Arrival) else a.audience.askers[0]) is not asker]

    def _arrive(self, arrival: Arrival | Column) -> None:
        self._arrived.append(arrival)
        if not self._ticking:
            self._ticking = True
            self._endings = self._sessions.directory.endings
            asyncio.get_running_loop().call_soon(self._running.guarded, self._tick)

    def _tick(self) -> None:
        """Admits what has arrived, in the order of arrival; if it is more each time the loop comes round, after a few rounds.

        That is no timer: the loop does not wait, it reads what lies ready. A step that comes alone is not held up.
        """
        if 1 < len(self._arrived) > self._seen and self._looks < LOOKS:
            self._seen = len(self._arrived)
            self._looks += 1
            asyncio.get_running_loop().call_soon(self._running.guarded, self._tick)
            return
        self._seen = self._looks = 0
        self._ticking = False
        arrivals, self._arrived = self._arrived, []
        columns = in_columns(arrivals, self._clock())
        for column in columns:
            self._admit(column, alone=len(columns) == 1)
        self._running.pump()

    def _admit(self, column: Column, *, alone: bool) -> None:
        column = self._fitting(self._able(column))
        if not len(column.sessions):
            return
        names = [tensor.name for tensor in column.model.spec.inputs]
        told = digests(column.inputs, names, column.last_only + 2 * column.ends)
        if alone and self._running.run_at_once(column, told):
            return
        admission = self._sessions.admit(column.sessions, column.positions, column.timesteps, told, column.arrived)
        column.steps = admission.steps
        column.left = len(admission.steps) - len(admission.joined) - len(admission.replayed) - len(admission.refused)
        if column.left:
            self._pending.take_in(column)
            self._running.wait(admission.ready, column, column.timesteps)
        for place, step in admission.joined:
            self._pending.join(step, column, place)
        if admission.joined:
            self._metrics.steps_joined.inc(len(admission.joined))
        if not column.left:
            column.inputs = {}  # who joined needs none
        for place, ring in admission.replayed:
            self._replay(column, place, ring)
        for place, problem in admission.refused:
            self._turn_away(column, place, problem)

    def _able(self, column: Column) -> Column:
        """Returns the column without the steps whose session has ended since they were read, or whose values are refused."""
        wrong = check_values(column.model.spec, column.inputs)
        if self._sessions.directory.endings != self._endings:
            # A number may have been given to another session since; a handle is never given again.
            gone = self._sessions.directory.handles[column.sessions] != column.handles
            wrong |= {int(place): self._sessions.directory.why_not(int(column.handles[place])) for place in gone.nonzero()[0]}
        for place, problem in wrong.items():
            self._turn_away(column, place, problem)
        return column.only(_others(len(column.sessions), wrong)) if wrong else column

    def _fitting(self, column: Column) -> Column:
        """Returns the steps of a column whose inputs there is memory for."""
        if self._pending.bytes + column.bytes <= self._limits.pending_bytes:
            return column
        places = np.arange(len(column.sessions))
        room = (self._limits.pending_bytes - self._pending.bytes) * len(places) // column.bytes
        problem = error(
            Reason.OVERLOADED, "the inputs of pending steps fill the memory for them", retry_after_seconds=RETRY_SECONDS
        )
        for place in places[room:].tolist():
            self._turn_away(column, place, problem)
        return column.only(places[:room])

    def _is_new(self, session: int, position: int | None) -> bool:
        """Whether a step of this position would be admitted as a new one, rather than answered from what is there already."""
        return position is None or position == self._sessions.chains.tail[session]

    def _shed(self, session: int, asker: Asker, tag: object) -> None:
        """Refuses a step that there is no room for before anything else is done for it: overload must not cost what it lacks."""
        self._sessions.touch(session, self._clock())
        self._metrics.steps_rejected.labels(str(Reason.OVERLOADED)).inc()
        model = self._models[int(self._sessions.model[session])]
        self._metrics.steps(*model.labels, str(Reason.OVERLOADED)).inc()
        model.statistics.failed.add(0.0)
        asker.refuse(tag, 0, int(self._sessions.position[session]), self._full)

    def _turn_away(self, column: Column, place: int, problem: StatewiseError) -> None:
        self._metrics.steps_rejected.labels(str(problem.reason)).inc()
        self._metrics.steps(*column.model.labels, str(problem.reason)).inc()
        column.model.statistics.failed.add(self._clock() - column.arrived)
        column.audience.refuse(place, int(self._sessions.position[column.sessions[place]]), problem)

    def _replay(self, column: Column, place: int, ring: int) -> None:
        session = int(column.sessions[place])
        replies = self._sessions.replies
        outputs = {name: array[None] for name, array in replies.outputs(column.model.number, session, ring).items()}
        positions = replies.start[ring, [session]] + replies.timesteps[ring, [session]]
        answer = Answer(positions, outputs, column.model.retiring, self._sessions.durable.told(column.sessions[[place]]))
        column.audience.answer_one(place, answer, 0)
        self._metrics.steps_repeated.inc()


def _others(count: int, without: Container[int]) -> Indices:
    return np.array([place for place in range(count) if place not in without], np.int64)
