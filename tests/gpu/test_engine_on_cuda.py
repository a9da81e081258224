"""The engine on CUDA: the same answers as on the CPU, never the CPU in its stead, and an end to it when the device fails.

`make gpu-check` runs these, and all else that is marked so: whatever takes the fixture `provider`.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import structlog
import torch

from builders.foreign import info, node, save
from builders.served import start
from builders.tiny import fill
from statewise.catalog import load, read_spec
from statewise.client import Client
from statewise.engine import Batch, OnnxEngine
from statewise.errors import EngineFailed, StatewiseError
from statewise.graph import SOURCE, TARGET, Pool, pooled
from statewise.importing import Asked, prepare, publish, read
from statewise.pool import StatePool, initial
from statewise.runtime import CUDA, CUDA_OPTIONS, EngineError
from statewise.server import EXIT_ENGINE_DIED
from statewise.sessions import INITIAL_ROW, RESERVED_ROWS
from statewise_models.config import CELLS, Feature, NetworkConfig, Target
from statewise_models.export import export
from statewise_models.network import Network

TINY = ("demand", "label", "text")
LARGE = tuple(f"large-{cell}" for cell in CELLS)
PEEPHOLE = "large-peephole"
BATCH, STEPS = 7, 5
RECURRENT = {"LSTM", "GRU", "RNN"}
ON_DEVICE = RECURRENT | {"Gather", "ScatterElements", "MatMul", "Gemm", "FusedMatMul"}
"""Where the work is; what computes shapes is on the CPU by ONNX Runtime's own choice."""


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A tiny model of each task, and one of each cell that is as large as those in use."""
    root = tmp_path_factory.mktemp("repository")
    fill(root)
    torch.manual_seed(4)
    features = tuple(Feature(f"f{number}") for number in range(64))
    for cell in CELLS:
        config = NetworkConfig("forecast", cell, 256, features=features, targets=(Target("y", 0.0, 1.0),))
        export(Network(config).eval(), repository=root, model=f"large-{cell}")
    return root


def outputs(file, provider):
    """Returns what carried steps of a batch give, and the states that they leave."""
    model = onnx.load(str(file))
    spec = read_spec(model)
    engine, pool = OnnxEngine(model, spec, provider, 1), StatePool(spec.states, 100, provider)
    random, source, given = np.random.default_rng(3), np.full(BATCH, INITIAL_ROW, np.int64), []
    for number in range(2 * STEPS):
        length = 1 + number % STEPS
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


def used_mib():
    """How much of the device's memory is taken."""
    asked = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    return int(subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()[0])


@pytest.mark.gpu
@pytest.mark.parametrize("model", TINY + LARGE)
def test_cuda_computes_what_the_cpu_computes(repository, model):
    """Outputs, states, rows read and rows written: within 1e-5 of the scale, over carried steps of ragged batches."""
    file = repository / model / "1" / "model.onnx"
    for ours, theirs in zip(outputs(file, CUDA), outputs(file, "CPUExecutionProvider"), strict=True):
        assert np.abs(ours - theirs).max() <= 1e-5 * max(1.0, np.abs(theirs).max())


@pytest.mark.gpu
@pytest.mark.parametrize("model", TINY)
def test_a_model_is_ready_on_cuda(repository, model):
    """It is loaded, warmed up and held against its parity vectors on the device that will serve it."""
    assert load(model, 1, repository / model / "1" / "model.onnx", 8, CUDA, 1).provider == CUDA


@pytest.mark.gpu
@pytest.mark.parametrize("model", [model for model in TINY + LARGE if model != PEEPHOLE])
def test_the_work_is_done_on_the_device(repository, model, tmp_path):
    """Cells, products and pools: ONNX Runtime runs nodes on the CPU without a word where CUDA has no kernel for them."""
    plain = onnx.load(str(repository / model / "1" / "model.onnx"))
    spec = read_spec(plain)
    options = onnxruntime.SessionOptions()
    options.enable_profiling, options.profile_file_prefix = True, str(tmp_path / "profile")
    graph = pooled(plain, spec, by_element=True).SerializeToString()
    runtime = onnxruntime.InferenceSession(graph, options, providers=[(CUDA, CUDA_OPTIONS)])
    feeds = {t.name: np.ones((1, 2, *t.shape), t.dtype) for t in spec.inputs}
    feeds |= {Pool(state).input: np.repeat(initial(state)[None], 9, axis=0) for state in spec.states}
    feeds |= {SOURCE: np.array([3, 4]), TARGET: np.array([5, 6])} | ({spec.lengths: np.ones(2, np.int32)} if spec.lengths else {})
    runtime.run(None, feeds)
    events = json.loads(Path(runtime.end_profiling()).read_text())
    placed = {(each["args"]["op_name"], each["args"]["provider"]) for each in events if each["args"].get("provider")}
    assert placed & {(kind, CUDA) for kind in RECURRENT}, placed
    assert not {kind for kind, provider in placed if provider != CUDA} & ON_DEVICE, placed


@pytest.mark.gpu
@pytest.mark.parametrize("model", ["large-lstm", PEEPHOLE])
def test_who_serves_a_model_that_the_device_cannot_run_whole_is_told(repository, model):
    """CUDA's LSTM has no peepholes: it is computed on the CPU, and the log says so."""
    with structlog.testing.capture_logs() as logs:
        load(model, 1, repository / model / "1" / "model.onnx", 8, CUDA, 1)
    assert any("runs on the CPU" in entry["event"] for entry in logs) == (model == PEEPHOLE)


@pytest.mark.gpu
def test_a_server_takes_the_device_by_itself(repository):
    """`auto`, the default, is CUDA where there is a GPU that works."""
    running = start(repository)
    try:
        with Client(running.address) as client, client.open_session("label") as session:
            session.step([1.0, 2.0])
        with urllib.request.urlopen(running.metrics) as page:
            assert f'provider="{CUDA}"' in page.read().decode()
    finally:
        running.stop()


@pytest.mark.gpu
def test_states_that_the_device_has_no_memory_for_are_refused(repository):
    """The error says how much was asked for; what came before is served on, and what comes after takes no more than it asks for."""
    spec = read_spec(onnx.load(str(repository / "large-lstm" / "1" / "model.onnx")))
    small = StatePool(spec.states, 10, CUDA)
    with pytest.raises(EngineError, match=r"no cuda memory for 1,000,000,000 rows of state '\w+', 976,562 MiB"):
        StatePool(spec.states, 1_000_000_000, CUDA)
    assert not small.is_lost()
    before = used_mib()
    again = StatePool(spec.states, 1_000, CUDA)
    assert used_mib() - before < 1_000
    np.testing.assert_array_equal(again.read(np.array([INITIAL_ROW, 999]))["hidden_0"], 0)


def test_a_step_that_fails_by_itself_leaves_the_device_and_its_neighbours_alone(tmp_path, provider):
    """A graph that some inputs break says so of that step: a server that ended for it would be ended by it again and again."""
    nodes = [
        node("ReduceMin", "x", "least", keepdims=0),
        node("Min", "least zero", "low"),
        node("Sub", "one low", "width"),
        node("Concat", "all width", "shape", axis=0),
        node("Reshape", "x shape", "same"),  # to [N, 1]; where an input is negative, to a shape that there is not
        node("Add", "h same", "h_out"),
        node("Identity", "h_out", "y"),
    ]
    taken, returned = ([info(name, "int64", "N", 1) for name in names] for names in (("x", "h"), ("y", "h_out")))
    file = save(
        tmp_path / "picky.onnx", nodes, taken, returned, {"zero": np.array([0]), "one": np.array([1]), "all": np.array([-1])}
    )
    publish(prepare(read(file), Asked()), tmp_path / "repository", "picky")
    running = start(tmp_path / "repository", "--provider", provider)
    try:
        with Client(running.address) as client, client.open_session("picky") as good, client.open_session("picky") as bad:
            assert good.step(x=[3]).item() == 3
            with pytest.raises(EngineFailed, match="Reshape"):
                bad.step(x=[-5])
            assert good.step(x=[4]).item() == 7
            assert bad.step(x=[2]).item() == 2
    finally:
        running.stop()


@pytest.mark.gpu
def test_when_the_device_fails_the_server_ends(repository):
    """A CUDA error does not go away: the step is told, and the process ends with a status by which it is started anew."""
    command = [sys.executable, str(Path(__file__).with_name("breaking.py")), str(repository)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            address = process.stdout.readline().split()[-1]
            with Client(address, timeout_seconds=10.0) as client:
                session = client.open_session("label")
                session.step([1.0, 2.0])
                process.send_signal(signal.SIGUSR1)
                assert process.stdout.readline() == "broken\n"
                with pytest.raises(StatewiseError):
                    session.step([1.0, 2.0])
                assert process.wait(60) == EXIT_ENGINE_DIED
        finally:
            process.kill()


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="here CUDA may work")
def test_cuda_that_does_not_work_is_refused_and_not_replaced(repository):
    """ONNX Runtime would run on the CPU without a word; asked for CUDA, the engine takes it or nothing, and says what it lacks."""
    model = onnx.load(str(repository / "text" / "1" / "model.onnx"))
    with pytest.raises(EngineError, match=r"fell back from CUDAExecutionProvider to CPUExecutionProvider: Failed to load lib\w+"):
        OnnxEngine(model, read_spec(model), CUDA, 1)
