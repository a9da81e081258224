"""Puts the states of sessions into the store, many at a time, while the loop goes on.

    rows, pinned ─→ engine's thread: read ─→ thread: snapshots, sealed ─→ store ─→ loop: `done` with an outcome for each

What is asked for waits in a bounded line; past it, and when the store has not answered for a while, `done` is told `None`: nothing
is known. A put that fails is tried again meanwhile, which is safe: the same put twice is as good as once.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import structlog
from numpy.typing import NDArray

from statewise.durability import Epoch, Keeping
from statewise.metrics import ServerMetrics
from statewise.models import Pooled, Served
from statewise.sealing import Sealer
from statewise.sessions import Kept, Retained, Rings, Sessions
from statewise.snapshot import Snapshot, Terms
from statewise.stores import Outcome, Put, Store, StoreError

Array = NDArray[np.generic]
Indices = NDArray[np.int64]
BATCH = 256
"""The most snapshots of one batch."""
WORKERS = 2
AGAIN_SECONDS = (0.02, 0.5)
"""The first wait before a put is tried again, and the longest."""
log = structlog.get_logger()


@dataclass(slots=True, eq=False)
class Bundle:
    """Sessions of one model version that are put into the store together.

    Attributes:
        rows: `[sessions]`, of their states; nobody writes them before `read` is called.
        positions: `[sessions]`, of these states.
        replies: what `Rings` holds of them, and each session's reply that is not retained yet.
        create: whether the store knows nothing of them yet.
        read: called on the loop when the rows are needed no more.
        done: called on the loop with an outcome for each session, or `None` if the store has not told.
    """

    model: Served
    sessions: Indices
    rows: Indices
    positions: Indices
    keys: list[str]
    epochs: list[Epoch]
    terms: list[Terms]
    rings: Rings
    fresh: list[Kept] | None
    create: bool
    read: Callable[[], None]
    done: Callable[[list[Outcome] | None], None]
    since: float = field(default_factory=time.monotonic)

    def __len__(self) -> int:
        return len(self.keys)

    def snapshot(self, place: int, states: Mapping[str, Array]) -> Snapshot:
        """Returns the snapshot of one of the sessions."""
        terms, replies = self.terms[place], self.rings.of(place)
        if self.fresh:
            replies = Retained.of([*replies, self.fresh[place]][-terms.retained_replies :])
        return Snapshot(
            self.model.name,
            self.model.version,
            self.model.loaded.digest,
            int(self.positions[place]),
            states,
            self.model.spec_digest,
            self.keys[place],
            self.epochs[place],
            replies,
            terms,
        )


class Keeper:
    """The line of what is to be stored, and who works on it; changed on the loop alone.

    Args:
        engine: the thread that runs the engine, in which rows are read.
        line: the most sessions that may wait.
        patience_seconds: how long a store that does not answer is tried again.
    """

    def __init__(
        self,
        store: Store,
        sealer: Sealer,
        sessions: Sessions,
        engine: ThreadPoolExecutor,
        metrics: ServerMetrics,
        *,
        line: int,
        patience_seconds: float,
    ) -> None:
        self.store = store
        self.sealer = sealer
        self.waiting = 0
        self._sessions = sessions
        self._engine = engine
        self._metrics = metrics
        self._line = line
        self._patience_seconds = patience_seconds
        self._bundles: deque[Bundle] = deque()
        self._under_way: set[Bundle] = set()
        self._something = asyncio.Event()
        self._quiet = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="seal")
        self._workers: list[asyncio.Task[None]] = []
        metrics.store_pending.set_function(lambda: self.waiting)
        metrics.durability_lag_seconds.set_function(self._oldest_seconds)
        metrics.durability_lag_timesteps.set_function(lambda: sessions.durable.lag(sessions.position))

    def start(self) -> None:
        """Begins to work on the line."""
        self._workers = [asyncio.create_task(self._work()) for _ in range(WORKERS)]

    async def stop(self) -> None:
        """Ends at once; what waits is put no more."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        self._thread.shutdown(wait=False, cancel_futures=True)

    def bundle(
        self,
        model: Served,
        sessions: Indices,
        rows: Indices,
        positions: Indices,
        done: Callable[[list[Outcome] | None], None],
        *,
        fresh: list[Kept] | None = None,
        spilled: list[Epoch] | None = None,
    ) -> Bundle:
        """Returns durable sessions, or such as are `spilled` under these epochs, as they are to be put."""
        table, pool = self._sessions, model.pool.rows
        durable, directory = table.durable, table.directory
        numbers = sessions.tolist()
        keepings = [Keeping() if spilled else durable.keeping(number) for number in numbers]
        opened = table.idle_timeout[sessions].tolist(), table.retained[sessions].tolist(), keepings
        terms = zip(*opened, map(directory.token, numbers), table.number[sessions].tolist(), strict=True)
        if fresh is None:
            pool.hold(rows)
        return Bundle(
            model,
            sessions,
            rows,
            positions,
            [directory.ids[number] for number in numbers],
            spilled or [durable.epoch(number) or Epoch.fresh() for number in numbers],
            list(itertools.starmap(Terms, terms)),
            table.replies.rings(model.number, sessions, int(table.retained[sessions].max())),
            fresh,
            spilled is not None,
            functools.partial(pool.drop, rows) if fresh is None else lambda: None,
            done,
        )

    def put(self, bundle: Bundle) -> None:
        """Puts a bundle in line; past the line's end it is told at once that nothing is known."""
        if self.waiting + len(bundle) > self._line:
            bundle.read()
            bundle.done(None)
            return
        self.waiting += len(bundle)
        self._bundles.append(bundle)
        self._something.set()

    async def until_quiet(self) -> None:
        """Returns when all that was put in line is done."""
        while self._bundles or self._under_way:
            self._quiet.clear()
            await self._quiet.wait()

    async def _work(self) -> None:
        while True:
            while not self._bundles:
                self._something.clear()
                await self._something.wait()
            bundles = self._next()
            self._under_way.update(bundles)
            try:
                await self._keep(bundles)
            except Exception:
                log.exception("snapshots could not be stored")
                self._finish(bundles, None)
            finally:
                self._under_way.difference_update(bundles)
                self._quiet.set()

    def _next(self) -> list[Bundle]:
        """Takes bundles of one pool from the line, up to a batch."""
        bundles = [self._bundles.popleft()]
        count = len(bundles[0])
        while self._bundles and self._bundles[0].model.pool is bundles[0].model.pool and count + len(self._bundles[0]) <= BATCH:
            bundles.append(self._bundles.popleft())
            count += len(bundles[-1])
        return bundles

    async def _keep(self, bundles: list[Bundle]) -> None:
        loop = asyncio.get_running_loop()
        try:
            puts = await loop.run_in_executor(self._thread, self._sealed, bundles[0].model.pool, bundles)
        finally:
            for bundle in bundles:
                bundle.read()
        outcomes = await self._put(puts)
        self._finish(bundles, outcomes)
        if outcomes is None:  # those behind would wait as long for nothing
            rest = list(self._bundles)
            self._bundles.clear()
            for bundle in rest:
                bundle.read()
            self._finish(rest, None)

    def _finish(self, bundles: list[Bundle], outcomes: list[Outcome] | None) -> None:
        start = 0
        for bundle in bundles:
            self.waiting -= len(bundle)
            bundle.done(None if outcomes is None else outcomes[start : start + len(bundle)])
            start += len(bundle)

    def _sealed(self, pool: Pooled, bundles: list[Bundle]) -> list[Put]:
        """Runs in a thread: reads rows in the engine's, and makes of them what is put."""
        rows = np.concatenate([bundle.rows for bundle in bundles])
        states = self._engine.submit(pool.states.read, rows).result()
        puts: list[Put] = []
        for bundle in bundles:
            for place, (key, epoch) in enumerate(zip(bundle.keys, bundle.epochs, strict=True)):
                here = len(puts)
                snapshot = bundle.snapshot(place, {name: array[here] for name, array in states.items()})
                data = self.sealer.seal(key, snapshot.to_bytes())
                expires = expires_seconds(bundle.terms[place].idle_timeout_seconds)
                puts.append(Put(key, epoch, snapshot.position, data, expires, bundle.create))
        return puts

    async def _put(self, puts: list[Put]) -> list[Outcome] | None:
        """Returns the outcomes; tries again while the store does not answer, and gives up when it has not for long enough."""
        wait, longest = AGAIN_SECONDS
        give_up = time.monotonic() + self._patience_seconds
        while True:
            started = time.monotonic()
            try:
                outcomes = await self.store.put_many(puts)
            except StoreError as problem:
                self._metrics.store_errors.labels("write").inc()
                if time.monotonic() > give_up:
                    log.warning("the store is given up for now", why=str(problem), snapshots=len(puts))
                    return None
                await asyncio.sleep(wait)
                wait = min(2 * wait, longest)
                continue
            self._metrics.store_seconds("write").observe(time.monotonic() - started, len(puts))
            return outcomes

    def _oldest_seconds(self) -> float:
        waiting = [*self._under_way, *self._bundles]
        return time.monotonic() - min(bundle.since for bundle in waiting) if waiting else 0.0


def expires_seconds(idle_timeout_seconds: float) -> float:
    """Returns when the store forgets a session that nobody puts again: well after its server would have ended it.

    A session that is used is put again after half an idle timeout at the latest; see `Durable.overdue`.
    """
    return 2 * idle_timeout_seconds + 60
