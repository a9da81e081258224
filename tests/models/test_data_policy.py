"""Gaps, duplicates and unsorted times are refused with their lines, or treated as told."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statewise_models.config import InvalidConfig
from statewise_models.data.policy import InvalidData, Policy
from statewise_models.data.table import Table, read_table


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    """Returns a reader of CSV rows with columns site, time and load."""
    path = tmp_path_factory.mktemp("policy") / "data.csv"

    def read(rows, **policy) -> Table:
        path.write_text("site,time,load\n" + "".join(",".join(map(str, row)) + "\n" for row in rows))
        return read_table(path, targets=["load"], series="site", time="time", policy=Policy(**policy))

    return read


def loads(table: Table) -> dict[str, list[tuple[int, float]]]:
    """Returns each series' times and values."""
    return {series.name: list(zip(series.time.tolist(), series.y[:, 0].tolist(), strict=True)) for series in table.series}


GAPPY = [("a", 1, 10), ("b", 7, 70), ("a", 2, 20), ("a", 5, 50), ("a", 7, 70), ("b", 8, 80)]
DOUBLE = [("a", 1, 10), ("a", 2, 20), ("b", 2, 1), ("a", 2, 40), ("a", 2, 60), ("a", 3, 30)]
UNSORTED = [("a", 2, 20), ("b", 1, 10), ("a", 1, 10), ("a", 3, 30), ("b", 2, 20)]


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        (GAPPY, "timesteps are missing (3 as integers count them) before: lines 5, 6 (gaps: fill or split would treat them)"),
        (DOUBLE, "a timestep is given more than once: lines 5, 6 (duplicates: first, last or mean would choose)"),
        (UNSORTED, "times go back: line 4 (unsorted: sort would order them)"),
    ],
)
def test_disorder_is_refused_with_its_lines(read, rows, fault):
    """Nothing is repaired unasked, and the message says what could be asked for."""
    with pytest.raises(InvalidData) as caught:
        read(rows)
    assert str(caught.value).endswith(fault)


def test_split_begins_a_new_series_after_each_gap(read):
    """Nothing is invented: state is reset where time jumps."""
    assert loads(read([*GAPPY, ("b", 10, 100)], gaps="split")) == {
        "a": [(1, 10), (2, 20)],
        "a/2": [(5, 50)],
        "a/3": [(7, 70)],
        "b": [(7, 70), (8, 80)],
        "b/2": [(10, 100)],
    }


def test_fill_inserts_the_missing_timesteps_as_nan(read):
    """Every timestep is there; those that the file lacks have neither input nor target."""
    table = read(GAPPY, gaps="fill", missing="mask")
    a, b = table.series
    assert a.time.tolist() == [1, 2, 3, 4, 5, 6, 7]
    np.testing.assert_array_equal(a.x[:, 0], [10, 20, np.nan, np.nan, 50, np.nan, 70])
    np.testing.assert_array_equal(a.y, a.x)
    np.testing.assert_array_equal(b.y[:, 0], [70, 80])


def test_filled_timesteps_have_stamps(read):
    """Plots need no special case."""
    times = ("2020-01-01T00:00", "2020-01-01T00:10", "2020-01-01T00:40")
    (series,) = read([("a", time, 1) for time in times], gaps="fill", missing="mask").series
    assert series.stamps.astype("datetime64[m]").astype(str).tolist() == [f"2020-01-01T00:{minute}0" for minute in range(5)]


def test_fill_needs_every_input_masked(read):
    """A network that refuses NaN could not be fed what was filled."""
    with pytest.raises(InvalidConfig, match=r"gaps can be filled only where every input is masked .* 'load' is not"):
        read(GAPPY, gaps="fill")


def test_targets_need_no_mask_to_be_filled(tmp_path):
    """A target that is no input is left NaN in filled timesteps, for the loss to skip."""
    (tmp_path / "a.csv").write_text("time,load,wind\n1,1,1\n3,3,3\n")
    policy = Policy(gaps="fill", missing={"wind": "mask"})
    (series,) = read_table(tmp_path / "a.csv", targets=["load"], inputs=["wind"], time="time", policy=policy).series
    np.testing.assert_array_equal(series.y[:, 0], [1, np.nan, 3])


def test_a_fill_that_would_exhaust_memory_is_refused(read):
    """Unix seconds in a column that counts timesteps would become billions of rows."""
    with pytest.raises(InvalidData, match=r"missing \(1599999998 as integers count them\) before: line 3 \(too many to fill\)"):
        read([("a", 1, 1), ("a", 1_600_000_000, 2)], gaps="fill", missing="mask")


@pytest.mark.parametrize(("choice", "kept"), [("first", 20), ("last", 60), ("mean", 40)])
def test_duplicates_leave_one_row_a_timestep(read, choice, kept):
    """The file's order decides first and last; another series' row of that time is no duplicate."""
    assert loads(read(DOUBLE, duplicates=choice)) == {"a": [(1, 10), (2, kept), (3, 30)], "b": [(2, 1)]}


def test_the_mean_is_of_the_values_that_are_known(read):
    """NaN neither spoils a mean nor becomes zero."""
    rows = [("a", 1, ""), ("a", 1, 4), ("a", 1, 8), ("a", 2, ""), ("a", 2, "")]
    (series,) = read(rows, duplicates="mean", missing="mask").series
    np.testing.assert_array_equal(series.y[:, 0], [6, np.nan])


def test_two_stamps_within_one_timestep_are_duplicates(read):
    """10:29 and 10:00 are the same half-hour to a served calendar."""
    clock = ("10:00", "10:30", "11:00", "11:29", "12:00")
    with pytest.raises(InvalidData, match="given more than once: line 5 "):
        read([("a", f"2020-01-01T{time}", 1) for time in clock], gaps="split")


def test_the_timestep_is_the_most_common_difference(read):
    """One long gap does not make the others duplicates, and the gap is told in seconds and lines."""
    clock = ("10:00", "10:30", "11:00", "15:00", "15:30")
    with pytest.raises(InvalidData, match=r"timesteps are missing \(7 of 1800 s\) before: line 5 "):
        read([("a", f"2020-01-01T{time}", 1) for time in clock])


def test_neither_duplicates_nor_other_series_tell_the_timestep(read):
    """Only how a series advances does: here by minutes, among many rows of one minute and series that begin days apart."""
    again = [("a", f"2020-01-01T10:0{minute}", 1) for minute in (0, 0, 0, 0, 1)]
    apart = [(name, f"2020-01-0{day}T10:00", 1) for day, name in enumerate("bcdefgh", start=2)]
    assert read(again + apart, duplicates="first").step_seconds == 60.0


distinct_rows = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(-20, 20), st.integers(-1000, 1000)),
    min_size=1,
    max_size=30,
    unique_by=lambda row: row[:2],
)


@settings(deadline=None)
@given(st.data(), distinct_rows)
def test_any_order_of_rows_gives_the_same_table_when_sorted(read, data, rows):
    """With `unsorted: sort` a table does not depend on the order of the file."""
    shuffled = data.draw(st.permutations(rows))
    assert loads(read(shuffled, unsorted="sort", gaps="split")) == loads(read(sorted(rows), gaps="split"))


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 12), st.integers(-9, 9)), min_size=1, max_size=25))
def test_treated_tables_have_every_timestep_once_and_lose_no_value(read, rows):
    """Sorted, merged and filled, each series counts from its first to its last time by ones, and holds the means of its rows."""
    table = read(rows, unsorted="sort", duplicates="mean", gaps="fill", missing="mask")
    assert {series.name for series in table.series} == {site for site, _, _ in rows}
    for series in table.series:
        known: dict[int, list[int]] = {}
        for site, time, load in rows:
            if site == series.name:
                known.setdefault(time, []).append(load)
        assert series.time.tolist() == list(range(min(known), max(known) + 1))
        means = [np.mean(known[time]) if time in known else np.nan for time in series.time.tolist()]
        np.testing.assert_allclose(series.y[:, 0], means, rtol=1e-6)


@pytest.mark.parametrize(
    ("choices", "fault"),
    [
        ({"gaps": "ignore"}, "gaps must be one of refuse, fill, split, not 'ignore'"),
        ({"duplicates": "drop"}, "duplicates must be one of refuse, first, last, mean, not 'drop'"),
        ({"unsorted": "keep"}, "unsorted must be one of refuse, sort, not 'keep'"),
        ({"missing": "zero"}, "missing must be one of refuse, mask, not 'zero'"),
        ({"missing": {"wind": "zero"}}, "missing of column 'wind' must be one of refuse, mask, not 'zero'"),
    ],
)
def test_unknown_choices_are_refused(choices, fault):
    """A policy that exists can be followed."""
    with pytest.raises(InvalidConfig) as caught:
        Policy(**choices)
    assert str(caught.value) == fault


def test_a_mask_for_a_column_that_is_not_read_is_refused(read):
    """A misspelled name would otherwise mask nothing, silently."""
    with pytest.raises(InvalidConfig, match="missing names 'laod', which is not among the columns to read: load"):
        read([("a", 1, 1)], missing={"laod": "mask"})
