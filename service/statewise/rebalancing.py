"""A loaded replica hands durable sessions over, a few a second, until it holds no more than its share.

Nobody coordinates: each replica knows how many sessions it is to hold at most, puts those that are above into the store and lets go
of them. Their next step is answered MOVED, clients resume them, and the router brings those to wherever their key belongs now. One
that comes back belongs here, and is left alone for a while: else it would be moved to and fro for nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import structlog
from numpy.typing import NDArray

from statewise.ownership import Ownership
from statewise.sessions import Sessions

Indices = NDArray[np.int64]
LEFT_ALONE_SECONDS = 600.0
log = structlog.get_logger()


class Rebalancing:
    """Looked at once a second; its mutable state is whom it has moved, of the event loop.

    Args:
        above: the durable sessions that may stay; 0: never hands any over.
        rate: sessions a second.
    """

    def __init__(self, ownership: Ownership, sessions: Sessions, above: int, rate: float, clock: Callable[[], float]) -> None:
        self._ownership = ownership
        self._sessions = sessions
        self._above = above
        self._rate = rate
        self._clock = clock
        self._moved: dict[str, float] = {}
        self._allowed = 0.0
        self._looked = clock()
        self._random = np.random.default_rng()

    async def look(self) -> int:
        """Hands over as many sessions as there are too many and as the rate allows; returns how many went."""
        now = self._clock()
        self._allowed = min(self._allowed + self._rate * (now - self._looked), max(1.0, self._rate))
        self._looked = now
        durable = self._sessions.durable
        count = min(durable.count - self._above, int(self._allowed))
        if not self._above or count <= 0:
            return 0
        for session_id in [each for each, since in self._moved.items() if now - since > LEFT_ALONE_SECONDS]:
            del self._moved[session_id]
        chosen = self._random.permutation(self._idle())[:count]  # of all clients alike
        if not len(chosen):
            return 0
        self._allowed -= len(chosen)
        gone = await self._ownership.let_go(chosen)
        self._moved |= dict.fromkeys(gone, now)
        log.info("sessions handed over", sessions=len(gone), durable=durable.count, share=self._above)
        return len(gone)

    def _idle(self) -> Indices:
        """Returns the durable sessions that wait for a step and have not been moved lately."""
        table = self._sessions
        durable = np.array([each for each in table.durable.sessions if table.directory.ids[each] not in self._moved], np.int64)
        idle: Indices = durable[(table.pending[durable] == 0) & ~table.durable.busy[durable]]
        return idle
