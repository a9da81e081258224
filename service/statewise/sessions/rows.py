"""Which rows of a state pool are free, and who holds the others: a last-in-first-out free list with reference counts.

A row is written once, by the run that took it, and read until its last holder drops it. A session holds its committed row, a fork
shares it, a snapshot pins it, a long step keeps the row of its last cut, and a run holds the rows that it writes. Last freed is
first taken: the row most likely to be in the processor's cache.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from statewise.masks import every

PADDING_ROW = 0
INITIAL_ROW = 1
RESERVED_ROWS = 2
_FOREVER = 1 << 40

Indices = NDArray[np.int64]


class Rows:
    """The reference counts of one pool's rows. The reserved rows are never free."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._holders = np.zeros(count, np.int64)
        self._holders[:RESERVED_ROWS] = _FOREVER
        self._stack = np.arange(count - 1, RESERVED_ROWS - 1, -1, dtype=np.int64)
        self._free = count - RESERVED_ROWS

    def __repr__(self) -> str:
        return f"<Rows {self.used} of {self.count - RESERVED_ROWS} used>"

    @property
    def free(self) -> int:
        """How many rows nobody holds."""
        return self._free

    @property
    def used(self) -> int:
        """How many rows somebody holds."""
        return self.count - RESERVED_ROWS - self._free

    def holders(self, row: int) -> int:
        """Returns how many hold a row; of the reserved ones, a number beyond counting."""
        return int(self._holders[row])

    def take(self, count: int) -> Indices:
        """Returns `count` fresh rows, each held once. The pool is sized so that an admitted step never lacks one."""
        assert count <= self._free, "the pool is too small for what was admitted"
        self._free -= count
        rows = self._stack[self._free : self._free + count][::-1].copy()
        self._holders[rows] = 1
        return rows

    def hold(self, rows: Indices) -> None:
        """Adds a holder to each row."""
        np.add.at(self._holders, rows, 1)

    def drop(self, rows: Indices) -> None:
        """Takes a holder from each row, and frees those that have none left; a row may be there twice."""
        if every(self._holders[rows] == 1):  # nearly always, and an order of magnitude faster
            freed = rows
            self._holders[rows] = 0
        else:
            np.subtract.at(self._holders, rows, 1)
            freed = np.unique(rows[self._holders[rows] == 0])
        self._stack[self._free : self._free + len(freed)] = freed
        self._free += len(freed)
