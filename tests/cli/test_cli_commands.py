"""`statewise` and its commands: help that teaches, errors in one line, and commands of other packages imported when run."""

import json
import shutil
import subprocess
import sys

import pytest
import typer

from statewise.cli import extra_of
from statewise.cli.app import app
from statewise.config import ServeSettings
from statewise.runtime import USUAL_BATCH


def test_help_lists_every_command_without_importing_the_training_package():
    """`statewise --help` shows `train`, and is not slowed by what `train` needs."""
    script = """if True:
        import sys
        from statewise.cli import main
        sys.argv = ["statewise", "--help"]
        try:
            main()
        finally:
            print(sorted({"statewise_models.cli", "torch", "onnxruntime", "pandas"} & set(sys.modules)))
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert all(f" {command} " in done.stdout for command in ("serve", "models", "promote", "stream", "trace", "train"))
    assert done.stdout.endswith("[]\n")


@pytest.mark.parametrize(
    ("arguments", "hidden", "told"),
    [
        (["serve"], "onnxruntime", "pip install 'statewise[serve]'"),
        (["serve"], "pydantic", "pip install 'statewise[serve]'"),
        (["serve"], "structlog", "pip install 'statewise[serve]'"),
        (["stream", "x", "--data", "y"], "typer", "pip install 'statewise[serve]'"),
        (["train", "--help"], "typer", "pip install 'statewise[train]'"),
        (["train", "--help"], "statewise_models.cli", None),
    ],
)
def test_a_missing_extra_is_named(arguments, hidden, told):
    """A command whose needs are not installed says which extra brings them; a fault of ours is not dressed up as one."""
    script = """if True:
        import importlib.abc, sys
        hidden = sys.argv.pop(1)

        class Hides(importlib.abc.MetaPathFinder):
            def find_spec(self, name, path, target=None):
                if name == hidden:
                    raise ModuleNotFoundError(f"No module named {name!r}", name=name)

        sys.meta_path.insert(0, Hides())
        from statewise.cli import main
        main()
    """
    done = subprocess.run([sys.executable, "-c", script, hidden, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    if told:
        assert told in done.stderr
        assert hidden in done.stderr
        assert done.stderr.count("\n") == 1
    else:
        assert "ModuleNotFoundError" in done.stderr


@pytest.mark.parametrize(
    ("module", "extra"), [("grpc_health.v1", "serve"), ("prometheus_client", "serve"), ("torch", "train"), ("xyz", None)]
)
def test_the_extra_is_read_from_the_packages_own_metadata(module, extra):
    """What brings a module is not written down twice."""
    assert extra_of(module) == extra


def test_models_shows_the_repository(command, tiny_repository):
    """Every model with its versions, the one that new sessions get, its task, cell and parameters."""
    ended = command("models", "--repository", tiny_repository)
    assert ended.status == 0
    for word in ("demand", "label", "text", "gru", "lstm", "elman"):
        assert word in ended.out


def test_models_tells_of_a_model_that_cannot_be_read(command, tiny_repository, tmp_path):
    """One broken file does not hide the others."""
    shutil.copytree(tiny_repository, tmp_path / "r")
    (tmp_path / "r" / "text" / "1" / "model.onnx").write_bytes(b"no onnx")
    ended = command("models", "--repository", tmp_path / "r")
    assert ended.status == 0
    assert "gru" in ended.out
    assert "text" in ended.out


def test_an_empty_repository_says_what_to_do(command, tmp_path):
    """No models is no error, and the next step is named."""
    ended = command("models", "--repository", tmp_path)
    assert ended.status == 0
    assert "statewise train" in ended.out


def test_promote_writes_what_new_sessions_get(command, tiny_repository, tmp_path):
    """serving.json names the version; an unknown model or version changes nothing."""
    shutil.copytree(tiny_repository, tmp_path / "r")
    shutil.copytree(tmp_path / "r" / "text" / "1", tmp_path / "r" / "text" / "2")
    serving = tmp_path / "r" / "text" / "serving.json"
    assert command("promote", "text", 2, "--repository", tmp_path / "r").status == 0
    assert json.loads(serving.read_text()) == {"default": 2, "previous": 1}
    for wrong in (("text", 3), ("nope", 1)):
        ended = command("promote", *wrong, "--repository", tmp_path / "r")
        assert (ended.status, ended.err.count("\n")) == (1, 1)
    assert json.loads(serving.read_text()) == {"default": 2, "previous": 1}


@pytest.mark.parametrize(
    ("options", "status", "told"),
    [
        (["--listen", "here"], 2, "--listen: takes HOST:PORT"),
        (["--max-batch", "0"], 2, "--max-batch"),
        (["--provider", "tpu"], 2, "--provider"),
        (["--repository", "none/such"], 1, "the repository none/such is not a folder"),
    ],
)
def test_serve_refuses_wrong_settings_in_one_line(command, options, status, told):
    """The option and what it takes, before anything is bound."""
    ended = command("serve", "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", *options)
    assert ended.status == status
    assert told in ended.err
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize("option", ["--listen", "--metrics-listen"])
def test_a_port_in_use_is_an_error(tiny_server, tiny_repository, option):
    """Two servers never share a port: the second says which one is taken, in one line, and ends with status 1."""
    taken = tiny_server.address if option == "--listen" else tiny_server.metrics.removeprefix("http://").removesuffix("/metrics")
    arguments = [
        "serve",
        "--repository",
        tiny_repository,
        "--listen",
        "127.0.0.1:0",
        "--metrics-listen",
        "127.0.0.1:0",
        option,
        taken,
    ]
    done = subprocess.run([sys.executable, "-m", "statewise.cli", *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: cannot listen on {taken}")
    assert done.stderr.count("\n") == 1


def test_the_help_of_serve_names_the_defaults_that_hold():
    """What `statewise serve --help` calls a default is what the settings take when nothing is said."""
    for parameter in typer.main.get_command(app).commands["serve"].params:
        if isinstance(parameter.show_default, str):
            if parameter.name == "max_batch":
                cpu, cuda = USUAL_BATCH.values()
                assert parameter.show_default == f"{cpu}; {cuda} on CUDA"
                continue
            assert parameter.show_default == str(getattr(ServeSettings(), parameter.name)).removesuffix(".0"), parameter.name


def test_rollback_and_canary_say_what_new_sessions_get(command, tiny_repository, tmp_path):
    """Each edits serving.json and says in words what holds now; what cannot be is refused in one line and changes nothing."""
    root = tmp_path / "r"
    shutil.copytree(tiny_repository, root)
    shutil.copytree(root / "text" / "1", root / "text" / "2")
    assert command("rollback", "text", "--repository", root).status == 1
    command("promote", "text", 2, "--repository", root)
    assert "version 1 again" in command("rollback", "text", "--repository", root).out
    assert "25% of new sessions" in command("canary", "text", 2, "--share", 0.25, "--repository", root).out
    assert "1*, 2 (25%)" in command("models", "--repository", root).out
    before = (root / "text" / "serving.json").read_text()
    for wrong in (("text", 1), ("text", 9), ("text", 2, "--share", 1.5)):
        ended = command("canary", *wrong, "--repository", root)
        assert (ended.status, ended.err.count("\n")) == (1, 1)
    assert (root / "text" / "serving.json").read_text() == before
    assert "no canary" in command("canary", "text", "--repository", root).out
    assert json.loads((root / "text" / "serving.json").read_text()) == {"default": 1, "previous": 2}
