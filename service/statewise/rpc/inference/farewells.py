"""The last answers of sequences that have ended, for a last request that is sent again since its reply was lost.

Its session is gone, and with it the replies that it retained. Only who tells positions asks for such protection, so only their last
answers are kept: so many, and for as long as there is room.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from statewise.conversation import Answer
from statewise.spec import TensorSpec

MOST = 4_096
MOST_BYTES = 64 * 1024 * 1024


class Farewell(NamedTuple):
    """The last answer of a sequence, to which request, and what else its reply is made of."""

    identity: bytes
    answer: Answer
    served_version: str
    returns: tuple[TensorSpec, ...]
    timed: bool


class Farewells:
    """The last answers, by the ids of sessions that have ended. Its owner is `Sequences`."""

    def __init__(self, most: int = MOST, most_bytes: int = MOST_BYTES) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._bytes = 0
        self._kept: OrderedDict[str, Farewell] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, session_id: str, farewell: Farewell) -> None:
        """Keeps a last answer, and forgets the oldest where there is no room for all."""
        self.forget(session_id)
        self._kept[session_id] = farewell
        self._bytes += _size(farewell)
        while len(self._kept) > self._most or self._bytes > self._most_bytes:
            self.forget(next(iter(self._kept)))

    def forget(self, session_id: str) -> None:
        """Forgets the sequence that had this id; for another one begins."""
        farewell = self._kept.pop(session_id, None)
        if farewell:
            self._bytes -= _size(farewell)

    def find(self, session_id: str) -> Farewell | None:
        """Returns the last answer of the sequence that had this id, or `None`."""
        return self._kept.get(session_id)


def _size(farewell: Farewell) -> int:
    return sum(array.nbytes for array in farewell.answer.outputs.values())
