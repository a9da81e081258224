"""The columns whose steps are admitted and not settled: where each step is to be found, and who waits for it.

A step is waited for by its column's audience, and by those of columns that asked for it again.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from statewise.columns import Column, Part
from statewise.conversation import Asker
from statewise.masks import every, same
from statewise.rosters import counting
from statewise.sessions import NONE
from statewise.sessions.steps import Steps

Indices = NDArray[np.int64]
Seat = tuple[Column, int]
"""A column and a place in it."""


class Pending:
    """The columns by number. The event loop alone changes them.

    Attributes:
        bytes: what the inputs of all of them take.
    """

    def __init__(self, steps: Steps) -> None:
        self.bytes = 0
        self._steps = steps
        self._columns: dict[int, Column] = {}
        self._number = 0
        self._column_of = np.zeros(len(steps.session), np.int64)
        self._place_of = np.zeros(len(steps.session), np.int64)
        self._joined: dict[int, list[Seat]] = {}
        self._columns_of: dict[Asker, set[int]] = {}

    def __repr__(self) -> str:
        return f"<Pending {len(self._columns)} columns, {self.bytes:,} bytes>"

    def take_in(self, column: Column) -> None:
        """Notes where the new steps of a column are to be found."""
        places = counting(len(column.steps))
        steps = column.steps
        if column.left < len(steps):
            places = np.flatnonzero(steps != NONE)
            steps = steps[places]
        self._number += 1
        column.number = self._number
        self._columns[column.number] = column
        self.bytes += column.bytes
        self._column_of[steps] = column.number
        self._place_of[steps] = places
        for asker in column.audience.askers:
            self._columns_of.setdefault(asker, set()).add(column.number)

    def let_go(self, column: Column, settled: int) -> None:
        """Counts steps of a column that are settled, and forgets it with the last."""
        column.left -= settled
        if not column.left:
            del self._columns[column.number]
            self.bytes -= column.bytes
            for asker in column.audience.askers:
                theirs = self._columns_of.get(asker)
                if theirs is not None:
                    theirs.discard(column.number)

    def join(self, step: int, column: Column, place: int) -> None:
        """Has a place of another column wait for a step, which then waits as long as any of those who ask for it would."""
        self._joined.setdefault(step, []).append((column, place))
        first, seat = self.seat(step)
        if first.deadlines is not None:
            until = np.inf if column.deadlines is None else float(column.deadlines[place])
            first.deadlines[seat] = max(first.deadlines[seat], until)

    def others(self, step: int) -> Sequence[Seat]:
        """Returns who joined a step, and forgets them."""
        return self._joined.pop(step, ())

    @property
    def any_joined(self) -> bool:
        """Whether anybody has joined any step."""
        return bool(self._joined)

    def seat(self, step: int) -> Seat:
        """Returns where a step is."""
        return self._columns[int(self._column_of[step])], int(self._place_of[step])

    def places(self, steps: Indices) -> Indices:
        """Returns the places of steps of one column."""
        places: Indices = self._place_of[steps]
        return places

    def holds(self, step: int) -> bool:
        """Whether a step has not been settled."""
        column = self._columns.get(int(self._column_of[step]))
        return column is not None and bool(column.steps[self._place_of[step]] == step)

    def parts(self, steps: Indices) -> list[Part]:
        """Returns the steps by column, and within it by the timesteps that have run."""
        numbers, done = self._column_of[steps], self._steps.done[steps]
        places: Indices | None = self._place_of[steps]
        assert places is not None
        if len(steps) == 1 or (every(numbers == numbers[0]) and every(done == done[0])):
            column = self._columns[int(numbers[0])]
            if len(steps) == len(column.steps) and (len(steps) == 1 or same(places, counting(len(steps)))):
                places = None
            return [_part(column, None, places, int(done[0]))]
        parts = []
        for number, offset in dict.fromkeys(zip(numbers.tolist(), done.tolist(), strict=True)):
            seats = np.flatnonzero((numbers == number) & (done == offset))
            parts.append(_part(self._columns[number], seats, places[seats], offset))
        return parts

    def forget(self, asker: Asker) -> list[int]:
        """Answers `asker` no more; returns the steps for which it waited, each as often as it did."""
        left: list[int] = []
        for number in self._columns_of.pop(asker, set()):
            column = self._columns[number]
            places = column.audience.forget(asker)
            steps = column.steps if places is None else column.steps[places]
            left += steps[steps != NONE].tolist()
        for step, seats in self._joined.items():
            for column, place in [seat for seat in seats if asker in seat[0].audience.askers]:
                column.audience.forget(asker)
                if not column.audience.waits(place):
                    seats.remove((column, place))
                    left.append(step)
        return left


def _part(column: Column, seats: Indices | None, places: Indices | None, offset: int) -> Part:
    return Part(column, seats, places, offset, min(column.timesteps - offset, column.model.bounds.timesteps))
