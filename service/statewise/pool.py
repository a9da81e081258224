"""The states of sessions in reserved memory of the device that runs the models, by rows that never move."""

from __future__ import annotations

import base64
import functools
import math
import threading
from collections.abc import Mapping, Sequence

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from statewise.graph import ROWS, SOURCE, TARGET, flat_pool, flat_rows, flat_written, reserver, rows_reader, rows_writer
from statewise.runtime import CUDA, DEVICES, EngineError, Provider, opened, scatters_by_element
from statewise.sessions import INITIAL_ROW
from statewise.spec import StateSpec

Array = NDArray[np.generic]
Indices = NDArray[np.int64]
Memory = tuple[str, int, type[np.generic], tuple[int, ...], int]
"""Device, its number, dtype, shape and address: what a binding takes."""
SHRINK = onnxruntime.RunOptions()
SHRINK.add_run_config_entry("memory.enable_memory_arena_shrinkage", "gpu:0")


class StatePool:
    """The states of sessions: a reserved tensor `[rows, *state.shape]` for each state of a spec. It never grows or moves.

    All graphs that write a pool run in one thread, its engine's; so whoever reads rows between two runs reads whole ones.

    Attributes:
        values: what holds the memory of each state.
        memory: `[rows, *state.shape]` of each state, as a binding takes it.
    """

    def __init__(self, states: tuple[StateSpec, ...], rows: int, provider: Provider) -> None:
        self.states = states
        self.rows = rows
        self.provider = provider
        self.values = [_reserve(state, rows, provider) for state in states]
        self.addresses = [value.data_ptr() for value in self.values]
        self._access = _access(tuple(state.dtype for state in states), provider)
        self._flat = [self._memory(at, (rows, math.prod(state.shape))) for at, state in enumerate(states)]
        self.memory = [self._memory(at, (rows, *state.shape)) for at, state in enumerate(states)]
        self.write(np.array([INITIAL_ROW]), {state.input: initial(state)[None] for state in states})

    def _memory(self, at: int, shape: tuple[int, ...]) -> Memory:
        return DEVICES[self.provider], 0, np.dtype(self.states[at].dtype).type, shape, self.addresses[at]

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
    has one binding for ever: on CUDA a session and its binding have streams and handles of their own, 146 MiB of the device.
    """

    def __init__(self, dtypes: tuple[str, ...], provider: Provider) -> None:
        self._reader = opened(rows_reader(dtypes), provider, 1)
        self._writer = opened(rows_writer(dtypes, by_element=scatters_by_element(provider)), provider, 1)
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


def _reserve(state: StateSpec, rows: int, provider: Provider) -> onnxruntime.OrtValue:
    """Reserves a state's memory, of zeros; on CPU it is not touched, and so costs nothing, before a row is written."""
    try:
        if provider != CUDA:
            return onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros((rows, *state.shape), state.dtype))
        # What ONNX Runtime's own arena for such values grows by is doubled until a request fits, and stays so if none does.
        runtime = _reserver(state.dtype, provider)
        binding = runtime.io_binding()
        binding.bind_cpu_input(ROWS, np.array([rows, math.prod(state.shape)]))
        binding.bind_output(flat_pool(0), DEVICES[provider])
        runtime.run_with_iobinding(binding, SHRINK)
        return binding.get_outputs()[0]
    except Exception as error:  # onnxruntime raises many unrelated classes
        size, device = rows * StatePool.bytes_of((state,)) / 2**20, DEVICES[provider]
        raise EngineError(f"no {device} memory for {rows:,} rows of state {state.input!r}, {size:,.0f} MiB: {error}") from error


@functools.cache
def _reserver(dtype: str, provider: Provider) -> onnxruntime.InferenceSession:
    return opened(reserver(dtype), provider, 1)
