"""The replies that sessions retain, so that a step sent again is answered again and not run again.

A session retains its last `W` replies in a ring. What identifies them (position, digest) is held for all sessions in columns
`[W, sessions]`. The outputs of one timestep, by far the most frequent reply, lie in columns of each model as well: memory that is
reserved but costs nothing before it is used, and one assignment for a whole batch. Longer replies are kept as they are, within a
budget of bytes; past it the oldest is forgotten, and its step, sent again, is called STALE.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from statewise.sessions.rows import Indices
from statewise.sessions.steps import NONE
from statewise.spec import TensorSpec

Array = NDArray[np.generic]


class Kept(NamedTuple):
    """A retained reply: of the step of so many timesteps that began at `start`; outputs `[timesteps, …]`."""

    start: int
    timesteps: int
    digest: int
    outputs: Mapping[str, Array]


@dataclass(frozen=True, slots=True, eq=False)
class Retained:
    """The replies of one session side by side, the oldest first; a place of each list for each.

    Attributes:
        lengths: of how many timesteps their outputs are: of all of the step's, or of its last one alone.
        outputs: one behind another, `[sum of lengths, …]` each.
    """

    starts: Sequence[int] = ()
    timesteps: Sequence[int] = ()
    digests: Sequence[int] = ()
    lengths: Sequence[int] = ()
    outputs: Mapping[str, Array] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.starts)

    def __iter__(self) -> Iterator[Kept]:
        offset = 0
        for start, timesteps, digest, length in zip(self.starts, self.timesteps, self.digests, self.lengths, strict=True):
            here = slice(offset, offset := offset + length)
            yield Kept(start, timesteps, digest, {name: array[here] for name, array in self.outputs.items()})

    @classmethod
    def of(cls, replies: Iterable[Kept]) -> Self:
        """Puts replies side by side."""
        each = list(replies)
        starts, timesteps, digests, outputs = ([*column] for column in zip(*each, strict=True)) if each else ([], [], [], [])
        lengths = [len(next(iter(arrays.values()), ())) for arrays in outputs]
        joined = {name: np.concatenate([arrays[name] for arrays in outputs]) for name in (outputs[0] if outputs else ())}
        return cls(starts, timesteps, digests, lengths, joined)


@dataclass(frozen=True, eq=False)
class Rings:
    """Copies of the rings of some sessions, `[places, sessions]` each, for whoever reads them while the sessions go on."""

    start: Indices
    timesteps: Indices
    digest: NDArray[np.uint64]
    columns: Mapping[str, Array]
    long: Mapping[tuple[int, int], Mapping[str, Array]]

    def of(self, place: int) -> Retained:
        """Returns the replies of one of the sessions."""
        empty, starts, timesteps, digests, columns = self._in_order
        first = empty[place]
        if first == len(self.start):
            return Retained()
        told = starts[place][first:], timesteps[place][first:], digests[place][first:]
        short = {name: column[place, first:] for name, column in columns.items()}
        if not self.long:
            return Retained(*told, [1] * len(told[0]), short)
        kept = []
        for seat, (ring, start, length, digest) in enumerate(zip(self._order[place, first:].tolist(), *told, strict=True)):
            outputs = self.long.get((ring, place)) or {name: array[seat : seat + 1] for name, array in short.items()}
            kept.append(Kept(start, length, digest, outputs))
        return Retained.of(kept)

    @functools.cached_property
    def _order(self) -> Indices:
        """The places of each session's ring, `[sessions, places]`: the empty ones first, then the oldest."""
        return self.start.T.argsort(kind="stable")

    @functools.cached_property
    def _in_order(self) -> tuple[list[int], list[list[int]], list[list[int]], list[list[int]], dict[str, Array]]:
        """How many places of each session are empty, and all columns in their order, `[sessions, places]`.

        What tells the replies are lists: to read NumPy's columns one by one would take ten times as long.
        """
        here = np.arange(self.start.shape[1])[:, None]
        starts, timesteps, digests = (column[self._order, here].tolist() for column in (self.start, self.timesteps, self.digest))
        columns = {name: column[self._order, here] for name, column in self.columns.items()}
        return (self.start == NONE).sum(axis=0).tolist(), starts, timesteps, digests, columns


class Replies:
    """The rings of all sessions. `Sessions` says when one begins and ends; the batcher brings the outputs."""

    def __init__(self, widest: int, sessions: int, budget_bytes: int) -> None:
        self.start = np.full((widest, sessions), NONE, np.int64)
        self.timesteps = np.zeros((widest, sessions), np.int64)
        self.digest = np.zeros((widest, sessions), np.uint64)
        self._shape = (widest, sessions)
        self._flat = [column.reshape(-1) for column in (self.start, self.timesteps, self.digest)]  # one index is quicker than two
        self._cursor = np.zeros(sessions, np.int64)
        self._models: dict[int, dict[str, Array]] = {}  # [widest · sessions, …] each
        self._long: OrderedDict[tuple[int, int], dict[str, Array]] = OrderedDict()
        self._long_bytes = 0
        self._budget_bytes = budget_bytes

    def reserve(self, model: int, outputs: Sequence[TensorSpec]) -> None:
        """Makes room for the replies of a model's sessions."""
        self._models[model] = {
            tensor.name: np.zeros((self._shape[0] * self._shape[1], *tensor.shape), tensor.dtype) for tensor in outputs
        }

    def release(self, model: int) -> None:
        """Gives a model's room back, when none of its sessions is left."""
        del self._models[model]

    def forget(self, session: int) -> None:
        """Empties a session's ring."""
        self.start[:, session] = NONE
        self._cursor[session] = 0
        for place in range(self._shape[0]):
            self._drop_long(place, session)

    def retain(
        self, sessions: Indices, starts: Indices, timesteps: Indices | int, digests: NDArray[np.uint64], widths: Indices
    ) -> Indices:
        """Enters steps that have just been committed, one a session, and returns the places of their replies in the rings."""
        places = self._cursor[sessions]
        following = places + 1
        following[following == widths] = 0
        self._cursor[sessions] = following
        seats = self._seats(places, sessions)
        for column, values in zip(self._flat, (starts, timesteps, digests), strict=True):
            column[seats] = values
        return places

    def store(self, model: int, sessions: Indices, places: Indices, outputs: Mapping[str, Array]) -> None:
        """Keeps outputs `[steps, timesteps, …]`, all of the same number of timesteps; those of sessions that have ended go."""
        if self._long:
            for place, session in zip(places.tolist(), sessions.tolist(), strict=True):
                self._drop_long(place, session)
        columns = self._models[model]
        if next(iter(outputs.values())).shape[1] == 1:
            for name, array in outputs.items():
                columns[name][self._seats(places, sessions)] = array[:, 0]
            return
        for row, key in enumerate(zip(places.tolist(), sessions.tolist(), strict=True)):
            if self.start[key] == NONE:  # closed while it ran, and forgotten since `retain`
                continue
            self._long[key] = {name: array[row].copy() for name, array in outputs.items()}
            self._long_bytes += _size(self._long[key])
        while self._long_bytes > self._budget_bytes:
            (place, session), forgotten = self._long.popitem(last=False)
            self._long_bytes -= _size(forgotten)
            self.start[place, session] = NONE

    def find(self, session: int, position: int) -> int:
        """Returns the place of the reply to the step that began at `position`, or `NONE`."""
        places = np.flatnonzero(self.start[:, session] == position)
        return int(places[0]) if len(places) else NONE

    def outputs(self, model: int, session: int, place: int) -> dict[str, Array]:
        """Returns a retained reply: `[timesteps, …]` each."""
        kept = self._long.get((place, session))
        if kept is not None:
            return kept
        seat = place * self._shape[1] + session
        return {name: column[seat][None].copy() for name, column in self._models[model].items()}

    def _seats(self, places: Indices, sessions: Indices) -> Indices:
        """Returns where in the flat columns the places of sessions' rings are."""
        return places * self._shape[1] + sessions

    def rings(self, model: int, sessions: Indices, widest: int) -> Rings:
        """Returns copies of the rings, of up to `widest` places, of sessions of a model."""
        long = {}
        if self._long:
            for place, session in enumerate(sessions.tolist()):
                for ring in range(widest):
                    if (ring, session) in self._long:
                        long[ring, place] = self._long[ring, session]
        seats = self._seats(np.arange(widest)[:, None], sessions)
        columns = {name: column[seats] for name, column in self._models[model].items()}
        starts, timesteps, digests = (
            self.start[:widest, sessions],
            self.timesteps[:widest, sessions],
            self.digest[:widest, sessions],
        )
        return Rings(starts, timesteps, digests, columns, long)

    def _drop_long(self, place: int, session: int) -> None:
        dropped = self._long.pop((place, session), None)
        if dropped:
            self._long_bytes -= _size(dropped)


def _size(outputs: Mapping[str, Array]) -> int:
    return sum(array.nbytes for array in outputs.values())
