"""The pictures of docs/evaluation.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from statewise_models.memory.picture import COLOURS

BASELINE = "#b8b8b8"


def bars(figures: Mapping[str, Sequence[float]], title: str, unit: str, path: Path, digits: str) -> None:
    """Draws a bar for each method, the mean of its figures, and a dot for each of several; less is better."""
    figure = Figure(figsize=(8, 0.9 + 0.42 * len(figures)), layout="constrained")
    axes = figure.subplots()
    _bare(axes)
    for place, (name, values) in enumerate(sorted(figures.items(), key=lambda item: float(np.mean(item[1])))):
        mean = float(np.mean(values))
        axes.barh(place, mean, height=0.62, color=COLOURS.get(name, BASELINE))
        if len(values) > 1:
            axes.plot(values, np.full(len(values), place), "o", markersize=4, color="black", alpha=0.55, markeredgewidth=0)
        axes.annotate(f"{mean:{digits}}", (max(values), place), (6, 0), textcoords="offset points", va="center")
        axes.text(-0.01, place, name, transform=axes.get_yaxis_transform(), ha="right", va="center")
    axes.set_yticks([])
    axes.invert_yaxis()
    axes.set_xlabel(unit)
    axes.set_title(title, loc="left", fontsize="medium")
    axes.margins(x=0.12)
    _save(figure, path)


def vowels(accuracies: Mapping[str, Sequence[float]], confusion: Sequence[Sequence[int]], shown: str, path: Path) -> None:
    """Draws every seed's accuracy by cell, and a confusion matrix `[true speaker][predicted speaker]` of the run called `shown`."""
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[4, 5])
    _bare(left)
    for place, (cell, values) in enumerate(accuracies.items()):
        spread = np.linspace(-0.12, 0.12, len(values))
        left.plot(place + spread, 100 * np.asarray(values), "o", color=COLOURS[cell], markersize=7, alpha=0.75)
        mean = 100 * float(np.mean(values))
        left.hlines(mean, place - 0.27, place + 0.27, color=COLOURS[cell], linewidth=2)
        left.annotate(f"{mean:.1f}", (place + 0.3, mean), va="center", color=COLOURS[cell])
    left.set_xticks(range(len(accuracies)), list(accuracies))
    left.set(xlim=(-0.5, len(accuracies) - 0.3), ylabel="right of 370 test utterances, %")
    left.set_title("each dot a seed, the line their mean", loc="left", fontsize="medium")
    left.grid(axis="y", color="0.93")
    counts = np.array(confusion)
    right.imshow(counts / counts.sum(axis=1, keepdims=True), cmap="Blues", vmin=0, vmax=1)
    for (true, predicted), count in np.ndenumerate(counts):
        if count:
            colour = "white" if true == predicted else "#c23b22"
            right.text(predicted, true, str(count), ha="center", va="center", color=colour)
    speakers = [str(number + 1) for number in range(len(counts))]
    right.set_xticks(range(len(counts)), speakers)
    right.set_yticks(range(len(counts)), speakers)
    right.set(xlabel="predicted speaker", ylabel="true speaker")
    right.set_title(shown, loc="left", fontsize="medium")
    _save(figure, path)


def _bare(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
