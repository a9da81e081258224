"""Real networks for the tests of the core."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders.real import Kind, kinds


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Kind]]:
    """A repository of a network of every cell, and their oracles."""
    root = tmp_path_factory.mktemp("every-cell")
    return root, kinds(root)
