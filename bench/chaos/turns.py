"""A client that steps sessions of one durability after another, by turns: what one turn leaves behind in caches is every turn's.

    python -m bench.chaos.turns ADDRESS MODEL frames|coalesced SESSIONS ROUNDS SECONDS MODE,… PID,…

Prints, as JSON, for each mode a list of its turns: steps, seconds, and the CPU seconds of this process and of those with the ids.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence

import psutil

from bench.load import LOOPS, Count, Loop, opened
from statewise.client import AsyncClient

SETTLING_SECONDS = 0.1


async def turn(loops: Sequence[Loop], seconds: float) -> int:
    """Runs loops side by side for so many seconds; returns the steps made."""
    counts, until = [Count() for _ in loops], time.perf_counter() + seconds
    await asyncio.gather(*(loop(count, lambda: time.perf_counter() < until) for loop, count in zip(loops, counts, strict=True)))
    return sum(count.steps for count in counts)


def cpu_seconds(others: Sequence[psutil.Process]) -> list[float]:
    """Returns what this process and others have used so far."""
    return [time.process_time(), *(sum(each.cpu_times()[:2]) for each in others)]


async def main() -> None:
    address, model, kind, sessions, rounds, seconds, modes, pids = sys.argv[1:]
    others = [psutil.Process(int(pid)) for pid in pids.split(",")]
    async with AsyncClient(address, timeout_seconds=120) as client:
        loops: dict[str, list[Loop]] = {}
        for mode in modes.split(","):
            loops[mode] = LOOPS[kind](client, await opened(client, model, int(sessions), mode), 1)
            await turn(loops[mode], float(seconds))
        told: dict[str, list[tuple[float, ...]]] = {mode: [] for mode in loops}
        for number in range(int(rounds)):
            for mode in list(loops)[:: 1 if number % 2 else -1]:
                await turn(loops[mode], SETTLING_SECONDS)
                began, before = time.perf_counter(), cpu_seconds(others)
                steps = await turn(loops[mode], float(seconds))
                elapsed = time.perf_counter() - began
                used = [after - each for after, each in zip(cpu_seconds(others), before, strict=True)]
                told[mode].append((steps, elapsed, *used))
    print(json.dumps(told))


if __name__ == "__main__":
    asyncio.run(main())
