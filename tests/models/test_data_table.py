"""Tables: columns, series and times come out as asked, in the one order."""

import numpy as np
import pandas as pd
import pytest

from statewise_models.data.policy import InvalidData, Policy
from statewise_models.data.table import read_table

SITES = """site,time,load,wind
b,2020-01-01T00:00,5,50
a,2020-01-01T01:00,2,20
b,2020-01-01T01:00,6,60
a,2020-01-01T02:00,3,30
a,2020-01-01T03:00,4,40
"""


@pytest.fixture
def write(tmp_path):
    def write(content):
        (tmp_path / "data.csv").write_text(content)
        return tmp_path / "data.csv"

    return write


def test_series_may_be_interleaved_and_come_sorted_by_name(write):
    """A long file of several series, as loggers write it, is in order as long as each series is."""
    table = read_table(write(SITES), targets=["load"], inputs=["wind", "load"], series="site", time="time")
    assert [series.name for series in table.series] == ["a", "b"]
    a, b = table.series
    np.testing.assert_array_equal(a.x, [[20, 2], [30, 3], [40, 4]])
    np.testing.assert_array_equal(a.y, [[2], [3], [4]])
    np.testing.assert_array_equal(b.time, [438288, 438289])
    assert table.step_seconds == 3600.0


def test_several_targets_keep_the_order_asked_for(write):
    """The last axis of `y` is `targets`, whatever the order in the file; inputs are the targets by default."""
    table = read_table(write(SITES), targets=["wind", "load"], series="site")
    assert table.inputs == table.targets == ("wind", "load")
    np.testing.assert_array_equal(table.series[1].y, [[50, 5], [60, 6]])
    np.testing.assert_array_equal(table.series[1].x, table.series[1].y)


def test_tensors_are_float32_row_major(write):
    """Torch takes them without a copy."""
    series = read_table(write(SITES), targets=["load"], inputs=["wind", "load"], series="site").series[0]
    for array in (series.x, series.y):
        assert array.dtype == np.float32
        assert array.flags.c_contiguous


def test_without_a_time_column_time_is_the_row_in_its_series(write):
    """Nothing is known about the seconds of a timestep then."""
    table = read_table(write(SITES), targets=["load"], series="site")
    assert [series.time.tolist() for series in table.series] == [[0, 1, 2], [0, 1]]
    assert table.step_seconds == 0.0
    assert table.series[0].stamps is None


def test_without_a_series_column_the_file_names_the_series(write):
    """Errors and plots call it what the user calls it."""
    assert [series.name for series in read_table(write("load\n1\n"), targets=["load"]).series] == ["data"]


@pytest.mark.parametrize("name", ["007", "NA", "nan", "1.0"])
def test_series_ids_are_text_as_they_stand(write, name):
    """An id is neither a number nor a missing value: 007 stays 007, and Namibia's NA is not absent."""
    (series,) = read_table(write(f"site,load\n{name},1\n"), targets=["load"], series="site").series
    assert series.name == name


def test_integer_times_are_taken_as_they_are(write):
    """They count timesteps already."""
    table = read_table(write("time,load\n-1,1\n0,2\n1,3\n"), targets=["load"], time="time")
    assert table.series[0].time.tolist() == [-1, 0, 1]
    assert table.series[0].time.dtype == np.int64
    assert table.step_seconds == 0.0


def test_datetimes_are_utc_unless_they_say_otherwise(write):
    """Three spellings of successive hours, before 1970 too, where flooring is not truncating."""
    table = read_table(
        write("time,load\n1969-12-31T22:30,1\n1969-12-31 23:30:00Z,2\n1970-01-01T01:30:00+01:00,3\n"), targets=["load"], time="time"
    )
    assert table.series[0].time.tolist() == [-2, -1, 0]
    assert table.series[0].stamps.astype("datetime64[m]").astype(str).tolist()[-1] == "1970-01-01T00:30"


def berlin(begin: str) -> pd.DatetimeIndex:
    return pd.date_range(begin, periods=72, freq="h", tz="Europe/Berlin")


@pytest.mark.parametrize("begin", ["2026-03-28", "2026-10-24"])
def test_daylight_saving_is_no_gap_where_the_offset_is_told(write, tmp_path, begin):
    """Hours of Berlin over either change of the clock are successive, as text with offsets and as Parquet with a time zone."""
    stamps = berlin(begin)
    text = write("time,load\n" + "".join(f"{stamp.isoformat()},1\n" for stamp in stamps))
    pd.DataFrame({"time": stamps, "load": 1.0}).to_parquet(tmp_path / "zone.parquet")
    for path in (text, tmp_path / "zone.parquet"):
        (series,) = read_table(path, targets=["load"], time="time").series
        assert np.diff(series.time).tolist() == [1] * 71
        assert series.time[0] == stamps[0].timestamp() // 3600


@pytest.mark.parametrize(
    ("begin", "fault"),
    [
        ("2026-03-28", "timesteps are missing (1 of 3600 s) before: line 28"),
        ("2026-10-24", "a timestep of 3600 s is given more than once: line 29"),
    ],
)
def test_local_times_without_an_offset_are_refused_where_the_clock_changes(write, begin, fault):
    """An hour that is not there, or twice, is never guessed; the message says where, and how long a timestep was taken to be."""
    path = write("time,load\n" + "".join(f"{stamp:%Y-%m-%dT%H:%M},1\n" for stamp in berlin(begin)))
    with pytest.raises(InvalidData) as caught:
        read_table(path, targets=["load"], time="time")
    assert fault in str(caught.value)


def test_timesteps_below_a_second_are_counted_exactly(write):
    """A 4 kHz sensor: 250 µs, at a date where seconds in float64 would round."""
    stamps = pd.date_range("2024-05-01", periods=9, freq="250us").strftime("%Y-%m-%dT%H:%M:%S.%f")
    table = read_table(write("time,load\n" + "".join(f"{stamp},1\n" for stamp in stamps)), targets=["load"], time="time")
    assert table.step_seconds == 0.00025
    assert table.series[0].time.tolist() == [1714521600 * 4000 + step for step in range(9)]


@pytest.mark.parametrize(
    ("times", "fault"),
    [
        (["2020-01-01", ""], "column 'time' has no time: line 3"),
        (["2020-01-01", "1/2/2020"], "column 'time' holds what is no ISO datetime, '1/2/2020': line 3"),
        (["1", "2020-01-01"], "column 'time' holds what is no integer time, '2020-01-01': line 3"),
        (["1", "2.5"], "column 'time' holds what is no integer time, '2.5': line 3"),
        (["1", "9e18"], "column 'time' holds what is no integer time, '9e18': line 3"),
        (["1", "inf"], "column 'time' holds what is no integer time, 'inf': line 3"),
        (["2020-01-01", "2020-01-01"], "column 'time' never advances within a series, so it does not tell how long a timestep is"),
    ],
)
def test_times_that_cannot_be_counted_are_refused(write, times, fault):
    """The refusal quotes what stands there."""
    path = write("time,load\n" + "".join(f"{time},1\n" for time in times))
    with pytest.raises(InvalidData) as caught:
        read_table(path, targets=["load"], time="time", policy=Policy(duplicates="first"))
    assert str(caught.value) == f"{path}: {fault}"


def test_a_row_without_its_series_is_refused(write):
    """It belongs to none, and must not make one of its own."""
    with pytest.raises(InvalidData, match="column 'site' is empty: line 3"):
        read_table(write("site,load\na,1\n,2\n"), targets=["load"], series="site")


def test_masked_columns_keep_their_nan(write):
    """The graph replaces it, in training and serving alike; a column not named still refuses."""
    path = write("load,wind\n1,\n2,5\n")
    table = read_table(path, targets=["load"], inputs=["load", "wind"], policy=Policy(missing={"wind": "mask"}))
    np.testing.assert_array_equal(table.series[0].x, [[1, np.nan], [2, 5]])
    with pytest.raises(InvalidData, match="column 'wind' has no value"):
        read_table(path, targets=["load"], inputs=["wind"], policy=Policy(missing={"load": "mask"}))
