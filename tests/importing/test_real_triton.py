"""A real Triton takes exported folders, and feeds their models what the config says. `make triton-check` runs it; it is no default.

PyPI's Triton has its Python backend alone, so the model's file runs in that (`triton_shim`): Triton reads the whole config, checks
types and dims, batches sequences, and hands over controls and initial states. What its ONNX backend does is not run here.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from builders.foreign import CONTROLLED, alone, controlled, convolution, torch_cell
from statewise.importing import Asked, prepare, publish, read

HERE = Path(__file__).parent
PYTHON = os.environ.get("STATEWISE_TRITON", "")
CONTROLS = """  control_input [
    { name: "START" control [ { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] } ] },
    { name: "CORRID" control [ { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_INT64 } ] }
  ]
"""
pytestmark = [
    pytest.mark.triton,
    pytest.mark.skipif(not PYTHON, reason="needs Triton: make triton-check"),
    pytest.mark.timeout(300),
]


def ask(*words):
    """What a program of Triton's environment prints."""
    return subprocess.run([PYTHON, *map(str, words)], check=True, capture_output=True, text=True).stdout


def shimmed(folder, packages):
    """Puts an exported model into the Python backend: its config as written, but for the backend and what the shim must know."""
    config = (folder / "config.pbtxt").read_text()
    assert 'backend: "onnxruntime"' in config
    config = config.replace('backend: "onnxruntime"', 'backend: "python"')
    if "control_input" not in config:
        config = config.replace("  state [", CONTROLS + "  state [")
    path = json.dumps(json.dumps([packages]))
    config += f'parameters {{ key: "path" value {{ string_value: {path} }} }}\ninstance_group [ {{ kind: KIND_CPU }} ]\n'
    (folder / "config.pbtxt").write_text(config)
    shutil.copy(HERE / "triton_shim.py", folder / "1" / "model.py")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The files that are imported, exported and served by Triton."""
    folder = tmp_path_factory.mktemp("files")
    return {
        "gru": (torch_cell(folder / "gru.onnx", "GRU", batch_first=True), Asked()),
        "conv": (convolution(folder / "conv.onnx"), Asked(initial={"cache": np.arange(9.0)})),
        "sums": (controlled(folder / "sums.onnx"), CONTROLLED),
    }


@pytest.fixture(scope="module")
def triton(files, tmp_path_factory):
    """The address of a Triton over exported folders."""
    home = tmp_path_factory.mktemp("triton")
    packages = Path(ask("-c", "import pytriton, pathlib; print(pathlib.Path(pytriton.__file__).parents[1])").strip())
    for name, (file, asked) in files.items():
        publish(prepare(read(file), asked), home / "repository", name)
        command = [sys.executable, "-m", "statewise.cli", "export-triton", name, str(home / "models"), "--repository"]
        subprocess.run([*command, str(home / "repository")], check=True, capture_output=True)
        shimmed(home / "models" / name, str(packages))
    server = packages / "pytriton" / "tritonserver"
    shutil.copytree(server / "backends", home / "backends")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    shutil.copy(server / "python_backend_stubs" / version / "triton_python_backend_stub", home / "backends" / "python")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    libraries = f"{packages / 'nvidia_pytriton.libs'}:{server / 'external_libs'}"
    command = [str(server / "bin" / "tritonserver"), "--model-repository", str(home / "models"), "--allow-http", "false"]
    command += ["--backend-directory", str(home / "backends"), "--allow-metrics", "false", "--disable-auto-complete-config"]
    command += ["--grpc-address", "127.0.0.1", "--grpc-port", address.rpartition(":")[2]]
    environment = {**os.environ, "LD_LIBRARY_PATH": libraries, "PATH": f"{Path(PYTHON).parent}:{os.environ['PATH']}"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said = []
    for line in process.stdout:  # it ends with the process
        said.append(line)
        if "Started GRPCInferenceService" in line:
            break
    try:
        assert process.poll() is None, "".join(said[-30:])
        yield address
    finally:
        process.terminate()
        process.communicate(timeout=60)


@pytest.mark.parametrize(
    ("model", "name", "shape", "call", "output", "states"),
    [
        ("gru", "x", (3,), lambda x: {"x": x[None, None]}, lambda r: r["y"][0, 0], {"h0": ("hn", np.zeros((2, 1, 5), np.float32))}),
        (
            "conv",
            "frame",
            (3,),
            lambda x: {"frame": x[None]},
            lambda r: r["out"][0],
            {"cache": ("cache_out", np.arange(9, dtype=np.float32).reshape(1, 3, 3))},
        ),
    ],
)
def test_interleaved_sequences_in_triton_are_answered_as_the_file_answers(triton, files, model, name, shape, call, output, states):
    """Triton carries an exported model's sequences from the config's initial states to the answers of the imported file."""
    values = np.random.default_rng(3).standard_normal((4, 6, *shape)).astype(np.float32)
    answers = np.array(json.loads(ask(HERE / "triton_asks.py", triton, model, name, json.dumps(values.tolist()))))
    for ours, each in zip(answers, values, strict=True):
        first = {taken: value for taken, (_, value) in states.items()}
        theirs = alone(files[model][0], [call(x) for x in each], {taken: given for taken, (given, _) in states.items()}, first)
        np.testing.assert_allclose(ours, np.stack([output(answer) for answer in theirs]), rtol=1e-4, atol=1e-5)


def test_triton_feeds_the_controls_that_the_config_names(triton):
    """START, END and CORRID arrive in the inputs, dtypes and values of the model that was imported."""
    values = [[[1.0], [2.0], [3.0]], [[5.0], [6.0], [7.0]]]
    answers = json.loads(ask(HERE / "triton_asks.py", triton, "sums", "INPUT", json.dumps(values)))
    assert answers == [[[1, 0, 1], [3, 0, 1], [6, 1, 1]], [[5, 0, 2], [11, 0, 2], [18, 1, 2]]]
