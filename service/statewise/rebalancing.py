"""A loaded replica hands durable sessions over, a few a second, until it holds no more than its share.

Nobody coordinates: each replica knows how many sessions it is to hold at most, puts those that are above into the store and lets go
of them. Their next step is answered MOVED, clients resume them, and the router brings those to wherever their key belongs now. One
that comes back belongs here, and is left alone for a while: else it would be moved to and fro for nothing.

Where there is nobody else, all come back. So a few are tried first; the others follow if any of those stays away, and if not, other
few are tried a while later.
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
TRIED = 8
"""Sessions that are tried: if a third of all belongs elsewhere, one of eight does in 24 of 25 cases."""
COMES_BACK_SECONDS, TRIED_AGAIN_SECONDS = 10.0, 30.0
"""How long they have to come back, and when others are tried if all have."""
log = structlog.get_logger()


class Rebalancing:
    """Looked at once a second; its mutable state is whom it has moved and what came of it, of the event loop.

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
        self._tried: list[str] = []
        self._welcome = False  # somebody else takes what goes
        self._not_before = 0.0
        self._allowed = 0.0
        self._looked = clock()
        self._random = np.random.default_rng()

    async def look(self) -> int:
        """Hands over as many sessions as there are too many and as the rate allows; returns how many went."""
        now = self._clock()
        self._allowed = min(self._allowed + self._rate * (now - self._looked), max(1.0, self._rate))
        self._looked = now
        durable = self._sessions.durable
        excess = durable.count - self._above
        if not self._above or excess <= 0:
            self._welcome = False
            return 0
        count = min(excess, int(self._allowed))
        if not self._is_welcome(now):
            count = min(count, TRIED - len(self._tried))
        if count <= 0 or now < self._not_before:
            return 0
        for session_id in [each for each, since in self._moved.items() if now - since > LEFT_ALONE_SECONDS]:
            del self._moved[session_id]
        chosen = self._random.permutation(self._idle())[:count]  # of all clients alike
        if not len(chosen):
            self._welcome = False
            return 0
        self._allowed -= len(chosen)
        gone = await self._ownership.let_go(chosen)
        self._moved |= dict.fromkeys(gone, now)
        if not self._welcome:
            self._tried += gone
            if len(self._tried) >= TRIED:
                self._not_before = now + COMES_BACK_SECONDS
        log.info("sessions handed over", sessions=len(gone), durable=durable.count, share=self._above)
        return len(gone)

    def _is_welcome(self, now: float) -> bool:
        """Whether it is known that somebody else takes what goes; judges those that were tried, when it is time to."""
        if not self._welcome and len(self._tried) >= TRIED and now >= self._not_before:
            self._welcome = any(self._sessions.directory.number(each) is None for each in self._tried)
            self._tried.clear()
            if not self._welcome:
                self._not_before = now + TRIED_AGAIN_SECONDS
        return self._welcome

    def _idle(self) -> Indices:
        """Returns the durable sessions that wait for a step and have not been moved lately."""
        table = self._sessions
        durable = np.array([each for each in table.durable.sessions if table.directory.ids[each] not in self._moved], np.int64)
        idle: Indices = durable[(table.chains.length[durable] == 0) & ~table.durable.busy[durable]]
        return idle
