"""A host whose engine sums: the state is a running sum, so a leak between sessions shows as a wrong number; and servers around it.

All but the engine is real: sessions, scheduler, batcher, state pool, servicers.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import numpy as np
from prometheus_client import CollectorRegistry

from statewise.catalog import Loaded
from statewise.config import Limits
from statewise.engine import Batch, Outcome
from statewise.host import Durably, Host
from statewise.inference import open_inference_pb2_grpc
from statewise.metrics import ServerMetrics
from statewise.pool import StatePool
from statewise.repository import MODEL_FILE, Repository
from statewise.rpc.inference.servicer import InferenceServicer
from statewise.rpc.servicer import ModelServicer, SequenceServicer
from statewise.runtime import EngineError
from statewise.spec import ModelSpec, StateSpec, TensorSpec
from statewise.v1 import model_pb2_grpc, sequence_pb2_grpc

X = TensorSpec("x", "float32", (2,), features=("left", "right"))
TIME = TensorSpec("time", "int64", ())
TOKEN = TensorSpec("token", "int32", (), minimum=0, maximum=99)
WIDE = (StateSpec("state", "state_next", "float32", (2,)),)
NARROW = (StateSpec("state", "state_next", "float32", (1,)),)
GIVEN = (
    StateSpec("state", "state_next", "float32", (2,), given="may", features=("left", "right")),
    StateSpec("factor", "factor_next", "float32", (), initial=1.0, given="must", positive=True),
)
SPECS = {
    "sum": ModelSpec((X,), (TensorSpec("total", "float32", (2,)),), WIDE, "lengths", task="forecast"),
    "clocked": ModelSpec((X, TIME), (TensorSpec("total", "float32", (2,)), TensorSpec("clock", "int64", ())), WIDE, "lengths"),
    "given": ModelSpec((X,), (TensorSpec("total", "float32", (2,)),), GIVEN, "lengths"),
    "tokens": ModelSpec((TOKEN,), (TensorSpec("total", "float32", (1,)),), NARROW, "lengths", task="tokens"),
}
VERSIONS = (3, 4, 8)
ALL = 4096
"""Steps of a batch, more than any has."""
FATAL = -1.0
"""A first value that makes a step leave what is not finite."""
BUG = -2.0
"""A first value that makes the engine fail on the whole batch."""


@dataclass
class SummingEngine:
    """Adds what comes to the state, row by row, times a factor where there is one; may be held, and told to fail."""

    spec: ModelSpec
    batches: list[int] = field(default_factory=list)
    lengths: list[list[int]] = field(default_factory=list)
    fails: Callable[[Batch], bool] = lambda _: False
    torn: bool = False
    open: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.open.set()

    def run(self, batch: Batch, pool: StatePool) -> Outcome:
        """See `Engine`."""
        self.open.wait(60)
        assert len(batch.source), "an empty batch reached the engine"
        assert len(set(batch.target.tolist())) == len(batch.target), "two steps write one row"
        assert not set(batch.target.tolist()) & set(batch.source.tolist()), "a row is read and written"
        self.batches.append(len(batch.source))
        self.lengths.append(batch.lengths.tolist())
        first = batch.inputs[self.spec.inputs[0].name].astype(np.float32)
        values = first.reshape(*first.shape[:2], -1)
        for given in (value.numpy() for value in pool.values[1:]):
            given[batch.target] = given[batch.source]
        if len(pool.values) == 2:
            values = values * pool.values[1].numpy()[batch.source][None, :, None]
        states = pool.values[0].numpy()
        mask = np.arange(len(values))[:, None] < batch.lengths[None]
        totals = states[batch.source][None] + np.cumsum(values * mask[..., None], axis=0)
        if self.torn or (values[0, :, 0] == BUG).any() or self.fails(batch):
            states[batch.target] = 1e9  # a run that fails half-way leaves anything in the rows that it was to write
            self.torn = False
            raise EngineError("it cannot be summed")
        states[batch.target] = totals[-1]
        outputs = {"total": totals.astype(np.float32)}
        if len(self.spec.outputs) == 2:
            outputs["clock"] = batch.inputs["time"]
        return Outcome(outputs, values[0, :, 0] != FATAL)


@dataclass
class Summing:
    """A host over summing engines, and the ways to hold it."""

    host: Host
    engines: dict[str, SummingEngine]

    def hold(self) -> None:
        """Keeps runs from ending from now on."""
        for engine in self.engines.values():
            engine.open.clear()

    def release(self) -> None:
        """Lets runs go on."""
        for engine in self.engines.values():
            engine.open.set()

    async def until(self, pending: int) -> None:
        """Returns once that many steps are pending."""
        while len(self.host.sessions.steps) != pending:  # noqa: ASYNC110 (nothing tells of it, and a test may turn the loop)
            await asyncio.sleep(0)

    def sums(self) -> dict[str, int]:
        """Returns what is taken of everything that is counted, for the test that all is given back."""
        pools = {served.pool.number: served.pool.rows.used for served in self.host.models.ready.values()}
        return {"sessions": len(self.host.sessions), "steps": len(self.host.sessions.steps), "rows": sum(pools.values())}


def repository(root: Path, specs: Mapping[str, ModelSpec] = SPECS) -> Repository:
    """Makes a repository of the summing models; its files are read by nobody."""
    for name in specs:
        for version in VERSIONS:
            (root / name / str(version)).mkdir(parents=True)
            (root / name / str(version) / MODEL_FILE).write_bytes(b"sum")
        Repository(root).promote(name, VERSIONS[0])
    return Repository(root)


@contextlib.asynccontextmanager
async def summing(
    *,
    on_loop: int = 0,
    limits: Limits | None = None,
    clock: Callable[[], float] | None = None,
    make: Callable[[ModelSpec], SummingEngine] = SummingEngine,
    alone: bool = False,
    durably: Durably | None = None,
    specs: Mapping[str, ModelSpec] = SPECS,
) -> AsyncIterator[Summing]:
    """Starts a host whose engine sums.

    Batches of up to `on_loop` steps run on the event loop, others in the engine's thread, so they can be held.
    With `alone` nothing looks after it once a second, so that all happens when the test says so.
    """
    engines: dict[str, SummingEngine] = {}

    def load(name: str, version: int, file: Path, largest: int, provider: str, threads: int) -> Loaded:
        engine = engines.setdefault(name, make(specs[name]))
        seconds = {1 << power: 0.0 if 1 << power <= on_loop else 1.0 for power in range(ALL.bit_length())}
        return Loaded(name, version, specs[name], engine, provider, f"digest of {name}", seconds, len(file.read_bytes()))

    with tempfile.TemporaryDirectory() as folder:
        metrics = ServerMetrics(CollectorRegistry())
        chosen = {"clock": clock} if clock else {}
        chosen |= {"durably": durably} if durably else {}
        host = Host(repository(Path(folder), specs), limits or Limits(), "CPUExecutionProvider", metrics, loader=load, **chosen)
        await (host.models.refresh() if alone else host.start())
        made = Summing(host, engines)
        try:
            yield made
        finally:
            made.release()
            await host.stop()


@dataclass
class Serving:
    """A server on a port of its own."""

    address: str
    summing: Summing
    servicer: SequenceServicer
    server: grpc.aio.Server
    inference: InferenceServicer

    @property
    def host(self) -> Host:
        """What is served."""
        return self.summing.host


@contextlib.asynccontextmanager
async def serving(
    *, interceptors: Sequence[grpc.aio.ServerInterceptor] = (), credentials: grpc.ServerCredentials | None = None, **options: object
) -> AsyncIterator[Serving]:
    """Serves a summing host with the real servicers on the present loop."""
    async with summing(**options) as made:
        servicer = SequenceServicer(made.host, snapshots=True)
        server = grpc.aio.server(interceptors=interceptors, options=[("grpc.so_reuseport", 0)])
        sequence_pb2_grpc.add_SequenceServiceServicer_to_server(servicer, server)
        model_pb2_grpc.add_ModelServiceServicer_to_server(ModelServicer(made.host), server)
        inference = InferenceServicer(made.host, model_control=True, clock=options.get("clock") or time.monotonic)
        open_inference_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(inference, server)
        listen = "127.0.0.1:0"
        port = server.add_secure_port(listen, credentials) if credentials else server.add_insecure_port(listen)
        await server.start()
        try:
            yield Serving(f"127.0.0.1:{port}", made, servicer, server, inference)
        finally:
            made.release()
            await server.stop(None)


@dataclass
class Apart:
    """A server in a thread of its own, for clients that block."""

    address: str
    serving: Serving
    loop: asyncio.AbstractEventLoop
    stop: asyncio.Event

    def call(self, function, *arguments):
        """Calls a function, or runs a coroutine function, on the server's loop, and returns what it returns."""

        async def run():
            result = function(*arguments)
            return await result if asyncio.iscoroutine(result) else result

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(30)


@contextlib.contextmanager
def serving_apart(**options: object) -> Iterator[Apart]:
    """Serves a summing host from a thread with a loop of its own."""
    ready: list[Apart] = []
    started = threading.Event()

    async def run() -> None:
        async with serving(**options) as served:
            ready.append(Apart(served.address, served, asyncio.get_running_loop(), asyncio.Event()))
            started.set()
            await ready[0].stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    started.wait(30)
    try:
        yield ready[0]
    finally:
        ready[0].loop.call_soon_threadsafe(ready[0].stop.set)
        thread.join()
