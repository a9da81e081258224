"""What the session of a series is given at Open: what the caller says, what the model knows, or what the first rows tell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from statewise.reading.problems import BadInput
from statewise.reading.rows import Row
from statewise.spec import SERIES_MEAN, SERIES_SCALE, ConstantSpec, TensorSpec

CONSTANT_HELP = "NAME=VALUE,…: what every session is given when it is opened, instead of what the model knows. May be given again."

Values = Mapping[str, Any]


class Model(Protocol):
    """What is asked of a model here: a client's `Model`, or a `ModelSpec`."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What a timestep brings."""
        ...

    @property
    def constants(self) -> tuple[ConstantSpec, ...]:
        """What a session may or must be given."""
        ...

    @property
    def series(self) -> Mapping[str, Any]:
        """What the sessions of the series are given that the model knows, by name."""
        ...


@dataclass(frozen=True, slots=True)
class Given:
    """Where the values come from, the first that has one.

    Attributes:
        told: by the caller, for every series.
        warmed: for each series, mean and scale of its first rows.
    """

    model: Model
    told: Values
    warmed: Mapping[str, Values] = field(default_factory=dict)

    def to(self, series: str) -> dict[str, Any]:
        """Returns what the session of a series is given; raises `BadInput` where something is missing."""
        values = {**self.warmed.get(series, {}), **self.model.series.get(series, {}), **self.told}
        missing = [constant.name for constant in self.model.constants if constant.required and constant.name not in values]
        if missing:
            ways = " ".join(f"--constant {name}=…" for name in missing) + (" or --warm-up N" if can_warm_up(self.model) else "")
            raise BadInput(f"the model does not know series {series!r}, and its session must be given {', '.join(missing)}: {ways}")
        return values


def told(model: Model, pairs: Iterable[str]) -> dict[str, Any]:
    """Reads `--constant NAME=VALUE,…`; raises `BadInput`."""
    shapes = {constant.name: constant.shape for constant in model.constants}
    reads = {constant.name: float if constant.dtype.startswith("float") else int for constant in model.constants}
    values: dict[str, Any] = {}
    for pair in pairs:
        name, _, text = pair.partition("=")
        if name not in shapes:
            raise BadInput(f"--constant: the model's sessions are given {', '.join(shapes) or 'nothing'}, not {name!r}")
        try:
            values[name] = np.array([reads[name](word) for word in text.split(",")]).reshape(shapes[name])
        except ValueError:
            count = int(np.prod(shapes[name], dtype=int))
            raise BadInput(f"--constant {name} takes {count} {_kind(reads[name])} with commas between, not {text!r}") from None
    return values


def _kind(read: type) -> str:
    return "integers" if read is int else "numbers"


def can_warm_up(model: Model) -> bool:
    """Whether what sessions must be given is a mean and a scale, which the first rows of a series can tell."""
    required = {constant.name for constant in model.constants if constant.required}
    return bool(required) and required <= {SERIES_MEAN, SERIES_SCALE}


def warm_up(model: Model, rows: Iterable[Row], count: int) -> dict[str, Values]:
    """Returns, for each series that the model does not know, mean and scale of its targets in its first `count` rows.

    Raises:
        BadInput: the model takes no such values, or a series has none that is known among these rows.
    """
    if not can_warm_up(model):
        raise BadInput("--warm-up: the model's sessions are not given the mean and the scale of a series")
    names = next(constant.features for constant in model.constants if constant.name == SERIES_MEAN)
    places = {feature: (tensor.name, at) for tensor in model.inputs for at, feature in enumerate(tensor.features)}
    seen: dict[str, list[list[float]]] = {}
    for row in rows:
        values = seen.setdefault(row.series, [])
        if row.series not in model.series and len(values) < count:
            values.append([row.inputs[places[name][0]][places[name][1]] for name in names])
    return {series: _moments(series, np.array(values)) for series, values in seen.items() if values}


def _moments(series: str, values: np.ndarray[Any, np.dtype[np.float64]]) -> Values:
    known = [column[np.isfinite(column)] for column in values.T]
    if not all(map(len, known)):
        raise BadInput(f"--warm-up: the first rows of series {series!r} have no value to tell its scale by")
    scales = [float(column.std()) or 1.0 for column in known]
    return {SERIES_MEAN: [float(column.mean()) for column in known], SERIES_SCALE: scales}
