"""Where snapshots are kept outside the server's memory, and who owns which: one small Protocol over three stores.

A record is a session's sealed snapshot, its position, and the epoch of its owner. What is put is compared first: it is taken if
the record is of the same epoch and not further on. So an owner that was taken over stores nothing more, however late its puts
land, and a put that is repeated changes nothing. Only `take_over` gives a record another epoch. A record that is not there is never
made again, but by `create`; each expires some time after it was last put.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from statewise.durability import Epoch


class StoreError(Exception):
    """The store has not answered, or not as it should: whether it has done what it was asked is not known."""


class Outcome(Enum):
    """What became of a put."""

    STORED = "STORED"
    MISSING = "MISSING"
    """There is no such record (any more): the session was closed, or has expired."""
    OTHER_EPOCH = "OTHER_EPOCH"
    """Somebody has taken the session over."""
    AHEAD = "AHEAD"
    """The record is further on already, by a later put of the same epoch."""
    TAKEN = "TAKEN"
    """It was to be created, and is there."""


@dataclass(frozen=True, slots=True)
class Put:
    """A sealed snapshot to be kept.

    Attributes:
        expires_seconds: the record is forgotten this long after the put.
        create: whether it is the first of its key.
    """

    key: str
    epoch: Epoch
    position: int
    data: bytes
    expires_seconds: float
    create: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """What is kept of a session."""

    epoch: Epoch
    position: int
    data: bytes


class Store(Protocol):
    """Keeps records; every method raises `StoreError`, and is called from one event loop."""

    async def start(self) -> None:
        """Connects."""
        ...

    async def close(self) -> None:
        """Lets go of connections and files."""
        ...

    async def put_many(self, puts: Sequence[Put]) -> list[Outcome]:
        """Keeps what may be kept, each by itself, and returns the outcomes in the order of the puts; their keys are distinct."""
        ...

    async def get(self, key: str) -> Record | None:
        """Returns a record as it is."""
        ...

    async def take_over(self, key: str, random: int, expires_seconds: float) -> Record | None:
        """Gives a record the next epoch, with these random bits, and returns it; what its owner puts from now on is refused."""
        ...

    async def delete(self, key: str, epoch: Epoch | None = None) -> bool:
        """Deletes a record, if it is of this epoch where one is given; returns whether it was there."""
        ...


def outcome(held: tuple[Epoch, int] | None, put: Put) -> Outcome:
    """Returns what becomes of a put where a record of this epoch and position is held: the rule that all stores keep."""
    if held is None:
        return Outcome.STORED if put.create else Outcome.MISSING
    if held[0] != put.epoch:
        return Outcome.TAKEN if put.create else Outcome.OTHER_EPOCH
    return Outcome.AHEAD if held[1] > put.position else Outcome.STORED
