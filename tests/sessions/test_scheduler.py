"""The choice of the next batch by itself: nothing is lost, nothing runs twice, nobody is starved."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from statewise.scheduler import CUT, Bounds, Scheduler, length_class

COLUMNS = st.lists(
    st.tuples(st.integers(1, 20), st.sampled_from([1, 2]), st.sampled_from([1, 2, 9, CUT, 500]), st.sampled_from("abc")),
    max_size=12,
)


def filled(columns, batch):
    scheduler, kinds, number = Scheduler(400, batch), {}, 0
    for count, model, timesteps, client in columns:
        steps = np.arange(number, number + count)
        scheduler.add(steps, model, timesteps, client)
        kinds |= {step: (model, length_class(min(timesteps, CUT))) for step in steps.tolist()}
        number += count
    return scheduler, kinds


@given(COLUMNS, st.integers(1, 9), st.sets(st.integers(0, 239)))
def test_every_step_that_waits_runs_once_with_its_like(columns, batch, removed):
    """What is in line comes out once, in batches of one kind; what was removed never does."""
    scheduler, kinds = filled(columns, batch)
    scheduler.remove(np.array(sorted(removed), np.int64))
    left, batches = set(kinds) - removed, []
    assert len(scheduler) == len(left)
    while len(steps := scheduler.next()):
        batches.append(steps.tolist())
        assert len({kinds[step] for step in batches[-1]}) == 1
        assert len(batches[-1]) <= batch
    assert sorted(step for each in batches for step in each) == sorted(left)
    assert len(scheduler) == 0


@given(COLUMNS.filter(bool), st.integers(2, 9))
def test_a_client_with_one_step_waits_for_a_turn_of_each_line_and_not_for_those_before_it(columns, batch):
    """However much waits, a newcomer is served once every line, and every client of its own line, has had one more turn."""
    scheduler, kinds = filled(columns, batch)
    newcomer = len(kinds)
    scheduler.add(np.array([newcomer]), 1, 1, "newcomer")
    lines = len({*kinds.values(), (1, 1)})
    batches = [scheduler.next().tolist() for _ in range(lines * 4)]  # a, b and c may be before it, and each may fill a batch
    assert any(newcomer in batch for batch in batches), "it still waits"


def test_clients_share_a_batch_about_equally():
    """One of a thousand steps and two of four: the small ones run whole in the first batch, the rest is filled up."""
    scheduler = Scheduler(2000, 16)
    for step in range(1000):
        scheduler.add(np.array([step]), 1, 1, "flood")
    scheduler.add(np.arange(1000, 1004), 1, 1, "one")
    scheduler.add(np.arange(1004, 1008), 1, 1, "other")
    first = scheduler.next()
    assert set(range(1000, 1008)) <= set(first.tolist())
    assert len(first) == 16


def test_a_column_that_fits_is_not_split():
    """A frame is answered in one piece where another batch has room for all of it."""
    scheduler = Scheduler(100, 16)
    scheduler.add(np.arange(10), 1, 1, "a")
    scheduler.add(np.arange(10, 20), 1, 1, "b")
    assert [sorted(scheduler.next().tolist()) for _ in range(2)] == [list(range(10)), list(range(10, 20))]


def test_a_column_larger_than_a_batch_takes_turns_with_others():
    """A frame of four batches does not hold up another client for all four."""
    scheduler = Scheduler(100, 8)
    scheduler.add(np.arange(32), 1, 1, "large")
    scheduler.add(np.array([50]), 1, 1, "small")
    batches = [scheduler.next().tolist() for _ in range(5)]
    assert 50 in batches[0] + batches[1]
    assert sorted(step for batch in batches for step in batch) == [*range(32), 50]


def test_a_step_number_that_is_used_again_waits_only_for_its_new_turn():
    """A step that was removed and whose number was given away runs in its new place, once."""
    scheduler = Scheduler(10, 4)
    scheduler.add(np.array([3, 4]), 1, 1, "a")
    scheduler.remove(np.array([3]))
    scheduler.add(np.array([3]), 2, 1, "b")
    assert sorted([scheduler.next().tolist(), scheduler.next().tolist()]) == [[3], [4]]
    assert len(scheduler.next()) == 0


def test_a_run_never_takes_more_than_its_model_does():
    """A model that takes one session a run gets its steps one by one, and between them another model has its turn."""
    scheduler = Scheduler(100, 16)
    scheduler.add(np.arange(3), 1, 1, "a", Bounds(steps=1))
    scheduler.add(np.arange(10, 20), 2, 1, "b")
    assert [sorted(scheduler.next().tolist()) for _ in range(4)] == [[0], list(range(10, 20)), [1], [2]]


def test_steps_of_unlike_length_share_no_run_of_a_model_without_ragged_batches():
    """Three and four timesteps are of one class elsewhere; beyond the longest run all are alike, being cut there."""
    scheduler, bounds = Scheduler(100, 16), Bounds(timesteps=8, ragged=False)
    for step, timesteps in enumerate((3, 4, 3, 9, 200)):
        scheduler.add(np.array([step]), 1, timesteps, "a", bounds)
    assert [scheduler.next().tolist() for _ in range(3)] == [[0, 2], [1], [3, 4]]
