"""The scenarios by name: each does its harm while sessions are live, and returns what became of them and what must hold."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from bench.chaos.place import Place, Told
from bench.chaos.replaced import drains, kills, scale
from bench.chaos.stale import stale
from bench.chaos.stored import sqlite_killed, store_killed, store_rolled_back

Scenario = Callable[[Place], Awaitable[Told]]


def _of(scenario: Callable[[Place, str], Awaitable[Told]], mode: str) -> Scenario:
    return lambda place: scenario(place, mode)


SCENARIOS: dict[str, Scenario] = {
    "kills-commit": _of(kills, "commit"),
    "kills-checkpoint": _of(kills, "checkpoint"),
    "drains-commit": _of(drains, "commit"),
    "drains-checkpoint": _of(drains, "checkpoint"),
    "scale-commit": _of(scale, "commit"),
    "scale-checkpoint": _of(scale, "checkpoint"),
    "stale": stale,
    "store-commit": _of(store_killed, "commit"),
    "store-checkpoint": _of(store_killed, "checkpoint"),
    "rolled-back": store_rolled_back,
    "sqlite": sqlite_killed,
}
