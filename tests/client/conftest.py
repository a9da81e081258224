"""A running sum behind a real server: in a thread for clients that block, on the test's own loop for those that await."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from builders.summing import Apart, Serving, serving, serving_apart


@pytest.fixture
def apart() -> Iterator[Apart]:
    """A server in a thread of its own."""
    with serving_apart() as server:
        yield server


@pytest_asyncio.fixture
async def served() -> AsyncIterator[Serving]:
    """A server on the test's loop."""
    async with serving() as server:
        yield server
