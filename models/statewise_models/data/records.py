"""Puts the rows of a file in order: source → records → sorted → one a timestep → no gaps → pieces.

A record is one row of a file. Records are kept column by column, all series together, so that each stage is a few array operations
and a refusal names every faulty row of the file at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from statewise_models.data.clock import MICROSECONDS, Stamps, Times, read_times, row_indices
from statewise_models.data.policy import Policy
from statewise_models.data.source import Source

LARGEST_FLOAT32 = float(np.finfo(np.float32).max)
MOST_FILLED = 100_000  # rows that may be filled in any file; more only up to FILLED_SHARE of its records
FILLED_SHARE = 10

Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Records:
    """Rows of a file, column by column.

    Attributes:
        row: int64 `[records]`, the row in the file; of a filled record, the row before the gap.
        series: int64 `[records]`, a number for each series.
        time: int64 `[records]`, in timesteps.
        stamps: datetime64[us] `[records]`, or `None`.
        values: float64 `[records, columns]`, NaN where there is no value.
    """

    row: Integers
    series: Integers
    time: Integers
    stamps: Stamps | None
    values: NDArray[np.float64]

    def take(self, places: NDArray[np.intp] | Flags | slice) -> Records:
        """Returns the records at `places`, in that order."""
        stamps = None if self.stamps is None else self.stamps[places]
        return Records(self.row[places], self.series[places], self.time[places], stamps, self.values[places])

    def advance(self) -> Integers:
        """Returns the timesteps from each record to the next, int64 `[records − 1]`; 1 where the next begins another series."""
        return np.where(np.diff(self.series) == 0, np.diff(self.time), 1)


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Successive timesteps of one series, under the name `name` (of a split series' later pieces: `SERIES/2`, …)."""

    name: str
    series: str
    records: Records


def read_pieces(
    source: Source, *, columns: Sequence[str], inputs: Sequence[str], series: str | None, time: str | None, policy: Policy
) -> tuple[list[Piece], float]:
    """Reads, checks and orders `columns`; returns the pieces by series name and time, and the seconds of a timestep (0: unknown).

    Without a series column the whole file is one series, named as the file; without a time column the time is the row's index in
    its series.

    Raises:
        InvalidData: a fault that `policy` does not treat.
        InvalidConfig: a policy that does not fit the columns.
    """
    policy.check_columns(columns, inputs)
    numbers, names = _series(source, series)
    values = np.column_stack([_values(source, column, policy) for column in columns])
    times = read_times(source, time, numbers) if time else row_indices(numbers)
    records = Records(np.arange(len(source)), numbers, times.time, times.stamps, values)
    records = _ordered(records, source, policy)
    records = _merged(records, source, policy, times)
    records = _closed(records, source, policy, times)
    return list(_pieces(records, names)), times.step_seconds


def _series(source: Source, column: str | None) -> tuple[Integers, list[str]]:
    """Returns a number for each row's series, and the names by number, sorted."""
    if column is None:
        return np.zeros(len(source), np.int64), [source.path.stem]
    numbers, names = pd.factorize(source.words(column), sort=True)
    return numbers.astype(np.int64), [str(name) for name in names]


def _values(source: Source, column: str, policy: Policy) -> NDArray[np.float64]:
    values = source.numbers(column)
    infinite = np.flatnonzero(np.abs(values) > LARGEST_FLOAT32)
    if len(infinite):
        raise source.invalid(f"column {column!r} holds infinities, or numbers too large for float32", infinite)
    absent = np.flatnonzero(np.isnan(values))
    if len(absent) and policy.missing_of(column) == "refuse":
        raise source.invalid(f"column {column!r} has no value", absent, "only a model trained with missing: mask takes that")
    return values


def _ordered(records: Records, source: Source, policy: Policy) -> Records:
    """Gathers each series, in the order of time; rows of one timestep stay as the file has them."""
    gathered = records.take(np.argsort(records.series, kind="stable"))
    back = gathered.row[1:][gathered.advance() < 0]
    if len(back) and policy.unsorted == "refuse":
        raise source.invalid("times go back", np.sort(back), "unsorted: sort would order them")
    return records.take(np.lexsort((records.time, records.series)))


def _merged(records: Records, source: Source, policy: Policy, times: Times) -> Records:
    """Leaves one record a timestep."""
    again = records.advance() == 0
    if not again.any():
        return records
    if policy.duplicates == "refuse":
        rows = np.sort(records.row[1:][again])
        length = f" of {times.step_seconds:g} s" if times.step_seconds else ""
        raise source.invalid(f"a timestep{length} is given more than once", rows, "duplicates: first, last or mean would choose")
    if policy.duplicates == "last":
        return records.take(np.append(~again, True))
    starts = np.flatnonzero(np.insert(~again, 0, True))
    firsts = records.take(starts)
    return firsts if policy.duplicates == "first" else replace(firsts, values=_means(records.values, starts))


def _means(values: NDArray[np.float64], starts: NDArray[np.intp]) -> NDArray[np.float64]:
    """Returns the mean of the known values of each run of records that begins at `starts`; NaN where none is known."""
    known = ~np.isnan(values)
    totals = np.add.reduceat(np.where(known, values, 0.0), starts)
    counts = np.add.reduceat(known.astype(np.int64), starts)
    return np.divide(totals, counts, out=np.full_like(totals, np.nan), where=counts > 0)


def _closed(records: Records, source: Source, policy: Policy, times: Times) -> Records:
    """Leaves no gap but those to split at."""
    advance = records.advance()
    gaps = np.flatnonzero(advance > 1)
    if not len(gaps) or policy.gaps == "split":
        return records
    absent = float(np.sum(advance[gaps] - 1.0))
    unit = f"of {times.step_seconds:g} s" if times.step_seconds else "as integers count them"
    fault = f"timesteps are missing ({absent:.0f} {unit}) before"
    after = np.sort(records.row[gaps + 1])
    if policy.gaps == "refuse":
        raise source.invalid(fault, after, "gaps: fill or split would treat them")
    if absent > max(MOST_FILLED, FILLED_SHARE * len(records.row)):
        raise source.invalid(fault, after, "too many to fill")
    return _filled(records, np.append(advance, 1), times.step_seconds)


def _filled(records: Records, repeats: Integers, step_seconds: float) -> Records:
    """Inserts `repeats − 1` records of NaN after each record."""
    before = np.repeat(np.arange(len(repeats)), repeats)
    since = np.arange(len(before)) - (np.cumsum(repeats) - repeats)[before]
    filled = records.take(before)
    stamps = filled.stamps
    if stamps is not None:
        stamps = stamps + since * np.timedelta64(round(step_seconds * MICROSECONDS), "us")
    values = np.where(since[:, None] == 0, filled.values, np.nan)
    return replace(filled, time=filled.time + since, stamps=stamps, values=values)


def _pieces(records: Records, names: Sequence[str]) -> Iterator[Piece]:
    """Cuts the records at the ends of series, and at what gaps are left."""
    apart = (np.diff(records.series) != 0) | (records.advance() > 1)
    cuts = [0, *(np.flatnonzero(apart) + 1).tolist(), len(records.row)]
    number = 0
    for begin, end in pairwise(cuts):
        first = begin == 0 or records.series[begin] != records.series[begin - 1]
        number = 1 if first else number + 1
        series = names[records.series[begin]]
        yield Piece(series if first else f"{series}/{number}", series, records.take(slice(begin, end)))
