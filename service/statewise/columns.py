"""Columns: steps of distinct sessions of one model and one length, side by side, on their way through the server.

A frame is a column from the beginning; single steps that arrive together are gathered into columns, so both take the same road. A
run takes its batch out of one column or several, and what it returns is put back into them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from statewise.conversation import Answer, Asker
from statewise.engine import Batch
from statewise.errors import StatewiseError
from statewise.models import Served
from statewise.spec import ModelSpec

Array = NDArray[np.generic]
Indices = NDArray[np.int64]
T = TypeVar("T", bound=np.generic)


class Frames:
    """The one asker of a frame. `rows[place]` is the row of the frame that became a place of the column; `None` if all did."""

    def __init__(self, asker: Asker, tag: object, rows: Indices | None) -> None:
        self.askers: tuple[Asker, ...] = (asker,)
        self._asker: Asker | None = asker
        self._tag = tag
        self._rows = rows

    def answer(self, places: Indices | None, answer: Answer) -> None:
        """Answers places of the column, all of them if `None`, with one message."""
        if self._asker:
            rows = places if self._rows is None else self._rows if places is None else self._rows[places]
            self._asker.answer(self._tag, answer, rows)

    def answer_one(self, place: int, answer: Answer, row: int) -> None:
        """Answers one place with a row of an answer."""
        here = slice(row, row + 1)
        outputs = {name: array[here] for name, array in answer.outputs.items()}
        durable = None if answer.durable is None else answer.durable[here]
        self.answer(np.array([place]), Answer(answer.positions[here], outputs, answer.retiring, durable))

    def only(self, places: Indices) -> Frames:
        """Returns the audience of some of the places."""
        return Frames(self.askers[0], self._tag, places if self._rows is None else self._rows[places])

    def refuse(self, place: int, position: int, problem: StatewiseError) -> None:
        """Refuses one row."""
        if self._asker:
            self._asker.refuse(self._tag, place if self._rows is None else int(self._rows[place]), position, problem)

    def waits(self, _: int) -> bool:
        """Whether anybody is there to be answered."""
        return self._asker is not None

    def by_client(self, _: Indices, steps: Indices) -> Iterable[tuple[object, Indices]]:
        """Returns steps by whose turn they count: all are the stream's."""
        return ((self.askers[0], steps),)

    def forget(self, _: Asker) -> Indices | None:
        """Answers no more; returns the places that nobody of this column waits for any longer, `None` for all."""
        self._asker = None
        return None


class Singles:
    """The askers of single steps that were gathered."""

    def __init__(self, seats: Sequence[tuple[Asker, object]]) -> None:
        self.askers = tuple({asker: None for asker, _ in seats})
        self._seats: list[tuple[Asker, object] | None] = list(seats)

    def answer(self, places: Indices | None, answer: Answer) -> None:
        """Answers each step with a message of its own."""
        seats = self._seats if places is None else [self._seats[place] for place in places.tolist()]
        for row, seat in enumerate(seats):
            if seat:
                seat[0].answer_one(seat[1], answer, row)

    def answer_one(self, place: int, answer: Answer, row: int) -> None:
        """Answers one place with a row of an answer."""
        seat = self._seats[place]
        if seat:
            seat[0].answer_one(seat[1], answer, row)

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

    def by_client(self, places: Indices, steps: Indices) -> Iterable[tuple[object, Indices]]:
        """Returns steps, which are at these places, by whose turn they count: each is its stream's."""
        if len(self.askers) == 1:
            return ((self.askers[0], steps),)
        theirs: dict[object, list[int]] = {}
        for place, step in zip(places.tolist(), steps.tolist(), strict=True):
            seat = self._seats[place]
            theirs.setdefault(seat and seat[0], []).append(step)
        return ((client, np.array(each, np.int64)) for client, each in theirs.items())

    def forget(self, gone: Asker) -> Indices | None:
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
        deadlines: `[steps]`, seconds of the steady clock, infinity for none; `None` if none has one.
        audience: who is answered.
        steps: `[steps]`, the numbers of those that were admitted and are not settled, else `NONE`.
        left: how many those are.
        outputs: `[steps, timesteps, …]`, filled cut by cut where the steps are cut.
        ends: whether they are their sessions' last.
        number: by which `Pending` knows it, once any of its steps is admitted.
        bytes: what its inputs take; they are held until its last step is settled.
    """

    model: Served
    sessions: Indices
    handles: NDArray[np.uint64]
    positions: Indices
    inputs: Mapping[str, Array]
    timesteps: int
    last_only: bool
    arrived: float
    deadlines: NDArray[np.float64] | None
    audience: Frames | Singles
    steps: Indices = field(default_factory=lambda: np.empty(0, np.int64))
    left: int = 0
    outputs: dict[str, Array] = field(default_factory=dict)
    ends: bool = False
    number: int = 0
    bytes: int = field(init=False)

    def __post_init__(self) -> None:
        self.bytes = sum(array.nbytes for array in self.inputs.values())

    def only(self, places: Indices) -> Column:
        """Returns a column of some of its steps; before any is admitted."""
        return replace(
            self,
            sessions=self.sessions[places],
            handles=self.handles[places],
            positions=self.positions[places],
            inputs={name: array[places] for name, array in self.inputs.items()},
            deadlines=None if self.deadlines is None else self.deadlines[places],
            audience=self.audience.only(places),
        )

    def keep(self, places: Indices | None, offset: int, outputs: Mapping[str, Array]) -> None:
        """Puts the outputs `[places, timesteps, …]` of a cut where they belong."""
        length = next(iter(outputs.values())).shape[1]
        for name, array in outputs.items():
            if name not in self.outputs:
                self.outputs[name] = np.empty((len(self.sessions), self.timesteps, *array.shape[2:]), array.dtype)
            here = slice(None) if places is None else places
            self.outputs[name][here, offset : offset + length] = array


@dataclass(frozen=True, slots=True)
class Part:
    """Steps of a batch that come from one column, at the same timestep of it.

    Attributes:
        seats: their places in the batch; `None` if they are the batch.
        places: their places in the column; `None` if they are the column, in its order.
        offset: the timesteps of them that have run.
        length: the timesteps that this run takes.
    """

    column: Column
    seats: Indices | None
    places: Indices | None
    offset: int
    length: int

    @property
    def ends(self) -> bool:
        """Whether this run ends their sessions' last step."""
        return self.column.ends and self.offset + self.length == self.column.timesteps

    def seated(self, of_batch: NDArray[T]) -> NDArray[T]:
        """Returns what belongs to these steps of something of the batch, `[batch]`."""
        return of_batch if self.seats is None else of_batch[self.seats]

    def placed(self, of_column: NDArray[T]) -> NDArray[T]:
        """Returns what belongs to these steps of something of the column, `[steps, …]`."""
        return of_column if self.places is None else of_column[self.places]

    def only(self, well: NDArray[np.bool_]) -> Part:
        """Returns some of these steps; `well` is `[batch]`."""
        seats = np.flatnonzero(well) if self.seats is None else self.seats[well[self.seats]]
        places = np.arange(len(self.column.sessions)) if self.places is None else self.places
        return replace(self, seats=seats, places=places[self.seated(well)])


def batch_of(spec: ModelSpec, parts: Sequence[Part], source: Indices, target: Indices) -> Batch:
    """Returns the batch of parts of unlike length: `[longest, steps, …]`, padded with zeros."""
    if len(parts) == 1:
        lengths = np.empty(len(source), np.int32)
        lengths.fill(parts[0].length)
        return Batch({tensor.name: _slice(parts[0], tensor.name) for tensor in spec.inputs}, lengths, source, target)
    longest = max(part.length for part in parts)
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
    return part.placed(array[:, part.offset : part.offset + part.length]).swapaxes(0, 1)
