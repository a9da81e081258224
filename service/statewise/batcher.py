"""The loop around the scheduler: pending → next batch → engine → commit → replies.

`submit` validates and admits a step on the event loop and returns a future. One task takes batches from the scheduler as long as
there are any and runs each in the engine's one thread; when it comes back, positions, rows and replies are committed on the loop.
All mutable state (sessions, scheduler) is touched by the event loop alone, so nothing here needs a lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import secrets
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import structlog
from numpy.typing import NDArray

from statewise import columns
from statewise.catalog import LoadError, Served, load
from statewise.config import Limits
from statewise.conversation import Closed, Opened, Reply, Step
from statewise.engine import EngineError, Outcome, Provider
from statewise.errors import Reason, StatewiseError, error
from statewise.inputs import check_inputs
from statewise.metrics import ServerMetrics
from statewise.repository import Repository, RepositoryError
from statewise.scheduler import Pending, Scheduler
from statewise.sessions import Sessions

Array = NDArray[np.generic]
IDLE_SCAN_SECONDS = 1.0
RETRY_SECONDS = 0.1
LONGEST_ID = 128
log = structlog.get_logger()


@dataclass(slots=True)
class _Work:
    """What a pending step carries through the scheduler."""

    step: Step
    answer: asyncio.Future[Reply]
    parts: list[Mapping[str, Array]] = field(default_factory=list)


_Pending = Pending[Served, _Work]


class Batcher:
    """Opens, steps and closes sessions of the models of one repository.

    `failed` is set when the loop has died; the server must then end.
    """

    def __init__(
        self,
        repository: Repository,
        limits: Limits,
        provider: Provider,
        metrics: ServerMetrics,
        threads: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limits = limits
        self.failed = asyncio.Event()
        self.served: dict[tuple[str, int], Served] = {}
        self._repository = repository
        self._provider: Provider = provider
        self._threads = threads
        self._metrics = metrics
        self._clock = clock
        self._sessions: Sessions[Served] = Sessions(limits.sessions)
        self._scheduler: Scheduler[Served, _Work] = Scheduler(limits.batch)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._loading = asyncio.Lock()
        self._wake = asyncio.Event()
        self._quiet = asyncio.Event()
        self._pending = 0
        self._draining = False
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> dict[str, str]:
        """Loads what new sessions of every model get, and begins to run; returns why models could not be loaded, by name."""
        refused = {}
        for model in self._repository.models():
            try:
                await self._find(model, 0)
            except (RepositoryError, LoadError, StatewiseError) as problem:
                refused[model] = str(problem)
        for run in (self._run(), self._expire()):
            task = asyncio.create_task(run)
            task.add_done_callback(self._ended)
            self._tasks.append(task)
        return refused

    async def open(self, model: str, version: int = 0, session_id: str = "", idle_timeout_seconds: float | None = None) -> Opened:
        """Opens a session of `version`, or of what the repository gives new sessions if that is 0.

        Raises:
            ModelUnknown, AlreadyOpen, Overloaded, InvalidInput, Unavailable: nothing was opened.
        """
        self._refuse_draining()
        timeout = self._check_timeout(idle_timeout_seconds)
        if len(session_id.encode()) > LONGEST_ID:
            raise error(Reason.BAD_FIELD, f"session_id: takes at most {LONGEST_ID} bytes", field="session_id")
        try:
            served = await self._find(model, version)
        except RepositoryError as problem:
            raise error(Reason.MODEL_UNKNOWN, str(problem)) from problem
        except LoadError as problem:
            raise error(Reason.ENGINE_FAILED, f"model {model!r} cannot be loaded: {problem}") from problem
        self._refuse_draining()
        session = self._sessions.open(session_id or secrets.token_hex(16), served, served.rows, timeout, self._clock())
        self._metrics.sessions_opened.labels(served.name, str(served.version)).inc()
        self._metrics.sessions_open.set(len(self._sessions))
        return Opened(session.id, served.name, served.version, served.spec, session.position, timeout)

    async def close(self, session_id: str) -> Closed:
        """Ends a session, whether or not it is still open; its steps that have not begun fail with CLOSED."""
        session = self._sessions.close(session_id)
        if session is None:
            return Closed(closed=False, position=0)
        for pending in self._scheduler.drop(session):
            session.rows.give(pending.row)
            self._fail(pending, error(Reason.CLOSED, f"session {session_id!r} was closed"))
        self._metrics.sessions_ended.labels("closed").inc()
        self._metrics.sessions_open.set(len(self._sessions))
        return Closed(closed=True, position=session.position)

    def submit(self, step: Step) -> asyncio.Future[Reply]:
        """Admits a step; steps of one session run in the order of these calls.

        Raises:
            StatewiseError: the step was not admitted. What fails later fails through the future.
        """
        try:
            return self._admit(step)
        except StatewiseError as refused:
            self._metrics.steps_rejected.labels(str(refused.reason)).inc()
            raise

    def position(self, session_id: str) -> int:
        """Returns how many timesteps a session has consumed; 0 if it is not open."""
        try:
            return self._sessions.find(session_id).position
        except StatewiseError:
            return 0

    def only_input(self, session_id: str) -> str | None:
        """Returns the name of the only input of a session's model; `None` if there are several or no such session."""
        try:
            inputs = self._sessions.find(session_id).model.spec.inputs
        except StatewiseError:
            return None
        return inputs[0].name if len(inputs) == 1 else None

    async def drain(self, grace_seconds: float) -> None:
        """Refuses new sessions and steps, lets what is pending finish within the grace, and stops."""
        self._draining = True
        if self._pending:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._quiet.wait(), grace_seconds)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _admit(self, step: Step) -> asyncio.Future[Reply]:
        self._refuse_draining()
        session = self._sessions.find(step.session_id)
        if self._pending >= self.limits.pending_steps:
            message = f"{self._pending} steps are pending already"
            raise error(Reason.OVERLOADED, message, retry_after_seconds=RETRY_SECONDS)
        timesteps = check_inputs(session.model.spec, step.inputs, self.limits.timesteps)
        now = self._clock()
        self._sessions.admit(session, step.position, timesteps, now)
        deadline = None if step.timeout_seconds is None else now + step.timeout_seconds
        work = _Work(step, asyncio.get_running_loop().create_future())
        self._scheduler.add(Pending(session, timesteps, now, deadline, step.position is not None, work))
        self._count(+1)
        self._wake.set()
        return work.answer

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while steps := self._live(self._scheduler.next()):
                await self._run_batch(steps)

    def _live(self, steps: list[_Pending]) -> list[_Pending]:
        """Drops what has expired or was cancelled before it began; if that is the whole batch, goes on to the next."""
        while steps:
            now = self._clock()
            live = [pending for pending in steps if not self._dropped(pending, now)]
            if live:
                return live
            steps = self._scheduler.next()
        return []

    def _dropped(self, pending: _Pending, now: float) -> bool:
        if pending.done:
            return False
        if pending.payload.answer.cancelled():
            self._give_up(pending, error(Reason.BEHIND_FAILED, "cancelled"))
            return True
        if pending.deadline is not None and now > pending.deadline:
            self._give_up(pending, error(Reason.EXPIRED_IN_QUEUE, "the step's timeout passed before it began to run"))
            return True
        return False

    async def _run_batch(self, steps: list[_Pending]) -> None:
        model = steps[0].session.model
        targets = [model.rows.take() for _ in steps]
        started = self._clock()
        for pending in steps:
            if not pending.done:
                self._metrics.queue_seconds.observe(started - pending.arrived)
        outcomes = await asyncio.get_running_loop().run_in_executor(self._thread, _run_apart, model, steps, targets)
        labels = (model.name, str(model.version))
        self._metrics.compute_seconds(*labels).observe(self._clock() - started)
        self._metrics.batch_steps(*labels).observe(len(steps))
        for place, (pending, target) in enumerate(zip(steps, targets, strict=True)):
            self._settle(pending, target, *outcomes[place])

    def _settle(self, pending: _Pending, target: int, outcome: Outcome | EngineError, column: int) -> None:
        """Commits one row of a batch, parks it for its next cut, or fails its step."""
        if isinstance(outcome, EngineError):
            self._abandon(pending, target, error(Reason.ENGINE_FAILED, f"the model failed on this step: {outcome}"))
        elif not outcome.finite[column]:
            message = "the step would leave NaN or infinity in the output or the state; the session keeps its last good state"
            self._abandon(pending, target, error(Reason.NON_FINITE_STATE, message))
        else:
            length = pending.chunk
            pending.payload.parts.append({name: array[:length, column] for name, array in outcome.outputs.items()})
            pending.session.rows.give(pending.row)
            pending.done += length
            if pending.done < pending.timesteps and not pending.session.ended:
                pending.row = target
                self._scheduler.again(pending)
            elif pending.done < pending.timesteps:
                self._abandon(pending, target, error(Reason.CLOSED, f"session {pending.session.id!r} was closed"), parked=False)
            else:
                self._commit(pending, target)

    def _commit(self, pending: _Pending, target: int) -> None:
        session, work, now = pending.session, pending.payload, self._clock()
        self._sessions.commit(session, target, pending.timesteps, now)
        self._scheduler.finish(pending)
        self._count(-1)
        labels = (session.model.name, str(session.model.version))
        self._metrics.steps(*labels, "OK").inc()
        self._metrics.timesteps(*labels).inc(pending.timesteps)
        self._metrics.step_seconds.observe(now - pending.arrived)
        if not work.answer.done():
            work.answer.set_result(Reply(session.position, columns.joined(work.parts, work.step.last_only)))

    def _abandon(self, pending: _Pending, target: int, problem: StatewiseError, *, parked: bool = True) -> None:
        """Fails a step that has begun: its fresh rows are freed, its session stands as it was."""
        pending.session.rows.give(target)
        if parked:
            pending.session.rows.give(pending.row)
        self._give_up(pending, problem)

    def _give_up(self, pending: _Pending, problem: StatewiseError) -> None:
        """Fails a step taken from the scheduler, and those behind it that counted on it."""
        session = pending.session
        behind = self._scheduler.fail_behind(pending)
        self._scheduler.finish(pending)
        self._fail(pending, problem)
        for other in behind:
            self._fail(other, error(Reason.BEHIND_FAILED, "a step before this one failed", expected=session.position))

    def _fail(self, pending: _Pending, problem: StatewiseError) -> None:
        self._sessions.withdraw(pending.session, pending.timesteps)
        self._count(-1)
        model = pending.session.model
        self._metrics.steps(model.name, str(model.version), str(problem.reason)).inc()
        if not pending.payload.answer.done():
            pending.payload.answer.set_exception(problem)

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(IDLE_SCAN_SECONDS)
            expired = self._sessions.expire(self._clock())
            if expired:
                self._metrics.sessions_ended.labels("expired").inc(len(expired))
                self._metrics.sessions_open.set(len(self._sessions))

    async def _find(self, model: str, version: int) -> Served:
        """Returns a version that is ready; the first to ask for it has it loaded, off the loop."""
        number = version or self._repository.default(model)
        if served := self.served.get((model, number)):
            return served
        file = self._repository.path(model, number)
        async with self._loading:
            if served := self.served.get((model, number)):
                return served
            work = functools.partial(load, model, number, file, self.limits, self._provider, self._threads)
            loaded = await asyncio.get_running_loop().run_in_executor(self._thread, work)
            self.served[model, number] = loaded
        self._metrics.model_info.labels(model, str(number), loaded.provider).set(1)
        log.info("model ready", model=model, version=number, provider=loaded.provider)
        return loaded

    def _check_timeout(self, asked: float | None) -> float:
        if asked is None:
            return self.limits.idle_timeout_seconds
        if not 0 < asked <= self.limits.longest_idle_timeout_seconds:
            message = f"idle_timeout: takes more than 0 and at most {self.limits.longest_idle_timeout_seconds:g} seconds"
            raise error(Reason.BAD_FIELD, message, field="idle_timeout")
        return asked

    def _refuse_draining(self) -> None:
        if self._draining:
            raise error(Reason.DRAINING, "the server is about to stop")

    def _count(self, change: int) -> None:
        self._pending += change
        self._metrics.steps_pending.set(self._pending)
        if self._pending:
            self._quiet.clear()
        else:
            self._quiet.set()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            log.error("the batcher has died", exc_info=task.exception())
            self.failed.set()


def _run_apart(model: Served, steps: list[_Pending], targets: list[int]) -> list[tuple[Outcome | EngineError, int]]:
    """Runs a batch and returns each step's outcome and its column in it; if the batch fails, one step at a time.

    This runs in the engine's thread. The sources are immutable, so a second run reads what the first one read.
    """
    try:
        outcome = model.engine.run(columns.gathered(model.spec, _chunks(steps), _sources(steps), targets))
        return [(outcome, column) for column in range(len(steps))]
    except EngineError as problem:
        if len(steps) == 1:
            return [(problem, 0)]
    return [_run_apart(model, [step], [target])[0] for step, target in zip(steps, targets, strict=True)]


def _chunks(steps: list[_Pending]) -> list[dict[str, Array]]:
    return [{name: array[step.done : step.done + step.chunk] for name, array in step.payload.step.inputs.items()} for step in steps]


def _sources(steps: list[_Pending]) -> list[int]:
    return [step.source for step in steps]
