"""From a file in the repository to a model that is ready: read, pooled, loaded, warmed up, and held against its parity vectors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from statewise.config import Limits
from statewise.engine import Batch, Engine, EngineError, OnnxEngine, Provider
from statewise.sessions import INITIAL_ROW, PADDING_ROW, RESERVED_ROWS, Rows
from statewise.spec import METADATA_KEY, ModelSpec, SpecError, TensorSpec

OLDEST_OPSET = 13
NEWEST_OPSET = 20


class LoadError(Exception):
    """A model file cannot be served; the message names it and says why."""


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """A model version in memory. Sessions are pinned to one of these; it is compared by identity.

    Attributes:
        rows: which rows of the engine's pools are free.
    """

    name: str
    version: int
    spec: ModelSpec
    engine: Engine
    rows: Rows
    provider: str


def load(name: str, version: int, file: Path, limits: Limits, provider: Provider, threads: int) -> Served:
    """Returns a model version that is ready to run.

    A session needs its committed row and, while it runs a long step, two more; hence the size of the pools.

    Raises:
        LoadError: the file cannot be read, describes no servable model, or does not compute what it says.
    """
    try:
        model = onnx.load(str(file))
        spec = read_spec(model)
        count = RESERVED_ROWS + 2 * limits.sessions + limits.batch
        engine = OnnxEngine(model, spec, count, provider, threads)
        _check_parity(engine, spec)
        _warm_up(engine, spec, limits.batch)
    except (OSError, DecodeError, SpecError, EngineError, LoadError, ValueError) as error:
        raise LoadError(f"{file}: {error}") from error
    return Served(name, version, spec, engine, Rows(count), provider)


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
    named = {tensor.name for tensor in spec.inputs} | {state.input for state in spec.states} | {spec.lengths or next(iter(inputs))}
    returned = {tensor.name for tensor in spec.outputs} | {state.output for state in spec.states}
    if named != inputs or returned != outputs:
        raise SpecError(f"its spec and its graph differ in {', '.join(sorted((named ^ inputs) | (returned ^ outputs)))}")
    if any(tensor.time_axis != 0 or tensor.batch_axis != 1 for tensor in (*spec.inputs, *spec.outputs)):
        raise LoadError("inputs and outputs must have time as axis 0 and batch as axis 1")
    return spec


def _check_parity(engine: Engine, spec: ModelSpec) -> None:
    """Runs the carried steps that the model brings, on the engine that will serve it, and compares the outputs."""
    source = None
    for number, (step, expected) in enumerate(zip(spec.parity.steps, spec.parity.expected, strict=True)):
        inputs = {tensor.name: _array(step[tensor.name], tensor.dtype) for tensor in spec.inputs}
        timesteps, batch = next(iter(inputs.values())).shape[:2]
        source = np.full(batch, INITIAL_ROW, np.int64) if source is None else source
        # Two sets of rows take turns, since a run never reads the rows that it writes.
        target = RESERVED_ROWS + np.arange(batch, dtype=np.int64) + (number % 2) * batch
        outcome = engine.run(Batch(inputs, np.full(batch, timesteps, np.int32), source, target))
        for name, values in expected.items():
            difference = _difference(outcome.outputs[name], _array(values, "float64"))
            if not difference <= spec.parity.tolerance:
                raise LoadError(f"output {name!r} differs by {difference:.1e} of its scale from what the export recorded")
        source = target


def _array(values: Any, dtype: str) -> NDArray[np.generic]:
    try:
        return np.asarray(values, dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise LoadError(f"its parity vectors cannot be read as {dtype}: {error}") from error


def _difference(ours: NDArray[np.generic], theirs: NDArray[np.generic]) -> float:
    if ours.shape != theirs.shape:
        return float("inf")
    mine, other = ours.astype(np.float64), theirs.astype(np.float64)
    return float(np.abs(mine - other).max() / max(1e-6, float(np.abs(other).max())))


def _warm_up(engine: Engine, spec: ModelSpec, largest: int) -> None:
    """Runs every power of two up to the largest batch once, so that no client pays for a first allocation."""
    batch = 1
    while batch <= largest:
        inputs = {tensor.name: _neutral(tensor, batch) for tensor in spec.inputs}
        rows = [np.full(batch, row, np.int64) for row in (INITIAL_ROW, PADDING_ROW)]
        engine.run(Batch(inputs, np.ones(batch, np.int32), *rows))
        batch *= 2


def _neutral(tensor: TensorSpec, batch: int) -> NDArray[np.generic]:
    return np.full((1, batch, *tensor.shape), tensor.minimum or 0, tensor.dtype)
