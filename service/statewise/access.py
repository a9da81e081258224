"""Who may speak to a server: bearer keys in a file, and what counts as this machine alone. Both sides read the same file.

A file of keys has one a line; empty lines and those that begin with `#` are skipped. A server takes every key of its file, a client
sends the first of its own: so a key is renewed by adding the new one to the servers' files, then changing the clients', then
removing the old one.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path

SHORTEST_KEY = 16
SCHEME = "Bearer "
HEADER = "authorization"


class AccessError(Exception):
    """A file of keys or certificates cannot be used; the message names it."""


def is_local(host: str) -> bool:
    """Returns whether what is sent to a host, as it stands before `:PORT`, never leaves this machine."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def read_keys(file: Path) -> tuple[str, ...]:
    """Returns the keys of a file, in its order; raises `AccessError`."""
    try:
        lines = [line.strip() for line in file.read_text(encoding="ascii").splitlines()]
    except OSError as problem:
        raise AccessError(f"cannot read the keys in {file}: {problem.strerror}") from problem
    except UnicodeDecodeError as problem:
        raise AccessError(f"the keys in {file} are not ASCII text") from problem
    keys = tuple(line for line in lines if line and not line.startswith("#"))
    if not keys:
        raise AccessError(f"{file} has no key; it takes one a line")
    for key in keys:
        if len(key) < SHORTEST_KEY or not key.isprintable() or " " in key:
            raise AccessError(f"{file}: a key takes at least {SHORTEST_KEY} printable characters without spaces, one a line")
    return keys
