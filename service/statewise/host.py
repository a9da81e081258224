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
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, auto

import numpy as np
import structlog

from statewise.batcher import Batcher
from statewise.catalog import load
from statewise.config import Limits
from statewise.conversation import Array, Asker, Frame, Indices, Step
from statewise.durability import Durability, Keeping
from statewise.engine import Provider, initial
from statewise.errors import Reason, StatewiseError, error
from statewise.events import Events
from statewise.gauges import watch
from statewise.inputs import check_constants
from statewise.keeper import Keeper
from statewise.metrics import ServerMetrics
from statewise.models import Loader, Models, Served
from statewise.ownership import Ownership
from statewise.repository import Repository
from statewise.sealing import Sealer, SealError, is_sealed
from statewise.sessions import INITIAL_ROW, Opening, Sessions
from statewise.snapshot import Snapshot, SnapshotError, Terms
from statewise.stores import Store

SCAN_SECONDS = 1.0
HANG_SECONDS = 60.0
LONGEST_ID = 128
LONGEST_TOKEN = 64
LONGEST_CHECKPOINT = 1_000_000
RETAINED_REPLIES = 4
log = structlog.get_logger()


class Mode(Enum):
    """What an open does if the session id is taken, or is not."""

    CREATE = auto()
    RESUME = auto()
    CREATE_OR_RESUME = auto()
    RESTART = auto()


@dataclass(frozen=True, slots=True)
class Open:
    """What a client asks to open; 0, `None` and empty mean the default.

    `number` is what a model's input for a correlation id is told of the session; by default one that no other open session has.
    """

    model: str = ""
    version: int = 0
    session_id: str = ""
    idle_timeout_seconds: float | None = None
    mode: Mode = Mode.CREATE
    retained_replies: int = 0
    token: bytes = b""
    snapshot: bytes = b""
    server_instance: str = ""
    constants: Mapping[str, Array] = field(default_factory=dict)
    number: int = 0
    durability: Durability | None = None
    checkpoint_every: int = 0
    durable_position: int = 0


@dataclass(frozen=True, slots=True)
class Durably:
    """Where snapshots are kept, what seals them, and how durable a session is whose Open does not say."""

    store: Store | None = None
    sealer: Sealer | None = None
    default: Keeping = field(default_factory=Keeping)
    patience_seconds: float = 5.0


@dataclass(frozen=True, slots=True)
class Opened:
    """An open session."""

    session_id: str
    handle: int
    model: Served
    position: int
    idle_timeout_seconds: float
    retained_replies: int
    resumed: bool = False
    keeping: Keeping = field(default_factory=Keeping)
    durable_position: int = 0


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
        self._durably = durably
        self._ownership = self._owning(durably) if durably.store else None
        self._draining = False
        self._aside = asyncio.Semaphore(2 * limits.batch)  # rows that neither a session nor a run holds; see `Models._pool`
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
        self._tasks = [asyncio.create_task(self._look_after()), asyncio.create_task(self._follow())]
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
        _check_lengths(asked.session_id, asked.token)
        asked = replace(asked, session_id=asked.session_id or secrets.token_hex(16))
        if self._ownership is None:
            return await self._open(asked)
        async with self._ownership.door(asked.session_id):
            return await self._open(asked)

    async def _open(self, asked: Open) -> Opened:
        timeout = self._timeout(asked.idle_timeout_seconds)
        terms = Terms(timeout or 0.0, self._retained(asked), self._keeping(asked), asked.token, asked.number)
        if (known := await self._still_open(asked)) is not None:
            return self._opened(known, resumed=True)
        resumes = asked.mode in (Mode.RESUME, Mode.CREATE_OR_RESUME)
        if self._ownership and resumes and (found := await self._ownership.find(asked.session_id)):
            return await self._take_over(found, asked)
        if asked.mode is Mode.RESUME:
            raise self._gone(asked)
        snapshot = self._snapshot(asked.snapshot) if asked.snapshot else None
        model, version = (snapshot.model, snapshot.version) if snapshot else (asked.model, asked.version)
        served = await self.models.find(model, version, asked.session_id)
        states = _restored(snapshot, served, asked.constants) if snapshot else _given(served, asked.constants)
        idle = timeout or served.spec.idle_timeout_seconds or self.limits.idle_timeout_seconds
        terms = replace(terms, idle_timeout_seconds=min(idle, self.limits.longest_idle_timeout_seconds))
        began = _begun(asked.session_id, served, states, terms, snapshot)
        return await self._enter(served, states, began, asked)

    async def _enter(self, served: Served, states: Mapping[str, Array], began: Snapshot, asked: Open) -> Opened:
        """Opens a session that there was not before, in the store first if it is to be durable."""
        if began.terms.keeping.durability is Durability.MEMORY:
            return await self._start(served, states, began, asked)
        assert self._ownership
        if asked.mode is Mode.RESTART:
            await self.close_inside(asked.session_id)
        epoch = None
        if self.sessions.directory.number(asked.session_id) is None:
            await self._make_room()
            epoch = await self._ownership.create(began)
        if epoch:
            return await self._start(served, states, replace(began, epoch=epoch), replace(asked, mode=Mode.CREATE))
        # It is this one if the same call has opened it, on another server perhaps.
        found = await self._ownership.find(asked.session_id)
        if found is None or not asked.token or found.terms.token != asked.token:
            raise error(Reason.ALREADY_OPEN, f"session {asked.session_id!r} is open already: choose another id, or none")
        return await self._take_over(found, asked)

    async def _start(self, served: Served, states: Mapping[str, Array], began: Snapshot, asked: Open) -> Opened:
        """Opens a session at a state; the initial one, if there is none."""
        row = await self._written(served, states) if states else INITIAL_ROW
        try:
            self._refuse_draining()
            if (known := self._open_already(asked)) is None:  # a repeated call may have been faster
                if asked.mode is Mode.RESTART:
                    await self.close_inside(asked.session_id)
                await self._make_room()
                return self._opened(self._begin(served, row, began))
        except BaseException:
            self._give_back(served, row)
            raise
        self._give_back(served, row)
        return self._opened(known, resumed=True)

    def _begin(self, served: Served, row: int, began: Snapshot) -> int:
        terms = began.terms
        told = (terms.idle_timeout_seconds, terms.retained_replies, terms.token, terms.number)
        opening = Opening(served.number, served.pool.number, *told)
        number = self.sessions.open(began.session_id, opening, self._clock(), row, began.position)
        self.sessions.retain(number, began.replies)
        if began.epoch and terms.keeping.durability is not Durability.MEMORY:
            self.sessions.durable.begin(number, terms.keeping, began.epoch, began.position, self._clock())
        return number

    async def _take_over(self, found: Snapshot, asked: Open) -> Opened:
        """Goes on with a session that the store holds."""
        assert self._ownership
        await self._make_room()
        taken = await self._ownership.take_over(found, asked.durable_position)
        if taken is None:
            raise self._gone(asked)
        snapshot, served = taken
        if snapshot.terms.keeping.durability is Durability.MEMORY:  # it was spilled, and is in memory again
            await self._ownership.delete(snapshot.session_id, snapshot.epoch)
        opened = await self._start(served, _fitting(snapshot, served), snapshot, replace(asked, mode=Mode.CREATE, token=b""))
        return replace(opened, resumed=True)

    def find(self, session_id: str) -> Found:
        """Tells where a session stands; raises `SessionGone`."""
        number = self.sessions.directory.find(session_id)
        table = self.sessions
        idle = self._clock() - float(table.last_used[number])
        model = self.models[int(table.model[number])]
        position, tail, pending = (int(column[number]) for column in (table.position, table.tail, table.pending))
        return Found(model, position, tail, pending, idle, int(table.durable.stored[number]))

    def fork(self, session_id: str, new_session_id: str, token: bytes) -> Opened:
        """Opens a session in memory at the committed state of another, whose row they share until one of them is stepped."""
        self._refuse_draining()
        _check_lengths(new_session_id, token)
        known = self.sessions.directory.opened_by(token)
        if known is not None:
            return self._opened(known, resumed=True)
        parent, table = self.sessions.directory.find(session_id), self.sessions
        opening = Opening(
            int(table.model[parent]), int(table.pool[parent]), float(table.idle_timeout[parent]), int(table.retained[parent]), token
        )
        child = table.fork(parent, new_session_id or secrets.token_hex(16), opening, self._clock())
        return self._tell(self._opened(child), "forked")

    async def fork_alike(self, session_id: str, new_session_id: str, token: bytes) -> Opened:
        """The same, and the fork of a durable session is as durable as the other, and its own."""
        number = self.sessions.directory.number(session_id)
        if number is None or self.sessions.durable.epoch(number) is None or self.sessions.directory.opened_by(token) is not None:
            return self.fork(session_id, new_session_id, token)
        self._refuse_draining()
        _check_lengths(new_session_id, token)
        return await self._fork_durably(number, new_session_id or secrets.token_hex(16), token)

    async def _fork_durably(self, parent: int, new_session_id: str, token: bytes) -> Opened:
        taken = await self.snapshot(self.sessions.directory.ids[parent])
        asked = Open(session_id=new_session_id, token=token)
        began = replace(taken, session_id=new_session_id, epoch=None, terms=replace(taken.terms, token=token, number=0), replies=())
        served = await self.models.find(taken.model, taken.version, new_session_id)
        assert self._ownership
        async with self._ownership.door(new_session_id):
            return await self._enter(served, taken.states, began, asked)

    async def snapshot(self, session_id: str) -> Snapshot:
        """Returns a session's committed state. It is pinned while it is read, and the session may be stepped meanwhile."""
        async with self._aside:
            number = self.sessions.directory.find(session_id)
            table, served = self.sessions, self.models[int(self.sessions.model[number])]
            row, position = table.row[[number]].copy(), int(table.position[number])
            replies = tuple(table.replies.rings(served.number, np.array([number])).of(0))
            timeout, retained = float(table.idle_timeout[number]), int(table.retained[number])
            terms = Terms(timeout, retained, table.durable.keeping(number), b"", int(table.number[number]))
            served.pool.rows.hold(row)
            try:
                read = functools.partial(served.pool.states.read, row)
                states = await asyncio.get_running_loop().run_in_executor(self.batcher.thread, read)
            finally:
                served.pool.rows.drop(row)
        states = {name: array[0] for name, array in states.items()}
        about = (served.name, served.version, served.loaded.digest, position, states, served.spec_digest)
        return Snapshot(*about, session_id, None, replies[-retained:], terms)

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
        await self.stop()

    async def _finish(self) -> None:
        await self.batcher.until_quiet()
        if self._ownership:
            await self._ownership.hand_over()

    async def stop(self) -> None:
        """Ends at once."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._ownership:
            await self._ownership.keeper.stop()
        self.batcher.stop()
        self.models.shutdown()

    def _open_already(self, asked: Open) -> int | None:
        """Returns the session that this open means if it is open here."""
        known = self.sessions.directory.opened_by(asked.token)
        if known is not None or asked.mode in (Mode.CREATE, Mode.RESTART):
            return known
        return self.sessions.directory.number(asked.session_id)

    async def _still_open(self, asked: Open) -> int | None:
        """The same; a durable session that was taken over meanwhile is none, and ends here."""
        known = self._open_already(asked)
        if known is None or self._ownership is None or self.sessions.durable.epoch(known) is None:
            return known
        handle = self.sessions.directory.handles[known]
        ours = await self._ownership.is_ours(known)
        if self.sessions.directory.handles[known] != handle:  # it has ended meanwhile
            return None
        if not ours:
            self._ownership.lose(known)
            return None
        return known

    def _gone(self, asked: Open) -> StatewiseError:
        """Returns why a session cannot be resumed that is neither here nor in the store."""
        moved = self.sessions.directory.ended(asked.session_id) in (Reason.MOVED, Reason.OWNER_CHANGED)
        if moved or (asked.server_instance and asked.server_instance != self.instance):
            return error(Reason.LOST, f"session {asked.session_id!r} was lost with the server that held it")
        try:
            self.sessions.directory.find(asked.session_id)
        except StatewiseError as gone:
            return gone
        raise AssertionError("it is open")

    async def _make_room(self) -> None:
        if self._ownership:
            await self._ownership.make_room()

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
        self.batcher.keeper = keeper
        return Ownership(keeper, self.sessions, self.models, self.batcher, self._metrics, self._clock)

    async def _written(self, served: Served, states: Mapping[str, Array]) -> int:
        """Returns a fresh row that holds the states `[*state.shape]`, for a session to start from."""
        await self._aside.acquire()
        row = served.pool.rows.take(1)
        write = functools.partial(served.pool.states.write, row, {name: array[None] for name, array in states.items()})
        writing = asyncio.get_running_loop().run_in_executor(self.batcher.thread, write)
        try:
            await asyncio.shield(writing)
            if self.models.ready.get((served.name, served.version)) is not served:
                raise error(Reason.OVERLOADED, "the model left memory meanwhile", retry_after_seconds=1.0)
        except BaseException:
            # Who gives up waiting does not stop the writing: until it is done, nobody else may have the row.
            writing.add_done_callback(functools.partial(self._written_in_vain, served, row))
            raise
        self._aside.release()
        return int(row[0])

    def _written_in_vain(self, served: Served, row: Indices, _: asyncio.Future[None]) -> None:
        served.pool.rows.drop(row)
        self._aside.release()

    def _give_back(self, served: Served, row: int) -> None:
        if row != INITIAL_ROW:
            served.pool.rows.drop(np.array([row]))

    def _opened(self, number: int, *, resumed: bool = False) -> Opened:
        table, directory = self.sessions, self.sessions.directory
        return Opened(
            directory.ids[number],
            int(directory.handles[number]),
            self.models[int(table.model[number])],
            int(table.position[number]),
            float(table.idle_timeout[number]),
            int(table.retained[number]),
            resumed,
            table.durable.keeping(number),
            int(table.durable.stored[number]),
        )

    def _tell(self, opened: Opened, how: str) -> Opened:
        self.events.opened(opened.session_id, opened.model.labels, opened.position, how)
        return opened

    def _ended(self, session_id: str, number: int, how: str) -> None:
        table = self.sessions
        self.events.ended(session_id, how, self._clock() - float(table.opened[number]), int(table.position[number]))

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

    def _snapshot(self, raw: bytes) -> Snapshot:
        """Returns the snapshot that a client brings; whether it may be unsealed is for who let it in to say."""
        try:
            if is_sealed(raw) and self.sealer:
                raw = self.sealer.open(raw)
            return Snapshot.from_bytes(raw)
        except (SealError, SnapshotError) as problem:
            raise error(Reason.BAD_FIELD, f"snapshot: {problem}", field="snapshot") from problem

    def _retained(self, asked: Open) -> int:
        if asked.retained_replies > self.limits.retained_replies:
            message = f"retained_replies: takes 1 to {self.limits.retained_replies}, or 0 for {RETAINED_REPLIES}"
            raise error(Reason.BAD_FIELD, message, field="retained_replies")
        return asked.retained_replies or RETAINED_REPLIES

    def _keeping(self, asked: Open) -> Keeping:
        """Returns how durable a session is to be; raises `InvalidInput` where there is no store for it."""
        default = self._durably.default
        keeping = Keeping(asked.durability or default.durability, asked.checkpoint_every or default.every)
        if keeping.every > LONGEST_CHECKPOINT:
            message = f"checkpoint_every: takes 1 to {LONGEST_CHECKPOINT} timesteps, or 0 for {default.every}"
            raise error(Reason.BAD_FIELD, message, field="checkpoint_every")
        if keeping.durability is not Durability.MEMORY and self._ownership is None:
            message = f"durability: {keeping.durability.name.lower()} takes a server with a store (statewise serve --store)"
            raise error(Reason.BAD_FIELD, message, field="durability")
        return keeping

    def _timeout(self, asked: float | None) -> float | None:
        if asked is None:
            return None
        if not 0 < asked <= self.limits.longest_idle_timeout_seconds:
            message = f"idle_timeout: takes more than 0 and at most {self.limits.longest_idle_timeout_seconds:g} seconds"
            raise error(Reason.BAD_FIELD, message, field="idle_timeout")
        return asked

    def _refuse_draining(self) -> None:
        if self._draining and self._ownership:
            raise error(Reason.MOVED, "the server is about to stop: resume on another")
        if self._draining:
            raise error(Reason.DRAINING, "the server is about to stop")


def _given(served: Served, constants: Mapping[str, Array]) -> dict[str, Array]:
    """Returns the states that a session with these constants starts from; none where it is the model's own initial state."""
    check_constants(served.spec, constants)
    if not constants:
        return {}
    states = served.spec.states
    return {each.input: constants[each.input] if each.input in constants else initial(each) for each in states}


def _restored(snapshot: Snapshot, served: Served, constants: Mapping[str, Array]) -> Mapping[str, Array]:
    """Returns the states of a snapshot if they are a session's of this model file."""
    if constants:
        message = f"constants: a snapshot holds what its session was given, so none can be given with it ({', '.join(constants)})"
        raise error(Reason.BAD_FIELD, message, field="constants")
    if snapshot.digest != served.loaded.digest:
        raise error(
            Reason.BAD_FIELD, f"snapshot: it is of another model file than {served.name}@{served.version}", field="snapshot"
        )
    if snapshot.spec_digest and snapshot.spec_digest != served.spec_digest:
        raise error(Reason.BAD_FIELD, f"snapshot: it is of another spec than {served.name}@{served.version}", field="snapshot")
    return _fitting(snapshot, served)


def _fitting(snapshot: Snapshot, served: Served) -> Mapping[str, Array]:
    """Returns the states of a snapshot if they are such as the model has."""
    wanted = {state.input: (state.shape, state.dtype) for state in served.spec.states}
    if {name: (array.shape, array.dtype.name) for name, array in snapshot.states.items()} != wanted:
        raise error(Reason.BAD_FIELD, "snapshot: its states are not those of the model", field="snapshot")
    for state in served.spec.states:
        if state.finite and not np.isfinite(snapshot.states[state.input]).all():
            raise error(Reason.BAD_FIELD, f"snapshot: its state {state.input!r} is not finite", field="snapshot")
    return snapshot.states


def _begun(session_id: str, served: Served, states: Mapping[str, Array], terms: Terms, snapshot: Snapshot | None) -> Snapshot:
    """Returns a session as it begins: from the model's initial state, or from states that were given, or from a snapshot."""
    first = states or {each.input: initial(each) for each in served.spec.states}
    about = (served.name, served.version, served.loaded.digest, snapshot.position if snapshot else 0, first, served.spec_digest)
    replies = snapshot.replies if snapshot and snapshot.session_id == session_id else ()
    return Snapshot(*about, session_id, None, replies, terms)


def _check_lengths(session_id: str, token: bytes) -> None:
    if len(session_id.encode()) > LONGEST_ID:
        raise error(Reason.BAD_FIELD, f"session_id: takes at most {LONGEST_ID} bytes", field="session_id")
    if len(token) > LONGEST_TOKEN:
        raise error(Reason.BAD_FIELD, f"open_token: takes at most {LONGEST_TOKEN} bytes", field="open_token")
