"""What durability costs: steps a second in memory, with checkpoints every 64 timesteps, and committed, in turn on one machine."""

from __future__ import annotations

import shutil
import statistics
from pathlib import Path

from bench.chaos.place import Told
from bench.chaos.processes import keys
from bench.chaos.store import redis
from bench.models import fill
from bench.processes import Load, statewise

MODEL, SECONDS, ROUNDS = "lstm-256", 4.0, 3
LOADS = {
    "frames of 256": ["frames", "--sessions", "256"],
    "single steps, 64 sessions": ["coalesced", "--sessions", "64"],
}
MODES = {
    "memory": [],
    "checkpoint": ["--durability", "checkpoint", "--checkpoint-every", "64"],
    "commit": ["--durability", "commit"],
}
WORTH = 0.9
"""What checkpoints are to leave of the speed in memory."""


def costs(home: Path) -> Told:
    """Measures each mode in turn, several rounds, with a real redis-server."""
    told = Told("cost of durability")
    repository = fill(home / "models")
    rates: dict[tuple[str, str], list[float]] = {}
    for _ in range(ROUNDS):
        for mode, options in MODES.items():
            shutil.rmtree(home / "run", ignore_errors=True)
            with redis(home / "run" / "redis") as store:
                stored = ["--store", store.address, "--seal-keys", str(keys(home / "run" / "keys"))]
                with statewise(repository, *stored, *options) as server:
                    for name, words in LOADS.items():
                        rates.setdefault((name, mode), []).append(_rate(server.address, words))
    for name in LOADS:
        middle = {mode: statistics.median(rates[name, mode]) for mode in MODES}
        for mode, rate in middle.items():
            told.facts[f"{name}, {mode}"] = f"{rate:10,.0f} steps/s, {rate / middle['memory']:.2f} of memory"
        share = middle["checkpoint"] / middle["memory"]
        told.hold(share >= WORTH, f"{name}: checkpoints leave {share:.2f} of the speed in memory, not {WORTH}")
    return told


def _rate(address: str, words: list[str]) -> float:
    load = Load([*words, "--address", address, "--model", MODEL, "--seconds", str(SECONDS)])
    load.until_ready()
    load.go()
    report = load.report()
    return float(report["steps"]) / float(report["seconds"])
