"""Pipelines of both clients, while steps fail and connections break: what ran is what the caller was told of, in its order."""

from __future__ import annotations

import asyncio

import pytest

from builders.piped import Caller, run, run_blocking
from builders.summing import Serving
from builders.wire import Wire, wired
from statewise.client import AsyncClient, Client

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
