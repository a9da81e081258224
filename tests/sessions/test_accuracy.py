"""What judges forecasts, with arrays in and counts out: missing and absurd values, several inputs, and what it may judge at all."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from statewise.accuracy import MOST, Accuracy, Committed
from statewise.metrics import Exposed
from statewise.metrics.accuracy import AccuracyMetrics
from statewise.spec import ModelSpec, StateSpec, TensorSpec

STATES = (StateSpec("state", "state_next", "float32", (1,)),)
X = TensorSpec(
    "x",
    "float32",
    (3,),
    features=("wind", "load", "promo"),
    missing=("mask", "mask", "refuse"),
    ahead=(0, 0, 1),
    scale=(1.0, 2.0, 1.0),
    least=(0.0, 0.0, 0.0),
    greatest=(9.0, 9.0, 1.0),
)
SPEC = ModelSpec((X,), (TensorSpec("y", "float32", (2,), features=("load", "price")),), STATES, task="forecast")
NAN = np.nan


class Judged:
    """One session's life, step by step."""

    def __init__(self, spec=SPEC):
        self.registry = CollectorRegistry()
        self.metrics = AccuracyMetrics(Exposed(self.registry))
        self.accuracy = Accuracy.of(spec, self.metrics, ("m", "1"), 10, lambda _: {})
        self.position = 0

    def step(self, inputs, outputs):
        """Commits a step, `[timesteps, …]` each."""
        here = np.array([7])
        started = np.array([self.position])
        given, made = np.array([inputs], np.float32), np.array([outputs], np.float32)
        self.accuracy.judge(Committed(here, np.array([77], np.uint64), started, here, {"x": given}, {"y": made}))
        self.position += given.shape[1]

    def count(self, name):
        """Returns what a metric shows, or `None`."""
        return self.registry.get_sample_value(f"statewise_{name}", {"model": "m", "version": "1"})


def test_only_the_target_that_is_an_input_is_judged():
    """`load` is, `price` is no input; and a feature that is known ahead is not the value that a forecast was about."""
    judged = Judged()
    judged.step([[1, 2, 0]], [[5, 50]])
    judged.step([[1, 3, 0]], [[0, 0]])
    assert (judged.count("forecast_error_count"), judged.count("forecast_error_sum")) == (1, 2 / 2)
    assert judged.count("forecast_persistence_error_total") == 1 / 2
    ahead = dataclasses.replace(SPEC, inputs=(dataclasses.replace(X, ahead=(0, 1, 1)),))
    assert Judged(ahead).count("forecast_error_count") is None


def test_a_value_that_is_missing_is_not_judged():
    """Nor the one after it, of which persistence has no forecast; of the range, only values that are there count."""
    judged = Judged()
    for load in (1, 2, NAN, 4, 5):
        judged.step([[NAN, load, 0]], [[0, 0]])
    assert judged.count("forecast_error_count") == 2
    assert judged.count("forecast_error_sum") == (2 + 5) / 2
    assert judged.count("forecast_persistence_error_total") == (1 + 1) / 2
    assert (judged.count("input_values_total"), judged.count("input_values_outside_total")) == (9, 0)


def test_an_absurd_value_does_not_blind_the_sums():
    """The greatest float32 that there is counts as a hundred deviations, and what comes after it is still seen."""
    judged = Judged()
    for load in (1, np.finfo(np.float32).max, 1, 1):
        judged.step([[0, load, 0]], [[1, 0]])
    assert judged.count("forecast_error_sum") == MOST
    assert judged.count("forecast_persistence_error_total") == 2 * MOST
    judged.step([[0, 3, 0]], [[1, 0]])
    assert judged.count("forecast_error_sum") == MOST + 1
    assert judged.count("input_values_outside_total") == 1


def test_a_position_that_does_not_follow_has_no_forecast():
    """A session that went elsewhere and came back is judged again from its second step on."""
    judged = Judged()
    judged.step([[0, 1, 0]], [[1, 0]])
    judged.position += 5
    judged.step([[0, 1, 0]], [[1, 0]])
    assert judged.count("forecast_error_count") == 0
    judged.step([[0, 1, 0]], [[1, 0]])
    assert judged.count("forecast_error_count") == 1


@pytest.mark.parametrize(
    "spec",
    [
        dataclasses.replace(SPEC, inputs=(dataclasses.replace(X, least=(), greatest=(), scale=()),)),
        dataclasses.replace(SPEC, inputs=(dataclasses.replace(X, least=(), greatest=()),), task="classify"),
        dataclasses.replace(SPEC, inputs=(dataclasses.replace(X, least=(), greatest=(), features=("a", "b", "c")),)),
    ],
    ids=["no scale", "no forecast", "no target that is an input"],
)
def test_a_model_of_which_nothing_can_be_told_has_no_judge(spec):
    """So its steps cost what they did, and it has no metrics of this kind."""
    judged = Judged(spec)
    assert judged.accuracy is None
    assert judged.count("forecast_error_count") is None


@pytest.mark.parametrize("told", [None, 3, {}, {"model": None}, {"model": "good"}])
def test_what_a_file_tells_of_itself_may_be_anything(told):
    """`about` is free: what is no number is not shown, and the model is judged all the same."""
    judged = Judged(dataclasses.replace(SPEC, about={"scaled_error": told}))
    assert judged.accuracy is not None
    assert judged.count("forecast_validation_error") is None
