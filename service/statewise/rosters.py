"""The sessions of frames: looked up by their handles, and held to what a frame may hold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from statewise.errors import Reason, StatewiseError, error
from statewise.masks import every, some
from statewise.models import Models, Served
from statewise.sessions import NONE, Sessions

Indices = NDArray[np.int64]
_COUNTING = np.arange(4_096)
KEPT = 64
"""How many frames' sessions are kept, so that the next frame of the same ones need not look them up."""


@dataclass(frozen=True, slots=True, eq=False)
class Roster:
    """The sessions of a frame.

    Attributes:
        sessions: `[rows]`, `NONE` where there is none.
        model: of the first of them; `None` if there is not one.
        whole: whether all are there, each once, and all of that model version.
    """

    sessions: Indices
    model: Served | None
    whole: bool


class Rosters:
    """The rosters of frames. A client's next frame mostly holds the sessions of its last one, and is then not looked up again."""

    def __init__(self, sessions: Sessions, models: Models) -> None:
        self._sessions = sessions
        self._directory = sessions.directory
        self._models = models
        self._kept: dict[bytes, Roster] = {}
        self._endings = 0  # of sessions, when the first of these was looked up
        self._row_of = np.zeros(sessions.capacity, np.int64)

    def of(self, handles: NDArray[np.uint64]) -> Roster:
        """Returns the sessions of a frame."""
        if self._endings != self._directory.endings or len(self._kept) > KEPT:
            self._kept.clear()
            self._endings = self._directory.endings
        key = handles.tobytes()
        roster = self._kept.get(key)
        if roster:
            return roster
        sessions = self._directory.find_handles(handles)
        first = int(sessions[0] if sessions[0] != NONE else sessions.max())
        model = None if first == NONE else self._models[int(self._sessions.model[first])]
        roster = Roster(sessions, model, model is not None and self._at_one(sessions, model))
        if roster.whole:
            self._kept[key] = roster
        return roster

    def strangers(self, handles: NDArray[np.uint64], sessions: Indices) -> dict[int, StatewiseError]:
        """Returns the rows of a frame that have no session, are there twice, or are of another model than the first."""
        known = sessions != NONE
        refused = {row: self._directory.why_not(int(handles[row])) for row in np.flatnonzero(~known).tolist()}
        numbers = self._sessions.model[sessions]
        first = int(numbers[known.argmax()])
        for row in np.flatnonzero(known & (numbers != first)).tolist():
            model = self._models[first]
            message = f"handles: row {row} is of another model version than {model.name}@{model.version}; a frame holds one"
            refused[row] = error(Reason.BAD_FIELD, message, field="handles")
        values, counts = np.unique(sessions[known], return_counts=True)
        for row in np.flatnonzero(np.isin(sessions, values[counts > 1])).tolist():
            message = f"handles: the session of row {row} is in the frame more than once"
            refused[row] = error(Reason.BAD_FIELD, message, field="handles")
        return refused

    def _at_one(self, sessions: Indices, model: Served) -> bool:
        """Whether all sessions are there, are of one model version, and are not there twice."""
        if len(sessions) == 1:
            return bool(sessions[0] != NONE)
        self._row_of[sessions] = counting(len(sessions))
        alone = self._row_of[sessions] == counting(len(sessions))
        there = not some(sessions == NONE)
        return there and every(alone) and every(self._sessions.model[sessions] == model.number)


def counting(count: int) -> Indices:
    """Returns 0, 1, … without making them anew, unless they are very many."""
    return _COUNTING[:count] if count <= len(_COUNTING) else np.arange(count)
