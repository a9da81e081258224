"""What the transport asks of the server's heart, and how it is told: plain values that know no wire format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from statewise.errors import StatewiseError

Array = NDArray[np.generic]
Indices = NDArray[np.int64]


class Step(NamedTuple):
    """What a client asks: the next timesteps of one session, each input `[timesteps, …]`.

    `ends` says that it is the last of the session, to a model that has an input for that. It ends nothing by itself.
    """

    session_id: str
    inputs: Mapping[str, Array]
    position: int | None = None
    timeout_seconds: float | None = None
    last_only: bool = False
    ends: bool = False


@dataclass(frozen=True, slots=True)
class Frame:
    """The next timesteps of many sessions: handles `[rows]`, each input `[rows, timesteps, …]`, positions `[rows]` or `None`."""

    handles: NDArray[np.uint64]
    inputs: Mapping[str, Array]
    positions: Indices | None = None
    timeout_seconds: float | None = None
    last_only: bool = False


@dataclass(slots=True, eq=False)
class Answer:
    """Steps that ran, side by side.

    Attributes:
        positions: `[steps]`, the positions after the step.
        outputs: `[steps, timesteps, …]` each.
        retiring: whether the model version leaves memory with its last session.
        durable: `[steps]`, up to which position the store holds each session; `None` where no session is durable.
    """

    positions: Indices
    outputs: Mapping[str, Array]
    retiring: bool = False
    durable: Indices | None = None
    _rows: list[tuple[int, dict[str, bytes]]] | None = field(default=None, init=False, repr=False)

    @property
    def rows(self) -> list[tuple[int, dict[str, bytes]]]:
        """Position and outputs of each step by itself, in row-major little-endian bytes, made once for all of them."""
        if self._rows is None:
            cut = [[(name, raw) for raw in _rows(array)] for name, array in self.outputs.items()]
            self._rows = [(position, dict(each)) for position, *each in zip(self.positions.tolist(), *cut, strict=True)]
        return self._rows


class Asker(Protocol):
    """Who asks and is answered: one stream of a client. It is told on the event loop, and must not wait there."""

    def answer(self, tag: object, answer: Answer, rows: Indices | None) -> None:
        """Takes the outcome of rows of a frame: their numbers in it, or `None` for all of them, in order."""
        ...

    def answer_one(self, tag: object, answer: Answer, row: int) -> None:
        """Takes the outcome of a single step, which is a row of the answer."""
        ...

    def refuse(self, tag: object, row: int, position: int, problem: StatewiseError) -> None:
        """Takes why a step, or a row of a frame, failed, and where its session stands."""
        ...


def _rows(array: Array) -> list[bytes]:
    raw = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    size = len(raw) // len(array)
    return [raw[start : start + size] for start in range(0, len(raw), size)]
