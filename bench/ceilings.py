"""The ceilings: ONNX Runtime alone in a loop, at the batch sizes that the server is measured at.

The plain graph carries its state from run to run through tensors bound once; the pooled graph through rows of a pool, two sets of
rows in turn, everything bound once as well. So neither pays for anything but the run.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from bench.results import Ceiling
from statewise.catalog import read_spec
from statewise.graph import FINITE, SOURCE, TARGET, pooled, pools
from statewise.sessions import RESERVED_ROWS
from statewise.spec import ModelSpec

POOL_ROWS = 20_000
WARM_UP_RUNS = 5
TURNS = 4
NEIGHBOUR_SECONDS = 0.7  # until it has imported what it needs


def measure(file: Path, batch: int, seconds: float) -> dict[str, Ceiling]:
    """Returns the cost of the plain and the pooled graph at a batch size, measured by turns: beside a busy neighbour, and alone."""
    model = onnx.load(file)
    spec = read_spec(model)
    graphs = {"plain": _plain(model, spec, batch), "pooled": _pooled(model, spec, batch)}
    with busy():
        beside = _costs(graphs, batch, seconds / 2)
    alone = _costs(graphs, batch, seconds / 2)
    return beside | {f"{name}, alone": cost for name, cost in alone.items()}


@contextmanager
def busy() -> Iterator[None]:
    """Runs a busy neighbour meanwhile."""
    neighbour = subprocess.Popen([sys.executable, "-m", "bench.neighbour"])
    try:
        time.sleep(NEIGHBOUR_SECONDS)
        yield
    finally:
        neighbour.terminate()
        neighbour.wait()


def _costs(graphs: dict[str, Callable[[], None]], batch: int, seconds: float) -> dict[str, Ceiling]:
    turns: dict[str, list[tuple[float, float, int]]] = {name: [] for name in graphs}
    for _ in range(TURNS):
        for name, run in graphs.items():
            turns[name].append(timed(run, seconds / TURNS / len(graphs)))
    return {
        name: Ceiling(
            cpu_us_per_step=sum(cpu for cpu, _, _ in each) / sum(runs for *_, runs in each) / batch * 1e6,
            run_us=min(wall / runs for _, wall, runs in each) * 1e6,
        )
        for name, each in turns.items()
    }


def timed(run: Callable[[], object], seconds: float) -> tuple[float, float, int]:
    """Runs for some seconds, once it is warm; returns CPU seconds, wall seconds and how many runs they were."""
    for _ in range(WARM_UP_RUNS):
        run()
    cpu, began, runs = time.process_time(), time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        run()
        runs += 1
    return time.process_time() - cpu, time.perf_counter() - began, runs


def _plain(model: onnx.ModelProto, spec: ModelSpec, batch: int) -> Callable[[], None]:
    runtime = _open(model)
    shapes = [_batched(state.shape, state.batch_axis, batch) for state in spec.states]
    sets = [[_ort(np.zeros(shape, state.dtype)) for shape, state in zip(shapes, spec.states, strict=True)] for _ in range(2)]
    bindings = []
    for source, target in ((0, 1), (1, 0)):
        binding = _bound(runtime, spec, batch)
        for number, state in enumerate(spec.states):
            binding.bind_ortvalue_input(state.input, sets[source][number])
            binding.bind_ortvalue_output(state.output, sets[target][number])
        bindings.append(binding)
    return _alternating(runtime, bindings)


def _pooled(model: onnx.ModelProto, spec: ModelSpec, batch: int) -> Callable[[], None]:
    runtime = _open(pooled(model, spec))
    memory = [_ort(np.zeros((POOL_ROWS, *state.shape), state.dtype)) for state in spec.states]
    rows = [_ort(RESERVED_ROWS + number * batch + np.arange(batch, dtype=np.int64)) for number in range(2)]
    bindings = []
    for source, target in ((0, 1), (1, 0)):
        binding = _bound(runtime, spec, batch)
        binding.bind_ortvalue_input(SOURCE, rows[source])
        binding.bind_ortvalue_input(TARGET, rows[target])
        binding.bind_ortvalue_output(FINITE, _ort(np.zeros(batch, np.bool_)))
        for pool, value in zip(pools(spec), memory, strict=True):
            binding.bind_ortvalue_input(pool.input, value)
            binding.bind_ortvalue_output(pool.output, value)
        bindings.append(binding)
    return _alternating(runtime, bindings)


def _bound(runtime: onnxruntime.InferenceSession, spec: ModelSpec, batch: int) -> onnxruntime.IOBinding:
    binding = runtime.io_binding()
    for tensor in spec.inputs:
        x = np.random.default_rng(0).standard_normal((1, batch, *tensor.shape)).astype(tensor.dtype)
        binding.bind_ortvalue_input(tensor.name, _ort(x))
    if spec.lengths:
        binding.bind_ortvalue_input(spec.lengths, _ort(np.ones(batch, np.int32)))
    for tensor in spec.outputs:
        binding.bind_ortvalue_output(tensor.name, _ort(np.zeros((1, batch, *tensor.shape), tensor.dtype)))
    return binding


def _alternating(runtime: onnxruntime.InferenceSession, bindings: list[onnxruntime.IOBinding]) -> Callable[[], None]:
    turns = 0

    def run() -> None:
        nonlocal turns
        turns += 1
        runtime.run_with_iobinding(bindings[turns % 2])

    return run


def _batched(shape: tuple[int, ...], axis: int, batch: int) -> tuple[int, ...]:
    return (*shape[:axis], batch, *shape[axis:])


def _ort(array: np.ndarray) -> onnxruntime.OrtValue:
    return onnxruntime.OrtValue.ortvalue_from_numpy(array)


def _open(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
