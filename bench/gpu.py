"""`python -m bench.gpu`: the engine and the server on CUDA beside the same on the CPU, by turns in one run.

The engine is timed as the server runs it, copies to and from the device included; the server with its load generators beside it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
from rich.console import Console
from rich.table import Table

from bench import ceilings, messages, report
from bench.models import fill
from bench.processes import Server, statewise
from bench.results import Row
from bench.workloads import COALESCED, FRAMES, ONE, SIXTY_FOUR, Say, Workload, run, words
from statewise.catalog import read_spec
from statewise.engine import Batch, OnnxEngine
from statewise.pool import StatePool
from statewise.runtime import choose_provider
from statewise.sessions import RESERVED_ROWS

HOME = Path("var/bench")
USUAL = 256
BATCHES = (1, 16, 64, 256, 1024)
MODELS = ("lstm-256", "lstm-1024", "gru-256", "elman-256")
SERVED = ("lstm-256", "lstm-1024")
WORKLOADS = (ONE, SIXTY_FOUR, COALESCED, *FRAMES[1:])
TURNS = 3


@dataclass(frozen=True, slots=True)
class Kind:
    """What runs the models."""

    provider: str
    threads: int
    batch: int = USUAL

    @property
    def name(self) -> str:
        """As it stands in the table."""
        if self.provider == "cuda":
            return "CUDA" if self.batch == USUAL else f"CUDA, batches of {self.batch:,}"
        return f"CPU, {self.threads} thread{'s' * (self.threads > 1)}"


@dataclass(frozen=True, slots=True)
class Run:
    """The median of the turns: microseconds of an engine's run."""

    model: str
    batch: int
    kind: str
    us: float


def kinds() -> list[Kind]:
    """Returns one thread, half of the cores, and the device with the usual batches and with larger ones."""
    half = max(1, len(os.sched_getaffinity(0)) // 2)
    return [Kind("cpu", threads) for threads in sorted({1, half})] + [Kind("cuda", 1), Kind("cuda", 1, 1024)]


def engines(repository: Path, seconds: float, among: list[Kind]) -> list[Run]:
    """Times the engine at every model and batch size."""
    runs = []
    for model in MODELS:
        loops = {kind: _loop(repository / model / "1" / "model.onnx", kind) for kind in among if kind.batch == USUAL}
        for batch in BATCHES:
            each = {kind: loop(batch) for kind, loop in loops.items()}
            turns: dict[Kind, list[float]] = {kind: [] for kind in loops}
            for _ in range(TURNS):
                for kind, once in each.items():
                    _, elapsed, count = ceilings.timed(once, seconds / TURNS)
                    turns[kind].append(elapsed / count)
            runs += [Run(model, batch, kind.name, statistics.median(turns[kind]) * 1e6) for kind in loops]
    return runs


def _loop(file: Path, kind: Kind) -> Callable[[int], Callable[[], object]]:
    """Returns what makes, for a batch size, a run of one timestep whose rows take turns."""
    model = onnx.load(file)
    spec = read_spec(model)
    provider = choose_provider(kind.provider)
    engine = OnnxEngine(model, spec, provider, kind.threads)
    pool = StatePool(spec.states, RESERVED_ROWS + 2 * max(BATCHES), provider)

    def of(batch: int) -> Callable[[], object]:
        random, rows = np.random.default_rng(0), RESERVED_ROWS + np.arange(batch)
        inputs = {each.name: random.standard_normal((1, batch, *each.shape)).astype(each.dtype) for each in spec.inputs}
        lengths = np.ones(batch, np.int32)
        turns = [Batch(inputs, lengths, rows + start, rows + batch - start) for start in (0, batch)]

        def once() -> object:
            turns.reverse()
            return engine.run(turns[0], pool)

        return once

    return of


def servers(repository: Path, seconds: float, among: list[Kind], say: Say) -> list[Row]:
    """Measures a server of each kind under every workload, all of them running, one measured at a time."""
    rows: list[Row] = []
    with contextlib.ExitStack() as stack:
        running = {
            kind: stack.enter_context(
                statewise(repository, "--provider", kind.provider, "--threads", str(kind.threads), "--max-batch", str(kind.batch))
            )
            for kind in among
        }
        for model in SERVED:
            for workload in WORKLOADS:
                say(f"served: {model}, {workload.name}")
                for kind, server in running.items():
                    loads = [words(workload, server, model, seconds, _messages(server, model, workload))] * workload.loads
                    rows.append(run(kind.name, model, workload.name, server, loads))
    return rows


def _messages(server: Server, model: str, workload: Workload) -> str:
    if workload.kind != "raw":
        return ""
    return str(messages.prepare(HOME / "messages-gpu.json", server.address, model, workload.each, workload.timesteps))


def tables(runs: list[Run], rows: list[Row]) -> list[Table]:
    """Returns what was measured, what is best on the CPU beside CUDA."""
    names = list(dict.fromkeys(each.kind for each in runs))
    engine = Table("model", "batch", *(f"{name}, µs a run" for name in names), "best CPU ÷ CUDA", title="The engine alone")
    for model in MODELS:
        for batch in BATCHES:
            us = {each.kind: each.us for each in runs if (each.model, each.batch) == (model, batch)}
            others = [value for name, value in us.items() if name != "CUDA"]
            ratio = f"{min(others) / us['CUDA']:.2f}" if "CUDA" in us else ""
            engine.add_row(model, str(batch), *(f"{us[name]:,.0f}" for name in names), ratio)
    served = Table("model", "workload", "engine", "steps/s", "CPU µs a step", "p50 ms", "p99 ms", "steps a batch", title="Served")
    for row in rows:
        figures = [f"{row.steps_per_second:,.0f}", f"{row.cpu_us_per_step:.1f}", f"{row.p50_us / 1e3:.2f}"]
        served.add_row(row.model, row.workload, row.server, *figures, f"{row.p99_us / 1e3:.2f}", f"{row.batch_fill:.1f}")
    return [engine, served]


def device() -> str:
    """Returns the GPU's name, as its driver tells it."""
    asked = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "none"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    parser.add_argument("--no-gpu", action="store_true", help="the CPU alone, to try the benchmark where there is no GPU")
    options = parser.parse_args()
    began = time.monotonic()

    def say(what: str) -> None:
        print(f"[{time.monotonic() - began:4.0f} s] {what}", file=sys.stderr, flush=True)

    HOME.mkdir(parents=True, exist_ok=True)
    repository, among = fill(HOME / "repository"), [kind for kind in kinds() if not (options.no_gpu and kind.provider == "cuda")]
    say("the engine alone")
    runs = engines(repository, options.seconds, among)
    rows = servers(repository, options.seconds, among, say)
    machine = report.machine() | {"gpu": device()}
    told = {"machine": machine, "engine": [asdict(each) for each in runs], "served": [asdict(each) for each in rows]}
    (HOME / "gpu.json").write_text(json.dumps(told, indent=1))
    Console(width=140).print(*tables(runs, rows), f"{machine}; written: {HOME}/gpu.json")


if __name__ == "__main__":
    main()
