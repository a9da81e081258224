"""Pipelines of both clients, while steps fail and connections break: what ran is what the caller was told of, in its order."""

from __future__ import annotations

import asyncio

import pytest

from builders.piped import Caller, run, run_blocking
from builders.summing import Serving
from builders.wire import Wire, wired
from statewise.client import AsyncClient, Client
from statewise.client.exchange import Asked, Exchange, advance
from statewise.errors import OutOfOrder
from statewise.v1 import sequence_pb2, tensor_pb2

SESSIONS = 12
CUTS, BETWEEN_SECONDS = 8, 0.05


async def cut_now_and_then(wire: Wire) -> None:
    """Breaks all connections, a few times."""
    for _ in range(CUTS):
        await asyncio.sleep(BETWEEN_SECONDS)
        wire.cut()


@pytest.fixture(params=[False, True], ids=["", "cut"])
def cuts(request: pytest.FixtureRequest) -> bool:
    """Whether connections break meanwhile."""
    return bool(request.param)


async def test_many_sessions_of_the_asyncio_client(served: Serving, cuts: bool) -> None:
    """Steps started at once, plain and asynchronous iterables, in windows of any size."""
    async with wired(served.address) as wire, AsyncClient(wire.address) as client:
        sessions = [await client.open_session("sum", retained_replies=4) for _ in range(SESSIONS)]
        callers = [Caller(number) for number in range(SESSIONS)]
        cutting = asyncio.create_task(cut_now_and_then(wire)) if cuts else None
        await asyncio.gather(*map(run, sessions, callers))
        if cutting:
            await cutting


async def test_many_threads_of_the_blocking_client(served: Serving, cuts: bool) -> None:
    """Iterables in windows of any size."""
    async with wired(served.address) as wire:
        with Client(wire.address) as client:
            sessions = [
                await asyncio.to_thread(client.open_session, "sum", retained_replies=1 + number % 4) for number in range(SESSIONS)
            ]
            callers = [Caller(100 + number) for number in range(SESSIONS)]
            cutting = asyncio.create_task(cut_now_and_then(wire)) if cuts else None
            await asyncio.gather(*(asyncio.to_thread(run_blocking, *each) for each in zip(sessions, callers, strict=True)))
            if cutting:
                await cutting
            await asyncio.to_thread(client.close)


def test_who_comes_behind_a_failed_step_is_told_where_that_was() -> None:
    """Also while the step before it is under way, and when that one fails as well, or the next try does."""
    opened = sequence_pb2.OpenSessionResponse()
    opened.model.spec.inputs.add(name="x", data_type=tensor_pb2.DATA_TYPE_FLOAT32, shape=[1])
    exchange = Exchange(opened)
    first, second = ask(exchange), ask(exchange)
    exchange.take_back(second.position, second.timesteps)
    assert expected(exchange) == 1
    advance([exchange], [first.position + 1], False, [])
    assert expected(exchange) == 1
    again = ask(exchange)
    exchange.take_back(again.position, again.timesteps)
    assert expected(exchange) == 1
    advance([exchange], [ask(exchange).position + 1], False, [])
    earlier, later = ask(exchange), ask(exchange)
    exchange.take_back(later.position, later.timesteps)
    assert expected(exchange) == 3
    exchange.take_back(earlier.position, earlier.timesteps)
    assert expected(exchange) == 2


def ask(exchange: Exchange) -> Asked:
    """Asks for a step, knowing of all failures."""
    return exchange.ask([1.0], {}, False, None, exchange.failures)


def expected(exchange: Exchange) -> int:
    """Returns the position that is told to who does not know of the last failure."""
    with pytest.raises(OutOfOrder) as failed:
        exchange.ask([1.0], {}, False, None, exchange.failures - 1)
    return int(failed.value.metadata["expected"])
