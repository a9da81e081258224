"""From what `--store` says to a store."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from statewise.stores import Store
from statewise.stores.memory import MemoryStore
from statewise.stores.redis import RedisStore
from statewise.stores.sqlite import SqliteStore

TAKES = "takes memory, sqlite:PATH, redis://HOST:PORT/NUMBER or rediss://… (TLS)"
_SQLITE = "sqlite:"


class StoreSettingError(ValueError):
    """The setting names no store; the message says what it takes."""


def check(address: str) -> None:
    """Raises `StoreSettingError` for an address that names no store."""
    if address == "memory" or (address.startswith(_SQLITE) and address != _SQLITE):
        return
    try:
        parts = urlsplit(address)
        known = parts.scheme in ("redis", "rediss") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        known = False
    if not known:
        raise StoreSettingError(TAKES)
    if parts.password:
        raise StoreSettingError("takes no password, which everybody could read who sees the process: --store-password-file does")


def leaves_the_machine(address: str) -> bool:
    """Whether what is stored there is in other hands than the server's own."""
    return address.startswith("redis")


def sqlite_file(address: str) -> Path:
    """Returns the file of an SQLite store."""
    return Path(address.removeprefix(_SQLITE))


def open_store(address: str, password: str | None, timeout_seconds: float) -> Store:
    """Returns the store that an address names; nothing is connected before its `start`."""
    check(address)
    if address == "memory":
        return MemoryStore()
    if address.startswith(_SQLITE):
        return SqliteStore(sqlite_file(address))
    return RedisStore(address, password, timeout_seconds)
