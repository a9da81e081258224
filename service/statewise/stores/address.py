"""What `--store` takes."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

TAKES = "takes memory, sqlite:PATH, redis://HOST:PORT/NUMBER or rediss://… (TLS)"
SQLITE = "sqlite:"


class StoreSettingError(ValueError):
    """The setting names no store; the message says what it takes."""


def check(address: str) -> None:
    """Raises `StoreSettingError` for an address that names no store."""
    if address == "memory" or (address.startswith(SQLITE) and address != SQLITE):
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


def is_file(address: str) -> bool:
    """Whether an address is of an SQLite store."""
    return address.startswith(SQLITE)


def sqlite_file(address: str) -> Path:
    """Returns the file of an SQLite store."""
    return Path(address.removeprefix(SQLITE))
