"""A real redis-server on a port of its own, that can be killed, stopped, started again and given an older file."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.chaos.process import Process

SYNCHRONOUS = ("--appendonly", "yes", "--appendfsync", "always")


@dataclass
class Redis(Process):
    """A redis-server; `options` are its own, such as `SYNCHRONOUS`."""

    folder: Path
    options: tuple[str, ...] = ()
    program: str = "redis-server"
    port: int = 0
    process: subprocess.Popen[str] | None = field(default=None, init=False)

    @property
    def address(self) -> str:
        """What `--store` takes."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Starts it, at the second time on the same port, and returns when it accepts connections."""
        self.port = self.port or free_port()
        told = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", "", *self.options]
        self.process = subprocess.Popen([self.program, *told], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        for line in self.process.stdout:
            if "Ready to accept connections" in line:
                return
        raise RuntimeError(f"{self.program} did not start on port {self.port}")

    def copy_files(self, to: Path) -> None:
        """Keeps a copy of what it has written so far."""
        shutil.copytree(self.folder, to, dirs_exist_ok=True)

    def restore_files(self, copy: Path) -> None:
        """Puts back what `copy_files` kept; while it does not run."""
        shutil.rmtree(self.folder)
        shutil.copytree(copy, self.folder)


@contextmanager
def redis(folder: Path, *options: str, program: str = "redis-server") -> Iterator[Redis]:
    """Runs a redis-server over a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    server = Redis(folder, options, program)
    server.start()
    try:
        yield server
    finally:
        server.end()


def free_port() -> int:
    """Returns a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
