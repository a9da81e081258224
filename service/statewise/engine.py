"""Executes batches: the pooled graph in ONNX Runtime, with the pools bound in place. The engine is the pools' only writer."""

from __future__ import annotations

import base64
import ctypes
import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import onnx
import onnxruntime
import structlog
from numpy.typing import NDArray

from statewise.graph import FINITE, SOURCE, TARGET, Pool, pooled, pools, row_name, rows_reader, rows_writer
from statewise.sessions import INITIAL_ROW
from statewise.spec import ModelSpec, StateSpec

Array = NDArray[np.generic]
Indices = NDArray[np.int64]
KEPT_BINDINGS = 64
log = structlog.get_logger()
Provider = Literal["CPUExecutionProvider", "CUDAExecutionProvider"]


class EngineError(Exception):
    """A model cannot be run by this engine, or a run failed.

    Attributes:
        fatal: whether nothing on the device can be trusted any more.
    """

    def __init__(self, message: str, *, fatal: bool = False) -> None:
        super().__init__(message)
        self.fatal = fatal


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


class Engine(Protocol):
    """Runs one batch at a time."""

    def run(self, batch: Batch, pool: StatePool) -> Outcome:
        """Runs a batch and writes its target rows; raises `EngineError`, and then the target rows hold nothing of use."""
        ...


def choose_provider(wanted: str) -> Provider:
    """Returns the execution provider for `auto`, `cpu` or `cuda`; raises `EngineError` where CUDA is asked for and absent.

    `auto` is CUDA where there is a GPU that ONNX Runtime can use: what it lists is what it was built for, so a graph is tried.
    """
    cuda = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    if wanted == "cuda" and not cuda:
        raise EngineError("provider cuda: this ONNX Runtime has no CUDA (pip install 'statewise[cuda]')")
    if wanted == "cpu" or not cuda or (wanted == "auto" and not _finds_cuda()):
        return "CPUExecutionProvider"
    return "CUDAExecutionProvider"


def has_gpu() -> bool:
    """Returns whether NVIDIA's driver is there."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def _finds_cuda() -> bool:
    if not has_gpu():  # ONNX Runtime would try at length, and complain
        return False
    try:
        _open(rows_reader([StateSpec("state", "next", "float32", (1,))]).SerializeToString(), "CUDAExecutionProvider", 1)
    except EngineError as problem:
        log.warning("a GPU is there and cannot be used; running on CPU", why=str(problem), install="statewise[cuda]")
        return False
    return True


class StatePool:
    """The states of sessions: a reserved tensor `[rows, *state.shape]` for each state of a spec. It never grows or moves.

    All graphs that write a pool run in one thread, its engine's; so whoever reads rows between two runs reads whole ones.
    """

    def __init__(self, states: tuple[StateSpec, ...], rows: int, provider: Provider) -> None:
        self.states = states
        self.rows = rows
        self.provider = provider
        self.values = [_reserve(state, rows, provider) for state in states]
        self.addresses = [value.data_ptr() for value in self.values]
        self._reader = _open(rows_reader(states).SerializeToString(), provider, 1)
        self._writer = _open(rows_writer(states, by_element=scatters_by_element(provider)).SerializeToString(), provider, 1)

    @property
    def bytes(self) -> int:
        """What the pool takes if every row is used."""
        return self.rows * self.bytes_of(self.states)

    @staticmethod
    def bytes_of(states: tuple[StateSpec, ...]) -> int:
        """Returns what one session's state takes."""
        return sum(math.prod(state.shape) * np.dtype(state.dtype).itemsize for state in states)

    def read(self, rows: Indices) -> dict[str, Array]:
        """Returns the states `[rows, *state.shape]`, by the name of the plain graph's input."""
        binding = self._reader.io_binding()
        binding.bind_cpu_input(SOURCE, rows)
        for state, value in zip(self.states, self.values, strict=True):
            binding.bind_ortvalue_input(Pool(state).input, value)
            binding.bind_output(row_name(state), "cpu")
        self._reader.run_with_iobinding(binding)
        return {state.input: value.numpy() for state, value in zip(self.states, binding.get_outputs(), strict=True)}

    def write(self, rows: Indices, states: Mapping[str, Array]) -> None:
        """Writes states, as `read` returned them, to fresh rows."""
        binding = self._writer.io_binding()
        binding.bind_cpu_input(TARGET, rows)
        for state, value in zip(self.states, self.values, strict=True):
            binding.bind_ortvalue_input(Pool(state).input, value)
            binding.bind_ortvalue_output(Pool(state).output, value)
            binding.bind_cpu_input(row_name(state), np.ascontiguousarray(states[state.input], state.dtype))
        self._writer.run_with_iobinding(binding)


def initial(state: StateSpec) -> Array:
    """Returns the state `[*state.shape]` that a session starts from if it is given nothing."""
    if not state.initial_base64:
        return np.full(state.shape, state.initial, state.dtype)
    raw = base64.b64decode(state.initial_base64)
    return np.frombuffer(raw, np.dtype(state.dtype).newbyteorder("<")).reshape(state.shape).astype(state.dtype)


def scatters_by_element(provider: Provider) -> bool:
    """Returns which form of the scatter is the fast one."""
    return provider == "CUDAExecutionProvider"


class OnnxEngine:
    """One model version in ONNX Runtime, over any pool of its states."""

    def __init__(self, plain: onnx.ModelProto, spec: ModelSpec, provider: Provider, threads: int) -> None:
        self._spec = spec
        graph = pooled(plain, spec, by_element=scatters_by_element(provider))
        self._runtime = _open(graph.SerializeToString(), provider, threads)
        self._bound: OrderedDict[tuple[StatePool, int, int], _Bound] = OrderedDict()

    def run(self, batch: Batch, pool: StatePool) -> Outcome:
        """Runs a batch; see `Engine`. An empty one never reaches ONNX Runtime, whose recurrent ops abort the process on it."""
        if not len(batch.source):
            raise EngineError("an empty batch cannot be run")
        try:
            bound = self._bound_for(batch, pool)
            bound.fill(batch)
            self._runtime.run_with_iobinding(bound.binding)
        except Exception as error:  # onnxruntime raises many unrelated classes
            raise EngineError(str(error), fatal=pool.provider == "CUDAExecutionProvider") from error
        return bound.outcome(pool)

    def _bound_for(self, batch: Batch, pool: StatePool) -> _Bound:
        """Returns the binding for batches of this shape. Those of one timestep, nearly all, are kept for the next time."""
        timesteps, steps = len(next(iter(batch.inputs.values()))), len(batch.source)
        key = (pool, timesteps, steps)
        if bound := self._bound.get(key):
            self._bound.move_to_end(key)
            return bound
        bound = _Bound(self._runtime, self._spec, pool, timesteps, steps)
        if timesteps == 1:
            self._bound[key] = bound
        if len(self._bound) > KEPT_BINDINGS:
            self._bound.popitem(last=False)
        return bound


class _Bound:
    """Inputs and outputs of batches of one shape, bound once to memory that each run fills and reads."""

    def __init__(self, runtime: onnxruntime.InferenceSession, spec: ModelSpec, pool: StatePool, timesteps: int, steps: int) -> None:
        self.binding = runtime.io_binding()
        self._checked = False
        self._pools = pools(spec)
        self._inputs = {tensor.name: np.zeros((timesteps, steps, *tensor.shape), tensor.dtype) for tensor in spec.inputs}
        self._controls = {control.input: np.zeros(steps, control.dtype) for control in spec.controls}
        self._lengths = np.zeros(steps, np.int32)
        self._source, self._target = np.zeros(steps, np.int64), np.zeros(steps, np.int64)
        self._finite = np.zeros(steps, np.bool_)
        self._outputs = {tensor.name: np.zeros((timesteps, steps, *tensor.shape), tensor.dtype) for tensor in spec.outputs}
        taken = {**self._inputs, **self._controls, SOURCE: self._source, TARGET: self._target}
        if spec.lengths:
            taken[spec.lengths] = self._lengths
        for name, array in taken.items():
            self.binding.bind_cpu_input(name, array)
        for each, value in zip(self._pools, pool.values, strict=True):
            self.binding.bind_ortvalue_input(each.input, value)
            self.binding.bind_ortvalue_output(each.output, value)
        for name, array in {FINITE: self._finite, **self._outputs}.items():
            self.binding.bind_ortvalue_output(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))

    def fill(self, batch: Batch) -> None:
        """Puts a batch where the next run reads it."""
        for name, array in self._inputs.items():
            array[...] = batch.inputs[name]
        for name, array in self._controls.items():
            array[...] = batch.controls[name]
        self._lengths[...] = batch.lengths
        self._source[...] = batch.source
        self._target[...] = batch.target

    def outcome(self, pool: StatePool) -> Outcome:
        """Returns copies of what a run has left; raises `EngineError` if it did not write the pools in place."""
        if not self._checked:
            addresses = [value.data_ptr() for value in self.binding.get_outputs()]
            if addresses[: len(self._pools)] != pool.addresses:
                raise EngineError("ONNX Runtime moved a state pool: it must be written in place", fatal=True)
            self._checked = True
        return Outcome({name: array.copy() for name, array in self._outputs.items()}, self._finite.copy())


def _open(model: bytes, provider: Provider, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        runtime = onnxruntime.InferenceSession(model, options, providers=[provider])
    except Exception as error:  # onnxruntime raises many unrelated classes
        raise EngineError(f"ONNX Runtime cannot load the model: {error}") from error
    if provider not in runtime.get_providers():
        raise EngineError(f"ONNX Runtime fell back from {provider} to {', '.join(runtime.get_providers())}")
    return runtime


def _reserve(state: StateSpec, rows: int, provider: Provider) -> onnxruntime.OrtValue:
    """Reserves a pool; on CPU its memory is not touched, and so costs nothing, before a row is written."""
    memory = np.zeros((rows, *state.shape), state.dtype)
    memory[INITIAL_ROW] = initial(state)
    device = "cuda" if provider == "CUDAExecutionProvider" else "cpu"
    return onnxruntime.OrtValue.ortvalue_from_numpy(memory, device, 0)
