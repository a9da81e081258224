"""An imported model gives each session, interleaved and batched with others, what its file gives that session alone."""

import asyncio

import numpy as np
import pytest

from builders.foreign import cases, import_all
from builders.served import start
from statewise.client import AsyncClient, Client

SESSIONS, TIMESTEPS = 9, 14
LENGTHS = (4, 3, 1, 3)  # three and four are of one length class where a model takes ragged batches


@pytest.fixture(scope="module")
def every(tmp_path_factory):
    """A file of every kind."""
    return cases(tmp_path_factory.mktemp("foreign"))


@pytest.fixture(scope="module")
def server(every, provider, tmp_path_factory):
    """A server process over what was imported."""
    root = tmp_path_factory.mktemp("repository")
    import_all(root, every)
    running = start(root, "--max-batch", "16", "--provider", provider)
    yield running
    running.stop()


def flat(answer):
    """The outputs of one timestep, or `[timesteps, …]`, side by side in the model's order."""
    if not isinstance(answer, dict):
        return answer.astype(np.float64)
    return np.stack([array.astype(np.float64) for array in answer.values()], axis=-1)


async def stream(client, case, number, inputs, constants):
    """One session's timesteps in steps of unlike length, which other sessions' steps come between."""
    session = await client.open_session(case.name, constants=constants)
    answers, at = [], 0
    while at < TIMESTEPS:
        length = min(LENGTHS[(at + number) % len(LENGTHS)], TIMESTEPS - at)
        piece = {name: array[at : at + length] for name, array in inputs.items()}
        answers.append(flat(await session.step(**piece)))
        at += length
    await session.close()
    return np.concatenate(answers)


def test_interleaved_sessions_of_every_kind_of_file_give_what_each_gives_alone(server, every):
    """Recurrent exports, convolution caches, state-space models, int64 and bool states, constants, controls, one session a run."""
    random = np.random.default_rng(9)
    plans = [
        (case, number, case.draw(random, TIMESTEPS), case.constants[number % len(case.constants)])
        for number in range(SESSIONS)
        for case in every
    ]

    async def all_at_once():
        async with AsyncClient(server.address) as client:
            return await asyncio.gather(*(stream(client, *plan) for plan in plans))

    for (case, _, inputs, constants), ours in zip(plans, asyncio.run(all_at_once()), strict=True):
        theirs = case.answers(inputs, constants).astype(np.float64)
        ours = ours[..., :2] if case.name == "controlled" else ours
        scale = max(1e-6, np.abs(theirs).max())
        assert np.abs(ours - theirs).max() / scale <= case.tolerance, case.name


def test_a_client_is_told_what_an_imported_model_takes_and_that_its_sessions_are_served_one_by_one(server):
    """`GetModel` tells inputs, outputs, what Open may give, and the most sessions of a run."""
    with Client(server.address) as client:
        voice, conv = client.model("voice"), client.model("conv")
        assert [(t.name, t.dtype, t.shape) for t in voice.inputs] == [("input", "float32", (8,))]
        assert [(c.name, c.dtype, c.shape, c.required) for c in voice.constants] == [("sr", "int64", (), False)]
        assert (voice.batch, conv.batch) == (1, 0)
