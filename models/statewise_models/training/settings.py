"""Every choice of a training run, in one frozen value that checks itself when it is made."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from statewise.spec import Calendar, Missing, SpecError
from statewise_models.config import Activation, Cell, Feature, InvalidConfig, NetworkConfig, Route, Scale, SeriesScale, Target

Accelerator = Literal["auto", "cpu", "cuda"]
Learn = Literal["every", "last"]

LONGEST_PERIOD = 2**31  # timesteps: 68 years of seconds


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """What to train and how; the same settings, data and machine give the same weights.

    Attributes:
        cell, hidden, layers, activation, feedback, dropout: the recurrent layers (see `NetworkConfig`).
        calendar: periods in timesteps that the network is to know (forecast and classify).
        harmonics: sine and cosine pairs for each period.
        difference: forecast the change from this timestep to the next instead of the value (forecast).
        embedding: length of a token's vector (tokens).
        missing: what NaN means, for all input columns or by column: `refuse` or `mask`.
        epochs: at most so many passes over the training split.
        patience: stop when so many epochs in a row have not improved on the best.
        window: timesteps that gradients reach back (forecast and tokens; a labelled sequence is learned whole).
        lanes: sequences trained side by side; one long series is cut into so many.
        learning_rate: its peak: it rises over the first tenth of the run, then falls along a cosine.
        weight_decay: AdamW's.
        clip: largest norm of the gradient.
        learn: `every` timestep of a sequence counts, the later the more, so that a label can be read early; or the `last` alone
            (classify).
        scale: `series` gives each series the mean and scale of its own targets, `global` one for all (forecast).
        cutoff, validation_from: the times at which test and validation begin in all series, as the file writes times, instead of
            `test` and `validation` (forecast); empty for shares.
        validation, test: shares held back, in time order (forecast and tokens) or drawn by `seed` (classify).
        seed: of the first weights, the order of batches and dropout.
        accelerator: `auto` takes CUDA where there is one.
    """

    cell: str = "lstm"
    hidden: int = 64
    layers: int = 1
    activation: str = "tanh"
    feedback: tuple[Route, ...] = ()
    dropout: float = 0.0
    calendar: tuple[int, ...] = ()
    harmonics: int = 2
    difference: bool = False
    embedding: int = 32
    missing: Mapping[str, Missing] | Missing = "refuse"
    epochs: int = 100
    patience: int = 25
    window: int = 48
    lanes: int = 16
    learning_rate: float = 0.01
    weight_decay: float = 1e-4
    clip: float = 1.0
    validation: float = 0.125
    test: float = 0.25
    cutoff: str = ""
    validation_from: str = ""
    learn: str = "every"
    scale: str = "global"
    seed: int = 0
    accelerator: str = "auto"

    def __post_init__(self) -> None:
        self._check_numbers()
        if len(set(self.calendar)) < len(self.calendar) or not all(2 <= period <= LONGEST_PERIOD for period in self.calendar):
            named = ",".join(map(str, self.calendar))
            raise InvalidConfig(f"calendar takes periods of 2 to {LONGEST_PERIOD:,} timesteps, each once, not {named}")
        if not 0.0 < self.validation < 1.0 or not 0.0 <= self.test < 1.0 - self.validation:
            raise InvalidConfig(
                f"validation must be above 0, test at least 0, and both together below 1, not {self.validation} and {self.test}"
            )
        if not 0 <= self.seed < 2**31:
            raise InvalidConfig(f"seed must be at least 0 and below 2**31, not {self.seed}")
        if self.accelerator not in get_args(Accelerator):
            raise InvalidConfig(f"accelerator must be one of {', '.join(get_args(Accelerator))}, not {self.accelerator!r}")
        if self.learn not in get_args(Learn):
            raise InvalidConfig(f"learn must be one of {', '.join(get_args(Learn))}, not {self.learn!r}")
        if self.scale not in get_args(Scale):
            raise InvalidConfig(f"scale must be one of {', '.join(get_args(Scale))}, not {self.scale!r}")
        # The network's own checks, on columns made up for it: a wrong cell is refused before any data is read.
        self.network("classify", 0.0, features=(Feature("x"),), labels=("a", "b"))

    def _check_numbers(self) -> None:
        for field in ("hidden", "layers", "harmonics", "embedding", "epochs", "patience", "window", "lanes"):
            if getattr(self, field) < 1:
                raise InvalidConfig(f"{field} must be at least 1, not {getattr(self, field)}")
        for field in ("learning_rate", "clip"):
            if not 0.0 < getattr(self, field) < float("inf"):
                raise InvalidConfig(f"{field} must be above 0, not {getattr(self, field)}")
        if not 0.0 <= self.weight_decay < 1.0:
            raise InvalidConfig(f"weight_decay must be at least 0 and below 1, not {self.weight_decay}")

    def network(
        self,
        task: Literal["forecast", "classify"],
        step_seconds: float,
        *,
        features: tuple[Feature, ...],
        targets: tuple[Target, ...] = (),
        labels: tuple[str, ...] = (),
        series: tuple[SeriesScale, ...] = (),
    ) -> NetworkConfig:
        """Returns the network of these settings for numeric columns; raises `InvalidConfig` naming what does not fit."""
        try:
            calendar = Calendar("time", step_seconds, self.calendar) if self.calendar else None
        except SpecError as error:
            raise InvalidConfig(str(error)) from error
        return NetworkConfig(
            task,
            **self.layout,
            features=features,
            calendar=calendar,
            harmonics=self.harmonics,
            targets=targets,
            labels=labels,
            scale="series" if series else "global",
            series=series,
        )

    @property
    def reported(self) -> str:
        """The split that stands for what is to come: the test part, or the validation part where there is no test part."""
        return "test" if self.test else "validation"

    @property
    def layout(self) -> dict[str, Any]:
        """The fields of `NetworkConfig` that do not depend on the data."""
        return {
            "cell": cast(Cell, self.cell),
            "hidden_size": self.hidden,
            "layers": self.layers,
            "activation": cast(Activation, self.activation),
            "feedback": self.feedback,
            "dropout": self.dropout,
        }

    def missing_of(self, column: str) -> Missing:
        """Returns what NaN means in an input column."""
        return self.missing if isinstance(self.missing, str) else self.missing.get(column, "refuse")

    def as_dict(self) -> dict[str, Any]:
        """Returns the settings as JSON knows them."""
        return {**dataclasses.asdict(self), "calendar": list(self.calendar)}
