"""What is streamed through the server is what torch computes of the whole sequence at once."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
import torch

from builders.served import KINDS, LAYERS, TASKS, Running, name
from statewise.client import AsyncClient
from statewise_models.export.conversation import conversation
from statewise_models.network import Network

SESSIONS = 5
TIMESTEPS = 70
LONGEST_CHUNK = 45
TOLERANCE = 1e-5


@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("cell", KINDS)
@pytest.mark.parametrize("task", TASKS)
async def test_interleaved_chunks_equal_the_offline_run(
    task: str, cell: str, layers: int, server: Running, networks: dict[str, Network]
) -> None:
    """P2: sessions stepped in chunks of random length, interleaved at random and batched together, get what each gets alone."""
    network = networks[name(task, cell, layers)]
    whole = conversation(network.config, [(SESSIONS, TIMESTEPS)], seed=layers)[0].inputs
    with torch.no_grad():
        inputs = {key: torch.from_numpy(value) for key, value in whole.items()}
        offline = network.predict(inputs, network.initial(SESSIONS))[0].numpy()
    streamed = await _streamed(server.address, name(task, cell, layers), whole)
    assert np.abs(streamed - offline).max() <= TOLERANCE * np.abs(offline).max()


async def _streamed(address: str, model: str, whole: dict[str, np.ndarray]) -> np.ndarray:
    """Returns the outputs `[timesteps, sessions, …]` of concurrent sessions, each stepped through its own random chunks."""

    async def one(place: int) -> np.ndarray:
        random, done, outputs = np.random.default_rng(place), 0, []
        async with await client.open_session(model) as session:
            while done < TIMESTEPS:
                chunk = slice(done, done + int(random.integers(1, LONGEST_CHUNK)))
                outputs.append(await session.step(**{key: value[chunk, place] for key, value in whole.items()}))
                done = min(chunk.stop, TIMESTEPS)
                for _ in range(random.integers(3)):
                    await asyncio.sleep(0)
        return np.concatenate(outputs)

    async with AsyncClient(address) as client:
        return np.stack(await asyncio.gather(*map(one, range(SESSIONS))), axis=1)
