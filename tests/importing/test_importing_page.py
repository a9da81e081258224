"""docs/importing.md shows what its commands print, and what it says is found is found."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx

from builders.foreign import info, node, save
from builders.tiny import fill
from statewise.importing import Asked, prepare, read

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "importing.md").read_text(encoding="utf-8")


def test_the_pages_example_does_what_the_page_says(command, tmp_path, monkeypatch):
    """The first command is refused, the second prints the table that the page shows and publishes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "110")
    subprocess.run([sys.executable, ROOT / "examples" / "voice_activity.py"], check=True, capture_output=True)
    first, second = re.findall(r"^statewise (import voice\.onnx .*)$", PAGE, re.M)
    refused = command(*first.split(), "--repository", "repository")
    assert refused.status == 2
    assert "--dim samples=N" in refused.err
    assert "--constant sr=VALUE" in refused.err
    shown = command(*second.split(), "--repository", "repository")
    table = re.search(r"```\n( +tensor.*?)```", PAGE, re.S)[1]
    lines = [line.rstrip() for line in shown.out.splitlines()]
    assert [line.split() for line in table.splitlines()] == [line.split() for line in lines[1:-1]]
    assert lines[-1].startswith("published voice@1 in repository")
    assert "voice" in command("models", "--repository", "repository").out


def test_an_integer_that_looks_up_a_table_has_its_bounds(tmp_path):
    """A token beyond the table would fail a whole run; it is refused by name before."""
    nodes = [node("Gather", "table token", "row"), node("Add", "row h", "h_out"), node("Identity", "h_out", "y")]
    taken, returned = [info("token", "int64", "N"), info("h", "float32", "N", 3)], [info("y", "float32", "N", 3)]
    table = {"table": np.eye(5, 3, dtype=np.float32)}
    file = save(tmp_path / "t.onnx", nodes, taken, [*returned, info("h_out", "float32", "N", 3)], table)
    (token,) = prepare(read(file), Asked()).spec.inputs
    assert (token.minimum, token.maximum) == (0, 4)


def test_row_lengths_are_found_and_ragged_batches_kept(tmp_path):
    """A model that was trained here and forgot what it is: lengths, states of two layers and their outputs are found by name."""
    fill(tmp_path / "repository")
    model = onnx.load(str(tmp_path / "repository" / "label" / "1" / "model.onnx"))
    del model.metadata_props[:]
    onnx.save(model, str(tmp_path / "plain.onnx"))
    spec = prepare(read(tmp_path / "plain.onnx"), Asked()).spec
    assert (spec.lengths, spec.timesteps, spec.batch) == ("lengths", 0, 0)
    assert {state.output for state in spec.states} == {f"{state.input}_next" for state in spec.states}


def test_a_file_that_describes_itself_is_taken_as_it_is(command, tmp_path):
    """Byte for byte: what was told with it stays with it."""
    fill(tmp_path / "repository")
    file = tmp_path / "repository" / "label" / "1" / "model.onnx"
    ended = command("import", file, "--name", "copy", "--repository", tmp_path / "other")
    assert ended.status == 0, ended.err
    assert (tmp_path / "other" / "copy" / "1" / "model.onnx").read_bytes() == file.read_bytes()


def test_a_dry_run_publishes_nothing(command, tmp_path):
    """It says so."""
    fill(tmp_path / "repository")
    file = tmp_path / "repository" / "label" / "1" / "model.onnx"
    ended = command("import", file, "--name", "copy", "--repository", tmp_path / "other", "--dry-run")
    assert (ended.status, "nothing was published" in ended.out) == (0, True)
    assert not (tmp_path / "other").exists()
