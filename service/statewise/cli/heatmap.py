"""The picture of a trace: what went in and came out on top, and below it gates and states, a column for each layer.

A row of a panel is a unit, the same one in all panels of a layer. Units that act alike lie together: they are ordered by the angle
between the first two principal components of what their hidden state did.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.image import AxesImage
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

if TYPE_CHECKING:
    from statewise.cli.trace import Trace

Floats = NDArray[np.float64]

DOTS_PER_INCH = 130
PANEL_INCHES, LINES_INCHES = 1.25, 1.35
TRUTH, MODEL, QUIET = "0.6", "#c23b22", "0.45"
LINES = ("#1f4e79", "#c23b22", "#6a994e", "#8d6a9f", "#d08c2e", "#3a8a8a")
NAMES = {
    "f": "forget gate f",
    "i": "input gate i",
    "o": "output gate o",
    "candidate": "candidate",
    "cell_state": "cell state C",
    "hidden": "hidden state",
    "reset": "reset gate",
    "update": "update gate",
}
GATES = ("f", "i", "o", "reset", "update")  # between 0 and 1; the others are about 0
GATE_COLOURS = LinearSegmentedColormap.from_list("gate", ("#fbfaf6", "#b8d4cf", "#4f9a94", "#14525c", "#06222e"))
STATE_COLOURS = LinearSegmentedColormap.from_list("state", ("#0b3c6f", "#5a94c4", "#fbfaf6", "#dd8a5f", "#8c2414"))
MOST_NUMBERED = 16  # units of a layer that still have room for their numbers
MOST_LINES = 6  # labels or columns that are still told apart as lines
MOST_CHARACTERS = 130  # of a text that are still readable below the picture
DAY_SECONDS = 86_400


def draw(trace: Trace, path: Path) -> None:
    """Draws a trace to a PNG file."""
    layers, names = _layers(trace)
    tops = [_draw_output, *([_draw_inputs] if _inputs_apart(trace) else [])]
    width = 3.0 + (8.5 if len(layers) == 1 else 4.8 * len(layers))
    height = 1.3 + LINES_INCHES * len(tops) + PANEL_INCHES * len(names)
    figure = Figure(figsize=(width, height), layout="constrained")
    ratios = [LINES_INCHES] * len(tops) + [PANEL_INCHES] * len(names)
    grid = GridSpec(len(ratios), len(layers), figure=figure, height_ratios=ratios)
    figure.suptitle(f"{trace.title}: what its cells do while it reads {trace.source}".replace("$", r"\$"))
    for column, layer in enumerate(layers):
        first: Axes | None = None
        for row, top in enumerate(tops):
            first = _shared(figure, grid, row, column, first)
            top(trace, first, last=column == len(layers) - 1)
        _draw_layer(trace, figure, grid, (len(tops), column), layer, names, first)
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=DOTS_PER_INCH, format="png")


def _layers(trace: Trace) -> tuple[list[int], list[str]]:
    """Returns the layers that a trace has, and the names of what each of them computes, in order."""
    found = [match for match in map(re.compile(r"([a-z_]+)_(\d+)").fullmatch, trace.arrays) if match and match[1] in NAMES]
    return sorted({int(match[2]) for match in found}), list(dict.fromkeys(match[1] for match in found))


def _shared(figure: Figure, grid: GridSpec, row: int, column: int, first: Axes | None) -> Axes:
    axes = figure.add_subplot(grid[row, column], sharex=first)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelbottom=False, labelsize="small")
    return axes


def _draw_layer(
    trace: Trace, figure: Figure, grid: GridSpec, at: tuple[int, int], layer: int, names: Sequence[str], first: Axes | None
) -> None:
    """Draws the panels of a layer below each other."""
    (row, column), many = at, grid.ncols > 1
    units = _alike(trace.arrays[f"hidden_{layer}"].astype(np.float64))
    for place, name in enumerate(names):
        axes = _shared(figure, grid, row + place, column, first)
        picture = _heat(axes, trace.arrays[f"{name}_{layer}"][:, units].astype(np.float64).T, name, trace.skipped)
        if column == 0:
            axes.set_ylabel(NAMES[name].replace(" ", "\n", 1) if len(NAMES[name]) > 9 else NAMES[name], fontsize="small")
        if place == 0 and many:
            axes.set_title(f"layer {layer + 1}", fontsize="medium", loc="left")
        if len(units) <= MOST_NUMBERED:
            axes.set_yticks(range(len(units)), [str(unit) for unit in units], fontsize="xx-small")
        else:
            axes.set_yticks([])
        bar = figure.colorbar(picture, ax=axes, pad=0.01, aspect=12, fraction=0.05)
        bar.ax.tick_params(labelsize="x-small")
        bar.outline.set_visible(False)
    _label_time(trace, axes)


def _heat(axes: Axes, values: Floats, name: str, skipped: int) -> AxesImage:
    """Draws values `[units, timesteps]`: gates from 0 to 1, the others symmetrically about 0."""
    extent = (skipped + 0.5, skipped + values.shape[1] + 0.5, values.shape[0] - 0.5, -0.5)
    axes.spines[["left", "bottom"]].set_visible(False)
    if name in GATES:
        return axes.imshow(values, aspect="auto", extent=extent, cmap=GATE_COLOURS, vmin=0, vmax=1)
    reach = 1.0 if name == "candidate" else max(float(np.quantile(np.abs(values), 0.995)), 1e-6)
    return axes.imshow(values, aspect="auto", extent=extent, cmap=STATE_COLOURS, vmin=-reach, vmax=reach)


def _alike(hidden: Floats) -> NDArray[np.int64]:
    """Returns the units of hidden states `[timesteps, units]` in an order that lays those together that act alike."""
    centred = hidden - hidden.mean(axis=0)
    scaled = centred / np.maximum(centred.std(axis=0), 1e-9)
    _, strengths, directions = np.linalg.svd(scaled, full_matrices=False)
    if len(strengths) < 2:
        return np.arange(hidden.shape[1])
    angles = np.arctan2(directions[1] * strengths[1], directions[0] * strengths[0])
    order = np.argsort(angles)
    gap = int(np.argmax(np.diff(angles[order], append=angles[order][0] + 2 * np.pi)))  # begin after the widest gap in the circle
    return np.roll(order, -gap - 1)


def _draw_output(trace: Trace, axes: Axes, *, last: bool) -> None:
    """Draws what came out: a forecast over the truth, the labels' probabilities, or the surprise of each token."""
    spec, when = trace.spec, _timesteps(trace)
    output = trace.arrays[spec.outputs[0].name].astype(np.float64)
    if spec.vocabulary:
        tokens = trace.arrays[spec.inputs[0].name].astype(np.int64)
        axes.bar(when[1:], _bits(output[:-1], tokens[1:]), width=1.0, color=LINES[0], linewidth=0)
        _say(axes, "surprise at each token (bits)")
        return
    names = spec.outputs[0].features
    if spec.task == "classify":
        shown = np.argsort(-output.mean(axis=0))[:MOST_LINES]
        for colour, place in zip(LINES, shown, strict=False):
            axes.plot(when, output[:, place], color=colour, linewidth=1.3, label=names[place])
        axes.set_ylim(-0.03, 1.03)
        _say(axes, "probability of each label" if len(names) <= MOST_LINES else f"the {MOST_LINES} likeliest labels' probabilities")
    else:
        target, inputs = names[0], spec.inputs[0].features
        if target in inputs:
            axes.plot(when, trace.arrays["x"][:, inputs.index(target)], color=TRUTH, linewidth=2.6, label="truth")
        axes.plot(when + 1, output[:, 0], color=MODEL, linewidth=1.1, label="forecast made one timestep before")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        _say(axes, target)
    if last:
        _legend(axes)


def _draw_inputs(trace: Trace, axes: Axes, *, last: bool) -> None:
    """Draws the columns that the model sees, each by its own scale."""
    names, x = trace.spec.inputs[0].features, trace.arrays["x"].astype(np.float64)
    scaled = (x - np.nanmean(x, axis=0)) / np.maximum(np.nanstd(x, axis=0), 1e-9)
    if len(names) <= MOST_LINES:
        for colour, name, values in zip(LINES, names, scaled.T, strict=False):
            axes.plot(_timesteps(trace), values, color=colour, linewidth=1.1, label=name)
        _say(axes, "inputs, each by its own scale")
        if last:
            _legend(axes)
        return
    _heat(axes, scaled.T, "inputs", trace.skipped)
    axes.set_yticks(range(len(names)) if len(names) <= MOST_NUMBERED else [], names if len(names) <= MOST_NUMBERED else [])
    axes.tick_params(axis="y", labelsize="xx-small")
    _say(axes, f"{len(names)} inputs, each by its own scale")


def _inputs_apart(trace: Trace) -> bool:
    """Whether the inputs need a panel: a forecast of its only input shows it already, and a text stands below the picture."""
    return not trace.spec.vocabulary and (trace.spec.task != "forecast" or len(trace.spec.inputs[0].features) > 1)


def _bits(logits: Floats, following: NDArray[np.int64]) -> Floats:
    """Returns how surprising each token was, by the logits `[timesteps, vocabulary]` before it."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    chosen = np.take_along_axis(shifted, following[:, None], axis=-1)[:, 0]
    return np.asarray((np.log(np.exp(shifted).sum(axis=-1)) - chosen) / np.log(2))


def _timesteps(trace: Trace) -> NDArray[np.int64]:
    """Returns the numbers of the timesteps, counted from 1 as the session's positions are."""
    return trace.skipped + 1 + np.arange(len(next(iter(trace.arrays.values()))))


def _label_time(trace: Trace, axes: Axes) -> None:
    """Labels the lowest panel: by the characters of a short text, by dates where the model has a calendar, by numbers otherwise."""
    axes.tick_params(labelbottom=True)
    when, spec = _timesteps(trace), trace.spec
    axes.set_xlim(when[0] - 0.5, when[-1] + 0.5)
    if spec.vocabulary and len(when) <= MOST_CHARACTERS:
        tokens = trace.arrays[spec.inputs[0].name].astype(np.int64).tolist()
        characters = [spec.vocabulary.decode([token]).replace(" ", "·").replace("\n", "¶").replace("$", r"\$") for token in tokens]
        axes.set_xticks(when, characters, fontsize="small", family="monospace")
        axes.tick_params(axis="x", length=0)
        axes.set_xlabel("token (·: space, ¶: end of line)")
        return
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.set_xlabel("timestep")
    if spec.calendar and spec.calendar.step_seconds:
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _date(trace, round(value) - int(when[0]))))
        axes.set_xlabel("time (UTC)")


def _date(trace: Trace, place: int) -> str:
    """Returns the date of a timestep as a short label, or nothing beyond the ends."""
    assert trace.spec.calendar is not None
    times, step = trace.arrays[trace.spec.calendar.input], trace.spec.calendar.step_seconds
    if not 0 <= place < len(times):
        return ""
    stamp = datetime.datetime.fromtimestamp(float(times[place]) * step, datetime.UTC)
    return f"{stamp:%Y-%m-%d}" if step >= DAY_SECONDS else f"{stamp.day} {stamp:%b %H:%M}"


def _say(axes: Axes, what: str) -> None:
    axes.set_title(what.replace("$", r"\$"), fontsize="small", color=QUIET, loc="left")
    axes.margins(x=0)


def _legend(axes: Axes) -> None:
    legend = axes.legend(
        frameon=False, ncols=3, fontsize="x-small", loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.1, handlelength=1.2
    )
    for text in legend.get_texts():
        text.set_text(text.get_text().replace("$", r"\$"))
