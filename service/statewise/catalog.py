"""From a file in the repository to a model that is ready: read, pooled, loaded, warmed up, and held against its parity vectors.

Loading takes place in a thread of its own, over a small pool of its own, while the models that are ready go on being served.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import structlog
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from statewise.controls import controls_of
from statewise.engine import Batch, Engine, OnnxEngine
from statewise.pool import StatePool, initial
from statewise.runtime import EngineError, Provider
from statewise.sessions import INITIAL_ROW, PADDING_ROW, RESERVED_ROWS
from statewise.spec import METADATA_KEY, ModelSpec, SpecError, StateSpec, TensorSpec

OLDEST_OPSET = 13
NEWEST_OPSET = 20
WARM_UP_RUNS = 4
log = structlog.get_logger()


class LoadError(Exception):
    """A model file cannot be served; the message names it and says why."""


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """A model version that can be run. It is compared by identity.

    Attributes:
        digest: SHA-256 of the file, in hexadecimal.
        seconds: what a run of one timestep took at each batch size that was warmed up: powers of two.
        parameters_bytes: the size of the file, about what the model takes in memory.
        parity_difference: the largest from its parity vectors, as a share of the scale.
    """

    name: str
    version: int
    spec: ModelSpec
    engine: Engine
    provider: Provider
    digest: str
    seconds: dict[int, float]
    parameters_bytes: int
    parity_difference: float = 0.0

    def expected_seconds(self, steps: int, timesteps: int) -> float:
        """Returns about how long a run will take."""
        size = min(1 << (steps - 1).bit_length(), max(self.seconds))
        return self.seconds[size] * timesteps


def load(name: str, version: int, file: Path, largest: int, provider: Provider, threads: int) -> Loaded:
    """Returns a model version that is ready to run batches of up to `largest` steps.

    Raises:
        LoadError: the file cannot be read, describes no servable model, or does not compute what it says.
    """
    try:
        raw = file.read_bytes()
        model = onnx.load_from_string(raw)
        spec = read_spec(model)
        _check_series(spec)
        engine = OnnxEngine(model, spec, provider, threads)
        if engine.divided:
            log.warning("part of the model runs on the CPU: CUDA has no kernel for it", model=name, version=version)
        apart = _check_parity(engine, spec, provider)
        seconds = _warm_up(engine, spec, provider, largest)
    except (OSError, DecodeError, SpecError, EngineError, LoadError, ValueError) as error:
        raise LoadError(f"{file}: {error}") from error
    return Loaded(name, version, spec, engine, provider, hashlib.sha256(raw).hexdigest(), seconds, len(raw), apart)


def read_spec(model: onnx.ModelProto) -> ModelSpec:
    """Returns the spec that a model carries, checked against its graph; raises `SpecError` or `LoadError`."""
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    if METADATA_KEY not in metadata:
        raise SpecError(f"it has no {METADATA_KEY!r} in its metadata, so it was not exported for Statewise")
    spec = ModelSpec.from_json(metadata[METADATA_KEY])
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if not OLDEST_OPSET <= opset <= NEWEST_OPSET:
        raise LoadError(f"its opset is {opset}; {OLDEST_OPSET} to {NEWEST_OPSET} can be served")
    inputs, outputs = {info.name for info in model.graph.input}, {info.name for info in model.graph.output}
    named = (
        {tensor.name for tensor in spec.inputs}
        | {state.input for state in spec.states}
        | {control.input for control in spec.controls}
    )
    named |= {spec.lengths} if spec.lengths else set()
    returned = {tensor.name for tensor in spec.outputs} | {state.output for state in spec.states}
    if named != inputs or returned != outputs:
        raise SpecError(f"its spec and its graph differ in {', '.join(sorted((named ^ inputs) | (returned ^ outputs)))}")
    if any(tensor.time_axis != 0 or tensor.batch_axis != 1 for tensor in (*spec.inputs, *spec.outputs)):
        raise LoadError("inputs and outputs must have time as axis 0 and batch as axis 1")
    return spec


def _check_parity(engine: Engine, spec: ModelSpec, provider: Provider) -> float:
    """Runs the carried steps that the model brings, on the provider that will serve it; returns the largest difference."""
    columns = [{t.name: _array(step[t.name], t.dtype) for t in spec.inputs} for step in spec.parity.steps]
    if not columns:
        return 0.0
    if any(array.ndim < 2 for column in columns for array in column.values()):
        raise LoadError("its parity vectors must be [timesteps, batch, …]")
    batches = {array.shape[1] for column in columns for array in column.values()}
    if len(batches) > 1:
        raise LoadError(f"its parity vectors are of batches of {sorted(batches)}; all must be of one")
    (batch,) = batches
    longest = max(len(array) for column in columns for array in column.values())
    if (spec.batch and batch > spec.batch) or (spec.timesteps and longest > spec.timesteps):
        raise LoadError(f"its parity vectors are {longest} timesteps of {batch} sessions, more than it says that a run takes")
    numbers = 1 + np.arange(batch, dtype=np.int64)
    pool = StatePool(spec.states, RESERVED_ROWS + 2 * batch, provider)
    source = RESERVED_ROWS + batch + np.arange(batch, dtype=np.int64)
    pool.write(source, {state.input: _first(state, spec.parity.constants, batch) for state in spec.states})
    largest = 0.0
    for number, (inputs, expected) in enumerate(zip(columns, spec.parity.expected, strict=True)):
        timesteps = len(next(iter(inputs.values())))
        # Two sets of rows take turns, since a run never reads the rows that it writes.
        target = RESERVED_ROWS + np.arange(batch, dtype=np.int64) + (number % 2) * batch
        starts, ends = np.full(batch, number == 0), np.full(batch, number == len(columns) - 1)
        told = controls_of(spec.controls, starts, ends, numbers)
        outcome = engine.run(Batch(inputs, np.full(batch, timesteps, np.int32), source, target, told), pool)
        for name, values in expected.items():
            difference = _difference(outcome.outputs[name], _array(values, "float64"))
            largest = max(largest, difference)
            if not difference <= spec.parity.tolerance:
                raise LoadError(f"output {name!r} differs by {difference:.1e} of its scale from what was recorded with it")
        source = target
    return largest


def _first(state: StateSpec, given: Mapping[str, Any], batch: int) -> NDArray[np.generic]:
    """Returns the state `[batch, *shape]` that the parity vectors' sessions start from."""
    if state.input not in given:
        return np.repeat(initial(state)[None], batch, axis=0)
    array = _array(given[state.input], state.dtype)
    if array.shape != (batch, *state.shape):
        raise LoadError(f"its parity vectors give {state.input!r} as {list(array.shape)}, not {[batch, *state.shape]}")
    return array


def _check_series(spec: ModelSpec) -> None:
    """Holds what the sessions of known series are to be given against the states that take it."""
    states = {state.input: state for state in spec.states}
    for series, given in spec.series.items():
        for name, values in given.items():
            if _array(values, states[name].dtype).shape != states[name].shape:
                raise LoadError(f"what it keeps for series {series!r} is not of the shape of {name!r}")


def _array(values: Any, dtype: str) -> NDArray[np.generic]:
    try:
        return np.asarray(values, dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise LoadError(f"its parity vectors or constants cannot be read as {dtype}: {error}") from error


def _difference(ours: NDArray[np.generic], theirs: NDArray[np.generic]) -> float:
    if ours.shape != theirs.shape:
        return float("inf")
    mine, other = ours.astype(np.float64), theirs.astype(np.float64)
    return float(np.abs(mine - other).max() / max(1e-6, float(np.abs(other).max())))


def _warm_up(engine: Engine, spec: ModelSpec, provider: Provider, largest: int) -> dict[int, float]:
    """Runs every power of two up to the largest batch, so that no client pays for a first allocation; returns what each took."""
    pool = StatePool(spec.states, RESERVED_ROWS, provider)
    seconds: dict[int, float] = {}
    largest = min(largest, spec.batch or largest)
    size = 1
    while size < 2 * largest:
        batch = min(size, largest)
        inputs = {tensor.name: _neutral(tensor, batch) for tensor in spec.inputs}
        source, target = np.full(batch, INITIAL_ROW, np.int64), np.full(batch, PADDING_ROW, np.int64)
        yes = np.ones(batch, np.bool_)
        told = controls_of(spec.controls, yes, yes, np.ones(batch, np.int64))
        took = [_timed(engine, Batch(inputs, np.ones(batch, np.int32), source, target, told), pool) for _ in range(WARM_UP_RUNS)]
        seconds[size] = min(took[1:])  # the first run allocates, and any run may be held up by a neighbour
        size *= 2
    return seconds


def _timed(engine: Engine, batch: Batch, pool: StatePool) -> float:
    started = time.perf_counter()
    engine.run(batch, pool)
    return time.perf_counter() - started


def _neutral(tensor: TensorSpec, batch: int) -> NDArray[np.generic]:
    return np.full((1, batch, *tensor.shape), tensor.minimum or 0, tensor.dtype)
