"""A small network of every kind, and a real server process over a repository of them."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from statewise.spec import Calendar, Vocabulary
from statewise_models.config import CELLS, OUT, Feature, NetworkConfig, Route, Target

KINDS = (*CELLS, "jordan", "feedback")
"""Every cell, and Elman networks whose layers see outputs of the last timestep: the network's alone, or those of several layers."""
LAYERS = (1, 3)
TASKS = ("forecast", "classify", "tokens")


@dataclass(frozen=True)
class Running:
    """A server process and where it listens."""

    process: subprocess.Popen[str]
    address: str
    metrics: str
    health: str = ""
    console: str = ""

    def stop(self) -> None:
        """Tells the server to stop, and checks that it does so in good order."""
        self.process.terminate()
        status = self.process.wait(60)
        self.process.stdout.close()
        assert status == 0, f"the server ended with status {status}"


def config(task: str, cell: str, layers: int) -> NetworkConfig:
    """Returns a small network of a kind; the forecast has all that a front can have."""
    if cell == "jordan":
        return dataclasses.replace(config(task, "elman", layers), feedback=(Route(OUT, 1),))
    if cell == "feedback":
        routes = (Route(1, 1), Route(OUT, 1), *(Route(layer, layer - 1) for layer in range(2, layers + 1)))
        return dataclasses.replace(config(task, "elman", layers), feedback=routes)
    if task == "tokens":
        return NetworkConfig("tokens", cell, 12, layers, vocabulary=Vocabulary(tuple("abcdefgh ")), embedding_size=5)
    if task == "classify":
        features = (Feature("left", 1.0, 2.0), Feature("right", -3.0, 0.5, "mask"))
        return NetworkConfig("classify", cell, 12, layers, features=features, labels=("calm", "busy", "odd"))
    features = (Feature("demand", 30_000.0, 5_000.0), Feature("wind", 4.0, 2.0, "mask"))
    targets = (Target("demand", 3.0, 900.0, difference=True), Target("price", 40.0, 10.0))
    calendar = Calendar("time", 1800.0, (48, 336))
    return NetworkConfig("forecast", cell, 12, layers, features=features, targets=targets, calendar=calendar, harmonics=2)


def name(task: str, cell: str, layers: int) -> str:
    """Returns the name under which a kind is served."""
    return f"{task}-{cell}-{layers}"


def start(repository: Path, *options: str) -> Running:
    """Starts `statewise serve` on free ports and waits for the line that says where it listens."""
    command = [sys.executable, "-m", "statewise.cli", "serve", "--repository", str(repository)]
    command += ["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    line = process.stdout.readline()
    ready = re.search(r"ready on (\S+), metrics on (\S+),", line)
    assert ready, f"the server did not become ready: {line!r}"
    health = re.search(r"health on (\S+),", line)
    console = re.search(r"console on (\S+),", line)
    return Running(process, ready[1], ready[2], health[1] if health else "", console[1] if console else "")
