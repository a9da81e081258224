"""A real redis-server that the tests here share, and the three stores."""

from __future__ import annotations

import pytest
import pytest_asyncio

from bench.chaos.store import redis
from statewise.stores.opening import open_store


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory, needs_tool):
    """A redis-server that nobody kills."""
    with redis(tmp_path_factory.mktemp("redis"), program=needs_tool("redis-server")) as server:
        yield server


@pytest_asyncio.fixture(params=["memory", "sqlite", "redis"])
async def store(request, tmp_path):
    """Each of the stores, connected."""
    address = {
        "memory": lambda: "memory",
        "sqlite": lambda: f"sqlite:{tmp_path / 'sessions.db'}",
        "redis": lambda: request.getfixturevalue("redis_server").address,
    }[request.param]()
    made = open_store(address, None, 5.0)
    await made.start()
    yield made
    await made.close()
