"""Forecasts: any series that can be learned from is, at a cost that does not depend on how many there are."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from statewise_models.data.policy import InvalidData
from statewise_models.data.split import split_table
from statewise_models.data.table import Series, Table
from statewise_models.scores import naive
from statewise_models.training import TrainingSettings, train_forecast
from statewise_models.training import forecast as forecasts
from statewise_models.training.forecast import configure, forecast_table
from statewise_models.training.scaling import moments

SETTINGS = TrainingSettings(cell="gru", hidden=4, epochs=1, window=8, lanes=2, accelerator="cpu")


def table(*lengths, scale=1.0, unknown=slice(0, 0)) -> Table:
    """Waves of unlike length and phase; `unknown` timesteps of each have no value."""
    made = []
    for number, length in enumerate(lengths):
        values = (scale * (50 + 10 * np.sin(np.arange(length) / 4 + number))).astype(np.float32)[:, None]
        values[unknown] = np.nan
        made.append(Series(f"s{number}", np.arange(length), None, values, values))
    return Table(("y",), ("y",), tuple(made), 0.0)


def test_more_series_than_judged_lanes_are_each_forecast_alone(monkeypatch):
    """Series that share a lane do not see each other: each has the forecasts that it has in a table of its own."""
    data = table(60, 31, 90, 45, 52)
    cuts = split_table(data, 0.2, 0.2, 8)
    network = train_forecast(data, SETTINGS).network
    monkeypatch.setattr(forecasts, "JUDGED_LANES", 2)
    together = forecast_table(network, data, cuts)
    for number, series in enumerate(data.series):
        (alone,) = forecast_table(network, dataclasses.replace(data, series=(series,)), cuts[number : number + 1])
        np.testing.assert_allclose(together[number], alone, rtol=1e-5)
        assert np.isfinite(alone[cuts[number].train_end :]).all()


def test_judging_many_short_series_needs_little_memory():
    """Series are judged in windows no longer than the longest of them, and on a bounded number of lanes."""
    data = table(*[20] * 500)
    cuts = split_table(data, 0.2, 0.2, 8)
    lesson = forecasts._lesson(configure(data, cuts, SETTINGS), data, cuts, SETTINGS)
    assert lesson.validation.goals.numel() < 2 * 500 * 20
    assert lesson.validation.goals.shape[1] <= 64


@pytest.mark.parametrize("scale", [1e-14, 1.0, 1e36])
def test_the_unit_of_a_column_does_not_matter(scale):
    """Picoamperes are learned as well as amperes: the errors are the same share of the values."""
    metrics = train_forecast(table(200, scale=scale), dataclasses.replace(SETTINGS, epochs=3)).metrics
    assert metrics["test"]["y"]["model"]["rmse"] / scale == pytest.approx(6.0, abs=3.0)


@pytest.mark.parametrize("value", [0.0, 7.0, 1e-14, 0.1])
def test_a_constant_column_has_a_scale_of_one(value):
    """Nothing is divided by the rounding errors of a mean."""
    assert moments("y", np.full(1000, value, np.float32)) == (pytest.approx(value), 1.0)


def test_a_validation_part_of_which_nothing_is_known_is_refused():
    """Otherwise every epoch would seem without a fault, and the first be kept."""
    masked = dataclasses.replace(SETTINGS, missing="mask")
    with pytest.raises(InvalidData, match="the validation part has no value"):
        train_forecast(table(200, unknown=slice(120, 160)), dataclasses.replace(masked, validation=0.1))


def test_a_window_of_one_timestep_still_needs_something_to_predict():
    """A series with one timestep to learn from has no goal: refused, not a crash."""
    with pytest.raises(InvalidData, match="too short"):
        train_forecast(table(3, 3), dataclasses.replace(SETTINGS, window=1))
    assert train_forecast(table(4, 9), dataclasses.replace(SETTINGS, window=1)).history


def test_the_naive_forecast_of_a_long_period_costs_nothing():
    """A period beyond the series' end has no forecast, and takes no memory for it."""
    made = naive(np.arange(5.0), [2, 2**31])
    np.testing.assert_array_equal(made["naive_2"], [np.nan, np.nan, 0, 1, 2])
    assert np.isnan(made[f"naive_{2**31}"]).tolist() == [True] * 5
