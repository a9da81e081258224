"""The picture of a trace: what went in and came out on top, and below it gates and states, a column for each layer.

A row of a panel is a unit, the same one in all panels of a layer. Units that act alike lie together: they are ordered by the angle
between the first two principal components of what their hidden state did.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from statewise.cli.traced import Trace

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
HOUR, DAY = 3_600, 86_400  # seconds
SPANS = (60, 300, 900, HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 2 * DAY, 7 * DAY, 14 * DAY, 28 * DAY, 84 * DAY, 364 * DAY)
"""Seconds between the dates that are written below a picture."""


def draw(trace: Trace, path: Path) -> None:
    """Draws a trace to a PNG file."""
    layers, names = _layers(trace)
    tops = [_draw_output, *([_draw_inputs] if _inputs_apart(trace) else [])]
    ratios = [LINES_INCHES] * len(tops) + [PANEL_INCHES] * len(names)
    width = 3.0 + (8.5 if len(layers) == 1 else 4.8 * len(layers))
    figure = Figure(figsize=(width, 1.3 + sum(ratios)), layout="constrained")
    panels = figure.subplots(len(ratios), len(layers), sharex=True, squeeze=False, height_ratios=ratios)
    figure.suptitle(f"{trace.title}: what its cells do while it reads {trace.source}".replace("$", r"\$"))
    for axes in panels.flat:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize="small", length=0 if trace.spec.vocabulary else 2.5)
    for column, layer in enumerate(layers):
        for axes, top in zip(panels[:, column], tops, strict=False):
            top(trace, axes, last=column == len(layers) - 1)
            axes.tick_params(labelleft=column == 0)
        _draw_layer(trace, list(panels[len(tops) :, column]), layer, names)
        _label_time(trace, panels[-1, column], most=8 if len(layers) == 1 else 5)
    for row, name in enumerate(names, len(tops)):
        panels[row, 0].set_ylabel(NAMES[name].replace(" ", "\n", 1), fontsize="small")
        bar = figure.colorbar(panels[row, 0].images[0], ax=list(panels[row]), pad=0.01, aspect=12, fraction=0.05)
        bar.ax.tick_params(labelsize="x-small")
        bar.outline.set_visible(False)
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=DOTS_PER_INCH, format="png")


def _layers(trace: Trace) -> tuple[list[int], list[str]]:
    """Returns the layers that a trace has, and the names of what each of them computes, in order."""
    found = [match for match in map(re.compile(r"([a-z_]+)_(\d+)").fullmatch, trace.arrays) if match and match[1] in NAMES]
    return sorted({int(match[2]) for match in found}), list(dict.fromkeys(match[1] for match in found))


def _draw_layer(trace: Trace, panels: Sequence[Axes], layer: int, names: Sequence[str]) -> None:
    """Draws the panels of a layer below each other."""
    units = _alike(trace.arrays[f"hidden_{layer}"].astype(np.float64))
    few = len(units) <= MOST_NUMBERED
    for axes, name in zip(panels, names, strict=True):
        _heat(axes, trace.arrays[f"{name}_{layer}"][:, units].astype(np.float64).T, name, _reach(trace, name), trace.skipped)
        axes.set_yticks(range(len(units)) if few else [], [str(unit) for unit in units] if few else [])
        axes.tick_params(axis="y", labelsize="xx-small", length=0)
    _say(panels[0], f"layer {layer + 1}: {len(units)} units, those that act alike side by side")


def _reach(trace: Trace, name: str) -> float:
    """Returns how far from 0 the colours go, for all layers alike."""
    if name in (*GATES, "candidate"):
        return 1.0
    values = [np.abs(array).ravel() for key, array in trace.arrays.items() if re.fullmatch(rf"{name}_\d+", key)]
    return max(float(np.quantile(np.concatenate(values), 0.995)), 1e-6)


def _heat(axes: Axes, values: Floats, name: str, reach: float, skipped: int) -> None:
    """Draws values `[units, timesteps]`: gates from 0 to 1, the others from `−reach` to `reach`."""
    extent = (skipped + 0.5, skipped + values.shape[1] + 0.5, values.shape[0] - 0.5, -0.5)
    gate = name in GATES
    axes.spines[["left", "bottom"]].set_visible(False)
    colours = GATE_COLOURS if gate else STATE_COLOURS
    axes.imshow(values, aspect="auto", extent=extent, cmap=colours, vmin=0 if gate else -reach, vmax=reach)


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
    known = np.ma.masked_invalid(x)
    scaled = (x - known.mean(axis=0).filled(0.0)) / np.maximum(known.std(axis=0).filled(1.0), 1e-9)
    if len(names) <= MOST_LINES:
        for colour, name, values in zip(LINES, names, scaled.T, strict=False):
            axes.plot(_timesteps(trace), values, color=colour, linewidth=1.1, label=name)
        _say(axes, "inputs, each by its own scale")
        if last:
            _legend(axes)
        return
    _heat(axes, scaled.T, "inputs", 3.0, trace.skipped)
    few = len(names) <= MOST_NUMBERED
    axes.set_yticks(range(len(names)) if few else [], names if few else [])
    axes.tick_params(axis="y", labelsize="xx-small", length=0)
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


def _label_time(trace: Trace, axes: Axes, most: int) -> None:
    """Labels the lowest panel: by the characters of a short text, by dates where the model has a calendar, by numbers otherwise."""
    when, spec = _timesteps(trace), trace.spec
    axes.set_xlim(when[0] - 0.5, when[-1] + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(most, integer=True))
    axes.set_xlabel("timestep", fontsize="small")
    if spec.vocabulary and len(when) <= MOST_CHARACTERS:
        tokens = trace.arrays[spec.inputs[0].name].astype(np.int64).tolist()
        characters = [spec.vocabulary.decode([token]).replace(" ", "·").replace("\n", "¶").replace("$", r"\$") for token in tokens]
        axes.set_xticks(when, characters, fontsize="small", family="monospace")
        axes.set_xlabel("token (·: space, ¶: end of line)", fontsize="small")
    elif spec.calendar and spec.calendar.step_seconds:
        places, labels = _dates(trace.arrays[spec.calendar.input].astype(np.float64) * spec.calendar.step_seconds, most)
        axes.set_xticks(when[places], labels)
        axes.set_xlabel("time (UTC)", fontsize="small")


def _dates(seconds: Floats, most: int) -> tuple[list[int], list[str]]:
    """Returns which timesteps, given in Unix seconds, are labelled by their dates, and how: round ones, at most about `most`."""
    just_before = seconds[0] - 1e-3
    starts = {span: np.flatnonzero(np.diff(seconds // span, prepend=just_before // span)).tolist() for span in SPANS}
    span = next((span for span in SPANS if len(starts[span]) <= most), SPANS[-1])
    places = starts[span][:: max(1, len(starts[span]) // most)]
    stamps = [datetime.datetime.fromtimestamp(seconds[place] // span * span, datetime.UTC) for place in places]
    if span < DAY:
        return places, [f"{stamp:%H:%M}\n{stamp.day} {stamp:%b}" for stamp in stamps]
    return places, [f"{stamp.day} {stamp:%b}" if span < 28 * DAY else f"{stamp:%b %Y}" for stamp in stamps]


def _say(axes: Axes, what: str) -> None:
    axes.set_title(what.replace("$", r"\$"), fontsize="small", color=QUIET, loc="left")
    axes.margins(x=0)


def _legend(axes: Axes) -> None:
    legend = axes.legend(
        frameon=False, ncols=3, fontsize="x-small", loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.1, handlelength=1.2
    )
    for text in legend.get_texts():
        text.set_text(text.get_text().replace("$", r"\$"))
