"""What a network is made of, as frozen values: enough, with the weights, to rebuild it in torch, in NumPy or in ONNX."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Literal, get_args

from statewise.spec import Calendar, Missing, Task, Vocabulary

Cell = Literal["elman", "lstm", "gru"]
Activation = Literal["tanh", "relu"]
Scale = Literal["global", "series"]

CELLS: tuple[str, ...] = get_args(Cell)
GATES = {"elman": 1, "lstm": 4, "gru": 3}


class InvalidConfig(ValueError):
    """A setting is wrong; the message names it and what it takes."""


@dataclass(frozen=True, slots=True)
class Feature:
    """A numeric input column, raw as the sensor gives it; the network sees `(value − mean) / scale`.

    Attributes:
        name: the column.
        mean, scale: of the training split, in the column's own unit; `scale` is positive.
        missing: `mask` reads NaN as the mean and adds a 0/1 column (1 = missing); `refuse` takes no NaN.
        ahead: 1 where timestep t brings the value of t + 1, which is known before it comes; 0 where it brings its own.
    """

    name: str
    mean: float = 0.0
    scale: float = 1.0
    missing: Missing = "refuse"
    ahead: int = 0


@dataclass(frozen=True, slots=True)
class Target:
    """A column to forecast one timestep ahead; the network's raw output is `output · scale + mean`, in the column's own unit.

    Attributes:
        name: the column.
        mean, scale: of the training split's targets (of their differences where `difference`).
        difference: the network predicts the change from this timestep to the next; the graph adds the column's present value.
    """

    name: str
    mean: float = 0.0
    scale: float = 1.0
    difference: bool = False


@dataclass(frozen=True, slots=True)
class SeriesScale:
    """How large one series is: `(value − mean) / scale` for each target, in the columns' own units; what its sessions are given.

    Attributes:
        name: the series.
        mean, scale: of each target in the series' training part; `scale` is positive.
    """

    name: str
    mean: tuple[float, ...]
    scale: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """A network: front (raw inputs → vectors), recurrent layers, head (hidden state → raw outputs).

    Attributes:
        task: what the head returns. forecast: `forecast [timesteps, targets]`; classify: `probability [timesteps, labels]`;
            tokens: `logits [timesteps, vocabulary]`.
        cell: `elman`, `lstm` or `gru`.
        activation: of the Elman cell only.
        hidden_size: units of each layer.
        layers: recurrent layers, one upon the other.
        dropout: between layers, in training only.
        features: numeric inputs, the last axis of input `x` (forecast and classify).
        calendar: the integer input `time` and its periods, or `None` (forecast and classify).
        harmonics: sine and cosine pairs for each period.
        targets: forecast only.
        labels: classify only.
        vocabulary, embedding_size: tokens only (input `token`).
        scale: forecast only. `series`: target columns are first scaled by what the session is given for its series, and the means
            and scales of features and targets are of columns so scaled.
        series: with `scale="series"`, the series that it was trained on.
    """

    task: Task
    cell: Cell
    hidden_size: int = 64
    layers: int = 1
    activation: Activation = "tanh"
    dropout: float = 0.0
    features: tuple[Feature, ...] = ()
    calendar: Calendar | None = None
    harmonics: int = 1
    targets: tuple[Target, ...] = ()
    labels: tuple[str, ...] = ()
    vocabulary: Vocabulary | None = None
    embedding_size: int = 32
    scale: Scale = "global"
    series: tuple[SeriesScale, ...] = ()

    def __post_init__(self) -> None:
        _one_of("task", self.task, get_args(Task))
        _one_of("cell", self.cell, CELLS)
        _one_of("activation", self.activation, get_args(Activation))
        _one_of("scale", self.scale, get_args(Scale))
        for field in ("hidden_size", "layers", "harmonics", "embedding_size"):
            if getattr(self, field) < 1:
                raise InvalidConfig(f"{field} must be at least 1, not {getattr(self, field)}")
        if not 0.0 <= self.dropout < 1.0:
            raise InvalidConfig(f"dropout must be at least 0 and below 1, not {self.dropout}")
        self._check_task()

    def _check_task(self) -> None:
        if self.task == "tokens":
            if not self.vocabulary:
                raise InvalidConfig("task tokens needs a vocabulary")
            return
        if not self.features:
            raise InvalidConfig(f"task {self.task} needs at least one input column")
        if self.task == "classify" and len(self.labels) < 2:
            raise InvalidConfig("task classify needs at least two labels")
        if self.task == "forecast" and not self.targets:
            raise InvalidConfig("task forecast needs at least one target column")
        if self.scale == "series" and self.task != "forecast":
            raise InvalidConfig(f"scale series is of targets, and task {self.task} has none")
        inputs = {feature.name: feature for feature in self.features}
        for target in self.targets:
            if target.difference and target.name not in inputs:
                raise InvalidConfig(f"target {target.name!r} as a difference must also be an input: its present value is the base")
            if target.difference and inputs[target.name].missing == "mask":
                raise InvalidConfig(f"target {target.name!r} as a difference cannot be masked: its present value is the base")

    @property
    def masked(self) -> tuple[int, ...]:
        """Places of the features with `missing="mask"`."""
        return tuple(place for place, feature in enumerate(self.features) if feature.missing == "mask")

    @property
    def front_size(self) -> int:
        """Length of the vector that the first recurrent layer sees."""
        if self.task == "tokens":
            return self.embedding_size
        pairs = len(self.calendar.periods) * self.harmonics if self.calendar else 0
        return len(self.features) + len(self.masked) + 2 * pairs

    @property
    def head_size(self) -> int:
        """Length of the vector that the head returns."""
        sizes = {"forecast": len(self.targets), "classify": len(self.labels), "tokens": len(self.vocabulary or ())}
        return sizes[self.task]

    @property
    def state_names(self) -> tuple[str, ...]:
        """The states in their fixed order: `hidden_0, cell_state_0, hidden_1, …` (no cell state but for LSTM)."""
        kinds = ("hidden", "cell_state") if self.cell == "lstm" else ("hidden",)
        return tuple(f"{kind}_{layer}" for layer in range(self.layers) for kind in kinds)

    @property
    def base_places(self) -> tuple[int | None, ...]:
        """For each target, the place of the input column whose present value is added to its forecast, or `None`."""
        places = {feature.name: place for place, feature in enumerate(self.features)}
        return tuple(places[target.name] if target.difference else None for target in self.targets)

    @property
    def target_places(self) -> tuple[int | None, ...]:
        """For each input column, the place of the target that it is, or `None`."""
        places = {target.name: place for place, target in enumerate(self.targets)}
        return tuple(places.get(feature.name) for feature in self.features)

    def to_json(self) -> str:
        """Returns the configuration as JSON."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> NetworkConfig:
        """Reads what `to_json` wrote."""
        raw: dict[str, Any] = json.loads(text)
        raw["features"] = tuple(Feature(**entry) for entry in raw["features"])
        raw["targets"] = tuple(Target(**entry) for entry in raw["targets"])
        raw["labels"] = tuple(raw["labels"])
        series = raw.get("series", ())
        raw["series"] = tuple(SeriesScale(each["name"], tuple(each["mean"]), tuple(each["scale"])) for each in series)
        if raw["calendar"]:
            raw["calendar"] = Calendar(**{**raw["calendar"], "periods": tuple(raw["calendar"]["periods"])})
        if raw["vocabulary"]:
            raw["vocabulary"] = Vocabulary(tuple(raw["vocabulary"]["characters"]), raw["vocabulary"]["bytes"])
        return cls(**raw)


def _one_of(field: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        hint = ": a bidirectional network reads the future, so it cannot be streamed" if "bi" in value.lower() else ""
        raise InvalidConfig(f"{field} must be one of {', '.join(choices)}, not {value!r}{hint}")
