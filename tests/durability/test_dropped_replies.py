"""The connection breaks after a step has been committed and before its answer is there: the retry returns the identical bytes."""

from __future__ import annotations

import asyncio
import contextlib
from typing import NamedTuple

import pytest

from builders.kept import SEALER
from builders.summing import Serving, serving
from builders.wire import Wire, wired
from statewise.client import AsyncClient, Client
from statewise.errors import Reason, SessionGone
from statewise.host import Durably
from statewise.stores.memory import MemoryStore
from statewise.v1 import sequence_pb2

MODES = {"memory": {}, "checkpoint": {"durability": "checkpoint", "checkpoint_every": 4}, "commit": {"durability": "commit"}}


class Asynchronous:
    """Asks through an `AsyncClient`."""

    def __init__(self, address):
        self._client = AsyncClient(address)

    async def open(self, **mode):
        """Opens a session."""
        self._session = await self._client.open_session("sum", **mode)

    def step(self, x):
        """Asks for a step."""
        return asyncio.create_task(self._session.step(x))

    async def close(self):
        """Ends the connection."""
        await self._client.close()


class Blocking:
    """Asks through a `Client`, from other threads."""

    def __init__(self, address):
        self._client = Client(address)

    async def open(self, **mode):
        """Opens a session."""
        self._session = await asyncio.to_thread(self._client.open_session, "sum", **mode)

    def step(self, x):
        """Asks for a step."""
        return asyncio.create_task(asyncio.to_thread(self._session.step, x))

    async def close(self):
        """Ends the connection."""
        await asyncio.to_thread(self._client.close)


@contextlib.asynccontextmanager
async def asking(kind, address, mode):
    """Opens a session whose stream is up: it has made its first step."""
    asker = kind(address)
    await asker.open(**MODES[mode])
    assert (await asker.step([1, 1])).tolist() == [1, 1]
    yield asker
    await asker.close()


async def dropped(wire, server, asker):
    """Has a step committed and its answer dropped; returns the step that waits, and the answer."""
    wire.keeps = True
    step = asker.step([2, 1])
    answer = await wire.dropped()
    assert server.host.sessions.position[0] == 2, "it is committed"
    assert not step.done()
    return step, answer


def told(message):
    """Returns the bytes of where an answer says that the session stands, and of its outputs.

    The rest tells which message and which of its rows is answered, and how far the store is by now.
    """
    response = sequence_pb2.StepFrameResponse.FromString(message)
    assert len(response.positions) == 8, response
    return response.positions + b"".join(tensor.SerializeToString(deterministic=True) for tensor in response.outputs)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", [Asynchronous, Blocking])
async def test_where_the_server_lives_the_retry_returns_the_identical_bytes(kind, mode):
    """However durable the session is: the client comes back by itself, is told what it was not given, and nothing runs again."""
    durably = Durably(MemoryStore(), SEALER)
    async with serving(durably=durably) as server, wired(server.address) as wire, asking(kind, wire.address, mode) as asker:
        step, lost = await dropped(wire, server, asker)
        wire.cut()
        assert (await step).tolist() == [3, 2]
        assert told(wire.connections[-1].given[-1]) == told(lost)
        assert server.summing.engines["sum"].batches == [1, 1]
        assert (await asker.step([3, 1])).tolist() == [6, 3]


@contextlib.asynccontextmanager
async def fallen_over(kind, mode):
    """Ends a server, as a kill would, when the answer to a step was dropped, and leads the wire to another; yields what is left."""
    durably = Durably(MemoryStore(), SEALER)
    async with (
        serving(durably=durably) as first,
        serving(durably=durably) as second,
        wired(first.address) as wire,
        asking(kind, wire.address, mode) as asker,
    ):
        step, lost = await dropped(wire, first, asker)
        wire.home = second.address
        wire.cut()
        await first.server.stop(None)
        await first.host.stop()
        yield Left(first, second, wire, asker, step, lost)


class Left(NamedTuple):
    """The server that is gone and the other one, the wire between them and who asks, the step that waits, and its answer."""

    gone: Serving
    server: Serving
    wire: Wire
    asker: Asynchronous | Blocking
    step: asyncio.Task
    lost: bytes


@pytest.mark.parametrize("kind", [Asynchronous, Blocking])
async def test_of_a_committed_session_another_server_returns_the_identical_bytes(kind):
    """The server is gone with the connection; the reply is in the store, and is not computed again."""
    async with fallen_over(kind, "commit") as left:
        assert (await left.step).tolist() == [3, 2]
        assert told(left.wire.connections[-1].given[-1]) == told(left.lost)
        assert left.server.summing.engines["sum"].batches == []
        assert (await left.asker.step([3, 1])).tolist() == [6, 3]


@pytest.mark.parametrize("kind", [Asynchronous, Blocking])
async def test_from_a_checkpoint_the_step_runs_again_and_answers_what_it_would_have(kind):
    """The reply went with the server, and so did the step: the client sends what the store has not, and then the step itself."""
    async with fallen_over(kind, "checkpoint") as left:
        assert (await left.step).tolist() == [3, 2]
        assert sum(left.server.summing.engines["sum"].batches) == 2 - int(left.gone.host.sessions.durable.stored[0])
        assert (await left.asker.step([3, 1])).tolist() == [6, 3]


@pytest.mark.parametrize("kind", [Asynchronous, Blocking])
async def test_of_a_session_in_memory_the_caller_is_told_that_it_is_lost(kind):
    """It goes with its server, and is not begun anew."""
    async with fallen_over(kind, "memory") as left:
        with pytest.raises(SessionGone) as lost:
            await left.step
        assert lost.value.reason is Reason.LOST
        engines = left.server.summing.engines
        assert engines.get("sum") is None or engines["sum"].batches == []
