"""What a person draws, pastes or types → the timesteps of a session, and what it is given when it is opened."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from statewise.reading.given import can_warm_up, warm_up
from statewise.reading.problems import BadInput
from statewise.reading.rows import Columns, rows_of, stacked
from statewise.spec import ModelSpec

MOST_TIMESTEPS = 2_000
TIME = "time"
"""The column that holds the time, for a model with a calendar."""
Array = NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a person asks to see.

    Attributes:
        model, version: version 0 is what new sessions get.
        source: a CSV with a header, or text for a model that reads tokens.
        series: which of the series it is that the model knows; empty is none of them.
        constants: what the session is given, by name; goes before what is known of the series.
    """

    model: str
    version: int
    source: str
    series: str = ""
    constants: Mapping[str, list[float]] = field(default_factory=dict)

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> Wanted:
        """Reads what a page sent; raises `BadInput` naming the field."""
        fields = {"model": str, "version": int, "source": str, "series": str, "constants": dict}
        for name, kind in fields.items():
            if not isinstance(raw.get(name, kind()), kind) or isinstance(raw.get(name), bool):
                raise BadInput(f"{name}: takes {'an object' if kind is dict else kind.__name__}, not {raw[name]!r}")
        return cls(**{name: raw.get(name, kind()) for name, kind in fields.items()})


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """The inputs of all timesteps, `[timesteps, …]` each, and what the session is given, by state."""

    inputs: Mapping[str, Array]
    constants: Mapping[str, Array]

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def step(self, position: int) -> dict[str, Array]:
        """Returns the inputs of one timestep, `[1, …]` each."""
        return {name: array[position : position + 1] for name, array in self.inputs.items()}


def read(spec: ModelSpec, wanted: Wanted) -> Series:
    """Returns the series that a person gave; raises `BadInput` with the row and column, or the character, that cannot be read."""
    if spec.vocabulary:
        return Series(_tokens(spec, wanted.source), _constants(spec, wanted.constants))
    columns = Columns(spec, {}, TIME if spec.calendar else None, None, wanted.series)
    rows = list(islice(rows_of(io.StringIO(wanted.source, newline=""), Path("the series"), columns), MOST_TIMESTEPS + 1))
    if not rows:
        raise BadInput("the series has one row: it only tells what is known ahead, so there is no timestep")
    _check_length(len(rows))
    known = {**warm_up(spec, rows, len(rows)).get(wanted.series, {})} if can_warm_up(spec) else {}
    return Series(stacked(spec, rows), _constants(spec, {**known, **spec.series.get(wanted.series, {}), **wanted.constants}))


def _tokens(spec: ModelSpec, text: str) -> dict[str, Array]:
    assert spec.vocabulary
    try:
        tokens = spec.vocabulary.encode(text)
    except ValueError as problem:
        raise BadInput(str(problem)) from problem
    if not tokens:
        raise BadInput("there is no text")
    _check_length(len(tokens))
    return {spec.inputs[0].name: np.array(tokens, spec.inputs[0].dtype)}


def _check_length(timesteps: int) -> None:
    if timesteps > MOST_TIMESTEPS:
        raise BadInput(f"the console plays at most {MOST_TIMESTEPS:,} timesteps; `statewise stream` takes any number")


def _constants(spec: ModelSpec, values: Mapping[str, Any]) -> dict[str, Array]:
    """Returns what the session is given, in the shapes and types that the model takes; what it does not know is left to Open."""
    made: dict[str, Array] = {}
    taken = {constant.name: constant for constant in spec.constants}
    for name, value in values.items():
        if name not in taken:
            raise BadInput(f"{name}: the model's sessions are given {', '.join(taken) or 'nothing'} when they are opened")
        shape = taken[name].shape
        try:
            made[name] = np.asarray(value, taken[name].dtype).reshape(shape)
        except (TypeError, ValueError):
            raise BadInput(f"{name}: takes {int(np.prod(shape, dtype=int))} numbers, not {value!r}") from None
    return made
