"""A client that steps sessions of one durability after another, by turns: what one turn leaves behind in caches is every turn's.

    python -m bench.chaos.turns ADDRESS MODEL frames|single SESSIONS ROUNDS SECONDS MODE,… PID,…

Prints, as JSON, for each mode a list of its turns: steps, seconds, and the CPU seconds of this process and of those with the ids.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import numpy as np
import psutil

from statewise.client import AsyncClient, AsyncSession

SETTLING_SECONDS = 0.1
Turn = Callable[[float], Coroutine[Any, Any, int]]
"""Steps for so many seconds, and returns how often."""


def by_frames(client: AsyncClient, sessions: Sequence[AsyncSession], x: np.ndarray[Any, Any]) -> Turn:
    """Returns turns that step the sessions together."""
    frame = client.frame(sessions)

    async def turn(seconds: float) -> int:
        until, steps = time.perf_counter() + seconds, 0
        while time.perf_counter() < until:
            await frame.step(x)
            steps += len(sessions)
        return steps

    return turn


def by_steps(_: AsyncClient, sessions: Sequence[AsyncSession], x: np.ndarray[Any, Any]) -> Turn:
    """Returns turns that step each session for itself."""

    async def turn(seconds: float) -> int:
        until, steps = time.perf_counter() + seconds, itertools.count()

        async def one(session: AsyncSession, x: np.ndarray[Any, Any]) -> None:
            while time.perf_counter() < until:
                await session.step(x)
                next(steps)

        await asyncio.gather(*(one(session, x[row, 0].copy()) for row, session in enumerate(sessions)))
        return next(steps)

    return turn


def cpu_seconds(others: Sequence[psutil.Process]) -> list[float]:
    """Returns what this process and others have used so far."""
    return [time.process_time(), *(sum(each.cpu_times()[:2]) for each in others)]


async def main() -> None:
    address, model, kind, sessions, rounds, seconds, modes, pids = sys.argv[1:]
    others = [psutil.Process(int(pid)) for pid in pids.split(",")]
    kinds = {"frames": by_frames, "single": by_steps}
    async with AsyncClient(address, timeout_seconds=120) as client:
        turns: dict[str, Turn] = {}
        for mode in modes.split(","):
            opened = await asyncio.gather(*(client.open_session(model, durability=mode) for _ in range(int(sessions))))
            features = opened[0].model.inputs[0].shape
            x = np.random.default_rng(0).standard_normal((len(opened), 1, *features)).astype(np.float32)
            turns[mode] = kinds[kind](client, opened, x)
            await turns[mode](float(seconds))
        told: dict[str, list[tuple[float, ...]]] = {mode: [] for mode in turns}
        for number in range(int(rounds)):
            for mode in list(turns)[:: 1 if number % 2 else -1]:
                await turns[mode](SETTLING_SECONDS)
                began, before = time.perf_counter(), cpu_seconds(others)
                steps = await turns[mode](float(seconds))
                elapsed = time.perf_counter() - began
                used = [after - each for after, each in zip(cpu_seconds(others), before, strict=True)]
                told[mode].append((steps, elapsed, *used))
    print(json.dumps(told))


if __name__ == "__main__":
    asyncio.run(main())
