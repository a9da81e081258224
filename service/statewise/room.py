"""Room for steps: streams that wait, while a server is full, with the step that they have read, and read nothing more.

To refuse a step takes about as long as to answer one, so a server that reads all that a flood sends spends on refusals what the
steps need that it has taken on. While all places are taken a stream therefore waits for its turn: one stream for each place that
is given back, the longest waiting first, and a few now and then in any case, so that everybody is told in the end.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from statewise.sessions import RETRY_SECONDS

TURNS_ANYWAY = 16
"""How many streams have their turn every `RETRY_SECONDS` though there is no place."""


class Room:
    """The streams that wait. The event loop alone changes it.

    Attributes:
        full: whether a new step would be refused for want of a place.
    """

    def __init__(self, full: Callable[[], bool]) -> None:
        self.full = full
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    async def wait(self) -> None:
        """Returns when it is the turn of whoever waits."""
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        self._waiting.append(turn)
        if self._timer is None:
            self._timer = loop.call_later(RETRY_SECONDS, self._anyway)
        await turn

    def give_back(self, places: int) -> None:
        """Gives as many streams their turn as there are places again."""
        while self._waiting and places:
            turn = self._waiting.popleft()
            if not turn.done():  # the stream may have gone
                turn.set_result(None)
                places -= 1

    def _anyway(self) -> None:
        self._timer = None
        self.give_back(TURNS_ANYWAY if self.full() else len(self._waiting))
        if self._waiting:
            self._timer = asyncio.get_running_loop().call_later(RETRY_SECONDS, self._anyway)
