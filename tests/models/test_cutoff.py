"""One cut-off for all series: the same times everywhere, whatever a series' length; and cut-offs that make no sense are refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import panel
from statewise_models.config import InvalidConfig
from statewise_models.data.policy import InvalidData
from statewise_models.data.split import Cuts, split_table
from statewise_models.data.table import Series, Table
from statewise_models.training import TrainingSettings, train_forecast

SETTINGS = {"cell": "gru", "hidden": 4, "epochs": 1, "window": 8, "lanes": 2, "accelerator": "cpu"}


def table(timed=True, **spans) -> Table:
    """Series of zeros with integer times, each from its first time to before its end."""
    made = [Series(name, np.arange(*span), None, *np.zeros((2, span[1] - span[0], 1), np.float32)) for name, span in spans.items()]
    return Table(("load",), ("load",), tuple(made), 0.0, timed=timed)


def test_all_series_are_cut_at_the_given_times():
    """One that begins later has less to learn from, one that ends earlier less to be judged by."""
    data = table(whole=(0, 100), late=(40, 100), short=(0, 65), new=(90, 100), old=(0, 50))
    assert split_table(data, minimum=48, cutoff="80", validation_from="60") == (
        Cuts(60, 80, 100),
        Cuts(20, 40, 60),
        Cuts(60, 65, 65),
        Cuts(0, 0, 10),
        Cuts(50, 50, 50),
    )


def test_datetimes_are_compared_as_such(tmp_path):
    """Test begins with the first row that is not before the date, in every series."""
    data = panel.table(tmp_path)
    cuts = split_table(data, cutoff="2000-09-01", validation_from="2000-08-01")
    for series, part in zip(data.series, cuts, strict=True):
        for place, date in ((part.train_end, "2000-08-01"), (part.validation_end, "2000-09-01")):
            before, after = series.stamps[:place], series.stamps[place:]
            assert (before < np.datetime64(date)).all()
            assert (after >= np.datetime64(date)).all()
    assert split_table(data, cutoff="2000-09-01T02:00+02:00", validation_from="2000-08-01") == cuts


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(st.integers(0, 200), st.integers(60, 300)), min_size=2, max_size=6),
    st.floats(0.05, 0.4),
    st.floats(0.05, 0.4),
)
def test_shares_of_several_series_become_common_times(spans, validation, test):
    """No series' training reaches into the time of another's validation, nor that into test; the shares about hold."""
    data = table(**{f"s{number}": (first, first + length) for number, (first, length) in enumerate(spans)})
    cuts = split_table(data, validation, test, 2)
    parts = {
        name: np.concatenate([series.time[getattr(part, name)] for series, part in zip(data.series, cuts, strict=True)])
        for name in ("train", "validation", "test")
    }
    assert parts["train"].max() < parts["validation"].min()
    assert parts["validation"].max() < parts["test"].min()
    total = sum(map(len, parts.values()))
    assert abs(len(parts["test"]) - test * total) <= len(spans)
    assert abs(len(parts["validation"]) - validation * total) <= 2 * len(spans)


def test_series_that_count_their_rows_have_no_time_in_common():
    """Without a time column each is cut by its own shares, as before."""
    assert split_table(table(timed=False, a=(0, 100), b=(0, 40)), 0.1, 0.25, 10) == (Cuts(65, 75, 100), Cuts(26, 30, 40))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"cutoff": "2000-08-07"}, "--cutoff takes an integer, since time counts timesteps here, not '2000-08-07'"),
        ({"cutoff": "100"}, "--cutoff 100 is outside the data, which go from 0 to 99"),
        ({"cutoff": "0"}, "--cutoff 0 is outside the data"),
        ({"cutoff": "80", "validation_from": "80"}, "--validation-from 80 must be before --cutoff 80"),
        ({"cutoff": "80", "validation_from": "90"}, "--validation-from 90 must be before --cutoff 80"),
        ({"cutoff": "80", "validation_from": "-3"}, "--validation-from -3 is outside the data"),
        ({"cutoff": "80", "validation_from": "early"}, "--validation-from takes an integer"),
        ({"validation_from": "60"}, "--validation-from is when validation begins, and takes --cutoff beside it"),
    ],
)
def test_a_cut_off_that_makes_no_sense_is_refused_by_its_option(options, told):
    """One line that names the option and what it takes."""
    with pytest.raises(InvalidConfig, match=told):
        split_table(table(a=(0, 100), b=(20, 90)), **options)


@pytest.mark.parametrize("text", ["120", "20000807", "soon", "2000-13-01"])
def test_where_time_is_dates_a_cut_off_is_one_too(tmp_path, text):
    """An integer would be read as a date by some, and as a count by others."""
    with pytest.raises(InvalidConfig, match="--cutoff takes an ISO date or datetime, since the time column holds datetimes, not"):
        split_table(panel.table(tmp_path), cutoff=text)


def test_a_cut_off_without_common_time_is_refused():
    """Rows that each series counts for itself are no date."""
    with pytest.raises(InvalidConfig, match="--cutoff takes --time: without a time column"):
        split_table(table(timed=False, a=(0, 100), b=(0, 40)), cutoff="30")


def test_nothing_to_learn_from_is_refused():
    """Before the first cut-off there must be a window of at least one series."""
    with pytest.raises(InvalidData, match="the longest has 10 timesteps before 10, and a window takes 48"):
        split_table(table(a=(0, 100), b=(5, 90)), minimum=48, cutoff="80", validation_from="10")
    with pytest.raises(InvalidData, match="nothing is left to train on"):
        split_table(table(a=(0, 2), b=(0, 2)), 0.4, 0.4)


def test_a_series_that_begins_after_the_cut_off_is_judged_and_not_learned_from():
    """With one scale for all, a new series' forecasts are in the test, and what is learned is as if it were not there."""
    wave = {name: 50 + 10 * np.sin(np.arange(*span) / 4) for name, span in {"old": (0, 200), "new": (170, 200)}.items()}
    series = [
        Series(name, np.arange(*span), None, values := wave[name].astype(np.float32)[:, None], values)
        for name, span in {"old": (0, 200), "new": (170, 200)}.items()
    ]
    chosen = TrainingSettings(**SETTINGS, cutoff="160", validation_from="130")
    both = train_forecast(Table(("y",), ("y",), tuple(series), 0.0, timed=True), chosen)
    alone = train_forecast(Table(("y",), ("y",), tuple(series[:1]), 0.0, timed=True), chosen)
    assert both.metrics["series"]["test"]["new"]["y"]["model"]["count"] == 29
    assert "new" not in both.metrics["series"]["validation"]
    assert both.history[0].training_loss == alone.history[0].training_loss


def test_very_short_series_are_left_out_where_they_have_nothing_to_forecast():
    """A series of one timestep, or one that ends before validation, costs nobody anything."""
    spans = {"a": (0, 100), "one": (95, 96), "early": (0, 30), "two": (97, 99)}
    data = table(**spans)
    metrics = train_forecast(data, TrainingSettings(**SETTINGS)).metrics
    assert set(metrics["series"]["test"]) == {"a", "two"}
