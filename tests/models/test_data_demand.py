"""The example's real data: half-hourly electricity demand of England and Wales."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from statewise_models.data.split import Cuts, split_table
from statewise_models.data.table import Table, read_table

DEMAND = Path(__file__).parents[2] / "examples" / "data" / "demand.csv"


@pytest.fixture(scope="module")
def demand() -> Table:
    return read_table(DEMAND, targets=["demand"], time="time")


def test_demand_is_one_series_of_twelve_weeks_of_half_hours(demand):
    """The whole file is read, once, with its timestep found."""
    (series,) = demand.series
    assert (series.name, len(series), demand.step_seconds) == ("demand", 12 * 7 * 48, 1800.0)
    assert demand.inputs == demand.targets == ("demand",)
    np.testing.assert_array_equal(np.diff(series.time), 1)


def test_demand_keeps_the_files_numbers_and_stamps(demand):
    """Raw in: the values, their order and their stamps are those that an independent reading of the file gives."""
    (series,) = demand.series
    lines = [line.split(",") for line in DEMAND.read_text().splitlines()[1:]]
    np.testing.assert_array_equal(series.x[:, 0], [float(value) for _, value in lines])
    np.testing.assert_array_equal(series.x, series.y)
    assert series.x.dtype == series.y.dtype == np.float32
    assert series.stamps is not None
    np.testing.assert_array_equal(series.stamps, np.array([time for time, _ in lines], "datetime64[us]"))


def test_time_counts_half_hours_of_unix_time(demand):
    """A served calendar's `floor(unix_seconds / step_seconds)` gives the same times: phases of training and serving agree."""
    time = demand.series[0].time
    assert time[0] == pd.Timestamp("2000-06-05T00:00Z").timestamp() // 1800
    assert time[0] % 48 == 0


def test_demands_last_quarter_is_three_weeks_to_test_on(demand):
    """The cut that the demo streams from: three quarters are for training and validation."""
    assert split_table(demand, validation=0.125, test=0.25, minimum=672) == (Cuts(2520, 3024, 4032),)


def test_parquet_gives_the_same_table_as_csv(demand, tmp_path):
    """The format of the file does not change what is read: datetimes may be real ones, and the index may hold them."""
    data = pd.read_csv(DEMAND, parse_dates=["time"])
    data.to_parquet(tmp_path / "demand.parquet")
    data.set_index("time").to_parquet(tmp_path / "indexed.parquet")
    for name in ("demand.parquet", "indexed.parquet"):
        (series,) = read_table(tmp_path / name, targets=["demand"], time="time").series
        np.testing.assert_array_equal(series.x, demand.series[0].x)
        np.testing.assert_array_equal(series.time, demand.series[0].time)
        np.testing.assert_array_equal(series.stamps, demand.series[0].stamps)
