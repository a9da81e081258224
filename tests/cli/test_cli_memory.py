"""`statewise memory` as a person calls it, and `statewise train --int8`: what is told, and one clear line for whatever is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


@pytest.fixture
def demand(tmp_path: Path) -> Path:
    """A file such as `demand` was trained on."""
    rows = [f"2026-01-{1 + n // 48:02}T{n % 48 // 2:02}:{n % 2 * 30:02},{100 + n % 9}" for n in range(60)]
    (tmp_path / "demand.csv").write_text("time,demand\n" + "\n".join(rows))
    return tmp_path / "demand.csv"


@pytest.fixture
def memory(command, tiny_repository, tmp_path, monkeypatch):
    """Runs `statewise memory …` on the tiny repository, without the recall task."""
    monkeypatch.setenv("COLUMNS", "120")
    return lambda *words: command("memory", *words, "--no-recall", "--repository", tiny_repository, "--output", tmp_path / "out")


def test_gradients_are_told_drawn_and_written(memory, demand, tmp_path):
    """A table, a picture and the figures of every model named, a version or the one that new sessions get."""
    ended = memory("demand", "demand@1", "--data", demand, "--time", "time", "--back", "20")
    assert ended.status == 0, ended.err
    assert "demand@1, hidden" in ended.out
    assert (tmp_path / "out" / "memory.png").read_bytes().startswith(b"\x89PNG")
    told = json.loads((tmp_path / "out" / "memory.json").read_text())
    assert told["models"]["demand@1"]["cell"] == "gru"
    assert len(told["models"]["demand@1"]["hidden"]) == 20
    assert told["models"]["demand@1"]["hidden"][0] == 1.0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("nobody", "--data", "demand.csv"), "no model 'nobody' in"),
        (("demand@9", "--data", "demand.csv"), "model 'demand' has no version 9 (it has: 1)"),
        (("demand",), "--data is needed to look into a model"),
        (("demand", "--data", "nowhere.csv"), "nowhere.csv: No such file or directory"),
        (("demand", "--data", "demand.csv", "--time", "when"), "has no column 'when'; its columns are 'time', 'demand'"),
        (("demand", "--data", "demand.csv", "--back", "59"), "its longest series has 60 timesteps; back 59 takes 61"),
        (("label", "--data", "demand.csv"), "a model that classifies needs --label and --series"),
        (
            ("label", "--data", "odd.csv", "--label", "l", "--series", "s"),
            "holds 'odd', which is not among the labels calm, busy: lines 2, 3",
        ),
        (("text", "--data", "demand.csv"), "is not in the model's vocabulary"),
        ((), "--no-recall leaves nothing to do without a model"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(memory, demand, tmp_path, monkeypatch, words, told):
    """Status 2, the field and what it takes; no file is made."""
    (tmp_path / "odd.csv").write_text("s,l,left,right\n1,odd,1,1\n1,odd,2,2\n2,calm,1,1\n2,calm,2,2\n")
    monkeypatch.chdir(tmp_path)
    ended = memory(*words)
    assert ended.status == 2
    assert told in ended.err
    assert ended.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_int8_is_refused_before_data_are_read(command, tmp_path):
    """A cell without a kernel costs nobody a training run."""
    ended = command("train", "tokens", tmp_path / "nowhere.txt", "--model", "m", "--cell", "gru", "--int8")
    assert ended.status == 2
    assert ended.err.startswith("error: int8 takes cell lstm, not 'gru': ONNX Runtime's dynamic quantisation has a kernel")


def test_int8_is_told_beside_float32(command, tmp_path, monkeypatch):
    """Accuracy, size, time and distance of both forms stand in the summary, for the splits that there are."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    (tmp_path / "book.txt").write_text("to be or not to be, that is the question. " * 20)
    words = ("--window", "8", "--epochs", "2", "--hidden", "4", "--lanes", "2", "--int8")
    ended = command("train", "tokens", "book.txt", "--model", "writer", *words)
    assert ended.status == 0, ended.err
    for row in (
        "validation, bits a token",
        "test, bits a token",
        "file, bytes",
        "a timestep of 64 sessions",
        "alone and in a batch of 8",
    ):
        assert row in ended.out
