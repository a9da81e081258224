"""Pictures: legible whatever the numbers and names are, and never a reason for a run to fail."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from statewise_models.plots import _plain_numbers, plot_confusion, plot_forecast, plot_losses, save
from statewise_models.training.history import Epoch, Judgement

PNG = b"\x89PNG"


def history(losses):
    return [Epoch(number, 1.5 * loss, Judgement(loss, (loss,)), 0.1, 0.1) for number, loss in enumerate(losses, 1)]


@pytest.mark.parametrize("losses", [[1.0], [3.0, 2.9], [0.0, 0.0], np.geomspace(10, 1e-6, 40).tolist()])
def test_any_losses_are_drawn(tmp_path, losses):
    """One epoch, losses close together, losses of nothing and over seven decades: no warning, and a picture."""
    save(plot_losses(history(losses), "nats"), tmp_path / "loss.png")
    assert (tmp_path / "loss.png").read_bytes().startswith(PNG)


@pytest.mark.parametrize(("low", "high"), [(0.25, 1.1), (0.9, 1.0), (2.8, 4.2), (0.02, 0.5), (3e-4, 2.6), (25, 900)])
def test_losses_are_labelled_with_plain_numbers(low, high):
    """At least two numbers stand on the axis, at most ten, and none is written 3e−01."""
    axes = Figure().subplots()
    axes.set(yscale="log", ylim=(low, high))
    _plain_numbers(axes)
    labels = [*axes.yaxis.get_ticklabels(), *axes.yaxis.get_ticklabels(minor=True)]
    shown = [label.get_text() for label in labels if label.get_text() and low <= label.get_position()[1] <= high]
    assert 2 <= len(shown) <= 10
    assert not [text for text in shown if "e" in text and float(text) >= 1e-4]


@pytest.mark.parametrize("time", [np.arange(40), np.datetime64("2026-01-01", "us") + np.arange(40) * np.timedelta64(1, "h")])
def test_forecasts_are_drawn_with_any_names_and_unknown_values(tmp_path, time):
    """Dollar signs start no formula, and a target of which nothing is known costs its line only."""
    truth = np.stack([np.arange(40), np.full(40, np.nan)], axis=1).astype(np.float32)
    figure = plot_forecast(time, truth, truth + 1, ["price $/MWh $", "silent"], "a_$series$" * 9, "test")
    save(figure, tmp_path / "forecast.png")
    assert (tmp_path / "forecast.png").read_bytes().startswith(PNG)


@pytest.mark.parametrize("labels", [["a", "b"], ["$one", "x" * 300], [str(number) for number in range(40)]])
def test_confusions_are_drawn_with_any_labels(tmp_path, labels):
    """Few, long and many; a label without a sequence divides nothing by zero."""
    counts = np.eye(len(labels), dtype=int) * 3
    counts[0] = 0
    save(plot_confusion(counts.tolist(), labels, "test"), tmp_path / "confusion.png")
    assert (tmp_path / "confusion.png").read_bytes().startswith(PNG)
