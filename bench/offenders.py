"""Clients that behave badly, each kind a process of its own: `slow` streams write and never read, a `flood` sends too much.

Both say `ready`, wait for a line, go on, and report as JSON. A flood is an open loop: it sends at its rate,
whatever comes back, and counts what was answered, refused, and refused without a time to wait.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from typing import Any

import grpc
import numpy as np

from statewise.client import AsyncClient
from statewise.client.failures import from_status
from statewise.errors import Overloaded
from statewise.tensors import encode
from statewise.v1 import sequence_pb2, sequence_pb2_grpc

TURNS_A_SECOND = 50
WRITTEN, MOST_SECONDS = 800, 60.0
NARROW = [("grpc.http2.bdp_probe", 0)]
"""Keeps gRPC from making a stream's window wider and wider where a connection is fast; it holds 64 KiB, and is full sooner."""


async def _sessions(client: AsyncClient, options: argparse.Namespace) -> list[sequence_pb2.StepRequest]:
    """Opens sessions and returns a step of each, without a position."""
    opened = await asyncio.gather(*(client.open_session(options.model) for _ in range(options.sessions)))
    x = np.zeros((options.timesteps, *opened[0].model.inputs[0].shape), np.float32)
    inputs = [encode(opened[0].model.inputs[0].name, x)]
    return [sequence_pb2.StepRequest(session_id=session.id, inputs=inputs) for session in opened]


async def _word(ready: str = "ready") -> None:
    print(ready, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


async def slow(options: argparse.Namespace) -> dict[str, Any]:
    """Streams with a session each, which write more than is read of those who do not read; says `written`, and then just stays."""
    async with AsyncClient(options.address, timeout_seconds=120) as client:
        requests = await _sessions(client, options)
        async with grpc.aio.insecure_channel(options.address, options=NARROW) as channel:
            stub = sequence_pb2_grpc.SequenceServiceStub(channel)  # type: ignore[no-untyped-call]
            calls: list[Any] = [stub.Step() for _ in requests]
            await _word()
            writing = [asyncio.create_task(_write(call, request)) for call, request in zip(calls, requests, strict=True)]
            await asyncio.wait(writing, timeout=MOST_SECONDS)
            await _word("written")
            for task in writing:
                task.cancel()
            await asyncio.gather(*writing, return_exceptions=True)
            for call in calls:
                call.cancel()
            return {"streams": len(calls)}


async def _write(call: Any, request: sequence_pb2.StepRequest) -> None:
    for _ in range(WRITTEN):
        await call.write(request)


async def flood(options: argparse.Namespace) -> dict[str, Any]:
    """Eight streams that send single steps of many sessions at a rate."""
    async with AsyncClient(options.address, timeout_seconds=120) as client:
        requests = await _sessions(client, options)
        async with grpc.aio.insecure_channel(options.address) as channel:
            stub = sequence_pb2_grpc.SequenceServiceStub(channel)  # type: ignore[no-untyped-call]
            calls: list[Any] = [stub.Step() for _ in range(8)]
            told: Counter[str] = Counter()
            reading = [asyncio.create_task(_count(call, told)) for call in calls]
            await _word()
            began, sent = time.perf_counter(), 0
            while (passed := time.perf_counter() - began) < options.seconds:
                due = int(passed * options.rate) - sent
                await asyncio.gather(*(_send(calls[lane], requests, sent + lane, due) for lane in range(8)))
                sent += due
                await asyncio.sleep(1 / TURNS_A_SECOND)
            for task in reading:
                task.cancel()
            await asyncio.gather(*reading, return_exceptions=True)
            return {"sent": sent, "seconds": time.perf_counter() - began, **told}


async def _send(call: Any, requests: list[sequence_pb2.StepRequest], first: int, count: int) -> None:
    for number in range(first, first + count, 8):
        await call.write(requests[number % len(requests)])


async def _count(call: Any, told: Counter[str]) -> None:
    async for response in call:
        if not response.HasField("error"):
            told["answered"] += 1
            continue
        problem = from_status(response.error)
        told["refused" if isinstance(problem, Overloaded) else "failed"] += 1
        told["without_a_time_to_wait"] += not problem.retry_after_seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["slow", "flood"])
    parser.add_argument("--address", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--sessions", type=int, required=True)
    parser.add_argument("--timesteps", type=int, default=1)
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    print(json.dumps(asyncio.run({"slow": slow, "flood": flood}[options.kind](options))))


if __name__ == "__main__":
    main()
