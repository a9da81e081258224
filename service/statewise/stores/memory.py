"""A store in the server's own memory: states that are spilled make room in the pool, and none outlives the process."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from statewise.durability import Epoch
from statewise.stores import Outcome, Put, Record, outcome

_SWEEP_SECONDS = 60.0


class MemoryStore:
    """See `Store`. Of one event loop, like the server."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._records: dict[str, tuple[Record, float]] = {}
        self._swept = clock()

    async def start(self) -> None:
        """There is nothing to connect to."""

    async def close(self) -> None:
        """Forgets everything."""
        self._records.clear()

    async def put_many(self, puts: Sequence[Put]) -> list[Outcome]:
        """See `Store`."""
        self._sweep()
        return [self._put(put) for put in puts]

    async def get(self, key: str) -> Record | None:
        """See `Store`."""
        return self._held(key)

    async def take_over(self, key: str, random: int, expires_seconds: float) -> Record | None:
        """See `Store`."""
        held = self._held(key)
        if held is None:
            return None
        taken = Record(Epoch(held.epoch.counter + 1, random), held.position, held.data)
        self._records[key] = taken, self._clock() + expires_seconds
        return taken

    async def delete(self, key: str, epoch: Epoch | None = None) -> bool:
        """See `Store`."""
        held = self._held(key)
        if held is None or epoch not in (None, held.epoch):
            return False
        del self._records[key]
        return True

    def _put(self, put: Put) -> Outcome:
        held = self._held(put.key)
        became = outcome((held.epoch, held.position) if held else None, put)
        if became is Outcome.STORED:
            self._records[put.key] = Record(put.epoch, put.position, put.data), self._clock() + put.expires_seconds
        return became

    def _held(self, key: str) -> Record | None:
        record, until = self._records.get(key, (None, 0.0))
        return record if until > self._clock() else None

    def _sweep(self) -> None:
        now = self._clock()
        if now - self._swept > _SWEEP_SECONDS:
            self._records = {key: held for key, held in self._records.items() if held[1] > now}
            self._swept = now
