"""What open sessions cost: memory for each of 100,000, and the time of a frame beside 200,000 idle ones."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np

from bench.processes import Server, statewise
from bench.results import Results
from bench.workloads import FRAME, Say, run, words
from statewise.client import AsyncClient
from statewise.client.asynchronous import AsyncSession

MODEL = "lstm-256"
FEW, MANY, MOST = 1_000, 100_000, 200_000
AT_ONCE = 64
STEPPED = 1_024


def measure(repository: Path, results: Results, seconds: float, say: Say) -> None:
    """Opens sessions by and by, all with one retained reply and each stepped once, and measures on the way."""
    figures = results.figures
    with statewise(repository, "--max-sessions", str(MOST + 1_000), "--idle-timeout-seconds", "86400") as server:
        empty = server.rss_bytes()
        asyncio.run(_open(server, FEW))
        few = _frames(server, seconds)
        opened = FEW
        for count in (MANY, MOST):
            say(f"{count:,} idle sessions")
            asyncio.run(_open(server, count - opened))
            opened = count
            if count == MANY:
                figures["rss bytes of the empty server"] = empty
                figures["rss bytes at 100,000 sessions"] = server.rss_bytes()
                figures["rss bytes a session"] = (server.rss_bytes() - empty) / count
        figures["frames of 256 beside 1,000: CPU us a step"] = few
        figures["frames of 256 beside 200,000: CPU us a step"] = _frames(server, seconds)


def _frames(server: Server, seconds: float) -> float:
    return min(
        run("statewise", MODEL, "idle", server, [words(FRAME, server, MODEL, seconds)] * FRAME.loads).cpu_us_per_step
        for _ in range(3)
    )


async def _open(server: Server, count: int) -> None:
    """Opens sessions and steps each of them once, so that its row of state and its reply are in memory."""
    async with AsyncClient(server.address, timeout_seconds=120) as client:
        left = count
        while left:
            size = min(STEPPED, left)
            left -= size
            sessions = await _some(client, size)
            x = np.ones((size, *sessions[0].model.inputs[0].shape), np.float32)
            await client.frame(sessions).step(x)


async def _some(client: AsyncClient, count: int) -> list[AsyncSession]:
    room = asyncio.Semaphore(AT_ONCE)

    async def one() -> AsyncSession:
        async with room:
            return await client.open_session(MODEL, retained_replies=1)

    return await asyncio.gather(*(one() for _ in range(count)))
