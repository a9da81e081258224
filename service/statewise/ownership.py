"""What a host owns in the store: sessions are entered there when they are opened, taken over, spilled, handed over and deleted.

A session is this server's while the store's record bears the epoch that it was opened or taken over under. Only an explicit open
takes one over. What is read from the store is trusted no further than its seal, its checksum, the digests of model and spec, and
the position that the client was told.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from statewise.batcher import Batcher
from statewise.commits import Commits
from statewise.durability import Epoch
from statewise.errors import Reason, StatewiseError, error
from statewise.keeper import Keeper, expires_seconds
from statewise.metrics import ServerMetrics
from statewise.models import Models, Served
from statewise.sealing import SealError
from statewise.sessions import RETRY_SECONDS, Sessions
from statewise.snapshot import Snapshot, SnapshotError
from statewise.stores import Outcome, Put, Record, StoreError

Indices = NDArray[np.int64]
T = TypeVar("T")
SPILLED_AT_ONCE = 64
"""Sessions that make room together: one batch costs the store little more than one of them."""


class Ownership:
    """The host's side of the store. Its mutable state, of the event loop: the doors, and which sessions are spilled until when.

    Args:
        moved: told of a session that ends here and is in the store, or another server's; called before it does.
    """

    def __init__(
        self,
        keeper: Keeper,
        sessions: Sessions,
        models: Models,
        batcher: Batcher,
        commits: Commits,
        metrics: ServerMetrics,
        clock: Callable[[], float],
        moved: Callable[[int], None],
    ) -> None:
        self.keeper = keeper
        self._sessions = sessions
        self._models = models
        self._batcher = batcher
        self._commits = commits
        self._metrics = metrics
        self._clock = clock
        self._moved = moved
        self._spilled: dict[str, float] = {}
        self._doors: dict[str, asyncio.Lock] = {}
        self._at_door: Counter[str] = Counter()
        self._deleting: set[asyncio.Task[None]] = set()
        self._room = asyncio.Lock()
        metrics.sessions.labels("spilled").set_function(lambda: len(self._spilled))

    @contextlib.asynccontextmanager
    async def door(self, session_id: str) -> AsyncIterator[None]:
        """Lets one open or close of a session in at a time: they await the store, and must not meet there."""
        self._at_door[session_id] += 1
        try:
            async with self._doors.setdefault(session_id, asyncio.Lock()):
                yield
        finally:
            self._at_door[session_id] -= 1
            if not self._at_door[session_id]:
                del self._at_door[session_id], self._doors[session_id]

    async def create(self, snapshot: Snapshot) -> Epoch | None:
        """Enters a new session into the store; returns its epoch, or `None` if the store knows one of that id already."""
        epoch = Epoch.fresh()
        key = snapshot.session_id
        data = self.keeper.sealer.seal(key, replace(snapshot, epoch=epoch).to_bytes())
        put = Put(key, epoch, snapshot.position, data, expires_seconds(snapshot.terms.idle_timeout_seconds), create=True)
        (outcome,) = await self._asked("write", self.keeper.store.put_many([put]))
        return epoch if outcome in (Outcome.STORED, Outcome.AHEAD) else None

    async def find(self, session_id: str) -> Snapshot | None:
        """Returns what the store holds of a session, without taking it over; raises `DataLost` or `Unavailable`."""
        record = await self._asked("read", self.keeper.store.get(session_id))
        return self._read(session_id, record) if record else None

    async def take_over(self, found: Snapshot, told_position: int) -> tuple[Snapshot, Served] | None:
        """Makes a session this server's, and returns its snapshot under the new epoch and its model; `None` if it is gone.

        Nothing is taken over that could not be restored here.

        Raises:
            Unavailable: the store does not answer, or the version or this file of it is not here.
            DataLost: the store is behind what the client was told.
        """
        _check_position(found, told_position)
        served = await self._served(found)
        expires = expires_seconds(found.terms.idle_timeout_seconds)
        record = await self._asked("claim", self.keeper.store.take_over(found.session_id, secrets.randbits(64), expires))
        if record is None:
            return None
        taken = found
        if record.position != found.position or record.epoch.counter != (found.epoch or Epoch(0, 0)).counter + 1:
            taken = self._read(found.session_id, record)  # its owner has gone on, or another open was faster
            _check_position(taken, told_position)
            served = await self._served(taken)
        self._metrics.sessions_restored.inc()
        self._spilled.pop(taken.session_id, None)
        return replace(taken, epoch=record.epoch), served

    async def is_ours(self, session: int) -> bool:
        """Whether the store says that a durable session which is open here is this server's still; raises `Unavailable`."""
        record = await self._asked("read", self.keeper.store.get(self._sessions.directory.ids[session]))
        return record is not None and record.epoch == self._sessions.durable.epoch(session)

    def lose(self, session: int) -> None:
        """Ends a session here that another server has taken over."""
        self._moved(session)
        self._batcher.close(self._sessions.end(session, Reason.OWNER_CHANGED, self._clock()))

    async def delete(self, session_id: str, epoch: Epoch | None = None) -> bool:
        """Deletes what the store holds of a session; raises `Unavailable`."""
        self._spilled.pop(session_id, None)
        return await self._asked("delete", self.keeper.store.delete(session_id, epoch))

    def delete_soon(self, session_id: str, epoch: Epoch) -> None:
        """Deletes a session that has expired here; if the store does not answer, it forgets it by itself later."""

        async def delete() -> None:
            with contextlib.suppress(StatewiseError):
                await self.delete(session_id, epoch)

        task = asyncio.create_task(delete())
        self._deleting.add(task)
        task.add_done_callback(self._deleting.discard)

    def refresh(self, now: float) -> None:
        """Puts those into the store that are overdue, see `Durable.overdue`, and forgets whom the store has forgotten."""
        for session_id in [each for each, until in self._spilled.items() if until < now]:
            del self._spilled[session_id]
        table = self._sessions
        overdue = table.durable.overdue(table.position, table.last_used, table.idle_timeout, now)
        self._put(overdue[table.live[overdue]])

    async def make_room(self) -> None:
        """Spills sessions that have been idle for longest, if there is no room for another one."""
        async with self._room:
            if len(self._sessions) < self._sessions.capacity:
                return
            table = self._sessions
            idle = np.flatnonzero(table.live & (table.chains.length == 0) & ~table.durable.busy)
            chosen = idle[np.argsort(table.last_used[idle], kind="stable")][:SPILLED_AT_ONCE]
            spilled = await self.let_go(chosen)
            self._metrics.sessions_spilled.inc(len(spilled))
            self._spilled |= spilled

    async def hand_over(self) -> None:
        """Puts all durable sessions into the store that are not there as they stand, and ends them here; for the drain."""
        durable, table = self._sessions.durable, self._sessions
        await self.until_quiet()
        behind = [session for session in durable.sessions if table.position[session] > durable.stored[session]]
        self._put(np.array(behind, np.int64))
        await self.keeper.until_quiet()
        for session in durable.sessions:
            self._end(session)

    async def until_quiet(self) -> None:
        """Returns when all checkpoints that are due have been made."""
        self._commits.checkpoint_due()
        await self.keeper.until_quiet()

    async def let_go(self, sessions: Indices) -> dict[str, float]:
        """Moves sessions into the store, to be resumed from there; one that is stepped meanwhile stays.

        Returns their ids, and when the store forgets them.
        """
        table, gone = self._sessions, {}
        handles = table.directory.handles[sessions]
        memory = np.array([table.durable.epoch(session) is None for session in sessions.tolist()], np.bool_)
        epochs = {session: table.durable.epoch(session) or Epoch.fresh() for session in sessions.tolist()}
        positions = table.position[sessions].copy()
        outcomes = await self._stored(sessions, memory, epochs)
        for place, session in enumerate(sessions.tolist()):
            outcome = outcomes.get(session)
            if table.directory.handles[session] != handles[place]:
                continue
            if not memory[place] and outcome in (Outcome.OTHER_EPOCH, Outcome.MISSING):
                self.lose(session)
            elif outcome is Outcome.STORED and not table.chains.length[session] and table.position[session] == positions[place]:
                gone[table.directory.ids[session]] = self._clock() + expires_seconds(float(table.idle_timeout[session]))
                self._end(session)
            elif outcome is Outcome.STORED and memory[place]:
                self.delete_soon(table.directory.ids[session], epochs[session])
        return gone

    def _end(self, session: int) -> None:
        self._moved(session)
        self._batcher.close(self._sessions.end(session, Reason.MOVED, self._clock()))

    def _put(self, sessions: Indices) -> None:
        sessions = sessions[~self._sessions.durable.busy[sessions]]
        self._sessions.durable.busy[sessions] = True
        self._commits.checkpoint(sessions)

    async def _stored(self, sessions: Indices, memory: NDArray[np.bool_], epochs: dict[int, Epoch]) -> dict[int, Outcome]:
        """Puts sessions into the store as they stand; returns what became of each, as far as it is known."""
        table, outcomes = self._sessions, dict[int, Outcome]()
        handles, models = table.directory.handles[sessions], table.model[sessions].copy()
        table.durable.busy[sessions] = True
        try:
            for kind in (memory, ~memory):
                for number in dict.fromkeys(models[kind].tolist()):
                    outcomes |= await self._stored_together(sessions[kind & (models == number)], epochs)
        finally:
            table.durable.busy[sessions[table.directory.handles[sessions] == handles]] = False
        return outcomes

    async def _stored_together(self, sessions: Indices, epochs: dict[int, Epoch]) -> dict[int, Outcome]:
        told: asyncio.Future[list[Outcome] | None] = asyncio.get_running_loop().create_future()
        table, first = self._sessions, int(sessions[0])
        served = self._models[int(table.model[first])]
        spilled = None if table.durable.epoch(first) else [epochs[session] for session in sessions.tolist()]
        positions = table.position[sessions].copy()
        self.keeper.put(self.keeper.bundle(served, sessions, table.row[sessions], positions, told.set_result, spilled=spilled))
        outcomes = await told
        return dict(zip(sessions.tolist(), outcomes or [], strict=bool(outcomes)))

    async def _served(self, snapshot: Snapshot) -> Served:
        """Returns the model of a snapshot, if this very file and spec of it can be served here."""
        name = f"{snapshot.model}@{snapshot.version}"
        try:
            served = await self._models.find(snapshot.model, snapshot.version, snapshot.session_id)
        except StatewiseError as problem:
            raise _not_here(f"{name}, which the session is of, is not served here: {problem}") from problem
        if snapshot.digest != served.loaded.digest:
            raise _not_here(f"the file of {name} is another one here than the session is of")
        if snapshot.spec_digest and snapshot.spec_digest != served.spec_digest:
            raise _not_here(f"the spec of {name} is another one here than the session is of")
        return served

    def _read(self, session_id: str, record: Record) -> Snapshot:
        try:
            read = Snapshot.from_bytes(self.keeper.sealer.open(record.data, session_id))
        except (SealError, SnapshotError) as problem:
            raise error(Reason.UNREADABLE, f"what the store holds of session {session_id!r} is refused: {problem}") from problem
        if read.position != record.position or read.session_id != session_id:
            raise error(Reason.UNREADABLE, f"what the store holds of session {session_id!r} is not what was put there")
        return read

    async def _asked(self, operation: str, answer: Coroutine[Any, Any, T]) -> T:
        started = time.monotonic()
        try:
            told = await answer
        except StoreError as problem:
            self._metrics.store_errors.labels(operation).inc()
            raise error(Reason.STORE_UNAVAILABLE, str(problem), retry_after_seconds=RETRY_SECONDS) from problem
        self._metrics.store_seconds(operation).observe(time.monotonic() - started)
        return told


def _not_here(message: str) -> StatewiseError:
    return error(Reason.MODEL_NOT_HERE, message, retry_after_seconds=1.0)


def _check_position(snapshot: Snapshot, told: int) -> None:
    if snapshot.position < told:
        message = f"the store holds session {snapshot.session_id!r} at {snapshot.position}, and its client was told {told}"
        raise error(Reason.ROLLED_BACK, message, stored=snapshot.position)
