"""Each extra brings what its commands need, and the base what the client needs: tried in processes that see nothing else."""

import re
import subprocess
from contextlib import contextmanager
from importlib.metadata import distributions as installed

import pytest
from packaging.utils import canonicalize_name

from builders.installed import distributions, hidden, python, statewise
from builders.tiny import fill

CLIENT = """
    import asyncio
    import numpy as np
    from statewise.client import AsyncClient, Client

    def once(address):
        with Client(address) as client, client.open_session("demand") as session:
            return session.step([[100.0], [101.0]], time=[1, 2]).shape

    async def again(address):
        async with AsyncClient(address) as client:
            async with await client.open_session("text") as session:
                return (await session.step([0, 1, 2])).shape

    print(once(sys.argv[1]), asyncio.run(again(sys.argv[1])), sorted(set(sys.modules) & {"torch", "onnxruntime", "typer"}))
"""


def run(command):
    return subprocess.run(command, capture_output=True, text=True, timeout=100)


@contextmanager
def serving(root):
    """Serves a repository where `statewise[serve]` alone is installed; yields the address."""
    options = ("serve", "--repository", str(root), "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0")
    process = subprocess.Popen(statewise(("serve",), *options), stdout=subprocess.PIPE, text=True)
    with process.stdout:
        line = process.stdout.readline()
        try:
            yield re.match(r"statewise is ready on (\S+),", line)[1]
        finally:
            process.terminate()
            assert process.wait(60) == 0


def test_the_base_is_the_clients_needs_and_no_more():
    """`pip install statewise` brings gRPC, protobuf and NumPy; no extra's package comes with it."""
    assert distributions() <= {
        "statewise",
        "googleapis-common-protos",
        "grpcio",
        "grpcio-status",
        "numpy",
        "protobuf",
        "typing-extensions",
    }
    assert hidden() >= {
        "matplotlib",
        "onnx",
        "onnxruntime",
        "pandas",
        "prometheus_client",
        "pyarrow",
        "pydantic",
        "pydantic_settings",
        "rich",
        "safetensors",
        "structlog",
        "torch",
        "typer",
    }


def test_the_server_needs_nothing_of_training():
    """`statewise[serve]` brings neither torch nor pandas, and a small image can be made of it."""
    assert hidden("serve") >= {"matplotlib", "pandas", "pyarrow", "safetensors", "torch"}
    assert hidden("serve").isdisjoint({"onnx", "onnxruntime", "typer"})


def test_base_and_serve_are_enough_to_stream(tmp_path):
    """Both clients, with the base alone, step through a server that sees `statewise[serve]` alone."""
    fill(tmp_path)
    with serving(tmp_path) as address:
        done = run(python((), CLIENT, address))
        assert (done.returncode, done.stdout) == (0, "(2, 1) (3, 4) []\n"), done.stderr
        data = tmp_path / "some.csv"
        data.write_text("left,right\n1,2\n3,\n")
        streamed = run(statewise(("serve",), "stream", "label", "--address", address, "--data", str(data)))
        assert streamed.returncode == 0, streamed.stderr
    listed = run(statewise(("serve",), "models", "--repository", str(tmp_path)))
    assert listed.returncode == 0, listed.stderr
    assert "demand" in listed.stdout


def test_train_alone_is_enough_to_train(tmp_path):
    """`statewise[train]` trains, exports, draws and publishes where nothing of the server is installed."""
    text = tmp_path / "some.txt"
    text.write_text("the cat sat on the mat. " * 40)
    small = ("--hidden", "4", "--embedding", "3", "--epochs", "1", "--lanes", "2", "--window", "16")
    places = ("--repository", str(tmp_path / "models"), "--output", str(tmp_path / "made"))
    done = run(statewise(("train",), "train", "tokens", str(text), "--model", "text", *small, *places))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "models" / "text" / "1" / "model.onnx").is_file()
    assert (tmp_path / "models" / "text" / "1" / "report.html").is_file()
    assert list((tmp_path / "made").glob("*.png"))


def test_evaluate_alone_is_enough_to_look_into_a_model(tmp_path):
    """`statewise[evaluate]` brings no torch, and draws what a model's cells do."""
    fill(tmp_path)
    text = tmp_path / "some.txt"
    text.write_text("abc cab")
    words = ("trace", "text", "--data", str(text), "--repository", str(tmp_path), "--output", str(tmp_path / "made"))
    done = run(statewise(("evaluate",), *words))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "made" / "trace.png").is_file()


def test_evaluate_alone_is_enough_for_a_gate(tmp_path):
    """`statewise[evaluate]` judges a version where neither torch nor anything of the server is installed."""
    assert hidden("evaluate") >= {"jinja2", "onnx", "prometheus_client", "safetensors", "torch"}
    fill(tmp_path / "models")
    (tmp_path / "some.txt").write_text("abc cab abc")
    words = ("evaluate", "text", "--data", str(tmp_path / "some.txt"), "--repository", str(tmp_path / "models"))
    passed = run(statewise(("evaluate",), *words, "--max-bits", "99"))
    assert (passed.returncode, "passes: text@1" in passed.stdout) == (0, True), passed.stderr
    assert run(statewise(("evaluate",), *words, "--max-bits", "0.001")).returncode == 3


@pytest.mark.parametrize(
    ("extras", "arguments", "wanted"),
    [
        ((), ["--help"], "serve"),
        ((), ["serve"], "serve"),
        ((), ["models"], "serve"),
        ((), ["promote", "demand", "1"], "serve"),
        ((), ["stream", "demand", "--data", "some.csv"], "serve"),
        ((), ["trace", "demand", "--data", "some.csv"], "evaluate"),
        (("serve",), ["trace", "demand", "--data", "some.csv"], "evaluate"),
        ((), ["memory", "--quick"], "train"),
        ((), ["train", "forecast", "some.csv"], "train"),
        ((), ["evaluate", "text", "--data", "some.txt"], "evaluate"),
        (("serve",), ["evaluate", "text", "--data", "some.txt"], "evaluate"),
        (("cli",), ["serve"], "serve"),
        (("cli",), ["train", "tokens", "some.txt", "--model", "text"], "train"),
        (("train",), ["serve"], "serve"),
        (("serve",), ["serve", "--console-listen", "127.0.0.1:0"], "console"),
        (("serve",), ["train", "tokens", "some.txt", "--model", "text"], "train"),
    ],
)
def test_a_command_whose_extra_is_missing_says_which(extras, arguments, wanted):
    """One line tells what to install; no traceback does."""
    done = run(statewise(extras, *arguments))
    assert done.returncode == 1
    assert done.stdout == ""
    assert re.fullmatch(
        rf"error: this command needs statewise\[{wanted}\]: pip install 'statewise\[{wanted}\]' \(.*\)\n", done.stderr
    )


def test_the_extra_that_is_named_is_enough():
    """Where the advice was followed, the command gets further than its imports."""
    assert "some.csv: No such file" in run(statewise(("train",), "train", "tokens", "some.csv", "--model", "text")).stderr
    assert run(statewise(("serve",), "stream", "--help")).returncode == 0
    assert "is not a folder" in run(statewise(("serve",), "serve", "--repository", "no/such")).stderr


@pytest.mark.parametrize("extras", [("serve",), ("evaluate",), ("train",), ("serve", "evaluate"), ("serve", "train"), ("dev",)])
def test_no_set_of_extras_brings_onnx_runtime_twice(extras):
    """The distributions onnxruntime and onnxruntime-gpu write into the same folder, so together they are neither."""
    assert len({"onnxruntime", "onnxruntime-gpu"} & distributions(*extras)) == 1


def test_one_onnx_runtime_is_installed():
    """What the tests run on is one distribution of ONNX Runtime."""
    names = {canonicalize_name(found.name) for found in installed()}
    assert len({name for name in names if re.fullmatch(r"onnxruntime(-gpu|-directml|-openvino)?", name)}) == 1
