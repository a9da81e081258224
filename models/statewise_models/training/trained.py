"""What training returns."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from statewise_models.network import Network
from statewise_models.training.files import replace_bytes
from statewise_models.training.history import Epoch

EVALUATION_FILE = "evaluation.json"


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A trained network and how it came about.

    Attributes:
        network: with its best weights, on the CPU, ready to predict and to export.
        history: the epochs.
        seconds: that the epochs took.
        metrics: by split (`validation`, `test`), as each task's training tells; JSON values.
    """

    network: Network
    history: tuple[Epoch, ...]
    seconds: float
    metrics: dict[str, Any]

    @property
    def parameters(self) -> int:
        """How many numbers were learned."""
        return sum(weight.numel() for weight in self.network.parameters())

    def write_evaluation(self, output: Path) -> None:
        """Writes the metrics into the folder `output`; raises `OSError`."""
        replace_bytes(output / EVALUATION_FILE, (json.dumps(self.metrics, indent=2) + "\n").encode())
