"""A repository with one tiny network of each task, for tests that need real models and not good ones."""

from __future__ import annotations

from pathlib import Path

import torch

from statewise.spec import Calendar, Vocabulary
from statewise_models.config import Feature, NetworkConfig, Target
from statewise_models.export import export
from statewise_models.network import Network

DEMAND = NetworkConfig(
    "forecast",
    "gru",
    4,
    features=(Feature("demand", 100.0, 10.0, least=80.0, greatest=105.0),),
    targets=(Target("demand", 0.0, 1.0, difference=True),),
    calendar=Calendar("time", 1800.0, (48,)),
)
LABEL = NetworkConfig("classify", "lstm", 4, features=(Feature("left"), Feature("right", missing="mask")), labels=("calm", "busy"))
TEXT = NetworkConfig("tokens", "elman", 4, vocabulary=Vocabulary(tuple("abc ")), embedding_size=3)


def fill(root: Path) -> dict[str, Network]:
    """Exports `demand`, `label` and `text` to a repository, and returns the networks."""
    torch.manual_seed(3)
    networks = {name: Network(config).eval() for name, config in {"demand": DEMAND, "label": LABEL, "text": TEXT}.items()}
    for name, network in networks.items():
        about = {"scaled_error": {"model": 0.5, "persistence": 1.0}} if name == "demand" else {}
        export(network, repository=root, model=name, about=about)
    return networks
