"""An asker that writes down what it is told, for tests that talk to a host without a transport."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from statewise.conversation import Answer, Indices
from statewise.errors import StatewiseError


class Told(NamedTuple):
    """One answer: what was asked for, the outputs `[timesteps, …]` of `total` or `None`, where the session stands, and why not."""

    tag: object
    row: int
    position: int
    total: np.ndarray | None
    problem: StatewiseError | None
    retiring: bool = False


@dataclass(eq=False)
class Listener:
    """An `Asker`; `heard` is in the order of the answers, of all listeners that share a list."""

    heard: list[Told] = field(default_factory=list)

    def answer(self, tag: object, answer: Answer, rows: Indices | None) -> None:
        """Notes the rows of a frame."""
        for place, row in enumerate(range(len(answer.positions)) if rows is None else rows.tolist()):
            self._note(tag, row, answer, place)

    def answer_one(self, tag: object, answer: Answer, row: int) -> None:
        """Notes a single step."""
        self._note(tag, 0, answer, row)

    def refuse(self, tag: object, row: int, position: int, problem: StatewiseError) -> None:
        """Notes why not."""
        self.heard.append(Told(tag, row, position, None, problem))

    def _note(self, tag: object, row: int, answer: Answer, place: int) -> None:
        total = next(iter(answer.outputs.values()))[place].copy()
        self.heard.append(Told(tag, row, int(answer.positions[place]), total, None, answer.retiring))
