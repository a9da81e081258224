"""What a network is made of, as frozen values: enough, with the weights, to rebuild it in torch, in NumPy or in ONNX."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

from statewise.spec import Calendar, Missing, Task, Vocabulary

Cell = Literal["elman", "lstm", "peephole", "gru"]
Activation = Literal["tanh", "relu"]
Scale = Literal["global", "series"]

CELLS: tuple[str, ...] = get_args(Cell)
GATES = {"elman": 1, "lstm": 4, "peephole": 4, "gru": 3}
TRACED = {
    "elman": ("hidden",),
    "lstm": ("f", "i", "o", "candidate", "cell_state", "hidden"),
    "peephole": ("f", "i", "o", "candidate", "cell_state", "hidden"),
    "gru": ("reset", "update", "candidate", "hidden"),
}
"""What a layer of a cell computes at a timestep, by the names of `reference`."""
OUT = -1
"""As the source of a route: the network's own output, that is the head's values, before they become raw outputs."""
FEEDBACK_TAKES = "it takes FROM:TO with commas between, layers counted from 1 and each pair once, or out:TO, such as 1:1,2:1,out:1"


class InvalidConfig(ValueError):
    """A setting is wrong; the message names it and what it takes."""


class Route(NamedTuple):
    """What a layer of a feedback network sees of the last timestep: the output of the layer `source`, or `OUT`; counted from 1."""

    source: int
    target: int

    def __str__(self) -> str:
        return f"{'out' if self.source == OUT else self.source}:{self.target}"

    @property
    def state(self) -> str:
        """The state that keeps the output."""
        return "output" if self.source == OUT else f"hidden_{self.source - 1}"


@dataclass(frozen=True, slots=True)
class Feature:
    """A numeric input column, raw as the sensor gives it; the network sees `(value − mean) / scale`.

    Attributes:
        name: the column.
        mean, scale: of the training split, in the column's own unit; `scale` is positive.
        missing: `mask` reads NaN as the mean and adds a 0/1 column (1 = missing); `refuse` takes no NaN.
        ahead: 1 where timestep t brings the value of t + 1, which is known before it comes; 0 where it brings its own.
        least, greatest: of the training split, in the column's own unit; `None` where that is not known.
    """

    name: str
    mean: float = 0.0
    scale: float = 1.0
    missing: Missing = "refuse"
    ahead: int = 0
    least: float | None = None
    greatest: float | None = None


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
        cell: `elman`, `lstm`, `peephole` or `gru`.
        activation: of the Elman cell only.
        feedback: which outputs of the last timestep are fed to which layers (Elman cell only); empty: each layer's to itself.
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
    feedback: tuple[Route, ...] = ()
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
        if self.feedback:
            self._check_feedback()
        self._check_task()

    def _check_feedback(self) -> None:
        if self.cell != "elman":
            raise InvalidConfig(f"--feedback goes with cell elman, not {self.cell!r}; {FEEDBACK_TAKES}")
        for route in self.feedback:
            for layer in (route.target,) if route.source == OUT else route:
                if not 1 <= layer <= self.layers:
                    named = "1 only" if self.layers == 1 else f"1 to {self.layers}"
                    raise InvalidConfig(f"--feedback {route}: there is no layer {layer} (layers: {named}); {FEEDBACK_TAKES}")
            if self.feedback.count(route) > 1:
                raise InvalidConfig(f"--feedback {route}: it is there twice; {FEEDBACK_TAKES}")

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
    def routes(self) -> tuple[Route, ...]:
        """The routes of a feedback network, by target and then source; none where each layer sees itself, a plain Elman network."""
        own = {Route(layer, layer) for layer in range(1, self.layers + 1)}
        return () if set(self.feedback) in (set(), own) else tuple(sorted(self.feedback, key=lambda route: route[::-1]))

    @property
    def state_sizes(self) -> dict[str, int]:
        """The states in their fixed order and the length of each: `hidden_0, cell_state_0, hidden_1, …`.

        Only LSTMs have cell states. A feedback network keeps what its routes feed: hidden states, and `output` (the head's values).
        """
        if self.routes:
            kept = sorted(self.routes, key=lambda route: (route.source == OUT, route.source))
            return {route.state: self.head_size if route.source == OUT else self.hidden_size for route in kept}
        kinds = [kind for kind in ("hidden", "cell_state") if kind in TRACED[self.cell]]
        return {f"{kind}_{layer}": self.hidden_size for layer in range(self.layers) for kind in kinds}

    @property
    def state_names(self) -> tuple[str, ...]:
        """The names of the states, in their fixed order."""
        return tuple(self.state_sizes)

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
        raw["feedback"] = tuple(Route(*route) for route in raw.get("feedback", ()))
        if raw["calendar"]:
            raw["calendar"] = Calendar(**{**raw["calendar"], "periods": tuple(raw["calendar"]["periods"])})
        if raw["vocabulary"]:
            raw["vocabulary"] = Vocabulary(tuple(raw["vocabulary"]["characters"]), raw["vocabulary"]["bytes"])
        return cls(**raw)


def _one_of(field: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        hint = ": a bidirectional network reads the future, so it cannot be streamed" if "bi" in value.lower() else ""
        raise InvalidConfig(f"{field} must be one of {', '.join(choices)}, not {value!r}{hint}")
