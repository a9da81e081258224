"""The file in ONNX Runtime, as it is: which reading of its axes holds, and what it answers to carried steps.

Nothing here knows the server. What the file says of its outputs is not believed: they are as runs show them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from statewise.controls import controls_of
from statewise.importing.foreign import Port
from statewise.importing.layout import Layout
from statewise.importing.problems import Refused
from statewise.spec import ControlSpec, TensorSpec

Array = NDArray[np.generic]
SEED = 20_261_125


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """What the inputs of a file are for.

    Attributes:
        sent: what a client sends, with their bounds, as one timestep of one session has them.
        states: pairs of input and output.
        constants: inputs that are carried and never change.
        initial: what states and constants start from, `[*shape]` each.
        fixed: inputs that are the same in all runs, as the file takes them.
        controls: what the server feeds.
        lengths: the input that takes the timesteps of each row, or `None`.
        ports: of all inputs.
    """

    sent: tuple[TensorSpec, ...]
    states: tuple[tuple[str, str], ...]
    constants: tuple[str, ...]
    initial: Mapping[str, Array]
    fixed: Mapping[str, Array]
    controls: tuple[ControlSpec, ...]
    lengths: str | None
    ports: Mapping[str, Port]

    @property
    def carried(self) -> tuple[str, ...]:
        """Returns the inputs whose value is the session's."""
        return (*(taken for taken, _ in self.states), *self.constants)


@dataclass(slots=True)
class Carried:
    """A conversation of some sessions side by side: what they carry, as the file takes it, how far they are, and their numbers."""

    values: dict[str, Array]
    numbers: NDArray[np.int64]
    step: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """Runs a file in one reading of its axes. `runtime` is of the file as it is."""

    runtime: onnxruntime.InferenceSession
    parts: Parts
    layout: Layout

    def start(self, batch: int, first: int = 1) -> Carried:
        """Returns `batch` sessions that begin, numbered from `first` on."""
        rows = {name: np.repeat(self.parts.initial[name][None, None], batch, axis=1) for name in self.parts.carried}
        return Carried({name: self.layout.carried[name].to_file(array) for name, array in rows.items()}, first + np.arange(batch))

    def run(
        self, sessions: Carried, inputs: Mapping[str, Array], lengths: Array | None = None, *, last: bool = False
    ) -> dict[str, Array]:
        """Runs one call, `[time, batch, …]` each, and carries the states on; returns all outputs as the file returns them.

        Raises:
            Refused: ONNX Runtime cannot run it, or a state changes its shape.
        """
        timesteps, batch = next(iter(inputs.values())).shape[:2]
        fed = {name: self.layout.inputs[name].to_file(array) for name, array in inputs.items()}
        fed |= {**sessions.values, **self.parts.fixed}
        whether = [np.full(batch, each) for each in (sessions.step == 0, last)]
        told = controls_of(self.parts.controls, whether[0], whether[1], sessions.numbers)
        fed |= {name: as_file_takes(array, self.parts.ports[name]) for name, array in told.items()}
        if self.parts.lengths:
            counts = np.full(batch, timesteps) if lengths is None else lengths
            fed[self.parts.lengths] = as_file_takes(counts, self.parts.ports[self.parts.lengths])
        outputs = run(self.runtime, fed)
        for taken, returned in self.parts.states:
            before, after = sessions.values[taken], outputs[returned]
            if before.shape != after.shape or before.dtype != after.dtype:
                shapes = f"{before.dtype} {list(before.shape)} goes in, {after.dtype} {list(after.shape)} comes out"
                raise Refused(
                    f"state {taken}:{returned} changes its shape from step to step ({shapes}), and a row of the pool cannot"
                )
            sessions.values[taken] = after
        sessions.step += 1
        return outputs


def open_file(raw: bytes) -> onnxruntime.InferenceSession:
    """Returns the file in ONNX Runtime; raises `Refused`."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(raw, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises many unrelated classes
        raise Refused(f"ONNX Runtime cannot load it: {one_line(error)}") from error


def run(runtime: onnxruntime.InferenceSession, fed: Mapping[str, Array]) -> dict[str, Array]:
    """Returns all outputs by name; raises `Refused`."""
    names = [info.name for info in runtime.get_outputs()]
    try:
        return dict(zip(names, runtime.run(names, dict(fed)), strict=True))
    except Exception as error:  # onnxruntime raises many unrelated classes
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in fed.items())
        raise Refused(f"its dry run failed with {shapes}: {one_line(error)}") from error


def as_file_takes(values: Array, port: Port) -> Array:
    """Returns `[batch]` in the dtype and with the axes of an input that takes one element a row."""
    dims = [dim for dim in port.dims if isinstance(dim, int) and dim != 1]
    if dims:
        raise Refused(f"{port} takes {dims[0]} elements a row, and what the server feeds is one")
    dynamic = [axis for axis, dim in enumerate(port.dims) if isinstance(dim, str)]
    shape = [1] * len(port.dims)
    if shape:
        shape[dynamic[0] if dynamic else 0] = -1
    return values.astype(port.dtype).reshape(shape)


def one_line(error: Exception) -> str:
    """Returns the beginning of an error in one line."""
    return " ".join(str(error).split())[:300]


class Draws:
    """Inputs drawn at random, `[time, batch, *shape]` each; integers within their bounds, or 0 and 1 where they have none."""

    def __init__(self, tensors: Sequence[TensorSpec], *, positive: bool) -> None:
        self._tensors = tensors
        self._positive = positive
        self._random = np.random.default_rng(SEED)

    def __call__(self, timesteps: int, batch: int) -> dict[str, Array]:
        """Returns the inputs of one call."""
        return {tensor.name: self._draw(tensor, (timesteps, batch, *tensor.shape)) for tensor in self._tensors}

    def _draw(self, tensor: TensorSpec, shape: tuple[int, ...]) -> Array:
        if tensor.dtype.startswith("float"):
            drawn = self._random.random(shape) if self._positive else self._random.standard_normal(shape)
            return drawn.astype(tensor.dtype)
        low = tensor.minimum if tensor.minimum is not None else 0
        high = tensor.maximum if tensor.maximum is not None else low + 1
        return self._random.integers(low, high, shape, endpoint=True).astype(tensor.dtype)


def difference(ours: Array, theirs: Array) -> float:
    """Returns the largest difference, as a share of the scale of `theirs`; infinity for other shapes."""
    if ours.shape != theirs.shape:
        return float("inf")
    mine, other = ours.astype(np.float64), theirs.astype(np.float64)
    return float(np.abs(mine - other).max(initial=0) / max(1e-6, float(np.abs(other).max(initial=0))))
