"""What durability costs: sessions in memory, with checkpoints every 64 timesteps, and committed, by turns on one server."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from bench.chaos.place import Told
from bench.chaos.processes import keys
from bench.chaos.store import redis
from bench.models import fill
from bench.processes import statewise

MODEL, EVERY = "lstm-256", 64
SECONDS, ROUNDS = 0.4, 60
LOADS = {"frames of 256": ("frames", 256), "single steps, 64 sessions": ("coalesced", 64)}
MODES = ("memory", "checkpoint", "commit")
WORTH = 0.9
"""What checkpoints are to leave of the speed in memory."""


class Turn(NamedTuple):
    """What was done in one turn, and the CPU seconds of everybody who worked for it."""

    steps: int
    seconds: float
    client: float
    server: float
    store: float


def costs(home: Path) -> Told:
    """Measures with a real redis-server; the share of a mode is the middle one of its shares of the same round's rate in memory."""
    told = Told("cost of durability")
    shutil.rmtree(home / "run", ignore_errors=True)
    stored = ["--seal-keys", str(keys(home / "run" / "keys")), "--checkpoint-every", str(EVERY)]
    with redis(home / "run" / "redis") as store, statewise(fill(home / "models"), "--store", store.address, *stored) as server:
        assert store.process
        pids = f"{server.process.pid},{store.process.pid}"
        for name, (kind, sessions) in LOADS.items():
            words = [server.address, MODEL, kind, str(sessions), str(ROUNDS), str(SECONDS), ",".join(MODES), pids]
            out = subprocess.run([sys.executable, "-m", "bench.chaos.turns", *words], check=True, stdout=subprocess.PIPE).stdout
            turns = {mode: [Turn(*each) for each in row] for mode, row in json.loads(out).items()}
            shares = {mode: _share(turns[mode], turns["memory"]) for mode in MODES}
            told.facts |= {f"{name}, {mode}": _told(turns[mode], shares[mode]) for mode in MODES}
            left = shares["checkpoint"]
            told.hold(left >= WORTH, f"{name}: checkpoints leave {left:.2f} of the speed in memory, not {WORTH}")
    return told


def _share(turns: list[Turn], in_memory: list[Turn]) -> float:
    pairs = zip(turns, in_memory, strict=True)
    return statistics.median(turn.steps / turn.seconds / (other.steps / other.seconds) for turn, other in pairs)


def _told(turns: list[Turn], share: float) -> str:
    rate = statistics.median(turn.steps / turn.seconds for turn in turns)
    whole = Turn(*(sum(each) for each in zip(*turns, strict=True)))
    client, server, store = (seconds / whole.steps * 1e6 for seconds in (whole.client, whole.server, whole.store))
    used = f"client {client:.1f}, server {server:.1f}, store {store:.1f} µs of CPU a step"
    return f"{rate:8,.0f} steps/s, {share:.2f} of memory; {used}"
