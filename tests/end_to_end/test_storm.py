"""500 sessions at once, over streams and frames, some steps cancelled and some sent twice: each gets what it gets alone."""

from __future__ import annotations

import asyncio
import contextlib
import re
import urllib.request
from copy import copy

import numpy as np
import pytest
import torch

from builders.served import Running, name
from statewise.client import AsyncClient, AsyncSession
from statewise_models.export.conversation import conversation
from statewise_models.network import Network

SESSIONS, CLIENTS = 500, 4
TIMESTEPS, LONGEST_CHUNK = 60, 40
CANCELLED, RETRIED = 0.1, 0.1
FRAMED = 100


@pytest.mark.parametrize("kind", [("forecast", "gru", 1), ("classify", "lstm", 3)])
async def test_a_storm_of_sessions_gets_what_each_gets_alone(
    kind: tuple[str, str, int], server: Running, networks: dict[str, Network]
) -> None:
    """P1, P2: whatever is batched with whatever, and whoever gives up or asks twice; and nothing of it stays behind."""
    whole = conversation(networks[name(*kind)].config, [(SESSIONS + FRAMED, TIMESTEPS)], seed=9)[0].inputs
    with torch.no_grad():
        inputs = {key: torch.from_numpy(value) for key, value in whole.items()}
        offline = networks[name(*kind)].predict(inputs, networks[name(*kind)].initial(SESSIONS + FRAMED))[0].numpy()
    scale = np.abs(offline).max()
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(AsyncClient(server.address)) for _ in range(CLIENTS)]
        streams = [_one(clients, place, name(*kind), whole, offline[:, place], scale) for place in range(SESSIONS)]
        repeated = await asyncio.gather(_framed(clients[0], name(*kind), whole, offline, scale), *streams)
    assert sum(repeated) > SESSIONS * RETRIED, "the storm was no storm"
    exposed = await asyncio.to_thread(_exposed, server.metrics)
    assert re.search(r"^statewise_sessions_open 0\.0$", exposed, re.MULTILINE)
    assert re.search(r"^statewise_steps_pending 0\.0$", exposed, re.MULTILINE)
    assert set(re.findall(r"^statewise_rows_used\{.*\} (\S+)$", exposed, re.MULTILINE)) == {"0.0"}


def _exposed(address: str) -> str:
    with urllib.request.urlopen(address) as response:
        return str(response.read().decode())


async def _one(
    clients: list[AsyncClient], place: int, model: str, whole: dict[str, np.ndarray], expected: np.ndarray, scale: float
) -> int:
    """Streams one sequence, and returns how many of its steps were sent twice."""
    random, done, repeated = np.random.default_rng(place), 0, 0
    async with await clients[place % CLIENTS].open_session(model) as session:
        while done < TIMESTEPS:
            chunk = slice(done, min(done + int(random.integers(1, LONGEST_CHUNK)), TIMESTEPS))
            inputs = {key: value[chunk, place] for key, value in whole.items()}
            twin = AsyncSession(clients[(place + 1) % CLIENTS], copy(session._exchange))
            stepping = asyncio.create_task(session.step(**inputs))
            answers = []
            await asyncio.sleep(0)  # it is asked for now
            if session.position == chunk.start and random.random() < RETRIED:  # else its twin would overtake a cancelled step
                repeated += 1
                answers.append(await twin.step(**inputs))
            if random.random() < CANCELLED:
                stepping.cancel()
                await asyncio.gather(stepping, return_exceptions=True)
            else:
                answers.append(await stepping)
            done = session._exchange.tail  # a step that was cancelled before it was sent is sent anew
            for answer in answers:
                assert np.abs(answer - expected[chunk]).max() <= 1e-5 * scale
            assert len({answer.tobytes() for answer in answers}) <= 1, "an answer given twice is the same bit by bit"
    return repeated


async def _framed(client: AsyncClient, model: str, whole: dict[str, np.ndarray], offline: np.ndarray, scale: float) -> int:
    """Steps a hundred further sessions as one frame, chunk by chunk."""
    sessions = [await client.open_session(model) for _ in range(FRAMED)]
    frame, random, done = client.frame(sessions), np.random.default_rng(77), 0
    while done < TIMESTEPS:
        chunk = slice(done, min(done + int(random.integers(1, LONGEST_CHUNK)), TIMESTEPS))
        answer = await frame.step(**{key: value[chunk, SESSIONS:].swapaxes(0, 1) for key, value in whole.items()})
        assert np.abs(answer - offline[chunk, SESSIONS:].swapaxes(0, 1)).max() <= 1e-5 * scale
        done = chunk.stop
    await asyncio.gather(*(session.close() for session in sessions))
    return 0
