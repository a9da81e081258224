"""Where chaos happens, how durable its sessions are, and what a scenario tells."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from bench.chaos.callers import Crowd
from bench.chaos.processes import Replica, keys, replicas, routed
from bench.chaos.store import SYNCHRONOUS, Redis, redis

EVERY = 16
CHECKPOINT = {"durability": "checkpoint", "checkpoint_every": EVERY}
COMMIT = {"durability": "commit"}
MODES: dict[str, dict[str, Any]] = {"commit": COMMIT, "checkpoint": CHECKPOINT}
CLIENTS = 12


@dataclass
class Told:
    """What a scenario prints: facts by name, and what did not hold."""

    name: str
    facts: dict[str, Any] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)

    def hold(self, holds: bool, what: str) -> None:
        """Notes what did not hold."""
        if not holds:
            self.broken.append(what)

    def unharmed(self, judged: dict[str, Any]) -> None:
        """Takes what became of callers, none of whom may have noticed anything."""
        self.facts |= judged
        self.hold(judged["outputs"] > 0, "there were outputs")
        self.hold(not judged["lost or there twice"], "0 outputs lost, 0 twice")
        self.hold(not any(value for name, value in judged.items() if name.startswith("off")), "0 outputs off the reference")
        self.hold(not judged["errors seen by callers"], "0 errors seen by callers")


class Routed(NamedTuple):
    """Replicas over a store.

    Attributes:
        address: for clients.
        behind: in words, what is behind it.
    """

    store: Redis
    replicas: list[Replica]
    address: str
    behind: str


@dataclass
class Place:
    """Where chaos happens.

    Attributes:
        seconds: how long sessions are under fire.
        sessions: how many are live.
    """

    home: Path
    repository: Path
    seconds: float
    sessions: int

    @contextmanager
    def store(self, name: str, *options: str) -> Iterator[tuple[Redis, tuple[str, ...]]]:
        """Runs a redis-server of its own, and yields it and what servers are told of it."""
        with redis(self.home / name / "redis", *(options or SYNCHRONOUS)) as server:
            yield server, ("--store", server.address, "--seal-keys", str(keys(self.home / name / "keys")))

    @contextmanager
    def routed(self, name: str, count: int, *options: str, running: int | None = None) -> Iterator[Routed]:
        """Runs replicas over a store of their own, behind a router; see `replicas` and `routed`."""
        with (
            self.store(name) as (store, told),
            replicas(count, self.repository, *told, *options, running=running) as made,
            routed(made, self.home / name / "envoy") as (address, behind),
        ):
            yield Routed(store, made, address, behind)

    @contextmanager
    def reference(self) -> Iterator[str]:
        """Runs a server that nobody disturbs, and yields its address."""
        with replicas(1, self.repository) as (only,):
            yield only.address

    async def judge(self, crowd: Crowd) -> dict[str, Any]:
        """Returns what became of callers."""
        with self.reference() as address:
            return await crowd.judged(address)
