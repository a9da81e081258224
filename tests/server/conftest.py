"""A repository of tiny models, and a server process that the tests here share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from builders.served import Running, start
from builders.tiny import fill


@pytest.fixture(scope="module")
def tiny_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`demand`, `label` and `text`, one version each."""
    root = tmp_path_factory.mktemp("tiny")
    fill(root)
    return root


@pytest.fixture(scope="module")
def tiny_server(tiny_repository: Path) -> Iterator[Running]:
    """A server of them, with reflection."""
    running = start(tiny_repository, "--reflection")
    yield running
    running.stop()
