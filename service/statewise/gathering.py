"""Single steps → columns: those that have arrived together and are alike in model, length and what is asked of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from statewise.columns import Column, Singles
from statewise.conversation import Asker, Step
from statewise.models import Served
from statewise.sessions import NONE


class Arrival(NamedTuple):
    """A single step that has been read and not yet admitted."""

    session: int
    handle: int
    model: Served
    timesteps: int
    step: Step
    asker: Asker
    tag: object


def in_columns(arrivals: Iterable[Arrival | Column], now: float) -> list[Column]:
    """Returns what has arrived as columns, in that order: the single steps between two frames are gathered."""
    columns: list[Column] = []
    singles: list[Arrival] = []
    for arrival in arrivals:
        if isinstance(arrival, Arrival):
            singles.append(arrival)
            continue
        columns += _gathered(singles, now)
        columns.append(arrival)
        singles = []
    return columns + _gathered(singles, now)


def _gathered(arrivals: Sequence[Arrival], now: float) -> list[Column]:
    """Returns columns that hold the steps; those of one session are in different columns, in the order of arrival."""
    rounds: dict[int, int] = {}
    groups: dict[tuple[int, int, int, bool, bool], list[Arrival]] = {}
    for arrival in arrivals:
        turn = rounds.get(arrival.session, 0)
        rounds[arrival.session] = turn + 1
        step = arrival.step
        groups.setdefault((turn, arrival.model.number, arrival.timesteps, step.last_only, step.ends), []).append(arrival)
    return [_column(groups[key], now) for key in sorted(groups)]


def _column(arrivals: Sequence[Arrival], now: float) -> Column:
    first = arrivals[0]
    steps = [arrival.step for arrival in arrivals]
    inputs = {}
    for name, array in first.step.inputs.items():
        inputs[name] = array[None]
        if len(steps) > 1:
            inputs[name] = np.concatenate([step.inputs[name] for step in steps]).reshape(len(steps), *array.shape)
    return Column(
        first.model,
        np.array([arrival.session for arrival in arrivals], np.int64),
        np.array([arrival.handle for arrival in arrivals], np.uint64),
        np.array([NONE if step.position is None else step.position for step in steps], np.int64),
        inputs,
        first.timesteps,
        first.step.last_only,
        now,
        _deadlines(steps, now),
        Singles([(arrival.asker, arrival.tag) for arrival in arrivals]),
        ends=first.step.ends,
    )


def _deadlines(steps: Sequence[Step], now: float) -> NDArray[np.float64] | None:
    if all(step.timeout_seconds is None for step in steps):
        return None
    return np.array([np.inf if step.timeout_seconds is None else now + step.timeout_seconds for step in steps])
