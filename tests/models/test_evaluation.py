"""Versions on new data: the figures are those that a session would have had, and those that training reports."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from builders.served import KINDS, TASKS, config
from builders.tiny import fill
from statewise_models.data.labelled import read_labelled, split_labelled
from statewise_models.data.policy import InvalidData
from statewise_models.data.split import split_table
from statewise_models.data.table import read_table
from statewise_models.data.text import read_text
from statewise_models.evaluation.classify import FREQUENT, judge_labels
from statewise_models.evaluation.columns import Columns
from statewise_models.evaluation.forecast import judge_forecasts
from statewise_models.evaluation.gate import Gate
from statewise_models.evaluation.served import LANES, WINDOW, Served, serve
from statewise_models.evaluation.sheets import groups_sheet, overall_sheet
from statewise_models.evaluation.tokens import FREQUENCY, judge_text
from statewise_models.export import export
from statewise_models.export.conversation import conversation
from statewise_models.network import Network
from statewise_models.training import Trained, TrainingSettings, train_classify, train_forecast, train_tokens
from statewise_models.versions import published

QUICK = {"hidden": 4, "epochs": 2, "accelerator": "cpu"}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Network]]:
    """`demand`, `label` and `text`, one version each, and their networks."""
    root = tmp_path_factory.mktemp("tiny")
    return root, fill(root)


def version(root: Path, words: str) -> Served:
    return serve(published(root, words))


def exported(trained: Trained, root: Path) -> Served:
    export(trained.network, repository=root, model="m")
    return version(root, "m")


@pytest.mark.parametrize("cell", KINDS)
@pytest.mark.parametrize("task", TASKS)
def test_sequences_side_by_side_get_what_each_gets_alone(task: str, cell: str, tmp_path: Path):
    """More sequences than lanes, longer than a window, of unlike length, the state carried: as torch has each by itself."""
    torch.manual_seed(1)
    network = Network(config(task, cell, 2)).eval()
    export(network, repository=tmp_path, model="m")
    whole = conversation(network.config, [(LANES + 3, WINDOW + 40)], seed=4)[0].inputs
    lengths = [WINDOW + 40, WINDOW, WINDOW + 1, 1, *np.random.default_rng(0).integers(1, 90, LANES - 1).tolist()]
    sequences = [{key: value[:length, place] for key, value in whole.items()} for place, length in enumerate(lengths)]
    answers = version(tmp_path, "m").answers(sequences)
    with torch.no_grad():
        inputs = {key: torch.from_numpy(value) for key, value in whole.items()}
        expected = network.predict(inputs, network.initial(LANES + 3))[0].numpy()
    for place, (answer, length) in enumerate(zip(answers, lengths, strict=True)):
        assert answer.shape == (length, expected.shape[2])
        assert np.abs(answer - expected[:length, place]).max() <= 1e-5 * np.abs(expected).max()


def test_figures_of_a_forecast_are_those_of_the_textbook(tiny: tuple[Path, dict[str, Network]], tmp_path: Path):
    """RMSE, MAE and MAPE of model, persistence and seasonal naive, over the timesteps after the warm-up; computed by hand here."""
    root, networks = tiny
    values, stamps = 100 + np.arange(60) % 7, pd.date_range("2026-01-01", periods=60, freq="30min")
    pd.DataFrame({"time": stamps, "demand": values}).to_csv(tmp_path / "some.csv", index=False)
    judged = judge_forecasts([version(root, "demand")], Columns(tmp_path / "some.csv"), 50)
    time = stamps.astype("int64").to_numpy() // np.diff(stamps.astype("int64"))[0]
    network, states, forecasts = networks["demand"], networks["demand"].initial(1), [np.nan]
    with torch.no_grad():
        for value, when in zip(values[:-1], time[:-1], strict=True):
            inputs = {"x": torch.tensor([[[float(value)]]]), "time": torch.tensor([[int(when)]])}
            answer, states = network.predict(inputs, states)
            forecasts.append(answer.item())
    by_hand = {"demand@1": np.array(forecasts), "persistence": np.roll(values, 1), "naive_48": np.roll(values, 48)}
    assert list(judged.overall["demand"]) == list(by_hand)
    for method, forecast in by_hand.items():
        error, truth = (forecast - values)[50:], values[50:]
        figures = judged.overall["demand"][method]
        assert figures["rmse"] == pytest.approx(np.sqrt((error**2).mean()), rel=1e-5)
        assert figures["mae"] == pytest.approx(np.abs(error).mean(), rel=1e-5)
        assert figures["mape"] == pytest.approx(100 * (np.abs(error) / truth).mean(), rel=1e-5)
        assert figures["count"] == 10


def test_a_forecast_is_judged_as_training_judged_it(tmp_path: Path):
    """The same rows with the same warm-up give training's own figures of its test part, of two series with a missing value."""
    steps = np.arange(160)
    waves = [
        pd.DataFrame({"id": name, "t": steps, "y": 50 + 9 * np.sin(steps / 4 + at), "w": np.cos(steps / 5)})
        for at, name in enumerate("ab")
    ]
    waves[0].loc[20, "w"] = np.nan
    pd.concat(waves).to_csv(tmp_path / "waves.csv", index=False)
    settings = TrainingSettings(window=8, lanes=2, calendar=(24, 50), missing={"w": "mask"}, difference=True, **QUICK)
    columns = Columns(tmp_path / "waves.csv", series="id", time="t")
    policy = columns.policy([])
    table = read_table(
        columns.data, targets=["y"], inputs=["y", "w"], series="id", time="t", policy=type(policy)(missing={"w": "mask"})
    )
    trained = train_forecast(table, settings)
    (cuts, _) = split_table(table, settings.validation, settings.test, settings.window)
    judged = judge_forecasts([exported(trained, tmp_path / "r")], columns, cuts.validation_end)
    theirs = trained.metrics["test"]["y"]
    ours = judged.overall["y"]
    assert list(ours) == ["m@1", *list(theirs)[1:]]
    for mine, other in zip(ours.values(), theirs.values(), strict=True):
        assert mine == pytest.approx(other, rel=1e-5)
    assert set(judged.groups) == {"a", "b"}


def test_labels_are_judged_as_training_judged_them(tmp_path: Path):
    """The same sequences give the accuracy of training's own test part, and each label its recall."""
    rows = [(f"s{n:02}", t, "ab"[n % 2], (-1) ** n * np.sin(t) + n % 5) for n in range(40) for t in range(5 + n % 4)]
    data = pd.DataFrame(rows, columns=["id", "t", "label", "x"])
    data.to_csv(tmp_path / "all.csv", index=False)
    labelled = read_labelled(tmp_path / "all.csv", inputs=["x"], label="label", series="id", time="t")
    settings = TrainingSettings(lanes=4, **QUICK)
    trained = train_classify(labelled, settings)
    test = {sequence.series for sequence in split_labelled(labelled, settings.test, settings.seed)[1].sequences}
    data[data["id"].isin(test)].to_csv(tmp_path / "test.csv", index=False)
    columns = Columns(tmp_path / "test.csv", series="id", label="label", time="t")
    judged = judge_labels([exported(trained, tmp_path / "r")], columns, 0)
    theirs, confusion = trained.metrics["test"], np.array(trained.metrics["test"]["confusion"])
    assert judged.overall["label"]["m@1"] == {"accuracy": theirs["accuracy"], "count": theirs["count"]}
    recalls = [judged.groups[label]["label"]["m@1"]["accuracy"] for label in "ab"]
    np.testing.assert_allclose(recalls, np.diag(confusion) / confusion.sum(axis=1))
    assert judged.overall["label"][FREQUENT]["accuracy"] == confusion.sum(axis=1).max() / confusion.sum()


def test_a_text_is_judged_as_training_judged_it(tmp_path: Path):
    """The same tokens, read in one session, give training's own bits a token; the baseline is their entropy."""
    text = "to be or not to be, that is the question. " * 30
    (tmp_path / "all.txt").write_text(text)
    trained = train_tokens(read_text(tmp_path / "all.txt"), TrainingSettings(window=8, lanes=1, embedding=3, test=0.2, **QUICK))
    count = trained.metrics["test"]["count"]
    (tmp_path / "test.txt").write_text(text[-count - 1 :])
    judged = judge_text([exported(trained, tmp_path / "r")], Columns(tmp_path / "test.txt"), 0)
    contest = judged.overall["next character"]
    assert contest["m@1"] == pytest.approx({"bits_per_token": trained.metrics["test"]["bits_per_token"], "count": count}, rel=1e-5)
    _, counts = np.unique(list(text[-count:]), return_counts=True)
    assert contest[FREQUENCY]["bits_per_token"] == pytest.approx(-(counts / count * np.log2(counts / count)).sum())


def test_a_seasonal_baseline_is_shown_where_the_warm_up_covers_it(tiny: tuple[Path, dict[str, Network]], tmp_path: Path):
    """Otherwise the first period would be scored by nobody; the note says which warm-up would show it."""
    stamps = pd.date_range("2026-01-01", periods=90, freq="30min")
    pd.DataFrame({"time": stamps, "demand": np.arange(90.0)}).to_csv(tmp_path / "some.csv", index=False)
    judged = judge_forecasts([version(tiny[0], "demand")], Columns(tmp_path / "some.csv"), 0)
    assert list(judged.overall["demand"]) == ["demand@1", "persistence"]
    assert judged.overall["demand"]["demand@1"]["count"] == 89
    assert "--warm-up 48" in judged.notes[0]


def test_the_worst_series_come_first_and_are_bounded(tiny: tuple[Path, dict[str, Network]], tmp_path: Path):
    """Of many series the table shows those where the last version loses most, and says how many there are."""
    root, _ = tiny
    export(Network(config("forecast", "gru", 1)), repository=tmp_path / "r", model="other")
    stamps = pd.date_range("2026-01-01", periods=9, freq="30min")
    noise = np.random.default_rng(1)
    rows = [(f"s{number:02}", stamp, noise.normal(100, 1 + number)) for number in range(14) for stamp in stamps]
    pd.DataFrame(rows, columns=["id", "time", "demand"]).to_csv(tmp_path / "some.csv", index=False)
    judged = judge_forecasts([version(root, "demand")], Columns(tmp_path / "some.csv", series="id"), 0)
    short, whole = groups_sheet(judged), groups_sheet(judged, None)
    assert len(short.rows) == 10
    assert "10 of 14; --all-series" in short.title
    assert sorted(row[0] for row in whole.rows) == sorted(judged.groups)
    badness = [judged.groups[row[0]]["demand"] for row in whole.rows]
    ratios = [contest["demand@1"]["rmse"] / contest["persistence"]["rmse"] for contest in badness]
    assert ratios == sorted(ratios, reverse=True)
    assert whole.rows[:10] == short.rows
    assert len(overall_sheet(judged, "some.csv").rows) == 2


def test_too_short_a_file_leaves_nothing_to_score(tiny: tuple[Path, dict[str, Network]], tmp_path: Path):
    """It is said how much there is and how much the warm-up takes."""
    (tmp_path / "some.csv").write_text("left,right,id,kind\n1,2,a,calm\n1,2,a,calm\n")
    columns = Columns(tmp_path / "some.csv", series="id", label="kind")
    with pytest.raises(InvalidData, match="no sequence has more than 2 timesteps"):
        judge_labels([version(tiny[0], "label")], columns, 2)


def test_no_torch_is_needed(tiny: tuple[Path, dict[str, Network]], tmp_path: Path):
    """A gate runs where only ONNX Runtime and pandas are; importing torch would take seconds and gigabytes."""
    (tmp_path / "some.txt").write_text("abc cab abc")
    script = """if True:
        import sys
        from statewise.cli import main
        try:
            main()
        finally:
            print(sorted({"torch", "matplotlib", "onnx", "jinja2"} & set(sys.modules)))
    """
    words = ["evaluate", "text", "--data", str(tmp_path / "some.txt"), "--repository", str(tiny[0])]
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("[]\n")


def test_where_no_baseline_is_known_nothing_is_beaten(tiny: tuple[Path, dict[str, Network]], tmp_path: Path):
    """A gate does not open because there was nothing to hold the version against."""
    masked = Network(replace(config("forecast", "gru", 1), calendar=None)).eval()
    export(masked, repository=tmp_path, model="m")
    rows = ["1,,3", "2,5,", "3,,6"]
    (tmp_path / "some.csv").write_text("demand,wind,price\n" + "\n".join(rows) + "\n")
    judged = judge_forecasts([version(tmp_path, "m")], Columns(tmp_path / "some.csv"), 2)
    assert list(judged.overall["price"]) == ["m@1"]
    assert any("no baseline is known" in line for line in Gate({}, beat_baseline=True).broken(judged))
    assert overall_sheet(judged, "some.csv").rows
