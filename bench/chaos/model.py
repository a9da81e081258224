"""The model of chaos: a small LSTM with random weights, as any other exported; what is tried is not its speed."""

from __future__ import annotations

from pathlib import Path

from bench.chaos.callers import FEATURES

MODEL = "small"


def fill(root: Path) -> Path:
    """Exports the model if the repository does not have it yet, and returns the repository."""
    if not (root / MODEL).exists():
        import torch

        from statewise_models.config import Feature, NetworkConfig, Target
        from statewise_models.export import export
        from statewise_models.network import Network

        torch.manual_seed(0)
        features = tuple(Feature(f"f{number}") for number in range(FEATURES))
        config = NetworkConfig("forecast", "lstm", 32, features=features, targets=(Target("y", 0.0, 1.0),))
        export(Network(config).eval(), repository=root, model=MODEL)
    return root
