"""A store in a file, for a single server or several on one machine: SQLite in a thread of its own, a batch a transaction.

What is stored outlives the process and the power: the write-ahead log is synchronised to the disk with every batch.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from statewise.durability import Epoch
from statewise.stores import Outcome, Put, Record, StoreError, outcome

T = TypeVar("T")
BUSY_SECONDS = 5.0
_SWEEP_SECONDS = 60.0
_TABLE = """
create table if not exists sessions (
  key text primary key,
  counter integer not null,
  random text not null,
  position integer not null,
  data blob not null,
  expires real not null
) without rowid
"""
_HELD = "select counter, random, position, data from sessions where key = ? and expires > ?"


class SqliteStore:
    """See `Store`."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sqlite")
        self._open: sqlite3.Connection | None = None  # of the thread
        self._swept = 0.0

    async def start(self) -> None:
        """Opens the file, and makes it if it is not there."""
        await self._in_thread(self._connect)

    async def close(self) -> None:
        """Closes the file."""
        await self._in_thread(self._disconnect)
        self._thread.shutdown()

    async def put_many(self, puts: Sequence[Put]) -> list[Outcome]:
        """See `Store`."""
        return await self._in_thread(lambda: self._put_many(puts))

    async def get(self, key: str) -> Record | None:
        """See `Store`."""
        return await self._in_thread(lambda: self._held(key))

    async def take_over(self, key: str, random: int, expires_seconds: float) -> Record | None:
        """See `Store`."""
        return await self._in_thread(lambda: self._take_over(key, random, expires_seconds))

    async def delete(self, key: str, epoch: Epoch | None = None) -> bool:
        """See `Store`."""
        return await self._in_thread(lambda: self._delete(key, epoch))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except sqlite3.Error as problem:
            raise StoreError(f"{self._path}: {problem}") from problem

    def _connect(self) -> None:
        self._open = sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None)
        self._open.execute("pragma journal_mode = wal")
        self._open.execute("pragma synchronous = full")
        self._open.execute(_TABLE)

    def _disconnect(self) -> None:
        if self._open:
            self._open.close()
            self._open = None

    @property
    def _database(self) -> sqlite3.Connection:
        if self._open is None:
            raise sqlite3.ProgrammingError("it is not open")
        return self._open

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("begin immediate")
        try:
            yield
        except BaseException:
            self._database.execute("rollback")
            raise
        self._database.execute("commit")

    def _put_many(self, puts: Sequence[Put]) -> list[Outcome]:
        with self._transaction():
            self._sweep()
            return [self._put(put) for put in puts]

    def _put(self, put: Put) -> Outcome:
        held = self._held(put.key)
        became = outcome((held.epoch, held.position) if held else None, put)
        if became is Outcome.STORED:
            row = (put.key, put.epoch.counter, f"{put.epoch.random:016x}", put.position, put.data)
            self._database.execute("replace into sessions values (?, ?, ?, ?, ?, ?)", (*row, self._clock() + put.expires_seconds))
        return became

    def _held(self, key: str) -> Record | None:
        row = self._database.execute(_HELD, (key, self._clock())).fetchone()
        return Record(Epoch(row[0], int(row[1], 16)), row[2], row[3]) if row else None

    def _take_over(self, key: str, random: int, expires_seconds: float) -> Record | None:
        with self._transaction():
            held = self._held(key)
            if held is None:
                return None
            epoch = Epoch(held.epoch.counter + 1, random)
            told = (epoch.counter, f"{random:016x}", self._clock() + expires_seconds, key)
            self._database.execute("update sessions set counter = ?, random = ?, expires = ? where key = ?", told)
            return Record(epoch, held.position, held.data)

    def _delete(self, key: str, epoch: Epoch | None) -> bool:
        with self._transaction():
            held = self._held(key)
            if held is None or epoch not in (None, held.epoch):
                return False
            self._database.execute("delete from sessions where key = ?", (key,))
            return True

    def _sweep(self) -> None:
        now = self._clock()
        if now - self._swept > _SWEEP_SECONDS:
            self._database.execute("delete from sessions where expires <= ?", (now,))
            self._swept = now
