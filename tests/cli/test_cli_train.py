"""`statewise train` as a person calls it: the happy road of each task, and one clear line for whatever is wrong."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from builders.command import Command, Ended
from builders.pages import Page

QUICK = ("--epochs", "2", "--hidden", "4", "--lanes", "2")
FORECAST = ("--target", "load", "--model", "plant", "--time", "time", "--window", "8", *QUICK)
FULL_DISK = 20_000
"""Bytes that a file may have in a process whose disk is "full": less than a checkpoint, a plot or a model takes."""


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    """A series of 120 timesteps with two columns."""
    steps = np.arange(120)
    pd.DataFrame({"time": steps, "load": 50 + 10 * np.sin(steps / 4), "wind": np.cos(steps / 5)}).to_csv(
        tmp_path / "plant.csv", index=False
    )
    return tmp_path / "plant.csv"


@pytest.fixture
def train(csv: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ended]:
    """Runs `statewise train …` in the folder of the series."""
    monkeypatch.chdir(csv.parent)
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *words: command("train", *words)


@pytest.fixture
def forecast(csv: Path, train: Callable[..., Ended]) -> Callable[..., Ended]:
    """Trains on the series with everything as it should be, but for the words given."""
    return lambda *words: train("forecast", csv, *FORECAST, *words)


def nothing_is_served(folder: Path) -> bool:
    """Whether no model, nor half of one, is in the repository."""
    return not list((folder / "var").rglob("*.onnx")) and not list((folder / "var").rglob("serving.json"))


def test_each_task_is_trained_exported_and_told(csv, train, forecast):
    """A file in, a model in the repository out; the last lines say where everything is and what to do next."""
    folder = csv.parent
    rows = [f"s{n},{'ab'[n % 2]},{(-1) ** n * np.sin(t):.3f}" for n in range(24) for t in range(5 + n % 4)]
    (folder / "labels.csv").write_text("series,label,x\n" + "\n".join(rows))
    (folder / "book.txt").write_text("to be or not to be, that is the question. " * 20)
    jordan, peephole = ("--cell", "elman", "--feedback", "out:1"), ("--cell", "peephole")
    done = [
        forecast("--input", "wind", "--calendar", "24", "--difference", *jordan),
        train(
            "classify", "labels.csv", "--series", "series", "--label", "label", "--input", "x", "--model", "kind", *QUICK, *peephole
        ),
        train("tokens", "book.txt", "--model", "writer", "--window", "8", *QUICK),
    ]
    for each, model in zip(done, ("plant", "kind", "writer"), strict=True):
        assert each.status == 0, each.err
        assert (folder / "var" / "repository" / model / "1" / "model.onnx").exists()
        assert json.loads((folder / "var" / "repository" / model / "serving.json").read_text()) == {"default": 1}
        assert f"statewise stream {model}" in each.out
        assert f"var/repository/{model}/1/report.html" in each.out
        page = (folder / "var" / "repository" / model / "1" / "report.html").read_text(encoding="utf-8")
        assert Page(page).outside() == []
        assert f"--model {model}" in page
        assert {"checkpoint.safetensors", "metrics.jsonl", "loss.png"} <= {
            p.name for p in (folder / "var" / "training" / model).iterdir()
        }


def test_a_second_version_waits_for_its_promotion(csv, forecast):
    """Trained again, the model has two versions; new sessions get the first until the second is promoted, and one is told so."""
    assert forecast().status == 0
    again = forecast()
    serving = csv.parent / "var" / "repository" / "plant" / "serving.json"
    assert json.loads(serving.read_text())["default"] == 1
    assert "statewise promote plant 2" in again.out
    assert "statewise evaluate plant@1 plant@2" in again.out
    assert forecast("--promote").status == 0
    assert json.loads(serving.read_text())["default"] == 3


def test_a_run_goes_on_from_its_checkpoint(csv, forecast):
    """--resume with more epochs trains the rest of them only."""
    forecast()
    again = forecast("--resume", "--epochs", "3")
    assert again.status == 0, again.err
    epochs = [
        json.loads(line)["epoch"] for line in (csv.parent / "var" / "training" / "plant" / "metrics.jsonl").read_text().splitlines()
    ]
    assert epochs == [1, 2, 3]


def test_a_run_starts_from_a_version(csv, forecast):
    """The first epoch of a warm start is better than a cold one's, the summary and the spec say where it came from."""
    losses = csv.parent / "var" / "training" / "plant" / "metrics.jsonl"
    assert forecast("--epochs", "12").status == 0
    cold = [json.loads(line)["validation_loss"] for line in losses.read_text().splitlines()]
    warm = forecast("--init-from", "plant")
    assert warm.status == 0, warm.err
    assert json.loads(losses.read_text().splitlines()[0])["validation_loss"] < cold[0]
    assert "started from plant@1" in warm.out
    assert "plant@1" in (csv.parent / "var" / "repository" / "plant" / "2" / "report.html").read_text(encoding="utf-8")
    resumed = forecast("--resume")
    assert (resumed.status, "was started from plant@1, not drawn weights" in resumed.err) == (2, True)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--init-from", "plants"], "no model 'plants'"),
        (["--init-from", "plant@2"], "has no version 2"),
        (["--init-from", "plant", "--hidden", "5"], "hidden size must be the same: plant@1 has 4, this run 5"),
        (["--init-from", "plant", "--input", "wind"], "inputs must be the same: plant@1 has load, this run load, wind"),
    ],
)
def test_a_version_of_another_kind_is_no_start(csv, forecast, words, told):
    """One line names the first difference, before anything is trained."""
    forecast()
    ended = forecast(*words)
    assert (ended.status, ended.err.count("\n")) == (2, 1), ended.err
    assert told in ended.err
    assert not (csv.parent / "var" / "repository" / "plant" / "2").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--cell", "gru"], "cell 'lstm', not 'gru'"),
        (["--window", "9"], "window 8, not 9"),
        (["--missing", "load=mask"], "missing 'refuse', not {'load': 'mask'}"),
        (["--input", "wind"], "other data: columns"),
        (["--output", "elsewhere"], "there is no elsewhere/checkpoint.safetensors"),
    ],
)
def test_resuming_with_other_options_is_refused(csv, forecast, words, told):
    """One line names what differs, and the checkpoint stands."""
    forecast()
    checkpoint = csv.parent / "var" / "training" / "plant" / "checkpoint.safetensors"
    before = checkpoint.read_bytes()
    ended = forecast("--resume", *words)
    assert (ended.status, ended.err.count("\n")) == (2, 1), ended.err
    assert told in ended.err
    assert checkpoint.read_bytes() == before


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--target", "lode"], "lode"),
        (["--cell", "transformer"], "elman, lstm"),
        (["--feedback", "1:1"], "--feedback goes with cell elman, not 'lstm'"),
        (["--cell", "elman", "--feedback", "2:1"], "--feedback 2:1: there is no layer 2 (layers: 1 only)"),
        (["--cell", "elman", "--layers", "2", "--feedback", "1:3"], "--feedback 1:3: there is no layer 3 (layers: 1 to 2)"),
        (["--cell", "elman", "--feedback", "0:1"], "--feedback 0:1: there is no layer 0"),
        (["--cell", "elman", "--feedback", "1:out"], "--feedback 1:out: out is fed to layers"),
        (["--cell", "elman", "--feedback", "out:1,out:1"], "--feedback out:1: it is there twice"),
        (["--cell", "elman", "--feedback", "1:1;out:1"], "--feedback cannot be read at '1:1;out:1'"),
        (["--cell", "elman", "--feedback", "1:1,"], "--feedback cannot be read at ''"),
        (["--cell", "elman", "--feedback", "-1:1"], "it takes FROM:TO with commas between"),
        (["--calendar", "daily"], "--calendar takes whole numbers"),
        (["--calendar", "48,48"], "each once, not 48,48"),
        (["--validation", "0.99"], "validation must be above 0"),
        (["--validation", "0.99", "--test", "0"], "smaller shares"),
        (["--missing", "wind=guess"], "missing"),
        (["--gaps", "ignore"], "gaps"),
        (["--hidden", "0"], "hidden"),
        (["--bidirectional"], "cannot be streamed"),
        (["--window", "100000"], "window"),
        (["--model", "../plant"], "cannot name a model"),
    ],
)
def test_a_wrong_option_is_one_line_and_status_2(csv, forecast, words, told):
    """The line names the option and what it takes; nothing is written."""
    ended = forecast(*words)
    assert (ended.status, ended.err.count("\n")) == (2, 1), ended.err
    assert ended.err.startswith("error: ")
    assert told in ended.err
    assert nothing_is_served(csv.parent)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "empty"),
        ("time,load\n", "no rows"),
        ("time,load\n" + "".join(f"{n},{n}\n" for n in range(4)), "short"),
        ("time,load\n" + "".join(f"{n},{'much' if n == 57 else n}\n" for n in range(120)), "much"),
        ("time,load\n" + "".join(f"{n},{'' if n == 57 else n}\n" for n in range(120)), "59"),
        ("time,load\n" + "".join(f"{n},{'inf' if n == 57 else n}\n" for n in range(120)), "59"),
        ("time,load\n" + "".join(f"{n if n < 57 else n + 5},{n}\n" for n in range(120)), "59"),
        ("time,load\n" + "".join(f"{n if n != 57 else 56},{n}\n" for n in range(120)), "59"),
    ],
    ids=["empty", "header-only", "short", "text", "missing", "infinite", "gap", "duplicate"],
)
def test_bad_data_is_one_line_with_its_place_and_status_2(csv, forecast, content, told):
    """The line names the file's row (counted as an editor does) or what is too little; nothing is written."""
    csv.write_text(content)
    ended = forecast()
    assert (ended.status, ended.err.count("\n")) == (2, 1), ended.err
    assert ended.err.startswith("error: ")
    assert told in ended.err
    assert nothing_is_served(csv.parent)


def test_a_file_that_is_not_there_is_one_line(train):
    """It is named."""
    ended = train("forecast", "nowhere.csv", "--target", "load", "--model", "plant")
    assert ended.status in (1, 2)
    assert "nowhere.csv" in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("option", ["--repository", "--output"])
def test_a_folder_that_cannot_be_written_is_told_before_training(csv, forecast, option):
    """Status 1, one line with the folder, and no epoch was spent."""
    (csv.parent / "file").write_text("")
    ended = forecast(option, csv.parent / "file" / "folder")
    assert (ended.status, ended.err.count("\n")) == (1, 1), ended.err
    assert "file" in ended.err
    assert nothing_is_served(csv.parent)


def test_a_full_disk_is_one_line_and_leaves_no_half_of_anything(csv):
    """A process that can write no file larger than a few bytes ends with status 1, and leaves nothing that a server would load."""
    words = ("train", "forecast", str(csv), *FORECAST, "--hidden", "128")
    ended = subprocess.run(
        [sys.executable, "-m", "statewise.cli", *words],
        cwd=csv.parent,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (FULL_DISK, FULL_DISK)),
    )
    assert ended.returncode == 1, ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in ended.stderr
    assert nothing_is_served(csv.parent)
    left = [path.name for path in (csv.parent / "var").rglob("*") if path.is_file()]
    assert not [name for name in left if name.endswith((".tmp", ".part")) or name.startswith(".incoming")]


@pytest.mark.parametrize("trained_before", [False, True])
def test_ctrl_c_ends_with_one_line_that_says_what_can_be_done(csv, forecast, trained_before):
    """Status 130 and no traceback; --resume is offered only where there is a checkpoint to go on from."""
    if trained_before:
        assert forecast().status == 0
    pipe = csv.parent / "pipe.csv"
    os.mkfifo(pipe)
    command = [sys.executable, "-m", "statewise.cli", "train", "forecast", str(pipe), *FORECAST]
    with subprocess.Popen(command, cwd=csv.parent, stderr=subprocess.PIPE, text=True) as process:
        with pipe.open("w"):  # waits until the command reads
            process.send_signal(signal.SIGINT)
            told = process.stderr.read()
        assert process.wait(60) == 130
    assert told.count("\n") == 1, told
    assert told.startswith("error: stopped")
    assert ("--resume" in told) == trained_before
