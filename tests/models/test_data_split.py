"""Cuts by time: the past trains, the future judges."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statewise_models.config import InvalidConfig
from statewise_models.data.policy import InvalidData
from statewise_models.data.split import Cuts, cut, split_table
from statewise_models.data.table import Series, Table


def table(**lengths: int) -> Table:
    """Returns a table of zeros with series of these lengths."""
    series = [
        Series(name, np.arange(n), None, np.zeros((n, 1), np.float32), np.zeros((n, 1), np.float32)) for name, n in lengths.items()
    ]
    return Table(("load",), ("load",), tuple(series), 0.0)


def test_each_series_is_cut_by_its_own_length():
    """One `Cuts` a series, in the table's order."""
    assert split_table(table(a=100, b=40), validation=0.1, test=0.25, minimum=10) == (Cuts(65, 75, 100), Cuts(26, 30, 40))


@settings(deadline=None)
@given(st.integers(20, 10_000), st.floats(0, 0.45), st.floats(0, 0.45))
def test_parts_cover_the_series_in_order_at_their_shares(length, validation, test):
    """Every timestep is in exactly one part, training first; a part that was asked for is not empty."""
    cuts = cut("a", length, validation, test, 1)
    timesteps = list(range(length))
    parts = [timesteps[cuts.train], timesteps[cuts.validation], timesteps[cuts.test]]
    assert [*parts[0], *parts[1], *parts[2]] == timesteps
    for part, share in ((parts[1], validation), (parts[2], test)):
        assert abs(len(part) - length * share) < 2
        assert bool(part) == bool(share)


def test_a_series_shorter_than_a_window_is_refused_with_both_lengths():
    """The message names the series, what it has, what is left to train on, and what a window takes."""
    with pytest.raises(InvalidData) as caught:
        split_table(table(a=400, b=60), validation=0.25, test=0.25, minimum=48)
    assert str(caught.value) == (
        "series 'b' is too short: it has 60 timesteps, which leaves 30 for training, and a window takes 48 "
        "(a smaller window, or smaller shares for validation and test, would fit)"
    )
    with pytest.raises(InvalidData, match="series 'b' is too short: it has 60 timesteps, and a window takes 61"):
        split_table(table(b=60), validation=0, test=0, minimum=61)
    with pytest.raises(InvalidData, match="it has 1 timesteps, which leaves 0 for training"):
        split_table(table(b=1))


def test_a_short_series_has_something_in_every_part():
    """Rounding takes no part away where there is a timestep for each."""
    assert cut("a", 4, 0.375, 0.375, 1) == Cuts(1, 2, 4)
    assert cut("a", 3, 0.01, 0.01, 1) == Cuts(1, 2, 3)


def test_a_training_part_of_exactly_a_window_is_taken():
    """The minimum is allowed."""
    assert split_table(table(a=60), validation=0.25, test=0.25, minimum=30) == (Cuts(30, 45, 60),)


@pytest.mark.parametrize(("validation", "test"), [(-0.1, 0.2), (0.2, -0.1), (0.5, 0.5), (float("nan"), 0.1)])
def test_shares_that_leave_nothing_to_train_on_are_refused(validation, test):
    """Also NaN, which compares with nothing."""
    with pytest.raises(InvalidConfig, match="validation and test must be at least 0 and together below 1"):
        split_table(table(a=100), validation=validation, test=test)


def test_impossible_cuts_and_windows_are_refused():
    """A `Cuts` that exists is in order."""
    with pytest.raises(InvalidConfig, match="cuts must be ordered"):
        Cuts(5, 4, 10)
    with pytest.raises(InvalidConfig, match="cuts must be ordered"):
        Cuts(-1, 4, 10)
    with pytest.raises(InvalidConfig, match="minimum must be at least 1"):
        split_table(table(a=100), minimum=0)
