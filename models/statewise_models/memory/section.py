"""The part of a version's report that tells how far back its gradient reaches, on data that it did not learn from.

It must not hold up an export: it looks at some windows of the last timesteps of some series; fewer, and less far back, the larger
the network is.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from statewise_models.data.labelled import Labelled
from statewise_models.data.policy import InvalidData
from statewise_models.data.text import Text
from statewise_models.memory.gradients import GONE, gone, shares
from statewise_models.memory.picture import reach
from statewise_models.memory.windows import Data, norms_in
from statewise_models.report.page import Section
from statewise_models.training import Trained

LEAST_BACK, BACK = 20, 100
SERIES, SPAN = 8, 4  # a series' last timesteps: so many times as many as it looks back
FEWEST_WINDOWS, MOST_WINDOWS = 4, 32
WORK = 5e9  # floating-point operations: some seconds of a core, since few are done at a time
WORK_A_WEIGHT = 6  # a product and a sum forwards, twice that backwards
WIDTH = 5.6  # inches, as the report's other pictures

STATES = {"hidden": "hidden state", "cell_state": "cell state", "output": "output that was fed back"}

T = TypeVar("T")


def section(trained: Trained) -> tuple[Section, ...]:
    """Returns the section, or none where the data held back are too short to look back on."""
    timesteps = WORK / (WORK_A_WEIGHT * trained.parameters)  # of all windows together
    back = int(np.clip(timesteps / FEWEST_WINDOWS, LEAST_BACK, BACK))
    data = _bounded(trained.held_back, SPAN * back)
    back = _fitting(back, data)
    windows = int(np.clip(timesteps / back, FEWEST_WINDOWS, MOST_WINDOWS))
    try:
        norms = norms_in(trained.network, data, back, windows)
    except InvalidData:  # no window whose targets are known
        return ()
    left = {kind: shares(norm) for kind, norm in norms.items()}
    if len(next(iter(left.values()))) < 2 or not all(np.isfinite(each).all() for each in left.values()):
        return ()
    seen = next(iter(norms.values())).shape[1]
    note = f"{_told(*next(iter(left.items())))} (median over {seen} windows of the {trained.reported} part){_cut(trained)}."
    return (Section("How far back it looks", note, (("reach", reach(left, WIDTH)),)),)


def _told(kind: str, left: Any) -> str:
    state = STATES[kind]
    if (under := gone(left)) is not None:
        return f"The gradient of the loss by the {state} falls below {GONE:.0%} of its first value {under} timesteps back"
    return f"Of the gradient of the loss by the {state}, {left[-1]:.0%} is left {len(left)} timesteps back"


def _cut(trained: Trained) -> str:
    """Returns a reminder of how far gradients went while it learned."""
    if trained.network.config.task == "classify":
        return ""
    return f"; while it learned, gradients were cut at windows of {trained.settings.window}"


def _bounded(data: Data, timesteps: int) -> Data:
    """Returns the last timesteps of some series, which are spread evenly over all."""
    if isinstance(data, Text):
        return replace(data, tokens=data.tokens[-timesteps:])
    if isinstance(data, Labelled):
        chosen = _some(data.sequences, MOST_WINDOWS)
        return replace(data, sequences=tuple(replace(one, x=one.x[-timesteps:], time=one.time[-timesteps:]) for one in chosen))
    return replace(data, series=tuple(one.part(slice(-timesteps, None)) for one in _some(data.series, SERIES)))


def _some(things: tuple[T, ...], most: int) -> tuple[T, ...]:
    return tuple(things[int(place)] for place in np.linspace(0, len(things) - 1, min(most, len(things))))


def _fitting(back: int, data: Data) -> int:
    """Returns how far to look: not so far that a series would have few windows; sequences are looked at whole."""
    if isinstance(data, Labelled):
        return back
    longest = len(data) if isinstance(data, Text) else max(map(len, data.series))
    return max(1, min(back, longest // 2))
