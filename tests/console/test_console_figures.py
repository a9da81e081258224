"""The figures of the last minutes: what the metrics counted between two looks, and what was refused."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram

from statewise.console.figures import SAMPLES, Figures, quantile
from statewise.console.refusals import APART_SECONDS, KEPT, Refusals
from statewise.events import LASTING

BOUNDS = (0.001, 0.01, 0.1, math.inf)


class Counted:
    """Metrics under the names that the server gives them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ("model", "version")
        self.steps = Counter("statewise_steps_total", "x", [*labels, "code"], registry=self.registry)
        self.timesteps = Counter("statewise_timesteps_total", "x", labels, registry=self.registry)
        self.rejected = Counter("statewise_steps_rejected_total", "x", ["reason"], registry=self.registry)
        self.seconds = Histogram("statewise_step_seconds", "x", labels, buckets=BOUNDS, registry=self.registry)
        self.batches = Histogram("statewise_batch_steps", "x", labels, buckets=(1, 8, 64), registry=self.registry)


def test_a_sample_is_what_happened_since_the_one_before() -> None:
    """Rates are a second's, over all models and versions; what was before is not in it."""
    counted = Counted()
    counted.steps.labels("a", "1", "OK").inc(1000)
    figures = Figures(counted.registry, now=100.0)
    for model in ("a", "b"):
        counted.steps.labels(model, "1", "OK").inc(10)
        counted.timesteps.labels(model, "1").inc(30)
        counted.batches.labels(model, "1").observe(4)
        for _ in range(10):
            counted.seconds.labels(model, "1").observe(0.005)
    counted.batches.labels("b", "1").observe(10)
    counted.steps.labels("a", "1", "NON_FINITE_STATE").inc(2)
    counted.rejected.labels("OVERLOADED").inc(4)
    refused = figures.take(102.0, sessions=7, pending=3)
    (sample,) = figures.after(0)
    assert (sample.steps, sample.timesteps, sample.refused, sample.batch) == (10.0, 30.0, 3.0, 6.0)
    assert (sample.sessions, sample.pending, sample.number, sample.at) == (7, 3, 1, 102.0)
    assert 0.001 < sample.p50_seconds < sample.p99_seconds <= 0.01
    assert refused == {("NON_FINITE_STATE", "a"): 2, ("OVERLOADED", ""): 4}


def test_a_step_that_is_counted_twice_is_refused_once() -> None:
    """One that is refused before it is pending may be counted by its session's model too; the rest are of no known session."""
    counted = Counted()
    figures = Figures(counted.registry, now=0.0)
    counted.steps.labels("a", "1", "NON_FINITE_INPUT").inc(2)
    counted.rejected.labels("NON_FINITE_INPUT").inc(2)
    counted.rejected.labels("UNKNOWN").inc(3)
    assert figures.take(1.0, 0, 0) == {("NON_FINITE_INPUT", "a"): 2, ("UNKNOWN", ""): 3}


def test_a_second_without_steps_has_no_latency() -> None:
    """Nothing is drawn where nothing was measured, and nothing is told again as refused."""
    counted = Counted()
    counted.rejected.labels("OVERLOADED").inc()
    figures = Figures(counted.registry, now=0.0)
    assert figures.take(1.0, 0, 0) == {}
    (sample,) = figures.after(0)
    assert (sample.steps, sample.p50_seconds, sample.p99_seconds, sample.batch) == (0.0, None, None, None)


def test_a_version_that_left_memory_is_no_negative_rate() -> None:
    """Its counts vanish from the registry; the sample says 0."""
    counted = Counted()
    counted.steps.labels("a", "1", "OK").inc(50)
    figures = Figures(counted.registry, now=0.0)
    counted.steps.remove("a", "1", "OK")
    figures.take(1.0, 0, 0)
    assert figures.after(0)[0].steps == 0.0


def test_a_page_is_told_what_it_has_not_seen() -> None:
    """Samples are numbered, and five minutes of them kept."""
    figures = Figures(CollectorRegistry(), now=0.0)
    for second in range(SAMPLES + 20):
        figures.take(1.0 + second, 0, 0)
    assert [sample.number for sample in figures.after(0)] == list(range(21, SAMPLES + 21))
    assert [sample.number for sample in figures.after(SAMPLES + 18)] == [SAMPLES + 19, SAMPLES + 20]
    assert figures.after(SAMPLES + 20) == []


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=200), st.floats(0.01, 1.0))
def test_a_quantile_is_in_the_bucket_of_the_observation(values: list[float], share: float) -> None:
    """Between the bounds of the bucket that holds the observation of that rank; beyond the last bound, at that bound."""
    counts = [sum(low < value <= high for value in values) for low, high in zip((-1.0, *BOUNDS), BOUNDS, strict=False)]
    rank = sorted(values)[max(0, math.ceil(share * len(values) - 1e-9) - 1)]
    place = next(at for at, bound in enumerate(BOUNDS) if rank <= bound)
    low, high = (0.0, *BOUNDS)[place], min(BOUNDS[place], BOUNDS[-2])
    assert min(low, high) - 1e-9 <= quantile(share, BOUNDS, counts) <= high + 1e-9


def test_nothing_has_no_quantile() -> None:
    """No observation, no number."""
    assert quantile(0.99, BOUNDS, [0, 0, 0, 0]) is None


def test_refusals_of_one_reason_are_one_entry_that_counts() -> None:
    """Until a minute passes without one; the newest comes first."""
    refusals = Refusals()
    refusals.note("OVERLOADED", "", 3, 10.0)
    refusals.note("STALE", "a", 1, 11.0)
    refusals.note("OVERLOADED", "", 2, 12.0)
    newest, other = refusals.newest_first()
    assert (newest.reason, newest.count, newest.first, newest.last) == ("OVERLOADED", 5, 10.0, 12.0)
    assert other.model == "a"
    refusals.note("OVERLOADED", "", 1, 12.0 + APART_SECONDS)
    assert [each.count for each in refusals.newest_first()] == [1, 5, 1]


def test_refusals_of_sessions_that_are_resumed_are_marked_until_they_go_on_and_on() -> None:
    """Whoever looks at the list sees what is a failure and what is not; a client that goes round and round is one."""
    refusals = Refusals()
    for second in range(LASTING):
        refusals.note("NOT_HERE", "", 1, float(second))
        assert refusals.newest_first()[0].passing == (second < LASTING - 1)
    refusals.note("STALE", "a", 1, float(LASTING))
    assert not refusals.newest_first()[0].passing


@pytest.mark.parametrize("count", [KEPT, KEPT + 5])
def test_refusals_are_bounded(count: int) -> None:
    """The oldest go."""
    refusals = Refusals()
    for number in range(count):
        refusals.note("STALE", f"model-{number}", 1, float(number))
    assert len(refusals.newest_first()) == KEPT
    assert refusals.newest_first()[0].model == f"model-{count - 1}"
