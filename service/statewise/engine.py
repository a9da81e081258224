"""Executes batches: the pooled graph in ONNX Runtime, with the pools bound in place. The engine is the pools' only writer."""

from __future__ import annotations

import base64
import contextlib
import ctypes
import functools
import io
import math
import re
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import onnx
import onnxruntime
import structlog
from numpy.typing import NDArray

from statewise.graph import FINITE, SOURCE, TARGET, flat_pool, flat_rows, flat_written, pooled, pools, rows_reader, rows_writer
from statewise.sessions import INITIAL_ROW
from statewise.spec import ModelSpec, StateSpec

Array = NDArray[np.generic]
Indices = NDArray[np.int64]
Memory = tuple[str, int, type[np.generic], tuple[int, int], int]
Provider = Literal["CPUExecutionProvider", "CUDAExecutionProvider"]
KEPT_BINDINGS = 64
CUDA: Provider = "CUDAExecutionProvider"
DEVICES: dict[Provider, str] = {"CPUExecutionProvider": "cpu", CUDA: "cuda"}
CUDA_OPTIONS = {"use_tf32": "0", "arena_extend_strategy": "kSameAsRequested"}
"""TF32 would round what is multiplied to 10 bits of mantissa, and outputs would be 1e-3 of their scale apart; and states, which are
reserved at load, are what a device's memory is for: the arena beside them grows by what a run needs, and not to twice of it."""
DEVICE_FAILED = re.compile(r"\b(CUDA|CUDNN|CUBLAS) failure\b")
log = structlog.get_logger()


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
    cuda = CUDA in onnxruntime.get_available_providers()
    if wanted == "cuda" and not cuda:
        raise EngineError("provider cuda: this ONNX Runtime has no CUDA (pip install 'statewise[cuda]')")
    if wanted == "cpu" or not cuda or (wanted == "auto" and not _finds_cuda()):
        return "CPUExecutionProvider"
    return CUDA


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
        _open(rows_reader(("float32",)), CUDA, 1)
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
        flat = [(np.dtype(state.dtype).type, (rows, math.prod(state.shape))) for state in states]
        self._flat = [(DEVICES[provider], 0, *kind, address) for kind, address in zip(flat, self.addresses, strict=True)]
        self._access = _access(tuple(state.dtype for state in states), provider)

    @property
    def bytes(self) -> int:
        """What the pool takes if every row is used."""
        return self.rows * self.bytes_of(self.states)

    @staticmethod
    def bytes_of(states: tuple[StateSpec, ...]) -> int:
        """Returns what one session's state takes."""
        return sum(math.prod(state.shape) * np.dtype(state.dtype).itemsize for state in states)

    def is_lost(self) -> bool:
        """Returns whether the device that holds it is of no use any more: after an error of CUDA's every call fails."""
        if self.provider != CUDA:
            return False
        try:
            self.read(np.array([INITIAL_ROW]))
        except Exception:  # noqa: BLE001 whatever it is, the states cannot be had
            return True
        return False

    def read(self, rows: Indices) -> dict[str, Array]:
        """Returns the states `[rows, *state.shape]`, by the name of the plain graph's input."""
        read = zip(self.states, self._access.read(self._flat, rows), strict=True)
        return {state.input: values.reshape(-1, *state.shape) for state, values in read}

    def write(self, rows: Indices, states: Mapping[str, Array]) -> None:
        """Writes states, as `read` returned them, to fresh rows."""
        values = [np.ascontiguousarray(states[state.input], state.dtype).reshape(len(rows), -1) for state in self.states]
        self._access.write(self._flat, rows, values)


class _Access:
    """Reads and writes rows of pools whose states have these dtypes, from any thread, one call after the other.

    Pools are told by device, its number, dtype, shape `[rows, width]` and address. All that are alike share this, and each graph
    has one binding for ever: on CUDA every session and every binding has streams and handles of its own, 70 MiB of the device.
    """

    def __init__(self, dtypes: tuple[str, ...], provider: Provider) -> None:
        self._reader = _open(rows_reader(dtypes), provider, 1)
        self._writer = _open(rows_writer(dtypes, by_element=scatters_by_element(provider)), provider, 1)
        self._reading, self._writing = self._reader.io_binding(), self._writer.io_binding()
        self._lock = threading.Lock()

    def read(self, pools: Sequence[Memory], rows: Indices) -> list[Array]:
        """Returns rows `[batch, width]` of each pool."""
        with self._lock:
            self._reading.bind_cpu_input(SOURCE, rows)
            for at, memory in enumerate(pools):
                self._reading.bind_input(flat_pool(at), *memory)
                self._reading.bind_output(flat_rows(at), "cpu")
            self._reader.run_with_iobinding(self._reading)
            return [value.numpy() for value in self._reading.get_outputs()]

    def write(self, pools: Sequence[Memory], rows: Indices, values: Sequence[Array]) -> None:
        """Writes rows `[batch, width]` of each pool."""
        with self._lock:
            self._writing.bind_cpu_input(TARGET, rows)
            for at, (memory, array) in enumerate(zip(pools, values, strict=True)):
                self._writing.bind_input(flat_pool(at), *memory)
                self._writing.bind_output(flat_written(at), *memory)
                self._writing.bind_cpu_input(flat_rows(at), array)
            self._writer.run_with_iobinding(self._writing)


@functools.cache
def _access(dtypes: tuple[str, ...], provider: Provider) -> _Access:
    return _Access(dtypes, provider)


def initial(state: StateSpec) -> Array:
    """Returns the state `[*state.shape]` that a session starts from if it is given nothing."""
    if not state.initial_base64:
        return np.full(state.shape, state.initial, state.dtype)
    raw = base64.b64decode(state.initial_base64)
    return np.frombuffer(raw, np.dtype(state.dtype).newbyteorder("<")).reshape(state.shape).astype(state.dtype)


def scatters_by_element(provider: Provider) -> bool:
    """Returns which form of the scatter is the fast one."""
    return provider == CUDA


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
            self._runtime = _open(graph, provider, threads, whole=provider == CUDA)
        except EngineError:
            self._runtime = _open(graph, provider, threads)
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
        self._values = pool.values
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
        for pool, value in zip(self._pools, self._values, strict=True):
            self.binding.bind_ortvalue_input(pool.input, value)
            self.binding.bind_ortvalue_output(pool.output, value)
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


@functools.cache
def _cuda_libraries() -> str:
    """Loads CUDA's libraries from the packages that `statewise[cuda]` installs, where no loader looks; returns what it lacks."""
    with contextlib.redirect_stdout(io.StringIO()) as told:
        onnxruntime.preload_dlls()
    return "; ".join(line for line in told.getvalue().splitlines() if line.startswith("Failed"))


def _open(model: onnx.ModelProto, provider: Provider, threads: int, *, whole: bool = False) -> onnxruntime.InferenceSession:
    """Opens a model; with `whole` the CPU is not to take what the provider cannot. Raises `EngineError`."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4 if whole else 3
    options.add_session_config_entry("session.disable_cpu_ep_fallback", str(int(whole)))
    lacking = _cuda_libraries() if provider == CUDA else ""
    chosen = (provider, CUDA_OPTIONS) if provider == CUDA else provider
    try:
        runtime = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=[chosen])
    except Exception as error:  # onnxruntime raises many unrelated classes
        raise EngineError(f"ONNX Runtime cannot load the model: {error}") from error
    if provider not in runtime.get_providers():
        why = f": {lacking}" if lacking else ""
        raise EngineError(f"ONNX Runtime fell back from {provider} to {', '.join(runtime.get_providers())}{why}")
    return runtime


def _reserve(state: StateSpec, rows: int, provider: Provider) -> onnxruntime.OrtValue:
    """Reserves a pool; on CPU its memory is not touched, and so costs nothing, before a row is written."""
    device = DEVICES[provider]
    try:
        memory = np.zeros((rows, *state.shape), state.dtype)
        memory[INITIAL_ROW] = initial(state)
        return onnxruntime.OrtValue.ortvalue_from_numpy(memory, device, 0)
    except Exception as error:  # onnxruntime raises many unrelated classes
        size = rows * StatePool.bytes_of((state,)) / 2**20
        raise EngineError(f"no {device} memory for {rows:,} rows of state {state.input!r}, {size:,.0f} MiB: {error}") from error
