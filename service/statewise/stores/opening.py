"""From what `--store` says to a store."""

from __future__ import annotations

from statewise.stores import Store
from statewise.stores.address import SQLITE, check, sqlite_file
from statewise.stores.memory import MemoryStore
from statewise.stores.redis import RedisStore
from statewise.stores.sqlite import SqliteStore


def open_store(address: str, password: str | None, timeout_seconds: float) -> Store:
    """Returns the store that an address names; nothing is connected before its `start`."""
    check(address)
    if address == "memory":
        return MemoryStore()
    if address.startswith(SQLITE):
        return SqliteStore(sqlite_file(address))
    return RedisStore(address, password, timeout_seconds)
