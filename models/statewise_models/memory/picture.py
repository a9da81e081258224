"""How far back models remember, as one picture: gradients on your data, gradients before learning, and recall after a delay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from numpy.typing import NDArray

from statewise_models.memory.recall import Gates, Recalled
from statewise_models.plots import FAINT, MODEL, QUIET, bare

COLOURS = {"elman": "#c8321f", "lstm": "#1b6ca8", "peephole": "#2a8a57", "gru": "#d99a00"}
LEAST_SHARE = 1e-9  # what is less is below the picture's floor
LABEL_GAP = 0.055  # of the axis: labels at lines' ends stand at least so far apart

Shares = NDArray[np.float64]


def draw(
    models: Mapping[str, tuple[str, Mapping[str, Shares]]],
    first: Mapping[tuple[str, Gates], Shares],
    recalled: Sequence[Recalled],
    data: str,
) -> Figure:
    """Draws the panels of which there is something to show, side by side.

    Args:
        models: of each model, by name, its cell and the shares of `gradients.shares` by kind of state.
        first: of each cell and way to begin, the shares before learning.
        recalled: what came of the trials.
        data: the name of the models' file.
    """
    panels = [bool(models), bool(first), bool(recalled)]
    figure = Figure(figsize=(5.6 * sum(panels), 4.2), layout="constrained")
    axes = iter(figure.subplots(1, sum(panels), squeeze=False)[0])
    if models:
        _models(next(axes), models, data)
    if first:
        _first(next(axes), first)
    if recalled:
        _recall(next(axes), recalled)
    return figure


def reach(kinds: Mapping[str, Shares], width: float) -> Figure:
    """Draws what is left of one model's gradients by kind of state, `width` inches wide, in the colours of a report."""
    figure = Figure(figsize=(width, 0.6 * width), layout="constrained")
    axes = figure.subplots()
    ends = []
    for (kind, shares), colour in zip(kinds.items(), (MODEL, QUIET), strict=False):
        axes.plot(np.arange(1, len(shares) + 1), shares, color=colour, linewidth=2)
        ends.append((shares, kind.replace("_", " "), colour))
    _gradient_axis(axes, ends, "The gradient that reaches k timesteps back")
    return figure


def _models(axes: Axes, models: Mapping[str, tuple[str, Mapping[str, Shares]]], data: str) -> None:
    ends = []
    for name, (cell, kinds) in models.items():
        for kind, shares in kinds.items():
            line = "-" if kind == "hidden" else (0, (4, 1.5))
            label = name if kind == "hidden" else f"{name}, {kind.replace('_', ' ')}"
            axes.plot(np.arange(1, len(shares) + 1), shares, linestyle=line, color=COLOURS[cell], linewidth=2)
            ends.append((shares, label, COLOURS[cell]))
    _gradient_axis(axes, ends, f"Gradient of trained models on {data}")


def _first(axes: Axes, first: Mapping[tuple[str, Gates], Shares]) -> None:
    ends = []
    for (cell, gates), shares in first.items():
        axes.plot(np.arange(1, len(shares) + 1), shares, linestyle=_dashes(gates), color=COLOURS[cell], linewidth=_width(cell))
        ends.append((shares, _named(cell, gates), COLOURS[cell]))
    _gradient_axis(axes, ends, "Before learning: the gradient that reaches k timesteps back")


def _gradient_axis(axes: Axes, ends: Sequence[tuple[Shares, str, str]], title: str) -> None:
    bare(axes)
    most = max(len(shares) for shares, _, _ in ends)
    axes.set_yscale("log")
    axes.set_ylim(LEAST_SHARE, 30)
    axes.set_xlim(1, most * 1.02)
    axes.yaxis.set_major_locator(LogLocator(base=1000))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(_share))
    axes.grid(axis="y", color=FAINT)
    axes.set_xlabel("k, timesteps back")
    axes.set_ylabel("what is left of it")
    _title(axes, title)
    _label_ends(axes, ends)


def _label_ends(axes: Axes, ends: Sequence[tuple[Shares, str, str]]) -> None:
    """Names each line where it ends, at the right or at the floor, in its own colour; names do not stand on each other."""
    low, high = np.log10(axes.get_ylim())
    right, placed = [], []
    for shares, label, colour in ends:
        under = np.flatnonzero(~(shares > LEAST_SHARE))
        if len(under):
            placed.append((int(under[0]) + 1, label, colour))
        else:
            right.append(((np.log10(shares[-1]) - low) / (high - low), label, colour))
    taken: list[float] = []
    for height, label, colour in sorted(right, reverse=True):
        height = min(height, taken[-1] - LABEL_GAP) if taken else height
        taken.append(height)
        axes.annotate(label, (1, height), (4, 0), "axes fraction", "offset points", color=colour, va="center", fontsize="small")
    for number, (place, label, colour) in enumerate(sorted(placed)):
        axes.annotate(label, (place, LEAST_SHARE), (5, 8 + 13 * number), textcoords="offset points", color=colour, fontsize="small")


def _recall(axes: Axes, recalled: Sequence[Recalled]) -> None:
    """Draws a line through the means over seeds, and a dot for each seed."""
    bare(axes)
    delays = sorted({one.trial.delay for one in recalled})
    for cell, gates in dict.fromkeys((one.trial.cell, one.trial.gates) for one in sorted(recalled, key=_open_last)):
        of_kind = [one for one in recalled if (one.trial.cell, one.trial.gates) == (cell, gates)]
        tried = sorted({one.trial.delay for one in of_kind})
        means = [float(np.mean([100 * one.accuracy for one in of_kind if one.trial.delay == delay])) for delay in tried]
        dots = [(one.trial.delay, 100 * one.accuracy) for one in of_kind]
        axes.plot(*zip(*dots, strict=True), "o", color=COLOURS[cell], alpha=0.4, markersize=4.5, markeredgewidth=0)
        axes.plot(tried, means, linestyle=_dashes(gates), color=COLOURS[cell], linewidth=_width(cell), label=_named(cell, gates))
    axes.axhline(50, color="0.75", linewidth=1, zorder=0)
    axes.annotate("guessing", (delays[0], 50), (0, -11), textcoords="offset points", color="0.5", fontsize="small")
    axes.set_xscale("log")
    axes.set_xticks(delays, [str(delay) for delay in delays])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylim(43, 104)
    axes.set(xlabel="k, timesteps from the bit to the question", ylabel="recalled, %")
    _title(axes, "After learning: a bit recalled after k timesteps")
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 0.16), fontsize="small", reverse=True)


def _title(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize="medium", fontweight="bold")


def _width(cell: str) -> float:
    """Returns the width of a cell's lines: the LSTM's is the widest, so that it shows under the GRU's, which it often equals."""
    return 4.0 if cell == "lstm" else 2.0


def _open_last(one: Recalled) -> tuple[int, int]:
    """Orders kinds so that those with open gates, and the thinner lines of a pair, are drawn above the others."""
    return ("half open", "open", "none").index(one.trial.gates), ("lstm", "gru", "elman").index(one.trial.cell)


def _named(cell: str, gates: Gates) -> str:
    return cell if gates == "none" else f"{cell}, gates {gates}"


def _dashes(gates: Gates) -> str | tuple[int, tuple[float, float]]:
    return (0, (1.2, 1.4)) if gates == "half open" else "-"


def _share(value: float, _: object = None) -> str:
    """Returns a share of the gradient in words: all, 1/1000, 10⁻⁶."""
    power = round(np.log10(value))
    return {0: "all", -3: "1/1,000"}.get(power, f"$10^{{{power}}}$")
