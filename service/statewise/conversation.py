"""What the transport asks of the batcher, and what it is told: plain values that know no wire format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from statewise.spec import ModelSpec

Array = NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class Step:
    """What a client asks: the next timesteps of one session, each input `[timesteps, …]`."""

    session_id: str
    inputs: Mapping[str, Array]
    position: int | None = None
    timeout_seconds: float | None = None
    last_only: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """The session's position after the step, and each output `[timesteps, …]`."""

    position: int
    outputs: Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class Opened:
    """A session just opened."""

    session_id: str
    model: str
    version: int
    spec: ModelSpec
    position: int
    idle_timeout_seconds: float


@dataclass(frozen=True, slots=True)
class Closed:
    """Whether this close ended the session, and the timesteps that it had consumed."""

    closed: bool
    position: int
