"""Load generators, each a process of its own: warm up, say `ready`, wait for a line, run for some seconds, report as JSON.

What they opened stays open until their standard input ends: to close a thousand sessions is not to be measured with their steps.

`raw` sends prepared bytes over streams in closed loops, and knows nothing of any protocol, so that it drives Statewise, the bare
echo and Triton alike. `frames` and `coalesced` use Statewise's own client, as its users do.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import functools
import json
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from statewise.client import AsyncClient, AsyncSession

WARM_UP_SECONDS = 0.7


class Count:
    """What a loop has done since `reset`: steps, and the time that each message took.

    Attributes:
        answered: set once there has been an answer: a busy server accepts streams one by one, and hundreds take it seconds.
    """

    def __init__(self) -> None:
        self.answered = asyncio.Event()
        self.reset()

    def reset(self) -> None:
        """Forgets the warm-up."""
        self.steps = 0
        self.microseconds: list[int] = []

    def add(self, steps: int, began: float) -> None:
        """Counts a message that has been answered."""
        self.steps += steps
        self.answered.set()
        self.microseconds.append(round((time.perf_counter() - began) * 1e6))


Loop = Callable[[Count, Callable[[], bool]], Awaitable[None]]


async def measured(loops: list[Loop], seconds: float) -> None:
    """Runs closed loops: warm up until each has been answered, then on the word for some seconds; prints the report."""
    counts = [Count() for _ in loops]
    began, until = 0.0, float("inf")

    async def wait_for_the_word() -> None:
        nonlocal began, until
        await asyncio.sleep(WARM_UP_SECONDS)
        await asyncio.gather(*(count.answered.wait() for count in counts))
        print("ready", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        for count in counts:
            count.reset()
        began = time.perf_counter()
        until = began + seconds

    work = [loop(count, lambda: time.perf_counter() < until) for loop, count in zip(loops, counts, strict=True)]
    await asyncio.gather(wait_for_the_word(), *work)
    told = {"steps": sum(count.steps for count in counts), "seconds": time.perf_counter() - began}
    print(json.dumps(told | {"microseconds": [each for count in counts for each in count.microseconds]}), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


async def raw(options: argparse.Namespace) -> None:
    """Streams of prepared bytes."""
    told = options.prepared
    streams = told["streams"][options.skip : options.skip + options.streams]
    channels = [
        grpc.aio.insecure_channel(options.address, options=[("grpc.use_local_subchannel_pool", 1)])
        for _ in range(min(options.connections, len(streams)))
    ]
    failure, tag = base64.b64decode(told["failure"]), told["position_tag"]

    def loop(number: int, stream: dict[str, Any]) -> Loop:
        method: Any = channels[number % len(channels)].stream_stream(told["method"])
        request = base64.b64decode(stream["request"])
        first = base64.b64decode(stream["first"]) if stream.get("first") else None

        async def run(count: Count, go_on: Callable[[], bool]) -> None:
            call = method()
            position = 0
            message = first or request + position_field(tag, position)
            while go_on():
                began = time.perf_counter()
                await call.write(message)
                response = await call.read()
                if response is grpc.aio.EOF or failure in response[: told["failure_within"]]:
                    raise SystemExit(f"a step failed: {response!r}")
                count.add(told["timesteps"], began)
                position += told["timesteps"]
                message = request + position_field(tag, position)
            await call.done_writing()
            await call.read()

        return run

    await measured([loop(number, stream) for number, stream in enumerate(streams)], options.seconds)
    for channel in channels:
        await channel.close()


def position_field(tag: int | None, position: int) -> bytes:
    """Returns a protobuf varint field, to be put behind a message; nothing without a tag."""
    if tag is None:
        return b""
    raw = bytearray([tag])
    while position > 0x7F:
        raw.append(position & 0x7F | 0x80)
        position >>= 7
    raw.append(position)
    return bytes(raw)


async def opened(client: AsyncClient, model: str, sessions: int, durability: str = "") -> list[AsyncSession]:
    """Opens so many sessions of a model."""
    return await asyncio.gather(*(client.open_session(model, durability=durability) for _ in range(sessions)))


def repeated(step: Callable[[], Awaitable[Any]], steps: int) -> Loop:
    """Returns the loop that does the same again and again; it counts as so many steps."""

    async def run(count: Count, go_on: Callable[[], bool]) -> None:
        while go_on():
            began = time.perf_counter()
            await step()
            count.add(steps, began)

    return run


def frames(client: AsyncClient, sessions: Sequence[AsyncSession], timesteps: int) -> list[Loop]:
    """Returns the one loop that steps sessions together."""
    frame, shape = client.frame(sessions), sessions[0].model.inputs[0].shape
    x = np.random.default_rng(0).standard_normal((len(sessions), timesteps, *shape)).astype(np.float32)
    return [repeated(functools.partial(frame.step, x), len(sessions) * timesteps)]


def coalesced(_: AsyncClient, sessions: Sequence[AsyncSession], __: int) -> list[Loop]:
    """Returns loops that step each session for itself, one timestep at a time."""
    x = np.random.default_rng(0).standard_normal(sessions[0].model.inputs[0].shape).astype(np.float32)
    return [repeated(functools.partial(session.step, x), 1) for session in sessions]


LOOPS = {"frames": frames, "coalesced": coalesced}
"""The loops of sessions of one client, by kind."""


async def of_one_client(options: argparse.Namespace) -> None:
    """Sessions of one client."""
    async with AsyncClient(options.address, timeout_seconds=120) as client:
        sessions = await opened(client, options.model, options.sessions)
        await measured(LOOPS[options.kind](client, sessions, options.timesteps), options.seconds)
        await asyncio.gather(*(session.close() for session in sessions))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["raw", *LOOPS])
    parser.add_argument("--address", required=True)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--messages")
    parser.add_argument("--streams", type=int, default=1)
    parser.add_argument("--skip", type=int, default=0)
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--model")
    parser.add_argument("--sessions", type=int, default=1)
    parser.add_argument("--timesteps", type=int, default=1)
    options = parser.parse_args()
    options.prepared = json.loads(Path(options.messages).read_text()) if options.messages else {}
    asyncio.run(raw(options) if options.kind == "raw" else of_one_client(options))


if __name__ == "__main__":
    main()
