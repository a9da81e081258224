"""Processes that are measured: started, asked for their CPU seconds and memory, and ended by their id."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import psutil

from statewise.cli import GRPC_EXPERIMENTS

READY_SECONDS = 120


@dataclass
class Server:
    """A server process, with its children.

    Attributes:
        address: where it takes steps.
        metrics: the URL of its metrics, if it has any.
    """

    process: subprocess.Popen[str]
    address: str
    metrics: str = ""

    @classmethod
    def start(cls, command: Sequence[str], environment: Mapping[str, str] | None = None) -> Self:
        """Starts a server that says `ready on HOST:PORT` on its standard output, and `metrics on URL` if it has some."""
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
        assert process.stdout
        line = process.stdout.readline()
        ready = re.search(r"ready on ([\d.]+:\d+)(?:, metrics on (\S+),)?", line)
        if not ready:
            process.kill()
            raise RuntimeError(f"{' '.join(command)} did not become ready: {line!r}")
        return cls(process, ready[1], ready[2] or "")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def cpu_seconds(self) -> float:
        """Returns what the process and its children have used so far, in user and kernel mode."""
        times = [each.cpu_times() for each in self._family()]
        return sum(each.user + each.system for each in times)

    def rss_bytes(self) -> int:
        """Returns the resident memory of the process and its children."""
        return sum(each.memory_info().rss for each in self._family())

    def _family(self) -> list[psutil.Process]:
        root = psutil.Process(self.process.pid)
        return [root, *root.children(recursive=True)]


@dataclass
class Load:
    """A load generator: a process of its own that warms up, says so, waits for the word, and reports."""

    words: Sequence[str]
    module: str = "bench.load"
    process: subprocess.Popen[str] = field(init=False)

    def __post_init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", self.module, *self.words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def until_ready(self, word: str = "ready") -> None:
        """Returns when it is warm, or says another word."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        if line != f"{word}\n":
            raise RuntimeError(f"the load generator {' '.join(self.words)} did not become {word}")

    def go(self) -> None:
        """Lets it run."""
        assert self.process.stdin
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def report(self) -> dict[str, Any]:
        """Returns what it counted, when it has done its work; what it opened for that is still open, until `end`."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the load generator {' '.join(self.words)} failed")
        told: dict[str, Any] = json.loads(line)
        return told

    def end(self) -> None:
        """Lets it close what it opened, and end."""
        self.process.communicate()
        if self.process.returncode:
            raise RuntimeError(f"the load generator {' '.join(self.words)} failed at its end")


def statewise(repository: Path, *options: str) -> Server:
    """Starts `statewise serve` on free ports."""
    ports = ["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"]
    return Server.start([sys.executable, "-m", "statewise.cli", "serve", "--repository", str(repository), *ports, *options])


def echo(response_bytes: int) -> Server:
    """Starts the bare echo, which polls as the server does."""
    command = [sys.executable, "-m", "bench.echo", str(response_bytes)]
    return Server.start(command, {**os.environ, "GRPC_EXPERIMENTS": GRPC_EXPERIMENTS})
