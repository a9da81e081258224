"""Sessions as their clients see them: opened, found, forked, snapshotted and closed; and the life of what serves them.

`Host` joins the table of sessions, the models and the batcher. Only the loop touches them; what takes long (loading, reading and
writing rows) happens in threads and is awaited.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import structlog

from statewise.batcher import Batcher
from statewise.catalog import load
from statewise.commits import Commits
from statewise.config import Limits
from statewise.conversation import Asker, Frame, Step
from statewise.durability import Keeping
from statewise.entrance import Entrance
from statewise.errors import Reason, StatewiseError, error
from statewise.events import Events
from statewise.gauges import watch
from statewise.keeper import Keeper
from statewise.metrics import ServerMetrics
from statewise.models import Loader, Models, Served
from statewise.opening import Open, Opened, check_lengths
from statewise.ownership import Ownership
from statewise.rebalancing import Rebalancing
from statewise.repository import Repository
from statewise.room import Room
from statewise.runtime import Provider
from statewise.sealing import Sealer
from statewise.sessions import Opening, Retained, Sessions
from statewise.snapshot import Snapshot, Terms
from statewise.stores import Store

SCAN_SECONDS = 1.0
HANG_SECONDS = 60.0
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Durably:
    """Where snapshots are kept, what seals them, and how durable a session is whose Open does not say.

    Durable sessions above `rebalance_above` are handed over, `rebalance_rate` a second; 0 is none. See `Rebalancing`.
    """

    store: Store | None = None
    sealer: Sealer | None = None
    default: Keeping = field(default_factory=Keeping)
    patience_seconds: float = 5.0
    rebalance_above: int = 0
    rebalance_rate: float = 10.0


@dataclass(frozen=True, slots=True)
class Found:
    """Where a session stands."""

    model: Served
    position: int
    tail: int
    pending: int
    idle_seconds: float
    durable_position: int = 0


@dataclass(frozen=True, slots=True)
class Closed:
    """Whether this close ended the session, and the timesteps that it had consumed."""

    closed: bool
    position: int


class Host:
    """Everything between the transport and the engine.

    Attributes:
        instance: names this run of the server.
        failed: set when it can go on no more; the server must then end.
    """

    def __init__(
        self,
        repository: Repository,
        limits: Limits,
        provider: Provider,
        metrics: ServerMetrics,
        threads: int = 1,
        clock: Callable[[], float] = time.monotonic,
        loader: Loader = load,
        durably: Durably = Durably(),
    ) -> None:
        if durably.store:
            # Each session has at most one snapshot on its way, and spilled ones make room together.
            limits = replace(limits, store_line=limits.sessions + limits.batch)
        self.instance = secrets.token_hex(8)
        self.limits = limits
        self.sessions = Sessions(
            limits.sessions, limits.pending_steps, widest=limits.retained_replies, reply_bytes=limits.reply_bytes
        )
        self.models = Models(repository, self.sessions, limits, provider, threads, metrics, loader)
        self.batcher = Batcher(self.sessions, self.models, limits, metrics, clock)
        self.events = Events(metrics)
        self._metrics = metrics
        watch(metrics, self.sessions, limits, clock)
        self._clock = clock
        self.sealer = durably.sealer
        self._ownership = self._owning(durably) if durably.store else None
        self._rebalancing = self._ownership and self._rebalanced(self._ownership, durably)
        self._entrance = Entrance(
            self.instance,
            self.sessions,
            self.models,
            limits,
            self.batcher.thread,
            clock,
            sealer=durably.sealer,
            default=durably.default,
            ownership=self._ownership,
            check=self._refuse_draining,
            close=self.close_inside,
        )
        self._draining = False
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def failed(self) -> asyncio.Event:
        """Set when the batcher has died or a run hangs."""
        return self.batcher.failed

    @property
    def accepts(self) -> bool:
        """Whether new sessions and steps are taken on."""
        return not self._draining and not self.failed.is_set()

    async def start(self) -> None:
        """Loads what new sessions get, and begins to look after sessions and versions."""
        await self.models.refresh()
        self._tasks = [asyncio.create_task(each) for each in (self._look_after(), self._follow(), self._rebalance())]
        if self._ownership:
            self._ownership.keeper.start()

    async def open(self, asked: Open) -> Opened:
        """Opens a session.

        Raises:
            ModelUnknown, AlreadyOpen, Overloaded, InvalidInput, SessionGone, EngineFailed, Unavailable: nothing was opened.
        """
        try:
            opened = await self._enter_by_door(asked)
        except StatewiseError as problem:
            self.events.refused(asked.session_id, asked.model, problem)
            raise
        if opened.resumed:
            self.events.resumed(opened.session_id, opened.position)
        else:
            self._tell(opened, "restored" if asked.snapshot else "opened")
        return opened

    async def _enter_by_door(self, asked: Open) -> Opened:
        self._refuse_draining()
        check_lengths(asked.session_id, asked.token)
        asked = replace(asked, session_id=asked.session_id or secrets.token_hex(16))
        if self._ownership is None:
            return await self._entrance.open(asked)
        async with self._ownership.door(asked.session_id):
            return await self._entrance.open(asked)

    def find(self, session_id: str) -> Found:
        """Tells where a session stands; raises `SessionGone`."""
        number = self.sessions.directory.find(session_id)
        table = self.sessions
        idle = self._clock() - float(table.last_used[number])
        model = self.models[int(table.model[number])]
        position, tail, pending = (int(column[number]) for column in (table.position, table.chains.tail, table.chains.length))
        return Found(model, position, tail, pending, idle, int(table.durable.stored[number]))

    def fork(self, session_id: str, new_session_id: str, token: bytes) -> Opened:
        """Opens a session in memory at the committed state of another, whose row they share until one of them is stepped."""
        self._refuse_draining()
        check_lengths(new_session_id, token)
        known = self.sessions.directory.opened_by(token)
        if known is not None:
            return self._entrance.opened(known, resumed=True)
        parent, table = self.sessions.directory.find(session_id), self.sessions
        opening = Opening(
            int(table.model[parent]), int(table.pool[parent]), float(table.idle_timeout[parent]), int(table.retained[parent]), token
        )
        child = table.fork(parent, new_session_id or secrets.token_hex(16), opening, self._clock())
        return self._tell(self._entrance.opened(child), "forked")

    async def fork_alike(self, session_id: str, new_session_id: str, token: bytes) -> Opened:
        """The same, and the fork of a durable session is as durable as the other, and its own."""
        number = self.sessions.directory.number(session_id)
        if number is None or self.sessions.durable.epoch(number) is None or self.sessions.directory.opened_by(token) is not None:
            return self.fork(session_id, new_session_id, token)
        self._refuse_draining()
        check_lengths(new_session_id, token)
        return await self._fork_durably(number, new_session_id or secrets.token_hex(16), token)

    async def _fork_durably(self, parent: int, new_session_id: str, token: bytes) -> Opened:
        taken = await self.snapshot(self.sessions.directory.ids[parent])
        asked = Open(session_id=new_session_id, token=token)
        terms = replace(taken.terms, token=token, number=0)
        began = replace(taken, session_id=new_session_id, epoch=None, terms=terms, replies=Retained())
        served = await self.models.find(taken.model, taken.version, new_session_id)
        assert self._ownership
        async with self._ownership.door(new_session_id):
            return await self._entrance.enter(served, taken.states, began, asked)

    async def snapshot(self, session_id: str) -> Snapshot:
        """Returns a session's committed state. It is pinned while it is read, and the session may be stepped meanwhile."""
        async with self._entrance.aside:
            number = self.sessions.directory.find(session_id)
            table, served = self.sessions, self.models[int(self.sessions.model[number])]
            row, position = table.row[[number]].copy(), int(table.position[number])
            timeout, retained = float(table.idle_timeout[number]), int(table.retained[number])
            replies = table.replies.rings(served.number, np.array([number]), retained).of(0)
            terms = Terms(timeout, retained, table.durable.keeping(number), b"", int(table.number[number]))
            served.pool.rows.hold(row)
            try:
                read = functools.partial(served.pool.states.read, row)
                states = await asyncio.get_running_loop().run_in_executor(self.batcher.thread, read)
            finally:
                served.pool.rows.drop(row)
        states = {name: array[0] for name, array in states.items()}
        about = (served.name, served.version, served.loaded.digest, position, states, served.spec_digest)
        return Snapshot(*about, session_id, None, replies, terms)

    async def close(self, session_id: str) -> Closed:
        """Ends a session, whether or not it is still open; its steps that have not begun fail with CLOSED.

        Where there is a store it ends there, too, whichever server has it; raises `Unavailable` if that is not known.
        """
        if self._ownership is None:
            return await self.close_inside(session_id)
        async with self._ownership.door(session_id):
            return await self.close_inside(session_id)

    async def close_inside(self, session_id: str) -> Closed:
        """See `close`; for who is inside the session's door."""
        deleted = False
        number = self.sessions.directory.number(session_id)
        if self._ownership and (number is None or self.sessions.durable.epoch(number)):
            deleted = await self._ownership.delete(session_id)
        ended = self.sessions.close(session_id, self._clock())
        if ended is None:
            return Closed(closed=deleted, position=0)
        number, failures = ended
        position = int(self.sessions.position[number])
        self._ended(session_id, number, "closed")
        self.batcher.close(failures)
        return Closed(closed=True, position=position)

    def step(self, step: Step, asker: Asker, tag: object) -> None:
        """Takes a step on; see `Batcher.step`."""
        try:
            self._refuse_draining()
            self.batcher.step(step, asker, tag)
        except StatewiseError as problem:
            self._metrics.steps_rejected.labels(str(problem.reason)).inc()
            raise

    def frame(self, frame: Frame, asker: Asker, tag: object) -> None:
        """Takes a frame on; see `Batcher.frame`."""
        try:
            self._refuse_draining()
            if len(frame.handles) > self.limits.frame_rows:
                message = f"handles: a frame takes at most {self.limits.frame_rows} sessions, not {len(frame.handles)}"
                raise error(Reason.BAD_FIELD, message, field="handles")
            self.batcher.frame(frame, asker, tag)
        except StatewiseError as problem:
            self._metrics.steps_rejected.labels(str(problem.reason)).inc(len(frame.handles))
            raise

    @property
    def room(self) -> Room:
        """Where streams wait with reading while there is no place for a step."""
        return self.batcher.room

    def refused(self, problem: StatewiseError, **who: object) -> None:
        """Notes for the log that a step failed; see `Events.steps_refused`."""
        self.events.steps_refused(problem, **who)

    def forget(self, asker: Asker) -> None:
        """Answers a stream no more."""
        self.batcher.forget(asker)

    def position(self, session_id: str) -> int:
        """Returns how many timesteps a session has consumed; 0 if it is not open."""
        number = self.sessions.directory.number(session_id)
        return 0 if number is None else int(self.sessions.position[number])

    def only_input(self, session_id: str) -> str | None:
        """Returns the name of the only input of a session's model; `None` if there are several or no such session."""
        number = self.sessions.directory.number(session_id)
        inputs = () if number is None else self.models[int(self.sessions.model[number])].spec.inputs
        return inputs[0].name if len(inputs) == 1 else None

    async def drain(self, grace_seconds: float) -> None:
        """Refuses new sessions and steps, lets what is pending finish and hands sessions over within the grace, and stops."""
        self._draining = True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._finish(), grace_seconds)
        for number in np.flatnonzero(self.sessions.live).tolist():
            self._ended(self.sessions.directory.ids[number], number, "lost")
        await self.stop()

    async def _finish(self) -> None:
        await self.batcher.until_quiet()
        if self._ownership:
            await self._ownership.hand_over()

    async def _rebalance(self) -> None:
        """Once a second, but for the time that the store takes."""
        while self._rebalancing and not self._draining:
            await asyncio.sleep(SCAN_SECONDS)
            await self._rebalancing.look()

    async def stop(self) -> None:
        """Ends at once."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._ownership:
            await self._ownership.keeper.stop()
        self.batcher.stop()
        self.models.shutdown()

    def _owning(self, durably: Durably) -> Ownership:
        assert durably.store
        keeper = Keeper(
            durably.store,
            durably.sealer or Sealer.of_this_run(),
            self.sessions,
            self.batcher.thread,
            self._metrics,
            line=self.limits.store_line,
            patience_seconds=durably.patience_seconds,
        )
        commits = self.batcher.answering.commits = Commits(
            keeper, self.sessions, self.models, self.batcher, self._clock, self._moved
        )
        return Ownership(keeper, self.sessions, self.models, self.batcher, commits, self._metrics, self._clock, self._moved)

    def _rebalanced(self, ownership: Ownership, durably: Durably) -> Rebalancing:
        return Rebalancing(ownership, self.sessions, durably.rebalance_above, durably.rebalance_rate, self._clock)

    def _tell(self, opened: Opened, how: str) -> Opened:
        self.events.opened(opened.session_id, opened.model.labels, opened.position, how)
        return opened

    def _ended(self, session_id: str, number: int, how: str) -> None:
        table = self.sessions
        self.events.ended(session_id, how, self._clock() - float(table.opened[number]), int(table.position[number]))

    def _moved(self, number: int) -> None:
        self._ended(self.sessions.directory.ids[number], number, "moved")

    async def _look_after(self) -> None:
        """Once a second: ends idle sessions, and tells when a run hangs."""
        while True:
            slept = time.perf_counter()
            await asyncio.sleep(SCAN_SECONDS)
            self._metrics.loop_lag_seconds.observe(max(0.0, time.perf_counter() - slept - SCAN_SECONDS))
            self._expire(self._clock())
            self.events.look()
            if self.batcher.hangs(HANG_SECONDS):
                log.error("a run of the engine hangs", seconds=HANG_SECONDS)
                self.failed.set()

    def _expire(self, now: float) -> None:
        """Ends idle sessions, here and in the store, and puts those again that are used and that the store would forget."""
        directory, durable = self.sessions.directory, self.sessions.durable
        due = [(directory.ids[number], number, durable.epoch(number)) for number in self.sessions.due(now).tolist()]
        self.sessions.expire(now)
        for session_id, number, epoch in due:
            self._ended(session_id, number, "expired")
            if self._ownership and epoch:
                self._ownership.delete_soon(session_id, epoch)
        if self._ownership:
            self._ownership.refresh(now)

    async def _follow(self) -> None:
        """Once a second, but for the time that a load takes: finds new versions."""
        while True:
            await asyncio.sleep(SCAN_SECONDS)
            try:
                await self.models.refresh()
            except OSError as problem:
                log.warning("the repository cannot be read", why=str(problem))
            except Exception:
                log.exception("the repository cannot be followed")  # the next look may find it mended

    def _refuse_draining(self) -> None:
        if self._draining and self._ownership:
            raise error(Reason.MOVED, "the server is about to stop: resume on another")
        if self._draining:
            raise error(Reason.DRAINING, "the server is about to stop")
