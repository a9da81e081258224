"""A panel at the command line: known columns, a scale for each series, streamed; and refused where it makes no sense."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from builders import panel
from builders.command import Command, Ended
from builders.served import Running, start
from statewise.client import Client
from statewise.spec import SERIES_MEAN, SERIES_SCALE
from statewise_models.data.table import Table
from statewise_models.export import export
from statewise_models.training import TrainingSettings, train_forecast

TRAIN = ("--target", "sales", "--series", "store", "--time", "day", "--model", "store", "--epochs", "1", "--hidden", "4")
UNKNOWN = "day,store,sales,promo,rain\n2000-01-01,new,10,0,1\n2000-01-02,new,14,1,1\n2000-01-03,new,12,0,1\n2000-01-04,new,,1,\n"


@pytest.fixture
def train(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ended]:
    """Trains on the panel in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    path = panel.write(tmp_path)
    return lambda *words: command("train", "forecast", path, *TRAIN, *words)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Table:
    """The panel as training reads it."""
    return panel.table(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def served(data: Table, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server of a model with known columns and a scale for each series."""
    root = tmp_path_factory.mktemp("repository")
    settings = TrainingSettings(cell="gru", hidden=4, epochs=1, window=32, scale="series", accelerator="cpu")
    export(train_forecast(data, settings).network, repository=root, model="store")
    running = start(root)
    yield running
    running.stop()


@pytest.fixture
def stream(command: Command, served: Running, tmp_path: Path) -> Callable[..., Ended]:
    """Streams a CSV, given as text, through the server."""

    def run(text: str, *words: object) -> Ended:
        (tmp_path / "data.csv").write_text(text)
        return command("stream", "store", "--data", tmp_path / "data.csv", "--address", served.address, *words)

    return run


def rows(ended: Ended) -> list[dict[str, str]]:
    assert ended.status == 0, ended.err
    return list(csv.DictReader(io.StringIO(ended.out)))


def test_a_panel_is_trained_and_told_of(train, command, tmp_path) -> None:
    """The report names the series, the models' list what is sent ahead and given, and the folder holds the scales."""
    ended = train(
        "--known", "promo", "--input", "rain", "--scale", "series", "--cutoff", "2000-08-15", "--validation-from", "2000-07-20"
    )
    assert ended.status == 0, ended.err
    for told in (*panel.STORES, "4 series; median RMSE is", "× persistence", "--series store"):
        assert told in ended.out
    assert (tmp_path / "var" / "training" / "store" / "scales.json").exists()
    listed = " ".join(command("models").out.split())
    assert "x(sales, rain, next promo) → forecast(sales); given at Open: series_mean(sales), series_scale(sales)" in listed


def test_the_report_shows_no_more_series_than_can_be_read(train, tmp_path) -> None:
    """Of many series the worst are shown, and the file has all."""
    days = [f"2000-{1 + day // 28:02}-{1 + day % 28:02}" for day in range(60)]
    many = [(day, f"shop {shop}", shop + day_number % 7) for day_number, day in enumerate(days) for shop in range(1, 15)]
    panel.write(tmp_path, pd.DataFrame(many, columns=["day", "store", "sales"]))
    ended = train("--window", "16", "--gaps", "split")
    assert ended.status == 0, ended.err
    assert "the 10 worst of them" in ended.out
    assert ended.out.count("│ shop ") == 10


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--known", "promo,holiday"], "has no column 'holiday'"),
        (["--known", "sales"], "known column 'sales' is a target"),
        (["--known", "promo", "--known", "promo"], "known column 'promo' is named more than once"),
        (["--input", "rain", "--known", "rain"], "known column 'rain' is an input too"),
        (["--known", "promo,"], "has no column ''"),
        (["--scale", "local"], "scale must be one of global, series, not 'local'"),
        (["--cutoff", "200"], "--cutoff takes an ISO date or datetime"),
        (["--cutoff", "2001-09-01"], "--cutoff 2001-09-01 is outside the data, which go from 2000-01-01"),
        (["--cutoff", "2000-09-01", "--validation-from", "2000-09-02"], "--validation-from 2000-09-02 must be before --cutoff"),
        (["--validation-from", "2000-09-02"], "takes --cutoff beside it"),
        (["--cutoff", "2000-09-01", "--test", "0.25"], "--cutoff tells when a part begins, and --test how much it has"),
        (
            ["--cutoff", "2000-09-01", "--validation-from", "2000-08-01", "--validation", "0.1"],
            "--validation-from tells when a part begins, and --validation how much",
        ),
        (["--scale", "series", "--cutoff", "2000-08-01", "--validation-from", "2000-04-10"], "series 'kiosk' has 10 values"),
    ],
)
def test_what_makes_no_sense_is_one_line_and_status_2(train, tmp_path, words, told) -> None:
    """The line names the option or the column; nothing is written."""
    ended = train(*words)
    assert (ended.status, ended.err.count("\n")) == (2, 1), ended.err
    assert told in ended.err
    assert not list(tmp_path.rglob("*.onnx"))


def test_a_cut_off_as_a_date_where_time_is_counted_is_refused(train, tmp_path) -> None:
    """The other way round."""
    counted = panel.frame()
    panel.write(tmp_path, counted.assign(day=(counted["day"] - panel.START).dt.days))
    ended = train("--cutoff", "2000-08-07")
    assert (ended.status, ended.err.count("\n")) == (2, 1), ended.err
    assert "--cutoff takes an integer, since time counts timesteps here, not '2000-08-07'" in ended.err


def test_a_file_is_streamed_as_it_was_learned(stream, served, data) -> None:
    """Each row brings the next one's promotion, and each series has its own scale, without a word from the user."""
    answered = rows(stream(panel.frame().to_csv(index=False), "--series", "store"))
    assert len(answered) == len(panel.frame()) - len(panel.STORES)
    with Client(served.address) as client:
        known = client.model("store").series
        for series in data.series:
            x = np.column_stack([series.x[:-1, :2], series.x[1:, 2]])
            with client.open_session("store", constants=known[series.name]) as session:
                expected = session.step(x)[:, 0]
            mine = [float(row["forecast_sales"]) for row in answered if row["store"] == series.name]
            np.testing.assert_allclose(mine, expected, rtol=1e-4)


def test_the_last_row_tells_only_what_is_known_of_it(stream) -> None:
    """What is not known yet may be empty there: it is not streamed, and the user is told so."""
    ended = stream(UNKNOWN, "--series", "store", "--warm-up", "2")
    assert [row["row"] for row in rows(ended)] == ["2", "3", "4"]
    assert "the last row of each series was not streamed: it tells what is known of it (promo)" in ended.err
    refused = stream(UNKNOWN.replace(",14,", ",,"), "--series", "store", "--warm-up", "2")
    assert (refused.status, "row 3, column sales: the value is missing" in refused.err) == (2, True)
    refused = stream(UNKNOWN.replace(",,1,\n", ",,,\n"), "--series", "store", "--warm-up", "2")
    assert (refused.status, "row 5, column promo: the value is missing" in refused.err) == (2, True)


def test_an_unknown_series_is_given_what_the_user_says_or_its_first_rows_tell(stream) -> None:
    """--warm-up is the mean and deviation of the first rows; --constant says it outright; both give the same answers."""
    warmed = rows(stream(UNKNOWN, "--series", "store", "--warm-up", "2"))
    told = [f"{SERIES_MEAN}=12", f"{SERIES_SCALE}=2"]
    assert rows(stream(UNKNOWN, "--series", "store", "--constant", told[0], "--constant", told[1])) == warmed
    other = rows(stream(UNKNOWN, "--series", "store", "--warm-up", "3"))
    assert other != warmed


def test_a_file_of_one_series_is_known_by_its_name(stream, tmp_path, command, served) -> None:
    """Without --series the file's name is the series', as in training."""
    corner = panel.frame()[lambda rows: rows["store"] == "corner"].to_csv(index=False)
    (tmp_path / "corner.csv").write_text(corner)
    alone = command("stream", "store", "--data", tmp_path / "corner.csv", "--address", served.address)
    assert [row["forecast_sales"] for row in rows(alone)] == [
        row["forecast_sales"] for row in rows(stream(corner, "--series", "store"))
    ]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "the model does not know series 'new', and its session must be given series_mean, series_scale: --constant"),
        (["--constant", "series_mean=1"], "must be given series_scale: --constant series_scale=… or --warm-up N"),
        (["--constant", "scale=1"], "the model's sessions are given series_mean, series_scale, not 'scale'"),
        (["--constant", "series_mean=1,2"], "--constant series_mean takes 1 numbers with commas between, not '1,2'"),
        (["--constant", "series_mean=much"], "--constant series_mean takes 1 numbers"),
        (["--constant", "series_mean=1", "--constant", "series_scale=0"], "row 2: series_scale: takes numbers above 0"),
    ],
)
def test_a_session_that_cannot_be_opened_is_one_line(stream, words, told) -> None:
    """The line names what must be given, and how."""
    ended = stream(UNKNOWN, "--series", "store", *words)
    assert (ended.status, ended.err.strip().count("\n")) == (2, 0), ended.err
    assert told in ended.err


def test_a_model_that_is_given_nothing_takes_no_warm_up(command, tiny_server, tmp_path) -> None:
    """The option is refused instead of being ignored."""
    (tmp_path / "data.csv").write_text("left,right\n1,2\n")
    ended = command("stream", "label", "--data", tmp_path / "data.csv", "--address", tiny_server.address, "--warm-up", "3")
    assert (ended.status, "the model's sessions are not given the mean and the scale" in ended.err) == (2, True)
