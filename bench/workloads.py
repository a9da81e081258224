"""The workloads, and the way in which one is measured: server, load generators, and what the server used meanwhile."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bench.processes import Load, Server
from bench.results import Row

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Workload:
    """What is asked of a server.

    Attributes:
        kind: of load, as `bench.load` knows it.
        loads: how many load generators share it.
        each: streams or sessions of each of them.
        timesteps: of a message.
        own_connections: whether each stream has a connection of its own.
        inference: whether the messages are those of the Open Inference Protocol.
    """

    name: str
    kind: str
    each: int
    loads: int = 1
    timesteps: int = 1
    own_connections: bool = False
    inference: bool = False


SINGLES = [Workload(f"{n} streams" if n > 1 else "1 stream", "raw", n) for n in (1, 16, 64, 256)]
ONE, SIXTEEN, SIXTY_FOUR, MANY = SINGLES
CONNECTIONS = Workload("64 connections", "raw", 64, own_connections=True)
INFERENCE = Workload("64 streams, ModelStreamInfer", "raw", 64, inference=True)
CHUNKS = Workload("16 timesteps, 64 streams", "raw", 64, timesteps=16)
FRAMES = [Workload(f"frames of {n}", "frames", n, loads=2) for n in (64, 256, 1024)]
FRAME = FRAMES[1]
COALESCED = Workload("64 sessions, one client", "coalesced", 64)


def words(workload: Workload, server: Server, model: str, seconds: float, messages: str = "") -> list[str]:
    """Returns the arguments of one load generator."""
    common = [workload.kind, "--address", server.address, "--seconds", str(seconds), "--timesteps", str(workload.timesteps)]
    if workload.kind == "raw":
        connections = workload.each if workload.own_connections else 1
        return [*common, "--messages", messages, "--streams", str(workload.each), "--connections", str(connections)]
    return [*common, "--model", model, "--sessions", str(workload.each)]


def run(name: str, model: str, workload: str, server: Server, loads: Sequence[list[str]]) -> Row:
    """Runs load generators at once against a server, and returns what they did and what it used."""
    generators = [Load(each) for each in loads]
    for generator in generators:
        generator.until_ready()
    before, filled = server.cpu_seconds(), _fill(server)
    for generator in generators:
        generator.go()
    reports = [generator.report() for generator in generators]
    cpu, runs = server.cpu_seconds() - before, _fill(server)
    for generator in generators:
        generator.end()
    steps = sum(report["steps"] for report in reports)
    times = np.concatenate([report["microseconds"] for report in reports])
    rate = sum(report["steps"] / report["seconds"] for report in reports)
    fill = (runs[0] - filled[0]) / max(1.0, runs[1] - filled[1])
    return Row(
        name,
        model,
        workload,
        rate,
        cpu / steps * 1e6,
        cpu / len(times) * 1e6,
        float(np.percentile(times, 50)),
        float(np.percentile(times, 99)),
        fill,
    )


def _fill(server: Server) -> tuple[float, float]:
    """Returns how many steps the server's engine has run, and in how many runs, if it tells."""
    if not server.metrics:
        return 0.0, 0.0
    with urllib.request.urlopen(server.metrics) as page:
        text = page.read().decode()
    sums = {part: re.findall(rf"^statewise_batch_steps_{part}{{.*}} (\S+)$", text, re.M) for part in ("sum", "count")}
    return sum(map(float, sums["sum"])), sum(map(float, sums["count"]))
