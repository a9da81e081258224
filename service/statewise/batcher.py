"""The loop around the scheduler: admitted → next batch → engine → commit → answer.

What streams read comes in through `arrivals`. As soon as the engine is free the next batch runs: on the loop itself where it is
short, in the engine's thread where it is long; when it comes back, positions, rows and replies are committed on the loop and
answered. All mutable state is touched by the event loop alone, so nothing here needs a lock.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import structlog
from numpy.typing import NDArray

from statewise.answering import Answering
from statewise.arrivals import Arrivals
from statewise.columns import Column, Part, batch_of
from statewise.commits import Ran
from statewise.config import Limits
from statewise.controls import controls_of
from statewise.conversation import Answer, Asker, Frame, Step
from statewise.engine import Batch, Outcome
from statewise.errors import Reason, StatewiseError, error
from statewise.immediate import Immediate
from statewise.masks import every, some
from statewise.metrics import ServerMetrics
from statewise.models import Models, Served
from statewise.pending import Pending
from statewise.room import Room
from statewise.runs import is_short, run_apart
from statewise.runtime import EngineError
from statewise.scheduler import Scheduler
from statewise.sessions import NONE, Digests, Failures, Sessions

Array = NDArray[np.generic]
Indices = NDArray[np.int64]
_Work = Future[tuple[Outcome, dict[int, EngineError]]]
log = structlog.get_logger()


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """A batch on its way through the engine."""

    model: Served
    parts: list[Part]
    steps: Indices
    targets: Indices
    batch: Batch
    started: float


class Batcher:
    """Runs the steps of all sessions. `failed` is set when it can go on no more; the server must then end."""

    def __init__(
        self,
        sessions: Sessions,
        models: Models,
        limits: Limits,
        metrics: ServerMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.failed = asyncio.Event()
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self.answering = Answering(sessions, metrics, clock)
        self._sessions = sessions
        self._limits = limits
        self._metrics = metrics
        self._clock = clock
        self._pending = Pending(sessions.steps)
        self._arrivals = Arrivals(sessions, models, limits, metrics, clock, self._pending, self)
        self.room = Room(self._arrivals.full)
        self._immediate = Immediate(sessions, limits.batch, self.answering, clock)
        self._scheduler = Scheduler(limits.pending_steps, limits.batch)
        self._under_way: deque[_Run] = deque()
        self._pumping = False
        self._quiet = asyncio.Event()
        metrics.steps_pending_bytes.set_function(lambda: self._pending.bytes)

    def step(self, step: Step, asker: Asker, tag: object) -> None:
        """Takes a single step on, to be answered through `asker`; raises `StatewiseError` if it is refused at once."""
        self._arrivals.step(step, asker, tag)

    def frame(self, frame: Frame, asker: Asker, tag: object) -> None:
        """Takes a frame on; raises `StatewiseError` if it is refused as a whole."""
        self._arrivals.frame(frame, asker, tag)

    def forget(self, asker: Asker) -> None:
        """Answers `asker` no more; its steps that nobody else waits for and that have not begun are dropped."""
        self._arrivals.forget(asker)
        for step in self._pending.forget(asker):  # only now, since one that goes may take along others of the same asker
            self._leave(step)
        self.pump_soon()

    def stop(self) -> None:
        """Ends the engine's thread; a run that is under way is not waited for."""
        self.thread.shutdown(wait=False, cancel_futures=True)

    async def until_quiet(self) -> None:
        """Returns when every step that was taken on has been answered."""
        while len(self._arrivals) or len(self._sessions.steps):
            self._quiet.clear()
            await self._quiet.wait()

    def close(self, failures: Failures) -> None:
        """Answers the steps that a closed session takes with it."""
        self._refuse(failures)
        self.pump_soon()

    def hangs(self, longest_seconds: float) -> bool:
        """Whether a run has been under way for longer than any should be."""
        return bool(self._under_way) and self._clock() - self._under_way[0].started > longest_seconds

    def run_at_once(self, column: Column, told: Digests) -> bool:
        """See `Running`."""
        return not self._under_way and not len(self._scheduler) and self._immediate.run(column, told)

    def pump_soon(self) -> None:
        """See `Settling`."""
        if not self._pumping:
            self._pumping = True
            asyncio.get_running_loop().call_soon(self.guarded, self.pump)

    def pump(self) -> None:
        """Sends the next batch to the engine, if the engine is free, or a full one waits to follow the one that it runs."""
        self._pumping = False
        while len(self._under_way) < (2 if len(self._scheduler) >= self._limits.batch else 1):
            run = self._next()
            if run is None:
                break
            self._under_way.append(run)
            if len(self._under_way) == 1 and self._is_short(run):
                self._finish(run, run_apart(run.model, run.batch))
                if len(self._scheduler):
                    self.pump_soon()  # the loop reads what has come meanwhile first
                    return
                break
            work = self.thread.submit(run_apart, run.model, run.batch)
            work.add_done_callback(functools.partial(self._tell, asyncio.get_running_loop(), run))
        if not len(self._arrivals) and not len(self._sessions.steps):
            self._quiet.set()

    def _next(self) -> _Run | None:
        """Returns the next batch, with its rows."""
        while len(steps := self._scheduler.next()):
            parts = self._pending.parts(steps)
            if any(part.column.deadlines is not None for part in parts):
                steps = self._in_time(steps, parts)
                if not len(steps):
                    continue
                parts = self._pending.parts(steps)
            model = parts[0].column.model
            source, targets = self._sessions.dispatch(steps)
            started = self._clock()
            for part in parts:
                if not part.offset:
                    self.answering.began(part, len(part.seated(steps)), started)
            batch = batch_of(model.spec, parts, source, targets)
            if model.spec.controls:
                batch = replace(batch, controls=self._controls(model, steps, parts))
            return _Run(model, parts, steps, targets, batch, started)
        return None

    def _controls(self, model: Served, steps: Indices, parts: list[Part]) -> dict[str, Array]:
        sessions, done = self._sessions.steps.session[steps], self._sessions.steps.done[steps]
        ends = np.zeros(len(steps), np.bool_)
        for part in parts:
            ends[slice(None) if part.seats is None else part.seats] = part.ends
        starts = (self._sessions.position[sessions] == 0) & (done == 0)
        return controls_of(model.spec.controls, starts, ends, self._sessions.number[sessions])

    def _in_time(self, steps: Indices, parts: list[Part]) -> Indices:
        """Drops the steps whose timeout passed before they began."""
        now = self._clock()
        late = [
            step
            for part in parts
            if not part.offset and part.column.deadlines is not None
            for step in part.seated(steps)[part.placed(part.column.deadlines) < now].tolist()
        ]
        for step in late:
            problem = error(Reason.EXPIRED_IN_QUEUE, "the step's timeout passed before it began to run")
            self._refuse(self._sessions.fail(step, problem))
        return steps[~np.isin(steps, late)] if late else steps

    def _is_short(self, run: _Run) -> bool:
        return is_short(run.model, len(run.steps), max(part.length for part in run.parts))

    def _tell(self, loop: asyncio.AbstractEventLoop, run: _Run, work: _Work) -> None:
        """Tells the loop, from the engine's thread, that a run has come back; a future of asyncio's would take two rounds of it."""
        if not loop.is_closed():
            loop.call_soon_threadsafe(self.guarded, self._returned, run, work)

    def _returned(self, run: _Run, work: _Work) -> None:
        if not work.cancelled():
            self._finish(run, work.result())
            self.pump()

    def _finish(self, run: _Run, returned: tuple[Outcome, dict[int, EngineError]]) -> None:
        outcome, problems = returned
        ended = self._clock()
        self._under_way.remove(run)
        if every(outcome.finite):
            for part in run.parts:
                self._settle(run, outcome, part)
        else:
            self._settle_apart(run, outcome, problems)
        self.answering.ran(run.model, run.parts, len(run.steps), run.started, ended)

    def _settle_apart(self, run: _Run, outcome: Outcome, problems: dict[int, EngineError]) -> None:
        """Fails the steps that left what is not finite, or failed the engine, and settles the others."""
        for seat in (~outcome.finite).nonzero()[0].tolist():
            problem = _engine_failed(problems[seat]) if seat in problems else _not_finite()
            self._refuse(self._sessions.fail(int(run.steps[seat]), problem, int(run.targets[seat])))
        for part in run.parts:
            if some(part.seated(outcome.finite)):
                self._settle(run, outcome, part.only(outcome.finite))

    def _settle(self, run: _Run, outcome: Outcome, part: Part) -> None:
        """Commits the steps of a part, or parks them for their next cut."""
        column, steps, targets, computed = part.column, part.seated(run.steps), part.seated(run.targets), outcome.by_step
        if part.seats is not None:
            computed = {name: array[part.seats, : part.length] for name, array in computed.items()}
        cut = column.timesteps > column.model.bounds.timesteps
        if cut:
            column.keep(part.places, part.offset, computed)
        if part.offset + part.length < column.timesteps:
            going = self._sessions.park(steps, targets, part.length)
            self.wait(going, column, column.timesteps - part.offset - part.length)
            for step in np.setdiff1d(steps, going).tolist():
                handle = int(column.handles[self._pending.seat(step)[1]])
                self._refuse(self._sessions.fail(step, self._sessions.directory.why_not(handle)))
            return
        if cut:
            computed = {name: part.placed(array) for name, array in column.outputs.items()}
        self._commit(Ran(part, steps, targets, self.answering.outputs(part, targets, computed)))

    def _commit(self, ran: Ran) -> None:
        """Makes what ran known, to the sessions and to who asked; where a session wants it, once it is in the store."""
        durable = self._sessions.durable
        if durable.committing and some(kept := durable.commits[self._sessions.steps.session[ran.steps]]):
            assert self.answering.commits
            self.answering.commits.keep(ran.only(kept))
            if every(kept):
                return
            ran = ran.only(~kept)
        self.make_known(ran)

    def make_known(self, ran: Ran) -> None:
        """See `Settling`."""
        now, part, steps = self._clock(), ran.part, ran.steps
        rings, positions, ready = self._sessions.commit(steps, ran.targets, now)
        part.column.steps[slice(None) if part.places is None else part.places] = NONE
        self._let_go(part.column, len(steps))
        self._line_up(ready)
        answer = self.answering.answer(part, rings, positions, ran.outputs, now)
        if self._pending.any_joined:
            self._answer_joined(steps, answer)

    def _answer_joined(self, steps: Indices, answer: Answer) -> None:
        for row, step in enumerate(steps.tolist()):
            for column, place in self._pending.others(step):
                position = int(answer.positions[row])
                if column.positions[place] == position - column.timesteps:
                    column.audience.answer_one(place, answer, row)
                else:  # it joined a step that told no position, and that moved up when one before it failed
                    problem = error(Reason.BEHIND_FAILED, "a step before this one failed", expected=position)
                    column.audience.refuse(place, position, problem)

    def _refuse(self, failures: Failures) -> None:
        """Answers steps that failed, and lines up those that are ready in their place."""
        for step, problem in failures.failed:
            column, place = self._pending.seat(step)
            self._scheduler.remove(np.array([step]))
            position = int(self._sessions.position[column.sessions[place]])
            column.steps[place] = NONE
            self._let_go(column, 1)
            self._metrics.steps(*column.model.labels, str(problem.reason)).inc()
            column.model.statistics.failed.add(self._clock() - column.arrived)
            for each, seat in [(column, place), *self._pending.others(step)]:
                each.audience.refuse(seat, position, problem)
        self._line_up(failures.ready)

    def _line_up(self, ready: Indices) -> None:
        for part in self._pending.parts(ready) if len(ready) else ():
            self.wait(part.seated(ready), part.column, part.column.timesteps - part.offset)

    def wait(self, steps: Indices, column: Column, left: int) -> None:
        """See `Running`."""
        model, bounds = column.model.number, column.model.bounds
        if len(self._scheduler) + len(steps) <= self._limits.batch:  # all that wait run next, whosever turn it is
            askers = column.audience.askers
            self._scheduler.add(steps, model, left, askers[0] if len(askers) == 1 else None, bounds)
            return
        for client, theirs in column.audience.by_client(self._pending.places(steps), steps):
            self._scheduler.add(theirs, model, left, client, bounds)

    def _let_go(self, column: Column, settled: int) -> None:
        """Counts steps of a column that are settled."""
        self._pending.let_go(column, settled)
        self.room.give_back(settled)

    def _leave(self, step: int) -> None:
        """One of those that waited for a step has gone; the last one takes the step along, unless it has begun."""
        steps = self._sessions.steps
        if not self._pending.holds(step):
            return  # it failed with one before it
        steps.waiters[step] -= 1
        if not steps.waiters[step] and not steps.running[step] and not steps.done[step]:
            self._refuse(self._sessions.fail(step, error(Reason.BEHIND_FAILED, "the step was cancelled before it began")))

    def guarded(self, work: Callable[..., None], *arguments: object) -> None:
        """Runs a callback of the loop; whatever goes wrong in it, the batcher cannot be trusted any more."""
        try:
            work(*arguments)
        except Exception:
            log.exception("the batcher has died")
            self.failed.set()


def _engine_failed(problem: EngineError) -> StatewiseError:
    return error(Reason.ENGINE_FAILED, f"the model failed on this step: {problem}")


def _not_finite() -> StatewiseError:
    message = "the step would leave NaN or infinity in the output or the state; the session keeps its last good state"
    return error(Reason.NON_FINITE_STATE, message)
