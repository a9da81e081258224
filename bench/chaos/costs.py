"""What durability costs: sessions in memory, with checkpoints every 64 timesteps, and committed, by turns on one server."""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import psutil

from bench.chaos.place import Told
from bench.chaos.processes import keys
from bench.chaos.store import Redis, redis
from bench.models import fill
from bench.processes import Load, Server, statewise

MODEL, SECONDS, ROUNDS = "lstm-256", 2.0, 9
EVERY = 64
LOADS = {
    "frames of 256": ["frames", "--sessions", "256"],
    "single steps, 64 sessions": ["coalesced", "--sessions", "64"],
}
MODES = ("memory", "checkpoint", "commit")
WORTH = 0.9
"""What checkpoints are to leave of the speed in memory."""


class Turn(NamedTuple):
    """What a load got done: steps a second, and CPU microseconds a step of everybody who worked for it."""

    rate: float
    client: float
    server: float
    store: float


def costs(home: Path) -> Told:
    """Measures each mode in turn, several rounds, with a real redis-server; shares are of the same round's rate in memory."""
    told = Told("cost of durability")
    shutil.rmtree(home / "run", ignore_errors=True)
    stored = ["--seal-keys", str(keys(home / "run" / "keys")), "--checkpoint-every", str(EVERY)]
    with redis(home / "run" / "redis") as store, statewise(fill(home / "models"), "--store", store.address, *stored) as server:
        for name, words in LOADS.items():
            rounds = [{mode: _turn(server, store, [*words, "--durability", mode]) for mode in MODES} for _ in range(ROUNDS)]
            for mode in MODES:
                told.facts[f"{name}, {mode}"] = _told([turns[mode] for turns in rounds], _share(rounds, mode))
            left = _share(rounds, "checkpoint")
            told.hold(left >= WORTH, f"{name}: checkpoints leave {left:.2f} of the speed in memory, not {WORTH}")
    return told


def _turn(server: Server, store: Redis, words: list[str]) -> Turn:
    assert store.process
    redis_server = psutil.Process(store.process.pid)
    load = Load([*words, "--address", server.address, "--model", MODEL, "--seconds", str(SECONDS)])
    load.until_ready()
    before = server.cpu_seconds(), sum(redis_server.cpu_times()[:2])
    load.go()
    report = load.report()
    used = server.cpu_seconds() - before[0], sum(redis_server.cpu_times()[:2]) - before[1]
    client, of_server, of_store = (seconds / report["steps"] * 1e6 for seconds in (report["cpu_seconds"], *used))
    return Turn(report["steps"] / report["seconds"], client, of_server, of_store)


def _share(rounds: list[Mapping[str, Turn]], mode: str) -> float:
    return statistics.median(turns[mode].rate / turns["memory"].rate for turns in rounds)


def _told(turns: list[Turn], share: float) -> str:
    middle = Turn(*(statistics.median(each) for each in zip(*turns, strict=True)))
    used = f"client {middle.client:.1f}, server {middle.server:.1f}, store {middle.store:.1f} µs of CPU a step"
    return f"{middle.rate:8,.0f} steps/s, {share:.2f} of memory; {used}"
