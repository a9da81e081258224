"""How well the forecasts that were given came true, and whether inputs are like those of training.

Where a target is an input too, the value that a forecast was about comes with the next timestep. So each session's last forecast
and last value are kept, in columns that are reserved and cost nothing before they are used; when its next step is committed, the
forecast is held against what came, beside persistence ("as it is now"). Errors are told in standard deviations of training, so that
all models share buckets, and one that is larger than `MOST` counts as `MOST`: a single absurd value must not blind a sum for ever.

Nothing here is kept for models of which nothing can be told. Pure: arrays in, counts out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from statewise.masks import every
from statewise.spec import SERIES_MEAN, SERIES_SCALE, ModelSpec, TensorSpec

Array = NDArray[np.generic]
Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Handles = NDArray[np.uint64]
Places = slice | list[int]
Read = Callable[[Indices], Mapping[str, Array]]
MOST = 100.0
"""The largest error that is counted, in standard deviations."""
VALIDATION = "scaled_error"
"""Where a spec's `about` has the model's error in validation, as training told it."""


class Histogram(Protocol):
    """Counts errors by size."""

    bounds: tuple[float, ...]

    def enter(self, counts: Sequence[int], total: float) -> None:
        """Adds to each bucket, and to the sum."""
        ...


class Counter(Protocol):
    """Adds up."""

    def inc(self, amount: float) -> None:
        """Adds."""
        ...


class Counts(Protocol):
    """Where what is found is counted, by the labels of a version; what is asked for is exposed from then on."""

    errors: Callable[..., Histogram]
    persistence: Callable[..., Counter]
    inputs: Callable[..., Counter]
    outside: Callable[..., Counter]

    def validated(self, labels: tuple[str, str], error: float) -> None:
        """Takes the error in validation."""
        ...


@dataclass(frozen=True, slots=True)
class Committed:
    """Steps of distinct sessions that are about to be committed.

    Attributes:
        sessions, handles: `[steps]`.
        starts: `[steps]`, their positions.
        rows: `[steps]`, of their new states.
        inputs, outputs: `[steps, timesteps, …]` each.
    """

    sessions: Indices
    handles: Handles
    starts: Indices
    rows: Indices
    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]


def forecast_pairs(spec: ModelSpec) -> list[tuple[TensorSpec, TensorSpec, list[str]]]:
    """Returns input, output and the features of both by whose next value a forecast can be judged."""
    if spec.task != "forecast":
        return []
    inputs, outputs = ([tensor for tensor in tensors if len(tensor.shape) == 1] for tensors in (spec.inputs, spec.outputs))
    pairs = [(given, made) for given in inputs if given.scale for made in outputs]
    named = [(given, made, [name for name in made.features if name in _present(given)]) for given, made in pairs]
    return [(given, made, names) for given, made, names in named if names]


def _present(tensor: TensorSpec) -> list[str]:
    """Returns the features whose value is that of the step's own timestep."""
    ahead = tensor.ahead or (0,) * len(tensor.features)
    return [name for name, steps in zip(tensor.features, ahead, strict=True) if not steps]


def ranged(spec: ModelSpec) -> list[TensorSpec]:
    """Returns the inputs whose range in training is known."""
    return [tensor for tensor in spec.inputs if tensor.least]


def validation_error(spec: ModelSpec) -> float | None:
    """Returns the model's error in validation, in standard deviations of training; `None` where the file does not tell."""
    told = spec.about.get(VALIDATION)
    error = told.get("model") if isinstance(told, Mapping) else None
    return float(error) if isinstance(error, int | float) else None


class Accuracy:
    """What is kept of one model's sessions to judge their forecasts by. The batcher alone calls it.

    Args:
        labels: of the version.
        capacity: the most sessions.
        read: reads rows of states by name: where series have a scale of their own, that is one.
    """

    def __init__(self, spec: ModelSpec, counts: Counts, labels: tuple[str, str], capacity: int, read: Read) -> None:
        self._judges = [_Judge(*pair, counts, labels, capacity) for pair in forecast_pairs(spec)]
        self._ranges = [_Range(tensor, spec, counts, labels) for tensor in ranged(spec)]
        self._due = np.zeros(capacity, np.uint64)  # handle + position that a session's next step must have; no handle is 0
        own = next((state for state in spec.states if state.input == SERIES_SCALE), None)
        self._own = _Own(own.features, capacity, read) if own else None

    @classmethod
    def of(cls, spec: ModelSpec, counts: Counts, labels: tuple[str, str], capacity: int, read: Read) -> Accuracy | None:
        """Returns what judges a model; `None` where nothing can be told of it."""
        pairs = forecast_pairs(spec)
        error = validation_error(spec)
        if pairs and error is not None:
            counts.validated(labels, error)
        return cls(spec, counts, labels, capacity, read) if pairs or ranged(spec) else None

    def judge(self, steps: Committed) -> None:
        """Holds the sessions' last forecasts, and those within the steps, against what has come; and keeps the last ones."""
        sessions, begun = steps.sessions, steps.handles + steps.starts.view(np.uint64)
        known = self._due[sessions] == begun
        timesteps = next(iter(steps.outputs.values())).shape[1]
        self._due[sessions] = begun + np.uint64(timesteps)
        if self._own and not every(known):
            self._own.learn(sessions[~known], steps.rows[~known])
        for judge in self._judges:
            judge.judge(steps, known, self._own)
        for each in self._ranges:
            each.count(steps, self._own)


class _Own:
    """Mean and scale of sessions whose series has its own, `[capacity, targets]`: read from their state once."""

    def __init__(self, names: tuple[str, ...], capacity: int, read: Read) -> None:
        self.names = names
        self.mean = np.zeros((capacity, len(names)))
        self.scale = np.zeros((capacity, len(names)))
        self._read = read

    def learn(self, sessions: Indices, rows: Indices) -> None:
        """Reads those of sessions that are new."""
        states = self._read(rows)
        self.mean[sessions], self.scale[sessions] = states[SERIES_MEAN], states[SERIES_SCALE]


class _Judge:
    """The last forecasts and values of sessions, `[capacity · targets]`, of one input and one output."""

    def __init__(
        self, given: TensorSpec, made: TensorSpec, names: list[str], counts: Counts, labels: tuple[str, str], capacity: int
    ) -> None:
        self._given, self._made = given.name, made.name
        self._names = names
        self._places, self._places_made = _places(given, names), _places(made, names)
        self._scale = np.array([given.scale[given.features.index(name)] for name in names])
        self._forecast, self._value = np.zeros(capacity * len(names)), np.zeros(capacity * len(names))  # one index is quicker
        self._errors, self._persistence = counts.errors(*labels), counts.persistence(*labels)
        self._bounds = np.array(self._errors.bounds)

    def judge(self, steps: Committed, known: NDArray[np.bool_], own: _Own | None) -> None:
        """See `Accuracy.judge`; `known` is `[steps]`, whether what is kept is of the timestep before."""
        values = steps.inputs[self._given][..., self._places]
        forecasts = steps.outputs[self._made][..., self._places_made]
        seats = self._seats(steps.sessions)
        said, was = self._forecast[seats], self._value[seats]
        self._forecast[seats], self._value[seats] = forecasts[:, -1].reshape(-1), values[:, -1].reshape(-1)
        if not every(known):
            was.reshape(len(known), -1)[~known] = np.nan
        came = values.reshape(-1)
        off = np.empty((2, len(came)))  # of forecasts and of persistence
        np.subtract(_before(said, forecasts), came, out=off[0])
        np.subtract(_before(was, values), came, out=off[1])
        apart = off.reshape(2, *values.shape)
        apart /= self._scale
        if own:
            apart /= own.scale[steps.sessions][:, None, [own.names.index(name) for name in self._names]]
        np.abs(off, out=off)
        self._enter(np.minimum(off, MOST, out=off))

    def _seats(self, sessions: Indices) -> Indices:
        """Returns where what is kept of sessions is, target by target."""
        width = len(self._names)
        return sessions if width == 1 else (sessions[:, None] * width + np.arange(width)).reshape(-1)

    def _enter(self, off: Floats) -> None:
        """Counts the errors of forecasts, and of persistence, `[2, values]`, where both are known."""
        error, persistence = off.sum(axis=1).tolist()
        if math.isnan(error + persistence):
            off = off[:, ~np.isnan(off[1])]  # a forecast is always known
            error, persistence = off.sum(axis=1).tolist()
        sizes = np.bincount(self._bounds.searchsorted(off[0]), minlength=len(self._bounds) + 1)
        self._errors.enter(sizes.tolist(), error)
        self._persistence.inc(persistence)


def _before(kept: Floats, now: Array) -> Array:
    """Returns `[steps, timesteps, targets]`, flat, one timestep before: what was kept, and then what is now."""
    steps, timesteps, targets = now.shape
    if timesteps == 1:
        return kept
    return np.concatenate([kept.reshape(steps, 1, targets), now[:, :-1]], axis=1).reshape(-1)


class _Range:
    """The range of one input's features in training; of targets of series with a scale of their own, in that scale."""

    def __init__(self, tensor: TensorSpec, spec: ModelSpec, counts: Counts, labels: tuple[str, str]) -> None:
        self._name = tensor.name
        self._masked = tensor.masked
        self._inputs, self._outside = counts.inputs(*labels), counts.outside(*labels)
        targets = next((state.features for state in spec.states if state.input == SERIES_SCALE), ())
        self._scaled = [(tensor.features.index(name), place) for place, name in enumerate(targets) if name in tensor.features]
        dtype = np.float32 if tensor.dtype == "float32" and not self._scaled else np.float64  # as training had them
        self._least, self._greatest = np.array(tensor.least, dtype), np.array(tensor.greatest, dtype)

    def count(self, steps: Committed, own: _Own | None) -> None:
        """Counts the values that are there, and those outside."""
        values: NDArray[Any] = steps.inputs[self._name]
        if own and self._scaled:
            values = values.astype(np.float64)
            for at, place in self._scaled:
                mean, scale = own.mean[steps.sessions, place], own.scale[steps.sessions, place]
                values[..., at] = (values[..., at] - mean[:, None]) / scale[:, None]
        outside = np.count_nonzero(values < self._least) + np.count_nonzero(values > self._greatest)
        unknown = np.count_nonzero(np.isnan(values)) if self._masked else 0
        self._inputs.inc(float(values.size - unknown))
        self._outside.inc(float(outside))


def _places(tensor: TensorSpec, names: list[str]) -> Places:
    """Returns where features are on a tensor's last axis; a slice where they stand side by side, since that is quicker."""
    places = [tensor.features.index(name) for name in names]
    first = places[0]
    return slice(first, first + len(places)) if places == list(range(first, first + len(places))) else places
