"""What the transport asks of the server's heart, and how it is told: plain values that know no wire format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from statewise.errors import StatewiseError

Array = NDArray[np.generic]
Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Step:
    """What a client asks: the next timesteps of one session, each input `[timesteps, …]`."""

    session_id: str
    inputs: Mapping[str, Array]
    position: int | None = None
    timeout_seconds: float | None = None
    last_only: bool = False


@dataclass(frozen=True, slots=True)
class Frame:
    """The next timesteps of many sessions: handles `[rows]`, each input `[rows, timesteps, …]`, positions `[rows]` or `None`."""

    handles: NDArray[np.uint64]
    inputs: Mapping[str, Array]
    positions: Indices | None = None
    timeout_seconds: float | None = None
    last_only: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """Rows of a frame that ran, or a single step as one row.

    Attributes:
        rows: their numbers in the frame; `None` for all of them, in order.
        positions: `[rows]`, the positions after the step.
        outputs: `[rows, timesteps, …]` each.
        retiring: whether the model version leaves memory with its last session.
    """

    rows: Indices | None
    positions: Indices
    outputs: Mapping[str, Array]
    retiring: bool = False


class Asker(Protocol):
    """Who asks and is answered: one stream of a client. It is told on the event loop, and must not wait there."""

    def answer(self, tag: object, answer: Answer) -> None:
        """Takes the outcome of a step, or of some rows of a frame."""
        ...

    def refuse(self, tag: object, row: int, position: int, problem: StatewiseError) -> None:
        """Takes why a step, or a row of a frame, failed, and where its session stands."""
        ...
