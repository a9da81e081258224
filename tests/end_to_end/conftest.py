"""One network of every kind, and one server process that the tests here share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from builders.served import KINDS, LAYERS, TASKS, Running, config, name, start
from statewise_models.export import export
from statewise_models.network import Network


@pytest.fixture(scope="session")
def networks() -> dict[str, Network]:
    """One random network of every kind."""
    torch.manual_seed(5)
    kinds = [(task, cell, layers) for task in TASKS for cell in KINDS for layers in LAYERS]
    return {name(*kind): Network(config(*kind)).eval() for kind in kinds}


@pytest.fixture(scope="session")
def repository(networks: dict[str, Network], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of them, exported."""
    root = tmp_path_factory.mktemp("repository")
    for model, network in networks.items():
        export(network, repository=root, model=model)
    return root


@pytest.fixture(scope="session")
def server(repository: Path, provider: str) -> Iterator[Running]:
    """A server that all tests of the session share."""
    running = start(repository, "--provider", provider)
    yield running
    running.stop()
