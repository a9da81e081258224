"""Lanes: every timestep is read once, in its order, and every piece begins from zeros."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from statewise_models.training.lanes import VOID, Piece, cut, lay

lengths_of_pieces = st.lists(st.integers(1, 40), min_size=1, max_size=8)


def counted(lengths):
    """Pieces whose goals count on through all of them, so that each timestep is known by its goal."""
    ends = np.cumsum(lengths)
    spans = [np.arange(end - length, end) for length, end in zip(lengths, ends, strict=True)]
    return [Piece({"x": span[:, None].astype(np.float32)}, span.astype(np.int64)) for span in spans]


@given(lengths_of_pieces, st.integers(1, 6), st.integers(1, 12))
def test_every_timestep_is_read_once(lengths, lanes, window):
    """However series are cut and laid, an epoch learns from each timestep exactly once; the rest is padding."""
    made = lay(cut(counted(lengths), lanes, window), lanes, window)
    seen = torch.cat([window.goals.flatten() for window in made])
    assert sorted(seen[seen != VOID].tolist()) == list(range(sum(lengths)))


@given(lengths_of_pieces, st.integers(1, 6), st.integers(1, 12))
def test_a_lane_counts_on_unless_it_is_fresh(lengths, lanes, window):
    """Where a state is carried into a window, the window goes on with the next timestep of the same piece."""
    pieces = counted(lengths)
    starts = {int(piece.goals[0]) for piece in cut(pieces, lanes, window)}
    last = None
    for part in lay(cut(pieces, lanes, window), lanes, window):
        for lane, first in enumerate(part.goals[0].tolist()):
            if part.fresh[lane]:
                assert first in starts
            elif first != VOID:
                assert last is not None
                assert first == last[lane] + 1
        last = part.goals[-1].tolist()


@given(lengths_of_pieces, st.integers(1, 6), st.integers(1, 12))
def test_the_first_window_is_fresh_on_all_lanes(lengths, lanes, window):
    """No lane is empty, so no state is ever read before a piece has begun."""
    made = lay(cut(counted(lengths), lanes, window), lanes, window)
    assert bool(made.fresh[0].all())


@given(lengths_of_pieces, st.integers(1, 6), st.integers(1, 12))
def test_values_are_picked_in_the_order_of_the_pieces(lengths, lanes, window):
    """What a network makes of the lanes comes back piece by piece, without the padding."""
    pieces = counted(lengths)
    made = lay(pieces, lanes, window)
    for piece, picked in zip(pieces, made.pick(made.goals), strict=True):
        np.testing.assert_array_equal(picked, piece.goals)


def test_one_long_series_becomes_equal_lanes():
    """A long series is learned on all lanes at once: none is longer than its share by more than a window."""
    made = lay(cut(counted([1000]), 8, 10), 8, 10)
    assert made.goals.shape == (130, 8)


def test_padding_is_absent_values():
    """A network reads padding as missing values, and its goal is skipped."""
    made = lay([Piece({"x": np.ones((3, 1), np.float32)}, np.ones((3, 1), np.float32))], 1, 5)
    assert torch.isnan(made.inputs["x"][3:]).all()
    assert torch.isnan(made.goals[3:]).all()
