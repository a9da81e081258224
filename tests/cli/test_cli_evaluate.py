"""`statewise evaluate` as a gate calls it: statuses that a script can trust, figures that it can read, a line for each mistake."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from builders.command import Command, Ended
from builders.tiny import DEMAND, LABEL, TEXT, fill
from statewise.spec import Vocabulary
from statewise_models.config import OUT, Route
from statewise_models.export import export
from statewise_models.network import Network

ROWS = 60


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`demand`, `label` and `text`; `demand` and `text` twice, `demand` the second time bad."""
    root = tmp_path_factory.mktemp("two")
    networks = fill(root)
    spoilt = networks["demand"]
    with torch.no_grad():
        spoilt.head.bias += 50.0
    export(spoilt, repository=root, model="demand")
    export(networks["text"], repository=root, model="text")
    return root


@pytest.fixture
def week(tmp_path: Path) -> Path:
    """A file of demand."""
    stamps = pd.date_range("2026-01-01", periods=ROWS, freq="30min")
    pd.DataFrame({"time": stamps, "demand": 100 + np.arange(ROWS) % 7}).to_csv(tmp_path / "week.csv", index=False)
    return tmp_path / "week.csv"


@pytest.fixture
def evaluate(command: Command, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ended]:
    """Runs `statewise evaluate …` over the repository."""
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *words: command("evaluate", "--repository", repository, *words)


def test_versions_stand_side_by_side_with_the_baselines(evaluate, week):
    """Every figure of the table is in the JSON as well, beside the digests of what was judged; no gate, no verdict."""
    ended = evaluate("demand@1", "demand@2", "--data", week, "--warm-up", 48, "--json", week.with_suffix(".json"))
    assert ended.status == 0, ended.err
    told = json.loads(week.with_suffix(".json").read_text())
    contest = told["overall"]["demand"]
    assert list(contest) == ["demand@1", "demand@2", "persistence", "naive_48"]
    for figures in contest.values():
        assert f"{figures['rmse']:,.4g}" in ended.out
        assert figures["count"] == ROWS - 48
    change = contest["demand@2"]["rmse"] / contest["demand@1"]["rmse"] - 1
    assert f"{change:+.1%}" in ended.out
    assert [version["version"] for version in told["versions"]] == [1, 2]
    assert all(len(version["sha256"]) == 64 for version in told["versions"])
    assert (told["warm_up"], told["gate"]) == (48, None)
    assert "passes" not in ended.out


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (["demand@1", "--max-rmse", 1e6], 0, "passes: demand@1"),
        (["demand@1", "--max-rmse", 1e-6], 3, "--max-rmse is 1e-06"),
        (["demand@2", "demand@1", "--max-worse", "0%"], 0, "passes: demand@1"),
        (["demand@1", "demand@2", "--max-worse", "2%"], 3, "worse than demand@1"),
        (["demand@1", "demand@2", "--max-worse", "1000000%"], 0, "statewise promote demand 2"),
        (["demand@2", "--beat-baseline"], 3, "no better than persistence"),
        (["demand@2", "--beat-baseline", "--max-rmse", 1], 3, "; "),
    ],
)
def test_the_status_says_whether_the_last_version_passes(evaluate, week, words, status, told):
    """0 passes, and says what to type next; 3 fails, with one line that says why. The JSON says the same."""
    ended = evaluate(*words, "--data", week, "--json", week.with_suffix(".json"))
    assert ended.status == status, ended.err
    assert told in (ended.err if status else ended.out)
    assert json.loads(week.with_suffix(".json").read_text())["gate"]["passes"] == (status == 0)
    if status:
        assert ended.err.startswith(f"fails: {words[0] if words[1].startswith('--') else words[1]}: ")
        assert ended.err.count("\n") == 1


def test_a_forecast_that_beats_every_baseline_passes(evaluate, week, repository, tmp_path):
    """A gate that nothing could pass would be no gate: where the next value is the present one plus one, adding one wins."""
    network = Network(DEMAND).eval()
    with torch.no_grad():
        network.head.weight.zero_()
        network.head.bias.fill_(1.0)
    shutil.copytree(repository, tmp_path / "r")
    version = export(network, repository=tmp_path / "r", model="demand").version
    table = pd.read_csv(week)
    table.assign(demand=np.arange(ROWS) + 100.0).to_csv(week, index=False)
    words = ["--data", week, "--beat-baseline", "--max-rmse", 0.001, "--repository", tmp_path / "r"]
    ended = evaluate(f"demand@{version}", *words)
    assert ended.status == 0, ended.err


@pytest.mark.parametrize("kind", ["int8", "peephole", "jordan", "feedback"])
def test_versions_of_every_kind_are_judged(evaluate, week, tmp_path, kind):
    """Cells that ONNX has no op for, outputs that are fed back, and int8 weights: all run, and are told as other versions are."""
    form = {"int8": {"cell": "lstm"}, "peephole": {"cell": "peephole"}}.get(kind, {"cell": "elman"})
    routes = {"jordan": (Route(OUT, 1),), "feedback": (Route(1, 1), Route(2, 1), Route(OUT, 2))}.get(kind, ())
    torch.manual_seed(0)
    network = Network(replace(DEMAND, layers=2, feedback=routes, **form)).eval()
    export(network, repository=tmp_path / "r", model="demand", int8=kind == "int8")
    (tmp_path / "figures").mkdir()
    words = ["--data", week, "--json", tmp_path / "figures" / "all.json", "--repository", tmp_path / "r"]
    ended = evaluate("demand", *words, "--max-rmse", 1e9)
    assert (ended.status, "passes: demand@1" in ended.out) == (0, True), ended.err
    figures = json.loads((tmp_path / "figures" / "all.json").read_text())["overall"]["demand"]["demand@1"]
    expected = _rmse(network, week)
    assert figures["rmse"] == pytest.approx(expected, rel=0.05 if kind == "int8" else 1e-4)


def _rmse(network: Network, week: Path) -> float:
    """What torch makes of the file, in one session from the first row on."""
    table = pd.read_csv(week, parse_dates=["time"])
    values = torch.tensor(table["demand"].to_numpy(np.float32))[:, None, None]
    time = torch.tensor(table["time"].to_numpy("datetime64[s]").astype(np.int64) // 1800)[:, None]
    with torch.no_grad():
        answers = network.predict({"x": values, "time": time}, network.initial(1))[0]
    return float((answers[:-1] - values[1:]).square().mean().sqrt())


def test_labels_and_texts_have_gates_of_their_own(evaluate, tmp_path):
    """Accuracy is better the higher it is, bits the lower."""
    rows = [f"{n},{n % 2},{n},{'calm' if n % 2 else 'busy'}" for n in range(6) for _ in range(4)]
    (tmp_path / "labels.csv").write_text("id,left,right,kind\n" + "\n".join(rows) + "\n")
    labels = ["label", "--data", tmp_path / "labels.csv", "--series", "id", "--label", "kind"]
    assert evaluate(*labels, "--min-accuracy", "0%").status == 0
    failed = evaluate(*labels, "--min-accuracy", "100%")
    assert (failed.status, "--min-accuracy is 100.0%" in failed.err) == (3, True)
    assert evaluate(*labels, "--beat-baseline").status == 3  # an untrained network says one label of all
    (tmp_path / "some.txt").write_text("abc cab " * 9)
    text = ["text@1", "text@2", "--data", tmp_path / "some.txt"]
    assert evaluate(*text, "--max-bits", 99, "--max-worse", "0%").status == 0
    assert evaluate(*text, "--max-bits", 0.001).status == 3


def test_columns_may_have_other_names_and_series_are_told_apart(evaluate, week):
    """--column and --series as in `statewise stream`; each series is listed, the worst first."""
    one = pd.read_csv(week)
    both = pd.concat([one.assign(meter="[red]a"), one.assign(meter="b", demand=one["demand"] * 3)])
    both.rename(columns={"demand": "MW", "time": "when"}).to_csv(week, index=False)
    ended = evaluate("demand", "--data", week, "--series", "meter", "--time", "when", "--column", "demand=MW")
    assert ended.status == 0, ended.err
    assert "[red]a" in ended.out
    assert "RMSE by series, the worst first" in ended.out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nope"], "no model 'nope'"),
        (["demand@9"], "model 'demand' has no version 9 (it has: 1, 2)"),
        (["demand@new"], "MODEL or MODEL@NUMBER"),
        (["demand@1", "demand@1"], "demand@1 is named more than once"),
        (["demand", "text"], "the same task: demand@1 has forecast, text@1 has tokens"),
        (["demand", "--data", "none.csv"], "none.csv: No such file"),
        (["demand", "--time", "when"], "has no column 'when'"),
        (["demand", "--column", "demand"], "--column takes FEATURE=COLUMN"),
        (["demand", "--column", "wind=demand"], "no version has a feature 'wind'"),
        (["demand", "--column", "demand=MW"], "has no column 'MW'"),
        (["demand", "--warm-up", "60"], "nothing is left to score"),
        (["demand", "--max-worse", "2%"], "--max-worse compares the last version"),
        (["demand@1", "demand@2", "--max-worse", "2"], "--max-worse takes a percentage: 2%, not '2'"),
        (["demand", "--min-accuracy", "90%"], "--min-accuracy is not for demand@1"),
        (["demand", "--gaps", "ignore"], "gaps"),
        (["label"], "--series and --label are needed"),
    ],
)
def test_what_cannot_be_used_is_one_line_and_status_2(evaluate, week, words, told):
    """The line names what is wrong, and nothing is written."""
    data = [] if "--data" in words else ["--data", week]
    ended = evaluate(*words, *data, "--json", week.with_suffix(".json"))
    assert (ended.status, ended.err.count("\n")) == (2, 1), ended.err
    assert told in ended.err
    assert not week.with_suffix(".json").exists()


@pytest.mark.parametrize(
    ("model", "content", "told"),
    [
        ("demand", "time,demand\n2026-01-01T00:00,1\n2026-01-01T00:30,\n", "has no value: line 3"),
        ("demand", "time,demand\n2026-01-01T00:00,1\n2026-01-01T00:30,x\n", "holds text where numbers are due, 'x': line 3"),
        ("demand", "time,demand\n2026-01-01T00:00,1\n2026-01-01T01:00,2\n", "demand@1 counts timesteps of 1800 s; the file has"),
        ("demand", "time,demand\n1,1\n2,2\n", "counts timesteps of 1800 s; the file has rows or integers"),
        ("demand", "time,demand\n", "has no rows"),
        ("label", "id,left,right,kind\na,1,2,calm\na,1,2,odd\n", "holds 'odd', which is not among the labels calm, busy: line 3"),
        ("label", "id,left,right,kind\na,1,2,calm\na,1,2,busy\n", "has more than one label"),
        ("label", "id,left,right,kind\na,,2,calm\n", "'left' holds no number"),
        ("text", "abz", "character 'z' at 2 is not in the model's vocabulary"),
        ("text", "a", "too short"),
    ],
)
def test_a_bad_file_is_one_line_with_its_place_and_status_2(evaluate, tmp_path, model, content, told):
    """As training refuses it: the same readers read it."""
    (tmp_path / "bad.csv").write_text(content)
    columns = ["--series", "id", "--label", "kind"] if model == "label" else []
    ended = evaluate(model, "--data", tmp_path / "bad.csv", *columns)
    assert (ended.status, ended.err.count("\n")) == (2, 1), ended.err
    assert told in ended.err


OTHERS = {
    "targets": ("demand", replace(DEMAND, targets=(replace(DEMAND.targets[0], name="price", difference=False),))),
    "labels": ("label", replace(LABEL, labels=("calm", "wild"))),
    "vocabulary": ("text", replace(TEXT, vocabulary=Vocabulary(tuple("abcd")))),
}


@pytest.mark.parametrize("what", OTHERS)
def test_versions_of_other_targets_are_not_compared(evaluate, week, repository, tmp_path, what):
    """A change in per cent between unlike things would mean nothing; the line says what each has."""
    model, other = OTHERS[what]
    shutil.copytree(repository, tmp_path / "r")
    export(Network(other), repository=tmp_path / "r", model="other")
    ended = evaluate(model, "other", "--data", week, "--series", "id", "--label", "kind", "--repository", tmp_path / "r")
    assert (ended.status, ended.err.count("\n")) == (2, 1), ended.err
    assert f"only with the same {what}" in ended.err


def test_a_version_that_cannot_be_read_is_trouble(evaluate, week, repository, tmp_path):
    """Status 1: not what the user gave, but what lies there."""
    shutil.copytree(repository, tmp_path / "r")
    (tmp_path / "r" / "demand" / "1" / "model.onnx").write_bytes(b"no onnx")
    ended = evaluate("demand", "--data", week, "--repository", tmp_path / "r")
    assert (ended.status, ended.err.count("\n")) == (1, 1), ended.err
    assert "demand@1: ONNX Runtime cannot load" in ended.err
