"""What a run has done so far: one `Epoch` a pass over the data. The best one is the one of least rank, the earlier of two equal."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Judgement:
    """How good a network is on the validation split.

    Attributes:
        loss: the loss that training lowers.
        rank: less is better, compared from the first number on.
        measures: further figures for people, by name.
    """

    loss: float
    rank: tuple[float, ...]
    measures: dict[str, float] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Epoch:
    """One pass over the training split.

    Attributes:
        number: from 1.
        training_loss: mean over the pass, while the weights still moved.
        validation: how good the weights were at its end.
        learning_rate: at its end.
        seconds: it took, validation included.
    """

    number: int
    training_loss: float
    validation: Judgement
    learning_rate: float
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Returns a line of `metrics.jsonl`."""
        return {
            "epoch": self.number,
            "training_loss": self.training_loss,
            "validation_loss": self.validation.loss,
            **self.validation.measures,
            "rank": list(self.validation.rank),
            "learning_rate": self.learning_rate,
            "seconds": round(self.seconds, 4),
        }

    @classmethod
    def from_dict(cls, line: dict[str, Any]) -> Epoch:
        """Reads what `as_dict` made."""
        known = {"epoch", "training_loss", "validation_loss", "rank", "learning_rate", "seconds"}
        measures = {name: value for name, value in line.items() if name not in known}
        judgement = Judgement(line["validation_loss"], tuple(line["rank"]), measures)
        return cls(line["epoch"], line["training_loss"], judgement, line["learning_rate"], line["seconds"])


def best(history: Sequence[Epoch]) -> Epoch:
    """Returns the epoch whose weights are kept."""
    return min(history, key=lambda epoch: epoch.validation.rank)
