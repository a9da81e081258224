"""A running sum behind the Open Inference Protocol, and bare stubs to ask it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest_asyncio

from builders.summing import Serving, serving
from statewise.inference import open_inference_pb2_grpc


@pytest_asyncio.fixture
async def served() -> AsyncIterator[Serving]:
    """A running sum behind the real servicers; when a test is over, nothing waits in any line."""
    async with serving() as server:
        yield server
        server.summing.release()
        sequences = server.inference._sequences
        while sequences._lines:  # noqa: ASYNC110 (nothing tells of it, and a test may turn the loop)
            await asyncio.sleep(0)
        assert (sequences._waiting, sequences._bytes) == (0, 0)


@pytest_asyncio.fixture
async def stub(served: Serving) -> AsyncIterator[open_inference_pb2_grpc.GRPCInferenceServiceStub]:
    """Bare stubs."""
    async with grpc.aio.insecure_channel(served.address) as channel:
        yield open_inference_pb2_grpc.GRPCInferenceServiceStub(channel)
