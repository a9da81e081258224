"""Pictures of training, as matplotlib's figures: `save` makes files of them, `report.pictures` parts of a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, StrMethodFormatter
from numpy.typing import NDArray

from statewise_models.files import replace_file
from statewise_models.training.history import Epoch, best

DOTS_PER_INCH = 110
TRUTH, MODEL, QUIET, FAINT = "#999999", "#c23b22", "#737373", "#ebebeb"
ON_LIGHT, ON_DARK = "#111111", "#ffffff"  # a matrix's numbers, on its own shades of blue
MOST_NUMBERED = 30  # labels of a confusion matrix that still has room for its counts
LONGEST_LABEL = 24  # characters of a label that are shown
LABELLED_DIGITS = ((0.8, range(1, 10)), (1.6, (1, 2, 3, 5)), (3, (1, 3)), (float("inf"), (1,)))
"""Of a logarithmic axis that spans less than so many decades, the leading digits that are labelled."""
LEVEL_CHARACTERS = 24  # characters of labels that stand side by side; more are turned


def plot_losses(history: Sequence[Epoch], unit: str, width: float = 8) -> Figure:
    """Draws training and validation loss by epoch; `unit` names the loss, `width` is in inches."""
    figure, axes = _figure(width, 4.5 * min(1.0, width / 6))
    epochs = [epoch.number for epoch in history]
    point = "o" if len(history) == 1 else None
    axes.plot(epochs, [epoch.training_loss for epoch in history], marker=point, color=TRUTH, label="training")
    axes.plot(epochs, [epoch.validation.loss for epoch in history], marker=point, color=MODEL, label="validation")
    kept = best(history)
    axes.plot(kept.number, kept.validation.loss, "o", color=MODEL, label=f"kept: epoch {kept.number}")
    axes.set(title="Loss by epoch", xlabel="epoch", ylabel=unit)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlim(0.5, len(history) + 0.5)
    if all(min(epoch.training_loss, epoch.validation.loss) > 0 for epoch in history):
        axes.set_yscale("log")
        _plain_numbers(axes)
    axes.legend(frameon=False)
    return figure


def plot_forecast(
    time: NDArray[np.datetime64] | NDArray[np.int64],
    truth: NDArray[np.float32],
    forecast: NDArray[np.float32],
    targets: Sequence[str],
    series: str,
    split: str,
    width: float = 10,
) -> Figure:
    """Draws one-step-ahead forecasts over the truth, a panel for each target.

    Args:
        time: `[timesteps]`, datetimes in UTC or integers.
        truth, forecast: `[timesteps, targets]` in the columns' own units; NaN where unknown.
        series, split: what is shown, for the title.
        width: in inches.
    """
    figure = Figure(figsize=(width, 1.2 + 3.2 * min(1.0, width / 7) * len(targets)), layout="constrained")
    panels = figure.subplots(len(targets), 1, sharex=True, squeeze=False)[:, 0]
    figure.suptitle(f"{_shown(series)}, {split}: forecast one timestep ahead, and the truth")
    for place, (target, axes) in enumerate(zip(targets, panels, strict=True)):
        axes.plot(time, truth[:, place], color=TRUTH, linewidth=3, label="truth")
        axes.plot(time, forecast[:, place], color=MODEL, linewidth=1.1, label="forecast")
        axes.set(ylabel=_shown(target))
        axes.set_title(_error(truth[:, place], forecast[:, place]), fontsize="small", color=QUIET, loc="left")
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
        axes.margins(x=0.01)
        bare(axes)
    panels[0].legend(frameon=False, ncols=2, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.2)
    panels[-1].set_xlabel("time (UTC)" if time.dtype.kind == "M" else "time (timesteps)")
    if time.dtype.kind == "M":
        locator = AutoDateLocator()  # type: ignore[no-untyped-call]
        panels[-1].xaxis.set_major_locator(locator)
        panels[-1].xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    return figure


def plot_confusion(confusion: Sequence[Sequence[int]], labels: Sequence[str], split: str) -> Figure:
    """Draws a confusion matrix: counts of sequences `[true label, predicted label]`, shaded by share of the true label."""
    counts = np.array(confusion)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 2.5 + 0.45 * min(len(labels), MOST_NUMBERED)
    figure, axes = _figure(side + 1.2, side)
    picture = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    if len(labels) <= MOST_NUMBERED:
        _name_and_count(axes, [_shown(label) for label in labels], counts, share)
    accuracy = np.trace(counts) / max(counts.sum(), 1)
    axes.set(title=f"{split}: {counts.sum():,} sequences, {accuracy:.1%} right", xlabel="predicted label", ylabel="true label")
    figure.colorbar(picture, ax=axes, label="share of the true label", format="{x:.0%}")
    return figure


def save(figure: Figure, path: Path) -> None:
    """Writes a figure as a PNG file, whole or not at all; raises `OSError`."""
    FigureCanvasAgg(figure)
    replace_file(path, lambda incoming: figure.savefig(incoming, dpi=DOTS_PER_INCH))


def _name_and_count(axes: Axes, labels: Sequence[str], counts: NDArray[np.int64], share: NDArray[np.float64]) -> None:
    """Writes the labels beside a confusion matrix and the counts `[true label, predicted label]` into it."""
    for (true, predicted), count in np.ndenumerate(counts):
        if count:
            colour = ON_DARK if share[true, predicted] > 0.5 else ON_LIGHT
            axes.text(predicted, true, f"{count}", ha="center", va="center", color=colour, fontsize="small")
    places = range(len(labels))
    turned = max(map(len, labels)) * len(labels) > LEVEL_CHARACTERS and max(map(len, labels)) > 3
    axes.set_xticks(places, labels, rotation=90 if turned else 0)
    axes.set_yticks(places, labels)


def _error(truth: NDArray[np.float32], forecast: NDArray[np.float32]) -> str:
    """Returns the root mean squared error of what is drawn, in words."""
    squares = np.square(truth.astype(np.float64) - forecast)
    known = squares[np.isfinite(squares)]
    return f"RMSE of this stretch: {np.sqrt(known.mean()):,.4g}" if len(known) else "nothing known here"


def _shown(name: str) -> str:
    """Returns a user's name as matplotlib is to draw it: not too long, and no formula between dollar signs."""
    name = name if len(name) <= LONGEST_LABEL else name[: LONGEST_LABEL - 1] + "…"
    return name.replace("$", r"\$")


def _plain_numbers(axes: Axes) -> None:
    """Labels a logarithmic axis 0.3 and 20, not 3e−01 and 2e+01, and draws lines where labels stand."""
    low, high = axes.get_ylim()
    decades = np.log10(high / low)
    labelled = next(digits for most, digits in LABELLED_DIGITS if decades < most)

    def plain(value: float, _: object = None) -> str:
        leading = round(value / 10.0 ** np.floor(np.log10(value) + 1e-9))
        return f"{value:.4g}" if leading in labelled else ""

    axes.yaxis.set_major_formatter(FuncFormatter(plain))
    axes.yaxis.set_minor_formatter(FuncFormatter(plain))
    axes.grid(axis="y", which="major" if len(labelled) < len(LABELLED_DIGITS[0][1]) else "both", color=FAINT)


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    bare(axes)
    return figure, axes


def bare(axes: Axes) -> None:
    """Leaves out the frame's upper and right side."""
    axes.spines[["top", "right"]].set_visible(False)
