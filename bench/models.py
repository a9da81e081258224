"""The four models that are measured, exported as any other: random weights, since speed does not depend on them."""

from __future__ import annotations

from pathlib import Path

import torch

from statewise_models.config import Cell, Feature, NetworkConfig, Target
from statewise_models.export import export
from statewise_models.network import Network

FEATURES = {"lstm-256": 64, "lstm-1024": 256, "gru-256": 64, "elman-256": 64}
"""Each model's input features; its name tells cell and hidden units."""
CELLS: dict[str, Cell] = {"lstm": "lstm", "gru": "gru", "elman": "elman"}


def fill(root: Path) -> Path:
    """Exports the models that the repository does not have yet, and returns it."""
    torch.manual_seed(0)
    for name, count in FEATURES.items():
        if not (root / name).exists():
            cell, hidden = name.split("-")
            features = tuple(Feature(f"f{number}") for number in range(count))
            config = NetworkConfig("forecast", CELLS[cell], int(hidden), features=features, targets=(Target("y", 0.0, 1.0),))
            export(Network(config).eval(), repository=root, model=name)
    return root
