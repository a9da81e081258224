"""`make soak`: what overload does to a server. Prints how much it serves alone, and under slow readers and a flood, and its memory.

The model is heavy and its messages are light, so that what is overloaded is the engine. Rated is what frames of as many sessions
as a batch get served: alone, and beside a process that keeps a core as busy as the flood's generator does, which on a machine of
two cores takes its part of what the server could have. Then 300 streams write and never read, until nothing more is taken from
them, and a flood sends ten times the rated steps; the goodput is what the server commits in the flood.
"""

from __future__ import annotations

import argparse
import re
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import torch

from bench.ceilings import busy
from bench.offenders import WRITTEN
from bench.processes import Load, Server, statewise
from bench.report import machine
from statewise_models.config import Feature, NetworkConfig, Target
from statewise_models.export import export
from statewise_models.network import Network

HOME = Path("var/soak")
MODEL, HIDDEN, TIMESTEPS = "heavy", 1024, 32
BATCH, PENDING, SLOW, FLOODING = 64, 1024, 300, 2000
TIMES_OVER = 10


def fill() -> Path:
    """Exports the model once, and returns the repository."""
    root = HOME / "repository"
    if not (root / MODEL).exists():
        torch.manual_seed(0)
        config = NetworkConfig("forecast", "lstm", HIDDEN, features=(Feature("x"),), targets=(Target("y", 0.0, 1.0),))
        export(Network(config).eval(), repository=root, model=MODEL)
    return root


def counted(server: Server, name: str) -> int:
    """Returns the sum of a server's metric."""
    with urllib.request.urlopen(server.metrics, timeout=60) as page:
        return round(sum(map(float, re.findall(rf"^statewise_{name}{{.*}} (\S+)$", page.read().decode(), re.MULTILINE))))


def served(server: Server) -> int:
    """Returns how many timesteps the server has committed."""
    return counted(server, "timesteps_total")


def taken(server: Server) -> int:
    """Returns how many steps the server has answered or refused."""
    return counted(server, "steps_total")


class Memory:
    """The most resident memory of a server while it is watched."""

    def __init__(self, server: Server) -> None:
        self.most_bytes = 0
        self._server = server
        self._over = threading.Event()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Looks five times a second."""
        watch = threading.Thread(target=self._watch)
        watch.start()
        try:
            yield
        finally:
            self._over.set()
            watch.join()

    def _watch(self) -> None:
        while not self._over.wait(0.2):
            self.most_bytes = max(self.most_bytes, self._server.rss_bytes())


def rate(server: Server, loads: list[Load], seconds: float) -> float:
    """Returns the timesteps a second that a server commits while loads run, once they have run for a fifth of the time."""
    for load in loads:
        load.until_ready()
    for load in loads:
        load.go()
    time.sleep(seconds / 5)
    began, before = time.perf_counter(), served(server)
    time.sleep(seconds * 3 / 5)
    return (served(server) - before) / (time.perf_counter() - began)


def rated(server: Server, told: list[str], seconds: float) -> float:
    """Returns the timesteps a second that frames of a batch's size are served."""
    load = Load(["frames", *told, "--sessions", str(BATCH)])
    found = rate(server, [load], seconds)
    load.report()
    load.end()
    return found


def cpu_seconds(server: Server, *loads: Load) -> tuple[float, float]:
    """Returns the processor's time that the server has used so far, and the load generators together."""
    times = [psutil.Process(load.process.pid).cpu_times() for load in loads]
    return server.cpu_seconds(), sum(each.user + each.system for each in times)


def _slow(told: list[str]) -> Load:
    """Returns the slow readers, once they have written more than is taken from them, and nothing more is taken."""
    slow = Load(["slow", *told, "--sessions", str(SLOW)], "bench.offenders")
    slow.until_ready()
    slow.go()
    slow.until_ready("written")
    return slow


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each of the two phases")
    options = parser.parse_args()
    limits = ["--max-batch", str(BATCH), "--max-pending-steps", str(PENDING)]
    with statewise(fill(), *limits) as server:
        told = ["--address", server.address, "--model", MODEL, "--timesteps", str(TIMESTEPS), "--seconds", str(options.seconds)]
        alone = rated(server, told, options.seconds)
        with busy():
            beside = rated(server, told, options.seconds)
        idle_bytes, memory = server.rss_bytes(), Memory(server)
        with memory.watched():
            slow = _slow(told)
            of_slow = taken(server)
            flooding = ["--sessions", str(FLOODING), "--rate", str(asked := TIMES_OVER * alone / TIMESTEPS)]
            flooding_load = Load(["flood", *told, *flooding], "bench.offenders")
            used, began = cpu_seconds(server, slow, flooding_load), time.perf_counter()
            goodput = rate(server, [flooding_load], options.seconds)
            wall = time.perf_counter() - began
            cores = [(after - before) / wall for before, after in zip(used, cpu_seconds(server, slow, flooding_load), strict=True)]
            flood = flooding_load.report()
            flooding_load.end()
            slow.go()
            slow.report()
            slow.end()
        recovered = rated(server, told, options.seconds)
    print(", ".join(f"{key} {value}" for key, value in machine().items()))
    print(f"rated, alone              {alone:10,.0f} timesteps/s")
    print(f"rated, beside a busy core {beside:10,.0f} timesteps/s")
    print(f"goodput under overload    {goodput:10,.0f} timesteps/s, {goodput / beside:.0%} of that, {goodput / alone:.0%} of alone")
    print(f"rated again afterwards    {recovered:10,.0f} timesteps/s, {recovered / alone:.0%} of alone")
    print(f"flood                     {flood['sent'] / flood['seconds']:10,.0f} steps/s sent, {asked:,.0f} asked for")
    print(f"  answered, refused       {flood.get('answered', 0):10,} and {flood.get('refused', 0):,}")
    print(f"  refused without a wait  {flood.get('without_a_time_to_wait', 0):10,}; failed otherwise {flood.get('failed', 0):,}")
    print(f"processor                 {cores[0]:10.2f} cores in the server, {cores[1]:.2f} in the load generators")
    print(f"slow readers              {SLOW:10,} streams that wrote {SLOW * WRITTEN:,} steps, of which {of_slow:,} were taken on")
    print(f"resident memory           {idle_bytes / 2**20:10,.0f} MiB before, at most {memory.most_bytes / 2**20:,.0f} MiB")


if __name__ == "__main__":
    main()
