"""The engine on CUDA: the same answers as on the CPU, and never the CPU in its stead. `make gpu-check` runs these."""

from __future__ import annotations

import shutil

import numpy as np
import onnx
import pytest

from builders.tiny import fill
from statewise.catalog import load, read_spec
from statewise.engine import Batch, EngineError, OnnxEngine, StatePool
from statewise.sessions import INITIAL_ROW, RESERVED_ROWS

MODELS = ("demand", "label", "text")
BATCH, STEPS = 7, 5


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A tiny model of each task."""
    root = tmp_path_factory.mktemp("repository")
    fill(root)
    return root


def outputs(file, provider):
    """Returns what carried steps of a batch give, and the states that they leave."""
    model = onnx.load(str(file))
    spec = read_spec(model)
    engine, pool = OnnxEngine(model, spec, provider, 1), StatePool(spec.states, 100, provider)
    random, source, given = np.random.default_rng(3), np.full(BATCH, INITIAL_ROW, np.int64), []
    for number in range(STEPS):
        length = number + 1
        inputs = {t.name: random.integers(0, 4, (length, BATCH, *t.shape)).astype(t.dtype) for t in spec.inputs}
        target = RESERVED_ROWS + np.arange(BATCH, dtype=np.int64) + (number % 2) * BATCH
        outcome = engine.run(Batch(inputs, random.integers(1, length + 1, BATCH).astype(np.int32), source, target), pool)
        assert outcome.finite.all()
        given += outcome.outputs.values()
        source = target
    states = pool.read(source)
    fresh = np.arange(80, 80 + BATCH, dtype=np.int64)
    pool.write(fresh, states)
    for name, rows in pool.read(fresh).items():
        np.testing.assert_array_equal(rows, states[name])
    return [*given, *states.values()]


@pytest.mark.gpu
@pytest.mark.parametrize("model", MODELS)
def test_cuda_computes_what_the_cpu_computes(repository, model):
    """Outputs, states, rows read and rows written: within 1e-5 of the scale, over carried steps of ragged batches."""
    file = repository / model / "1" / "model.onnx"
    for ours, theirs in zip(outputs(file, "CUDAExecutionProvider"), outputs(file, "CPUExecutionProvider"), strict=True):
        assert np.abs(ours - theirs).max() <= 1e-5 * max(1.0, np.abs(theirs).max())


@pytest.mark.gpu
@pytest.mark.parametrize("model", MODELS)
def test_a_model_is_ready_on_cuda(repository, model):
    """It is loaded, warmed up and held against its parity vectors on the device that will serve it."""
    assert (
        load(model, 1, repository / model / "1" / "model.onnx", 8, "CUDAExecutionProvider", 1).provider == "CUDAExecutionProvider"
    )


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="here CUDA may work")
def test_cuda_that_does_not_work_is_refused_and_not_replaced(repository):
    """ONNX Runtime would run on the CPU without a word; asked for CUDA, the engine takes CUDA or nothing."""
    model = onnx.load(str(repository / "text" / "1" / "model.onnx"))
    with pytest.raises(EngineError, match="fell back from CUDAExecutionProvider to CPUExecutionProvider"):
        OnnxEngine(model, read_spec(model), "CUDAExecutionProvider", 1)
