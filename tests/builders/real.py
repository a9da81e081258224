"""A host over real networks in ONNX Runtime, on the caller's own loop, whose engines can be told to fail half-way."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from builders.served import config, name
from statewise.catalog import Loaded, load
from statewise.config import Limits
from statewise.engine import Batch, Engine, Outcome
from statewise.host import Host
from statewise.metrics import ServerMetrics
from statewise.pool import StatePool
from statewise.repository import Repository
from statewise.runtime import EngineError, choose_provider
from statewise_models import reference
from statewise_models.config import NetworkConfig
from statewise_models.export import export
from statewise_models.export.conversation import conversation
from statewise_models.network import Network

Inputs = dict[str, NDArray[np.generic]]
TOLERANCE = 1e-5
KINDS = (("forecast", "lstm", 1), ("classify", "gru", 3), ("tokens", "elman", 1))


class FailingEngine:
    """Runs for real; a batch that is to fail is run first, and then one of its states is written over, and an error raised.

    So of each session the fresh row of one pool holds the new state, that of the other nothing of use.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.fails: Callable[[Batch], bool] = lambda _: False
        self.sizes: list[int] = []

    def run(self, batch: Batch, pool: StatePool) -> Outcome:
        """See `Engine`."""
        self.sizes.append(len(batch.source))
        outcome = self._engine.run(batch, pool)
        if self.fails(batch):
            states = pool.read(batch.target)
            states[pool.states[-1].input][...] = 777
            pool.write(batch.target, states)
            raise EngineError("the second scatter failed")
        return outcome


@dataclass(frozen=True)
class Kind:
    """A network and the oracle of what it answers."""

    model: str
    config: NetworkConfig
    weights: dict[str, NDArray[np.floating]]

    def draw(self, timesteps: int, seed: int) -> Inputs:
        """Returns inputs `[timesteps, …]` for one session."""
        chunk = conversation(self.config, [(1, timesteps)], seed=seed)[0]
        return {key: array[:, 0] for key, array in chunk.inputs.items()}

    def check(self, history: list[Inputs], outputs: list[NDArray[np.floating]]) -> None:
        """Holds the outputs of a session's whole life, step by step, against the reference run of that session alone."""
        if not history:
            return
        whole = {key: np.concatenate([step[key] for step in history])[:, None] for key in history[0]}
        expected = reference.run(self.config, self.weights, whole)[:, 0]
        scale = max(1e-6, float(np.abs(expected).max()))
        assert np.abs(np.concatenate(outputs) - expected).max() <= TOLERANCE * scale


@dataclass
class Real:
    """The host, and its engines by model."""

    host: Host
    kinds: dict[str, Kind]
    engines: dict[str, FailingEngine] = field(default_factory=dict)


def kinds(root: Path) -> dict[str, Kind]:
    """Exports a network of every cell, one of them of three layers, and returns their oracles by the model's name."""
    torch.manual_seed(11)
    made = {}
    for task, cell, layers in KINDS:
        network = Network(config(task, cell, layers)).eval()
        export(network, repository=root, model=name(task, cell, layers))
        weights = {key: value.numpy() for key, value in network.state_dict().items()}
        made[name(task, cell, layers)] = Kind(name(task, cell, layers), network.config, weights)
    return made


@contextlib.asynccontextmanager
async def real(root: Path, oracles: dict[str, Kind], provider: str, limits: Limits | None = None) -> AsyncIterator[Real]:
    """Starts a host over an exported repository; nothing looks after it once a second."""
    engines: dict[str, FailingEngine] = {}

    def loader(*arguments: object) -> Loaded:
        loaded = load(*arguments)
        engines[loaded.name] = FailingEngine(loaded.engine)
        return dataclasses.replace(loaded, engine=engines[loaded.name])

    metrics = ServerMetrics(CollectorRegistry())
    host = Host(Repository(root), limits or Limits(), choose_provider(provider), metrics, loader=loader)
    await host.models.refresh()
    try:
        yield Real(host, oracles, engines)
    finally:
        await host.stop()
