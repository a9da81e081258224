"""The words of durability: what a session outlives, and who owns it."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from enum import IntEnum


class Durability(IntEnum):
    """What a session outlives; the numbers are those of the protocol and of snapshots.

    MEMORY: nothing, it is gone with the process. CHECKPOINT: the process, but for the timesteps since the last snapshot, which the
    client sends again. COMMIT: the process; each step is in the store before it is answered.
    """

    MEMORY = 1
    CHECKPOINT = 2
    COMMIT = 3


@dataclass(frozen=True, slots=True)
class Epoch:
    """An ownership of a session: how often it was taken over before, and 64 random bits, compared for equality."""

    counter: int
    random: int

    @classmethod
    def fresh(cls, after: Epoch | None = None) -> Epoch:
        """Returns an epoch that nobody else has."""
        return cls(after.counter + 1 if after else 1, secrets.randbits(64))


@dataclass(frozen=True, slots=True)
class Keeping:
    """What a client asks for: how durable, and the timesteps between two checkpoints."""

    durability: Durability = Durability.MEMORY
    every: int = 64
