"""What training returns."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from statewise_models.data.labelled import Labelled
from statewise_models.data.table import Table
from statewise_models.data.text import Text
from statewise_models.files import replace_bytes
from statewise_models.network import Network
from statewise_models.training.facts import Facts
from statewise_models.training.history import Epoch
from statewise_models.training.settings import TrainingSettings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EVALUATION_FILE = "evaluation.json"
WIDTH = 9.0  # inches of the pictures that are written

Draw = Callable[[float], "dict[str, Figure]"]


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A trained network and how it came about.

    Attributes:
        network: with its best weights, on the CPU, ready to predict and to export.
        history: the epochs.
        metrics: by split (`validation`, `test`), as each task's training tells; JSON values.
        settings: what was chosen.
        facts: what it learned from.
        draw: returns the run's pictures by name, so many inches wide.
        held_back: the part of the data that is `reported`.
    """

    network: Network
    history: tuple[Epoch, ...]
    metrics: dict[str, Any]
    settings: TrainingSettings
    facts: Facts
    draw: Draw
    held_back: Table | Labelled | Text

    @property
    def seconds(self) -> float:
        """What the epochs took."""
        return sum(epoch.seconds for epoch in self.history)

    @property
    def parameters(self) -> int:
        """How many numbers were learned."""
        return sum(weight.numel() for weight in self.network.parameters())

    @property
    def reported(self) -> str:
        """The split that stands for what is to come: the test part, or the validation part where there is no test part."""
        return self.settings.reported

    def write(self, output: Path) -> None:
        """Writes the metrics and the pictures into the folder `output`; raises `OSError`."""
        from statewise_models.plots import save

        replace_bytes(output / EVALUATION_FILE, (json.dumps(self.metrics, indent=2) + "\n").encode())
        for name, figure in self.draw(WIDTH).items():
            save(figure, output / f"{name}.png")
