"""Columns: steps of distinct sessions of one model and one length, side by side, on their way through the server.

A frame is a column from the beginning; single steps that arrive together are gathered into columns, so both take the same road. A
run takes its batch out of one column or several, and what it returns is put back into them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from statewise.conversation import Answer, Asker, Step
from statewise.engine import Batch
from statewise.errors import StatewiseError
from statewise.models import Served
from statewise.sessions import NONE
from statewise.spec import ModelSpec

Array = NDArray[np.generic]
Indices = NDArray[np.int64]


class Frames:
    """The one asker of a frame. `rows[place]` is the row of the frame that became a place of the column."""

    def __init__(self, asker: Asker, tag: object, rows: Indices, *, whole: bool) -> None:
        self.askers: tuple[Asker, ...] = (asker,)
        self._asker: Asker | None = asker
        self._tag = tag
        self._rows = rows
        self._whole = whole

    def answer(self, places: Indices, positions: Indices, outputs: Mapping[str, Array], *, retiring: bool) -> None:
        """Answers rows of the frame with one message."""
        if self._asker:
            rows = None if self._whole and len(places) == len(self._rows) and _ascending(places) else self._rows[places]
            self._asker.answer(self._tag, Answer(rows, positions, outputs, retiring))

    def only(self, places: Indices) -> Frames:
        """Returns the audience of some of the rows."""
        asker = self.askers[0]
        return Frames(asker, self._tag, self._rows[places], whole=False)

    def refuse(self, place: int, position: int, problem: StatewiseError) -> None:
        """Refuses one row."""
        if self._asker:
            self._asker.refuse(self._tag, int(self._rows[place]), position, problem)

    def waits(self, _: int) -> bool:
        """Whether anybody is there to be answered."""
        return self._asker is not None

    def forget(self, _: Asker) -> Indices:
        """Answers no more; returns the places that nobody of this column waits for any longer."""
        self._asker = None
        return np.arange(len(self._rows))


class Singles:
    """The askers of single steps that were gathered."""

    def __init__(self, seats: Sequence[tuple[Asker, object]]) -> None:
        self.askers = tuple({asker: None for asker, _ in seats})
        self._seats: list[tuple[Asker, object] | None] = list(seats)

    def answer(self, places: Indices, positions: Indices, outputs: Mapping[str, Array], *, retiring: bool) -> None:
        """Answers each step with a message of its own."""
        for number, place in enumerate(places.tolist()):
            seat = self._seats[place]
            if seat:
                asker, tag = seat
                here = slice(number, number + 1)
                asker.answer(tag, Answer(None, positions[here], {name: array[here] for name, array in outputs.items()}, retiring))

    def only(self, places: Indices) -> Singles:
        """Returns the audience of some of the steps."""
        seats = [self._seats[place] for place in places.tolist()]
        return Singles([seat for seat in seats if seat])

    def refuse(self, place: int, position: int, problem: StatewiseError) -> None:
        """Refuses one step."""
        seat = self._seats[place]
        if seat:
            asker, tag = seat
            asker.refuse(tag, 0, position, problem)

    def waits(self, place: int) -> bool:
        """Whether anybody is there to be answered."""
        return self._seats[place] is not None

    def forget(self, gone: Asker) -> Indices:
        """Answers `gone` no more; returns its places."""
        places = [place for place, seat in enumerate(self._seats) if seat and seat[0] is gone]
        for place in places:
            self._seats[place] = None
        return np.array(places, np.int64)


@dataclass(slots=True, eq=False)
class Column:
    """Steps side by side.

    Attributes:
        sessions: `[steps]`.
        handles: `[steps]`, of these sessions.
        positions: `[steps]`, as told, or `NONE`.
        inputs: `[steps, timesteps, …]` each.
        deadlines: `[steps]`, seconds of the steady clock; infinity for none.
        timed: whether any of them is not.
        audience: who is answered.
        steps: `[steps]`, the numbers of those that were admitted and are not settled, else `NONE`.
        outputs: `[steps, timesteps, …]`, filled cut by cut where the steps are cut.
    """

    model: Served
    sessions: Indices
    handles: NDArray[np.uint64]
    positions: Indices
    inputs: Mapping[str, Array]
    timesteps: int
    last_only: bool
    arrived: float
    deadlines: NDArray[np.float64]
    timed: bool
    audience: Frames | Singles
    steps: Indices = field(default_factory=lambda: np.empty(0, np.int64))
    outputs: dict[str, Array] = field(default_factory=dict)

    @property
    def client(self) -> object:
        """Whose turn the scheduler counts: a frame is its stream's, single steps of all streams share a turn."""
        return self.audience.askers[0] if isinstance(self.audience, Frames) else Singles

    def only(self, places: Indices) -> Column:
        """Returns a column of some of its steps; before any is admitted."""
        return replace(
            self,
            sessions=self.sessions[places],
            handles=self.handles[places],
            positions=self.positions[places],
            inputs={name: array[places] for name, array in self.inputs.items()},
            deadlines=self.deadlines[places],
            audience=self.audience.only(places),
        )

    def keep(self, places: Indices, offset: int, outputs: Mapping[str, Array]) -> None:
        """Puts the outputs `[timesteps, places, …]` of a cut where they belong."""
        length = len(next(iter(outputs.values())))
        for name, array in outputs.items():
            if name not in self.outputs:
                self.outputs[name] = np.empty((len(self.sessions), self.timesteps, *array.shape[2:]), array.dtype)
            self.outputs[name][places, offset : offset + length] = array.swapaxes(0, 1)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A single step that has been read and not yet admitted."""

    session: int
    handle: int
    model: Served
    timesteps: int
    step: Step
    asker: Asker
    tag: object


def gathered(arrivals: Sequence[Arrival], now: float) -> list[Column]:
    """Returns columns that hold the steps; those of one session are in different columns, in the order of arrival."""
    rounds: dict[int, int] = {}
    groups: dict[tuple[int, int, int, bool], list[Arrival]] = {}
    for arrival in arrivals:
        turn = rounds.get(arrival.session, 0)
        rounds[arrival.session] = turn + 1
        groups.setdefault((turn, arrival.model.number, arrival.timesteps, arrival.step.last_only), []).append(arrival)
    return [_column(groups[key], now) for key in sorted(groups)]


def _column(arrivals: Sequence[Arrival], now: float) -> Column:
    first = arrivals[0]
    steps = [arrival.step for arrival in arrivals]
    inputs = {}
    for name, array in first.step.inputs.items():
        inputs[name] = array[None] if len(steps) == 1 else np.stack([step.inputs[name] for step in steps])
    return Column(
        first.model,
        np.array([arrival.session for arrival in arrivals], np.int64),
        np.array([arrival.handle for arrival in arrivals], np.uint64),
        np.array([NONE if step.position is None else step.position for step in steps], np.int64),
        inputs,
        first.timesteps,
        first.step.last_only,
        now,
        np.array([np.inf if step.timeout_seconds is None else now + step.timeout_seconds for step in steps]),
        any(step.timeout_seconds is not None for step in steps),
        Singles([(arrival.asker, arrival.tag) for arrival in arrivals]),
    )


@dataclass(frozen=True, slots=True)
class Part:
    """Steps of a batch that come from one column, at the same timestep of it.

    Attributes:
        seats: their places in the batch.
        places: their places in the column.
        offset: the timesteps of them that have run.
        length: the timesteps that this run takes.
    """

    column: Column
    seats: Indices
    places: Indices
    offset: int
    length: int


def batch_of(spec: ModelSpec, parts: Sequence[Part], source: Indices, target: Indices) -> Batch:
    """Returns the batch of parts of unlike length: `[longest, steps, …]`, padded with zeros."""
    longest = max(part.length for part in parts)
    if len(parts) == 1:
        lengths = np.full(len(source), longest, np.int32)
        return Batch({tensor.name: _slice(parts[0], tensor.name) for tensor in spec.inputs}, lengths, source, target)
    lengths = np.empty(len(source), np.int32)
    inputs: dict[str, Array] = {}
    for tensor in spec.inputs:
        inputs[tensor.name] = np.zeros((longest, len(source), *tensor.shape), tensor.dtype)
        for part in parts:
            inputs[tensor.name][: part.length, part.seats] = _slice(part, tensor.name)
    for part in parts:
        lengths[part.seats] = part.length
    return Batch(inputs, lengths, source, target)


def _slice(part: Part, name: str) -> Array:
    """Returns an input of a part, `[length, places, …]`."""
    array = part.column.inputs[name]
    timed = array[:, part.offset : part.offset + part.length]
    whole = len(part.places) == len(array) and _ascending(part.places)
    return (timed if whole else timed[part.places]).swapaxes(0, 1)


def _ascending(places: Indices) -> bool:
    return len(places) < 2 or bool((places[1:] > places[:-1]).all())
