"""A panel through the real server: each series with its own scale, given at Open, gets what torch computes of it offline."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from builders import panel
from builders.served import Running, start
from statewise.client import AsyncClient, AsyncSession
from statewise.spec import SERIES_MEAN, SERIES_SCALE
from statewise_models.data.table import Table
from statewise_models.export import export
from statewise_models.network import Network
from statewise_models.training import TrainingSettings, train_forecast

TOLERANCE = 1e-5
LONGEST_CHUNK = 40
KINDS = {"level": {"cell": "gru"}, "change": {"cell": "lstm", "difference": True, "calendar": (7,)}}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Table:
    """The panel."""
    return panel.table(tmp_path_factory.mktemp("panel"))


@pytest.fixture(scope="module")
def networks(data: Table) -> dict[str, Network]:
    """A network for the values and one for their changes, each trained a little with a scale for each series."""
    settings = {"hidden": 12, "epochs": 1, "window": 32, "scale": "series", "accelerator": "cpu"}
    return {name: train_forecast(data, TrainingSettings(**settings, **kind)).network for name, kind in KINDS.items()}


@pytest.fixture(scope="module")
def server(networks: dict[str, Network], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server of them."""
    root = tmp_path_factory.mktemp("repository")
    for name, network in networks.items():
        export(network, repository=root, model=name)
    running = start(root, "--unsealed-snapshots")
    yield running
    running.stop()


def sent(kind: str, data: Table, number: int) -> dict[str, np.ndarray]:
    """What a client sends for a series: its own values, and the promotion of the day after."""
    series = data.series[number]
    x = series.x[:-1].copy()
    x[:, 2] = series.x[1:, 2]
    return {"x": x, "time": series.time[:-1]} if kind == "change" else {"x": x}


def offline(network: Network, inputs: dict[str, np.ndarray], given: dict[str, np.ndarray]) -> np.ndarray:
    """What torch computes of a series at once, `[timesteps, targets]`."""
    whole = {name: torch.from_numpy(array)[:, None] for name, array in inputs.items()}
    whole |= {name: torch.from_numpy(np.array(value, np.float32))[None, None] for name, value in given.items()}
    with torch.no_grad():
        return network.predict(whole, network.initial(1))[0][:, 0].numpy()


async def chunked(session: AsyncSession, inputs: dict[str, np.ndarray], seed: int) -> np.ndarray:
    """Steps a session through its inputs in chunks of random length."""
    random, done, outputs = np.random.default_rng(seed), 0, []
    while done < len(inputs["x"]):
        chunk = slice(done, done + int(random.integers(1, LONGEST_CHUNK)))
        outputs.append(await session.step(**{name: array[chunk] for name, array in inputs.items()}))
        done = chunk.stop
    return np.concatenate(outputs)


def assert_close(streamed: np.ndarray, expected: np.ndarray) -> None:
    """Within the tolerance of the series' own size: a large one hides nothing of a small one."""
    assert np.abs(streamed - expected).max() <= TOLERANCE * np.abs(expected).max()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_panel_streamed_equals_the_offline_run(
    kind: str, server: Running, networks: dict[str, Network], data: Table
) -> None:
    """P2: series from 3 to 2,000,000 in size, interleaved and batched together, each get what each gets alone in torch."""
    async with AsyncClient(server.address) as client:
        given = (await client.model(kind)).series
        assert set(given) == set(panel.STORES)
        series = range(len(data.series))
        opened = [await client.open_session(kind, constants=given[data.series[number].name]) for number in series]
        inputs = [sent(kind, data, number) for number in series]
        streamed = await asyncio.gather(*(chunked(opened[number], inputs[number], number) for number in series))
    for number in series:
        assert_close(streamed[number], offline(networks[kind], inputs[number], given[data.series[number].name]))


async def test_forks_snapshots_and_restores_keep_the_scale(server: Running, networks: dict[str, Network], data: Table) -> None:
    """Whatever a session's state is carried by, the rest of its series is forecast in its own scale."""
    async with AsyncClient(server.address) as client:
        for number, series in enumerate(data.series):
            inputs = sent("level", data, number)
            given = (await client.model("level")).series[series.name]
            expected = offline(networks["level"], inputs, given)
            session = await client.open_session("level", constants=given)
            await session.step(inputs["x"][:100])
            fork, snapshot = await session.fork(), await session.snapshot()
            await session.close()
            restored = await client.open_session("level", snapshot=snapshot)
            for each in (fork, restored):
                assert_close(await each.step(inputs["x"][100:]), expected[100:])


async def test_the_model_tells_what_is_sent_ahead_and_given(server: Running) -> None:
    """A client that knows nothing but the server's address learns which values are the next timestep's, and what Open takes."""
    async with AsyncClient(server.address) as client:
        model = await client.model("level")
        assert (model.inputs[0].features, model.inputs[0].ahead) == (("sales", "rain", "promo"), (0, 0, 1))
        mean, scale = model.constants
        assert (mean.name, mean.features, mean.required, mean.positive) == (SERIES_MEAN, ("sales",), True, False)
        assert (scale.name, scale.features, scale.required, scale.positive) == (SERIES_SCALE, ("sales",), True, True)
