"""A server process that ends itself, as a kill would, at a moment that is named.

Nothing in Statewise knows of it: a real engine, a real store and the real servicer are wrapped where a host takes them.
`failing` runs it; at each of the `POINTS` the process is gone before anything else can happen in it.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
from prometheus_client import CollectorRegistry

from statewise.catalog import Loaded, load
from statewise.config import Limits
from statewise.engine import Batch, Engine, Outcome
from statewise.host import Durably, Host
from statewise.metrics import ServerMetrics
from statewise.pool import StatePool
from statewise.repository import Repository
from statewise.rpc.servicer import ModelServicer, SequenceServicer
from statewise.sealing import Sealer
from statewise.stores import Outcome as Stored
from statewise.stores import Put
from statewise.stores.redis import RedisStore
from statewise.v1 import model_pb2_grpc, sequence_pb2_grpc

POINTS = tuple(f"{when} the {what}" for what in ("compute", "commit", "checkpoint", "reply") for when in ("before", "after"))
SESSIONS = ("memory", "checkpoint", "commit")
"""The ids of the sessions, each as durable as it is called; they are the rows of every frame, in this order."""
AT = 5
"""How many timesteps they have consumed when the step comes in which the process ends, or after which a checkpoint."""


@dataclass(frozen=True)
class Point:
    """Where the process ends."""

    name: str

    def before(self, what: str) -> None:
        """Something is about to happen."""
        self._end_at(f"before the {what}")

    def after(self, what: str) -> None:
        """It has happened, and nobody has heard of it."""
        self._end_at(f"after the {what}")

    def _end_at(self, name: str) -> None:
        if self.name == name:
            os.kill(os.getpid(), signal.SIGKILL)


class EndingEngine:
    """Runs for real; the steps of all sessions are in one run."""

    def __init__(self, engine: Engine, point: Point) -> None:
        self._engine = engine
        self._point = point
        self._runs = 0

    def run(self, batch: Batch, pool: StatePool) -> Outcome:
        """See `Engine`."""
        self._runs += 1
        if self._runs <= AT:
            return self._engine.run(batch, pool)
        self._point.before("compute")
        outcome = self._engine.run(batch, pool)
        self._point.after("compute")
        return outcome


class EndingStore(RedisStore):
    """Keeps for real."""

    def __init__(self, address: str, point: Point) -> None:
        super().__init__(address, None, 5.0)
        self._point = point

    async def put_many(self, puts: Sequence[Put]) -> list[Stored]:
        """See `Store`."""
        reached = {put.key for put in puts if put.position > AT}
        for key in reached:
            self._point.before(key)
        outcomes = await super().put_many(puts)
        for key in reached:
            self._point.after(key)
        return outcomes


class EndingContext:
    """A stream's context; `write` returns when gRPC has taken the answer."""

    def __init__(self, context: grpc.aio.ServicerContext, point: Point) -> None:
        self._context = context
        self._point = point

    def __getattr__(self, name: str) -> object:
        return getattr(self._context, name)

    async def write(self, response) -> None:
        """Writes the answer; of the committed session it is the last of its frame."""
        positions = np.frombuffer(response.positions, "<u8")
        rows = np.frombuffer(response.rows, "<u4") if response.rows else np.arange(len(positions))
        reached = (positions[rows == SESSIONS.index("commit")] > AT).any()
        if reached:
            self._point.before("reply")
        await self._context.write(response)
        if reached:
            self._point.after("reply")


class EndingServicer(SequenceServicer):
    """Serves for real."""

    def __init__(self, host: Host, point: Point) -> None:
        super().__init__(host)
        self._point = point

    async def StepFrame(self, request_iterator, context) -> None:
        """Steps many sessions with each message."""
        await super().StepFrame(request_iterator, EndingContext(context, self._point))


def loader(point: Point) -> Callable[..., Loaded]:
    """Returns what loads models whose engine ends the process."""

    def loaded(*arguments: object) -> Loaded:
        made = load(*arguments)
        return dataclasses.replace(made, engine=EndingEngine(made.engine, point))

    return loaded


async def serve(repository: str, store: str, keys: str, name: str) -> None:
    """Serves until the point is reached."""
    point = Point(name)
    durably = Durably(EndingStore(store, point), Sealer.of_files(Path(keys)))
    metrics = ServerMetrics(CollectorRegistry())
    host = Host(Repository(Path(repository)), Limits(), "CPUExecutionProvider", metrics, loader=loader(point), durably=durably)
    server = grpc.aio.server()
    sequence_pb2_grpc.add_SequenceServiceServicer_to_server(EndingServicer(host, point), server)
    model_pb2_grpc.add_ModelServiceServicer_to_server(ModelServicer(host), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await durably.store.start()
    await host.start()
    await server.start()
    sys.stderr.write(f"ready on 127.0.0.1:{port}\n")  # the log is on the other one
    sys.stderr.flush()
    await server.wait_for_termination()


@contextlib.contextmanager
def failing(repository: Path, store: str, keys: Path, point: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Runs such a process; yields where it listens, and the process."""
    assert point in POINTS
    command = [sys.executable, "-m", "builders.failpoints", str(repository), store, str(keys), point]
    paths = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    told = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True, "env": {**os.environ, "PYTHONPATH": paths}}
    with subprocess.Popen(command, **told) as process:
        try:
            said = process.stderr.readline()
            assert said.startswith("ready on "), said + process.stderr.read()
            yield said.split()[-1], process
        finally:
            process.kill()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))
