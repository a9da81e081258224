"""A running sum behind the Open Inference Protocol and bare stubs to ask it, and a server process of real models."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import pytest
import pytest_asyncio

from builders.served import Running, start
from builders.summing import Serving, serving
from builders.tiny import fill
from statewise.inference import open_inference_pb2_grpc
from statewise.repository import MODEL_FILE
from statewise_models.network import Network


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


@pytest.fixture(scope="session")
def networks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Network]]:
    """`demand`, `label` and `text`, and where they are."""
    root = tmp_path_factory.mktemp("tiny")
    return root, fill(root)


@pytest.fixture(scope="session")
def server(networks: tuple[Path, dict[str, Network]]) -> Iterator[Running]:
    """A server of them and of a broken one, whose models may be loaded and unloaded."""
    broken = networks[0] / "broken" / "1"
    broken.mkdir(parents=True)
    (broken / MODEL_FILE).write_bytes((networks[0] / "label" / "1" / MODEL_FILE).read_bytes()[:-100])
    running = start(networks[0], "--model-control", "--reflection")
    yield running
    running.stop()
