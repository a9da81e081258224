"""Executes batches: the pooled graph in ONNX Runtime, with the pools bound in place. The engine is the pools' only writer."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from statewise.graph import FINITE, SOURCE, TARGET, pooled, pools
from statewise.pool import StatePool
from statewise.runtime import CUDA, EngineError, Provider, opened, scatters_by_element
from statewise.spec import ModelSpec

Array = NDArray[np.generic]
Indices = NDArray[np.int64]
KEPT_BINDINGS = 64
DEVICE_FAILED = re.compile(r"\b(CUDA|CUDNN|CUBLAS) failure\b")


@dataclass(frozen=True, slots=True)
class Batch:
    """Steps of distinct sessions, column by column.

    Attributes:
        inputs: `[timesteps, batch, …]` each, rows shorter than the longest padded with zeros.
        lengths: int32 `[batch]`, the timesteps of each row, at least 1.
        source: int64 `[batch]`, the rows to read.
        target: int64 `[batch]`, the rows to write: distinct, and no row's source.
        controls: what the model's control inputs take, `[batch]` each.
    """

    inputs: Mapping[str, Array]
    lengths: NDArray[np.int32]
    source: NDArray[np.int64]
    target: NDArray[np.int64]
    controls: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run returned: outputs `[timesteps, batch, …]` each, and bool `[batch]`, whether outputs and new states are finite."""

    outputs: Mapping[str, Array]
    finite: NDArray[np.bool_]

    @property
    def by_step(self) -> dict[str, Array]:
        """The outputs, `[batch, timesteps, …]` each."""
        return {name: array.swapaxes(0, 1) for name, array in self.outputs.items()}


class Engine(Protocol):
    """Runs one batch at a time."""

    def run(self, batch: Batch, pool: StatePool) -> Outcome:
        """Runs a batch and writes its target rows; raises `EngineError`, and then the target rows hold nothing of use."""
        ...


class OnnxEngine:
    """One model version in ONNX Runtime, over any pool of its states.

    Attributes:
        divided: whether nodes for which CUDA has no kernel run on the CPU, and copies to and fro with them.
    """

    def __init__(self, plain: onnx.ModelProto, spec: ModelSpec, provider: Provider, threads: int) -> None:
        self._spec = spec
        graph = pooled(plain, spec, by_element=scatters_by_element(provider))
        self.divided = False
        try:
            self._runtime = opened(graph, provider, threads, whole=provider == CUDA)
        except EngineError:
            self._runtime = opened(graph, provider, threads)
            self.divided = provider == CUDA
        self._bound: OrderedDict[tuple[StatePool, int, int], _Bound] = OrderedDict()
        self._binding = self._runtime.io_binding() if provider == CUDA else None

    def run(self, batch: Batch, pool: StatePool) -> Outcome:
        """Runs a batch; see `Engine`. An empty one never reaches ONNX Runtime, whose recurrent ops abort the process on it."""
        if not len(batch.source):
            raise EngineError("an empty batch cannot be run")
        try:
            bound = self._bound_for(batch, pool)
            bound.fill(batch)
            self._runtime.run_with_iobinding(bound.binding)
        except Exception as error:  # onnxruntime raises many unrelated classes
            raise EngineError(str(error), fatal=bool(DEVICE_FAILED.search(str(error))) or pool.is_lost()) from error
        return bound.outcome(pool)

    def _bound_for(self, batch: Batch, pool: StatePool) -> _Bound:
        """Returns the binding for batches of this shape. Those of one timestep, nearly all, are kept for the next time."""
        timesteps, steps = len(next(iter(batch.inputs.values()))), len(batch.source)
        key = (pool, timesteps, steps)
        if bound := self._bound.get(key):
            self._bound.move_to_end(key)
            return bound
        bound = _Bound(self._binding or self._runtime.io_binding(), self._spec, pool, timesteps, steps)
        if timesteps == 1:
            self._bound[key] = bound
        if len(self._bound) > KEPT_BINDINGS:
            self._bound.popitem(last=False)
        return bound


class _Bound:
    """Inputs and outputs of batches of one shape, in memory that each run fills and reads.

    On CPU they are bound once. On CUDA what is bound is copied to the device there and then, so it is bound for every run; and all
    shapes share the engine's binding, as those of `_Access` do.
    """

    def __init__(self, binding: onnxruntime.IOBinding, spec: ModelSpec, pool: StatePool, timesteps: int, steps: int) -> None:
        self.binding = binding
        self._checked = False
        self._memory = pool.memory
        self._pools = pools(spec)
        self._inputs = {tensor.name: np.zeros((timesteps, steps, *tensor.shape), tensor.dtype) for tensor in spec.inputs}
        self._controls = {control.input: np.zeros(steps, control.dtype) for control in spec.controls}
        self._lengths = np.zeros(steps, np.int32)
        self._source, self._target = np.zeros(steps, np.int64), np.zeros(steps, np.int64)
        self._finite = np.zeros(steps, np.bool_)
        self._outputs = {tensor.name: np.zeros((timesteps, steps, *tensor.shape), tensor.dtype) for tensor in spec.outputs}
        self._taken = {**self._inputs, **self._controls, SOURCE: self._source, TARGET: self._target}
        if spec.lengths:
            self._taken[spec.lengths] = self._lengths
        returned = {FINITE: self._finite, **self._outputs}
        self._returned = {name: onnxruntime.OrtValue.ortvalue_from_numpy(array) for name, array in returned.items()}
        self._once = pool.provider != CUDA
        if self._once:
            self._bind()

    def _bind(self) -> None:
        for name, array in self._taken.items():
            self.binding.bind_cpu_input(name, array)
        for pool, memory in zip(self._pools, self._memory, strict=True):
            self.binding.bind_input(pool.input, *memory)
            self.binding.bind_output(pool.output, *memory)
        for name, value in self._returned.items():
            self.binding.bind_ortvalue_output(name, value)

    def fill(self, batch: Batch) -> None:
        """Puts a batch where the next run reads it."""
        for name, array in self._inputs.items():
            array[...] = batch.inputs[name]
        for name, array in self._controls.items():
            array[...] = batch.controls[name]
        self._lengths[...] = batch.lengths
        self._source[...] = batch.source
        self._target[...] = batch.target
        if not self._once:
            self._bind()

    def outcome(self, pool: StatePool) -> Outcome:
        """Returns copies of what a run has left; raises `EngineError` if it did not write the pools in place."""
        if not self._checked:
            addresses = [value.data_ptr() for value in self.binding.get_outputs()]
            if addresses[: len(self._pools)] != pool.addresses:
                raise EngineError("ONNX Runtime moved a state pool: it must be written in place", fatal=True)
            self._checked = True
        return Outcome({name: array.copy() for name, array in self._outputs.items()}, self._finite.copy())
