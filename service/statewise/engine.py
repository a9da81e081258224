"""Executes batches: the pooled graph in ONNX Runtime, with the pools bound in place. The engine is the pools' only writer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from statewise.graph import FINITE, SOURCE, TARGET, Pool, pooled, pools
from statewise.sessions import INITIAL_ROW
from statewise.spec import ModelSpec

Array = NDArray[np.generic]
Provider = Literal["CPUExecutionProvider", "CUDAExecutionProvider"]


class EngineError(Exception):
    """A model cannot be run by this engine, or a run failed."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Steps of distinct sessions, column by column.

    Attributes:
        inputs: `[timesteps, batch, …]` each, rows shorter than the longest padded with zeros.
        lengths: int32 `[batch]`, the timesteps of each row, at least 1.
        source: int64 `[batch]`, the rows to read.
        target: int64 `[batch]`, the rows to write: distinct, and no row's source.
    """

    inputs: Mapping[str, Array]
    lengths: NDArray[np.int32]
    source: NDArray[np.int64]
    target: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run returned: outputs `[timesteps, batch, …]` each, and bool `[batch]`, whether outputs and new states are finite."""

    outputs: Mapping[str, Array]
    finite: NDArray[np.bool_]


class Engine(Protocol):
    """Runs one batch at a time."""

    def run(self, batch: Batch) -> Outcome:
        """Runs a batch and writes its target rows; raises `EngineError`, and then the target rows hold nothing of use."""
        ...


def choose_provider(wanted: str) -> Provider:
    """Returns the execution provider for `auto`, `cpu` or `cuda`; raises `EngineError` where CUDA is asked for and absent."""
    cuda = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    if wanted == "cuda" and not cuda:
        raise EngineError("provider cuda: this ONNX Runtime has no CUDA (pip install 'statewise[cuda]')")
    return "CUDAExecutionProvider" if wanted == "cuda" else "CPUExecutionProvider"


class OnnxEngine:
    """One model version in ONNX Runtime, with its own pools."""

    def __init__(self, plain: onnx.ModelProto, spec: ModelSpec, rows: int, provider: Provider, threads: int) -> None:
        self._spec = spec
        self._outputs = [tensor.name for tensor in spec.outputs]
        self._runtime = _open(pooled(plain, spec, rows).SerializeToString(), provider, threads)
        self._pools = [(pool, _reserve(pool, rows, provider)) for pool in pools(spec)]

    def run(self, batch: Batch) -> Outcome:
        """Runs a batch; see `Engine`. An empty one never reaches ONNX Runtime, whose recurrent ops abort the process on it."""
        if not len(batch.source):
            raise EngineError("an empty batch cannot be run")
        binding = self._bind(batch)
        try:
            self._runtime.run_with_iobinding(binding)
        except Exception as error:  # onnxruntime raises many unrelated classes
            raise EngineError(str(error)) from error
        values = binding.get_outputs()
        if any(value.data_ptr() != pool.data_ptr() for value, (_, pool) in zip(values, self._pools, strict=False)):
            raise EngineError("ONNX Runtime moved a state pool: it must be written in place")
        finite, *outputs = (value.numpy() for value in values[len(self._pools) :])
        return Outcome(dict(zip(self._outputs, outputs, strict=True)), finite)

    def _bind(self, batch: Batch) -> onnxruntime.IOBinding:
        binding = self._runtime.io_binding()
        for name, array in batch.inputs.items():
            binding.bind_cpu_input(name, np.ascontiguousarray(array))
        if self._spec.lengths:
            binding.bind_cpu_input(self._spec.lengths, batch.lengths)
        binding.bind_cpu_input(SOURCE, batch.source)
        binding.bind_cpu_input(TARGET, batch.target)
        for pool, value in self._pools:
            binding.bind_ortvalue_input(pool.input, value)
            binding.bind_ortvalue_output(pool.output, value)
        for name in (FINITE, *self._outputs):
            binding.bind_output(name, "cpu")
        return binding


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


def _reserve(pool: Pool, rows: int, provider: Provider) -> onnxruntime.OrtValue:
    """Reserves a pool; on CPU its memory is not touched, and so costs nothing, before a row is written."""
    state = pool.state
    memory = np.zeros((rows, *state.shape), state.dtype)
    memory[INITIAL_ROW] = state.initial
    device = "cuda" if provider == "CUDAExecutionProvider" else "cpu"
    return onnxruntime.OrtValue.ortvalue_from_numpy(memory, device, 0)
