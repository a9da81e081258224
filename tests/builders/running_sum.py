"""A batcher whose state is a running sum, so a leak between sessions shows as a wrong number; and a gRPC server around it."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

import grpc
import numpy as np

from statewise.conversation import Closed, Opened, Reply, Step
from statewise.errors import Reason, error
from statewise.inputs import check_inputs
from statewise.rpc.servicer import SequenceServicer
from statewise.spec import ModelSpec, StateSpec, TensorSpec
from statewise.v1 import sequence_pb2_grpc

X = TensorSpec("x", "float32", (2,), features=("left", "right"))
TIME = TensorSpec("time", "int64", ())
TOKEN = TensorSpec("token", "int32", (), minimum=0, maximum=99)
STATE = (StateSpec("state", "state_next", "float32", (2,)),)
SPECS = {
    "sum": ModelSpec((X,), (TensorSpec("total", "float32", (2,)),), STATE, task="forecast"),
    "clocked": ModelSpec((X, TIME), (TensorSpec("total", "float32", (2,)), TensorSpec("clock", "int64", ())), STATE),
    "tokens": ModelSpec((TOKEN,), (TensorSpec("total", "float32", (1,)),), STATE, task="tokens"),
}
FATAL = -1.0
"""A first value that makes a step fail when it runs, after it was admitted."""
BUG = -2.0
"""A first value that makes the batcher raise what no batcher should."""


@dataclass
class _Session:
    spec: ModelSpec
    total: np.ndarray
    position: int = 0
    tail: int = 0
    queue: list[tuple[Step, int, asyncio.Future[Reply]]] = field(default_factory=list)


class RunningSum:
    """Fulfils `Conversations`. Steps run at once, or, while `hold()` is in force, when `release()` is called."""

    def __init__(self) -> None:
        self.sessions: dict[str, _Session] = {}
        self.ran = 0
        self.admitted = 0
        self.changed = asyncio.Event()
        self._held = False

    def hold(self) -> None:
        """Keeps steps pending from now on."""
        self._held = True

    def release(self) -> None:
        """Runs what is pending, and what comes from now on."""
        self._held = False
        for session in self.sessions.values():
            self._run(session)

    async def until(self, admitted: int) -> None:
        """Returns once that many steps were admitted."""
        while self.admitted < admitted:
            self.changed.clear()
            await self.changed.wait()

    async def given_up(self) -> None:
        """Returns once every pending step was cancelled; only while steps are held."""
        pending = [answer for session in self.sessions.values() for _, _, answer in session.queue]
        await asyncio.wait(pending)

    async def open(self, model: str, version: int, session_id: str, idle_timeout_seconds: float | None) -> Opened:
        """Opens a session of one of `SPECS`."""
        if model not in SPECS:
            raise error(Reason.MODEL_UNKNOWN, f"no model {model!r}")
        name = session_id or secrets.token_hex(4)
        if name in self.sessions:
            raise error(Reason.ALREADY_OPEN, f"session {name!r} is open already")
        self.sessions[name] = _Session(SPECS[model], np.zeros(SPECS[model].outputs[0].shape, np.float32))
        return Opened(name, model, version or 3, SPECS[model], 0, idle_timeout_seconds or 600.0)

    async def close(self, session_id: str) -> Closed:
        """Ends a session."""
        session = self.sessions.pop(session_id, None)
        return Closed(session is not None, session.position if session else 0)

    def submit(self, step: Step) -> asyncio.Future[Reply]:
        """Admits a step by its position, and runs it unless held."""
        session = self._find(step.session_id)
        timesteps = check_inputs(session.spec, step.inputs, 1000)
        first = step.inputs[session.spec.inputs[0].name]
        if np.ravel(first)[0] == BUG:
            raise RuntimeError("a bug of the server's own")
        if step.position is not None and step.position != session.tail:
            reason = Reason.STALE if step.position < session.tail else Reason.AHEAD
            raise error(reason, "out of order", expected=session.tail)
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        session.tail += timesteps
        session.queue.append((step, timesteps, answer))
        self.admitted += 1
        self.changed.set()
        if not self._held:
            self._run(session)
        return answer

    def position(self, session_id: str) -> int:
        """Returns how many timesteps a session has consumed."""
        return self.sessions[session_id].position if session_id in self.sessions else 0

    def only_input(self, session_id: str) -> str | None:
        """Returns the only input of a session's model, if there is one only."""
        session = self.sessions.get(session_id)
        return session.spec.inputs[0].name if session and len(session.spec.inputs) == 1 else None

    def _find(self, session_id: str) -> _Session:
        if session_id not in self.sessions:
            raise error(Reason.UNKNOWN, f"session {session_id!r} is not known to this server")
        return self.sessions[session_id]

    def _run(self, session: _Session) -> None:
        failed = False
        for step, timesteps, answer in session.queue:
            values = np.asarray(step.inputs[session.spec.inputs[0].name], np.float32).reshape(timesteps, -1)
            if failed or values[0, 0] == FATAL or answer.cancelled():
                reason = Reason.BEHIND_FAILED if failed else Reason.NON_FINITE_STATE
                session.tail -= timesteps
                if not answer.done():
                    answer.set_exception(error(reason, "failed"))
                failed = True
                continue
            totals = session.total + np.cumsum(values, axis=0)
            session.total, session.position = totals[-1], session.position + timesteps
            self.ran += 1
            answer.set_result(Reply(session.position, self._outputs(session, step, totals)))
        session.queue.clear()

    def _outputs(self, session: _Session, step: Step, totals: np.ndarray) -> dict[str, np.ndarray]:
        outputs = {"total": totals}
        if len(session.spec.outputs) == 2:
            outputs["clock"] = np.asarray(step.inputs["time"])
        return {name: array[-1:] if step.last_only else array for name, array in outputs.items()}


@dataclass
class Serving:
    """A server on a port of its own."""

    address: str
    batcher: RunningSum
    servicer: SequenceServicer
    server: grpc.aio.Server


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[Serving]:
    """Serves a running sum with the real servicer on the present loop."""
    batcher = RunningSum()
    servicer = SequenceServicer(batcher)
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    sequence_pb2_grpc.add_SequenceServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield Serving(f"127.0.0.1:{port}", batcher, servicer, server)
    finally:
        batcher.release()
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
def serving_apart() -> Iterator[Apart]:
    """Serves a running sum from a thread with a loop of its own."""
    ready: list[Apart] = []
    started = threading.Event()

    async def run() -> None:
        async with serving() as served:
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
