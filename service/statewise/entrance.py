"""How sessions come in: opened anew, found open, begun from a snapshot, or taken over from the store.

Open ─→ still open here? ─→ in the store? ─→ model ─→ states, in a row of their own ─→ entered in the store ─→ in the table
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from statewise.config import Limits
from statewise.conversation import Array
from statewise.durability import Durability, Keeping
from statewise.errors import Reason, StatewiseError, error
from statewise.models import Models, Served
from statewise.opening import Mode, Open, Opened, begun, fitting, given, restored, terms_of
from statewise.ownership import Ownership
from statewise.sealing import Sealer, SealError, is_sealed
from statewise.sessions import INITIAL_ROW, Opening, Sessions
from statewise.snapshot import Snapshot, SnapshotError

Indices = NDArray[np.int64]


class Entrance:
    """Opens sessions; of the event loop, and what is awaited in between may find the world another one.

    Args:
        instance: names this run of the server.
        default: how durable a session is whose Open does not say.
        engine: the thread that runs the engine, in which rows are written.
        ownership: where there is a store.
        check: raises where nothing is to be opened any more.
        close: ends a session, for who is inside its door.
    """

    def __init__(
        self,
        instance: str,
        sessions: Sessions,
        models: Models,
        limits: Limits,
        engine: ThreadPoolExecutor,
        clock: Callable[[], float],
        *,
        sealer: Sealer | None,
        default: Keeping,
        ownership: Ownership | None,
        check: Callable[[], None],
        close: Callable[[str], Awaitable[object]],
    ) -> None:
        self.aside = asyncio.Semaphore(2 * limits.batch)  # rows that neither a session nor a run holds; see `Models._pool`
        self._instance = instance
        self._sessions = sessions
        self._models = models
        self._limits = limits
        self._engine = engine
        self._clock = clock
        self._sealer = sealer
        self._default = default
        self._ownership = ownership
        self._check = check
        self._close = close

    async def open(self, asked: Open) -> Opened:
        """Opens a session; for who is inside its door. See `Host.open`."""
        terms = terms_of(asked, self._limits, self._default, storable=self._ownership is not None)
        if (known := await self._still_open(asked)) is not None:
            return self.opened(known, resumed=True)
        resumes = asked.mode in (Mode.RESUME, Mode.CREATE_OR_RESUME)
        if self._ownership and resumes and (found := await self._ownership.find(asked.session_id)):
            return await self._take_over(found, asked)
        if asked.mode is Mode.RESUME:
            raise self._gone(asked)
        snapshot = self._snapshot(asked.snapshot) if asked.snapshot else None
        model, version = (snapshot.model, snapshot.version) if snapshot else (asked.model, asked.version)
        served = await self._models.find(model, version, asked.session_id)
        states = restored(snapshot, served, asked.constants) if snapshot else given(served, asked.constants)
        idle = terms.idle_timeout_seconds or served.spec.idle_timeout_seconds or self._limits.idle_timeout_seconds
        terms = replace(terms, idle_timeout_seconds=min(idle, self._limits.longest_idle_timeout_seconds))
        return await self.enter(served, states, begun(asked.session_id, served, states, terms, snapshot), asked)

    async def enter(self, served: Served, states: Mapping[str, Array], began: Snapshot, asked: Open) -> Opened:
        """Opens a session that there was not before, in the store first if it is to be durable."""
        if began.terms.keeping.durability is Durability.MEMORY:
            return await self._start(served, states, began, asked)
        assert self._ownership
        if asked.mode is Mode.RESTART:
            await self._close(asked.session_id)
        epoch = None
        if self._sessions.directory.number(asked.session_id) is None:
            await self._make_room()
            epoch = await self._ownership.create(began)
        if epoch:
            return await self._start(served, states, replace(began, epoch=epoch), replace(asked, mode=Mode.CREATE))
        # It is this one if the same call has opened it, on another server perhaps.
        found = await self._ownership.find(asked.session_id)
        if found is None or not asked.token or found.terms.token != asked.token:
            raise error(Reason.ALREADY_OPEN, f"session {asked.session_id!r} is open already: choose another id, or none")
        return await self._take_over(found, asked)

    def opened(self, number: int, *, resumed: bool = False) -> Opened:
        """Returns an open session as its client is told of it."""
        table, directory = self._sessions, self._sessions.directory
        return Opened(
            directory.ids[number],
            int(directory.handles[number]),
            self._models[int(table.model[number])],
            int(table.position[number]),
            float(table.idle_timeout[number]),
            int(table.retained[number]),
            resumed,
            table.durable.keeping(number),
            int(table.durable.stored[number]),
        )

    async def _start(self, served: Served, states: Mapping[str, Array], began: Snapshot, asked: Open) -> Opened:
        """Opens a session at a state; the initial one, if there is none."""
        row = await self._written(served, states) if states else INITIAL_ROW
        try:
            self._check()
            if (known := self._open_already(asked)) is None:  # a repeated call may have been faster
                if asked.mode is Mode.RESTART:
                    await self._close(asked.session_id)
                await self._make_room()
                return self.opened(self._begin(served, row, began))
        except BaseException:
            _give_back(served, row)
            raise
        _give_back(served, row)
        return self.opened(known, resumed=True)

    def _begin(self, served: Served, row: int, began: Snapshot) -> int:
        terms = began.terms
        told = (terms.idle_timeout_seconds, terms.retained_replies, terms.token, terms.number)
        opening = Opening(served.number, served.pool.number, *told)
        number = self._sessions.open(began.session_id, opening, self._clock(), row, began.position)
        self._sessions.retain(number, began.replies)
        if began.epoch and terms.keeping.durability is not Durability.MEMORY:
            self._sessions.durable.begin(number, terms.keeping, began.epoch, began.position, self._clock())
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
        opened = await self._start(served, fitting(snapshot, served), snapshot, replace(asked, mode=Mode.CREATE, token=b""))
        return replace(opened, resumed=True)

    def _open_already(self, asked: Open) -> int | None:
        """Returns the session that this open means if it is open here."""
        known = self._sessions.directory.opened_by(asked.token)
        if known is not None or asked.mode in (Mode.CREATE, Mode.RESTART):
            return known
        return self._sessions.directory.number(asked.session_id)

    async def _still_open(self, asked: Open) -> int | None:
        """The same; a durable session that was taken over meanwhile is none, and ends here."""
        known = self._open_already(asked)
        if known is None or self._ownership is None or self._sessions.durable.epoch(known) is None:
            return known
        handle = self._sessions.directory.handles[known]
        ours = await self._ownership.is_ours(known)
        if self._sessions.directory.handles[known] != handle:  # it has ended meanwhile
            return None
        if not ours:
            self._ownership.lose(known)
            return None
        return known

    def _gone(self, asked: Open) -> StatewiseError:
        """Returns why a session cannot be resumed that is neither here nor in the store."""
        moved = self._sessions.directory.ended(asked.session_id) in (Reason.MOVED, Reason.OWNER_CHANGED)
        if moved or (asked.server_instance and asked.server_instance != self._instance):
            return error(Reason.LOST, f"session {asked.session_id!r} was lost with the server that held it")
        try:
            self._sessions.directory.find(asked.session_id)
        except StatewiseError as gone:
            return gone
        raise AssertionError("it is open")

    async def _make_room(self) -> None:
        if self._ownership:
            await self._ownership.make_room()

    def _snapshot(self, raw: bytes) -> Snapshot:
        """Returns the snapshot that a client brings; whether it may be unsealed is for who let it in to say."""
        try:
            if is_sealed(raw) and self._sealer:
                raw = self._sealer.open(raw)
            return Snapshot.from_bytes(raw)
        except (SealError, SnapshotError) as problem:
            raise error(Reason.BAD_FIELD, f"snapshot: {problem}", field="snapshot") from problem

    async def _written(self, served: Served, states: Mapping[str, Array]) -> int:
        """Returns a fresh row that holds the states `[*state.shape]`, for a session to start from."""
        await self.aside.acquire()
        row = served.pool.rows.take(1)
        write = functools.partial(served.pool.states.write, row, {name: array[None] for name, array in states.items()})
        writing = asyncio.get_running_loop().run_in_executor(self._engine, write)
        try:
            await asyncio.shield(writing)
            if self._models.ready.get((served.name, served.version)) is not served:
                raise error(Reason.OVERLOADED, "the model left memory meanwhile", retry_after_seconds=1.0)
        except BaseException:
            # Who gives up waiting does not stop the writing: until it is done, nobody else may have the row.
            writing.add_done_callback(functools.partial(self._written_in_vain, served, row))
            raise
        self.aside.release()
        return int(row[0])

    def _written_in_vain(self, served: Served, row: Indices, _: asyncio.Future[None]) -> None:
        served.pool.rows.drop(row)
        self.aside.release()


def _give_back(served: Served, row: int) -> None:
    if row != INITIAL_ROW:
        served.pool.rows.drop(np.array([row]))
