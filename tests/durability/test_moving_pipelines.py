"""Pipelines whose sessions move between servers while steps fail: each output once, in order, and of nothing but what ran."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator

import pytest

from builders.kept import SEALER
from builders.piped import Caller, run, run_blocking
from builders.summing import serving
from builders.wire import Wire, wired
from statewise.client import AsyncClient, Client
from statewise.host import Durably
from statewise.stores.memory import MemoryStore

SERVERS, SESSIONS = 3, 10
STEPS_BETWEEN = 60
MODES = {"checkpoint": {"durability": "checkpoint", "checkpoint_every": 4}, "commit": {"durability": "commit"}}


@contextlib.asynccontextmanager
async def moving(callers: list[Caller]) -> AsyncIterator[Wire]:
    """Leads a wire from one server to the next, which share a store, whenever some steps have been answered since the last time.

    The servers that were left live on.
    """
    durably = Durably(MemoryStore(), SEALER)
    async with contextlib.AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(serving(durably=durably)) for _ in range(SERVERS)]
        wire = await stack.enter_async_context(wired(servers[0].address))

        async def move() -> None:
            for server in itertools.cycle(servers):
                until = sum(caller.ran for caller in callers) + STEPS_BETWEEN
                while sum(caller.ran for caller in callers) < until:  # noqa: ASYNC110 (threads count as well)
                    await asyncio.sleep(0.005)
                wire.home = server.address
                wire.cut()

        moves = asyncio.create_task(move())
        yield wire
        moves.cancel()


@pytest.mark.parametrize("mode", MODES)
async def test_sessions_of_the_asyncio_client_move(mode: str) -> None:
    """Steps started at once, plain and asynchronous iterables, in windows of any size."""
    callers = [Caller(number) for number in range(200, 200 + SESSIONS)]
    async with moving(callers) as wire, AsyncClient(wire.address) as client:
        sessions = [await client.open_session("sum", retained_replies=4, **MODES[mode]) for _ in range(SESSIONS)]
        await asyncio.gather(*map(run, sessions, callers))


@pytest.mark.parametrize("mode", MODES)
async def test_sessions_of_the_blocking_client_move(mode: str) -> None:
    """Iterables in windows of any size."""
    callers = [Caller(number) for number in range(300, 300 + SESSIONS)]
    async with moving(callers) as wire:
        with Client(wire.address) as client:
            opened = [
                asyncio.to_thread(client.open_session, "sum", retained_replies=1 + number % 4, **MODES[mode])
                for number in range(SESSIONS)
            ]
            sessions = await asyncio.gather(*opened)
            await asyncio.gather(*(asyncio.to_thread(run_blocking, *each) for each in zip(sessions, callers, strict=True)))
            await asyncio.to_thread(client.close)
