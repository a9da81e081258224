"""Plots of training, as PNG files, each complete or absent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, MaxNLocator
from numpy.typing import NDArray

from statewise_models.training.files import replace_file
from statewise_models.training.history import Epoch, best

DOTS_PER_INCH = 110
TRUTH, MODEL, QUIET = "0.6", "#c23b22", "0.45"
MOST_NUMBERED = 30  # labels of a confusion matrix that still has room for its counts


def plot_losses(history: Sequence[Epoch], path: Path, unit: str) -> None:
    """Draws training and validation loss by epoch; `unit` names the loss."""
    figure, axes = _figure(8, 4.5)
    epochs = [epoch.number for epoch in history]
    axes.plot(epochs, [epoch.training_loss for epoch in history], color=TRUTH, label="training")
    axes.plot(epochs, [epoch.validation.loss for epoch in history], color=MODEL, label="validation")
    kept = best(history)
    axes.plot(kept.number, kept.validation.loss, "o", color=MODEL, label=f"kept: epoch {kept.number}")
    axes.set(title="Loss by epoch", xlabel="epoch", ylabel=unit, yscale="log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(LogFormatter())
    axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
    axes.grid(axis="y", which="both", color="0.92")
    axes.legend(frameon=False)
    _save(figure, path)


def plot_forecast(
    time: NDArray[np.datetime64] | NDArray[np.int64],
    truth: NDArray[np.float32],
    forecast: NDArray[np.float32],
    targets: Sequence[str],
    series: str,
    path: Path,
) -> None:
    """Draws one-step-ahead forecasts over the truth, a panel for each target.

    Args:
        time: `[timesteps]`, datetimes in UTC or integers.
        truth, forecast: `[timesteps, targets]` in the columns' own units.
    """
    figure = Figure(figsize=(10, 1.2 + 3.2 * len(targets)), layout="constrained")
    panels = figure.subplots(len(targets), 1, sharex=True, squeeze=False)[:, 0]
    figure.suptitle(f"{series}: forecast one timestep ahead, and the truth")
    for place, (target, axes) in enumerate(zip(targets, panels, strict=True)):
        axes.plot(time, truth[:, place], color=TRUTH, linewidth=3, label="truth")
        axes.plot(time, forecast[:, place], color=MODEL, linewidth=1.1, label="forecast")
        rmse = np.sqrt(np.nanmean(np.square(truth[:, place].astype(np.float64) - forecast[:, place])))
        axes.set(ylabel=f"{target} (own unit)", title=f"RMSE here {rmse:.4g}")
        axes.title.set(fontsize="small", color=QUIET)
        _bare(axes)
    panels[0].legend(frameon=False, ncols=2, loc="upper right")
    panels[-1].set_xlabel("time (UTC)" if time.dtype.kind == "M" else "time (timesteps)")
    _save(figure, path)


def plot_confusion(confusion: Sequence[Sequence[int]], labels: Sequence[str], path: Path) -> None:
    """Draws a confusion matrix: counts of sequences, `[true label, predicted label]`, shaded by share of the true label."""
    counts = np.array(confusion)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 2.5 + 0.45 * min(len(labels), MOST_NUMBERED)
    figure, axes = _figure(side + 1, side)
    picture = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    if len(labels) <= MOST_NUMBERED:
        for (true, predicted), count in np.ndenumerate(counts):
            if count:
                colour = "white" if share[true, predicted] > 0.5 else "black"
                axes.text(predicted, true, str(count), ha="center", va="center", color=colour, fontsize="small")
        places = range(len(labels))
        axes.set_xticks(places, labels, rotation=90 if max(map(len, labels)) > 3 else 0)
        axes.set_yticks(places, labels)
    accuracy = np.trace(counts) / max(counts.sum(), 1)
    axes.set(title=f"{counts.sum()} sequences, {accuracy:.1%} right", xlabel="predicted label", ylabel="true label")
    figure.colorbar(picture, ax=axes, label="share of the true label")
    _save(figure, path)


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    _bare(axes)
    return figure, axes


def _bare(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    replace_file(path, lambda incoming: figure.savefig(incoming, dpi=DOTS_PER_INCH))
