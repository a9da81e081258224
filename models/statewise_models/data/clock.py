"""Reads a time column: ISO datetimes or integers → whole timesteps, int64.

Datetimes count `floor(unix_seconds / step_seconds)`, as a served model's calendar does, so the same stamp means the same timestep
in training and in serving. Integers count timesteps already.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from statewise_models.data.source import Source, quoted

Stamps = NDArray[np.datetime64]

LARGEST_TIME = 2**53
MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Times:
    """The times of a file's rows.

    Attributes:
        time: int64 `[rows]`, in timesteps.
        stamps: datetime64[us] `[rows]` in UTC; `None` where times are integers.
        step_seconds: seconds of a timestep; 0 where times are integers.
    """

    time: NDArray[np.int64]
    stamps: Stamps | None = None
    step_seconds: float = 0.0


def row_indices(series: NDArray[np.int64]) -> Times:
    """Returns, as its time, the index of each row within its series (`[rows]`, a number for each series)."""
    return Times(pd.Series(series).groupby(series).cumcount().to_numpy().astype(np.int64))


def read_times(source: Source, column: str, series: NDArray[np.int64]) -> Times:
    """Reads a time column; the first value tells whether it holds integers or ISO datetimes (without an offset: UTC).

    Args:
        source: the file.
        column: the time column.
        series: int64 `[rows]`, a number for each series: the most common difference of times within a series is the timestep.

    Raises:
        InvalidData: a time is absent or cannot be read, or all times of each series are the same.
    """
    raw = source.columns[column]
    _refuse(source, f"column {column!r} has no time", raw.isna())
    if pd.api.types.is_datetime64_any_dtype(raw):
        return _count(source, column, raw, series)
    if not pd.api.types.is_numeric_dtype(raw):
        raw = raw.astype("str")
    numbers = pd.to_numeric(raw, errors="coerce")
    if pd.notna(numbers.iloc[0]):
        whole = (numbers % 1 == 0) & (numbers.abs() <= LARGEST_TIME)
        _refuse(source, f"column {column!r} holds what is no integer time", ~whole, raw)
        return Times(numbers.to_numpy(np.int64))
    return _count(source, column, raw, series)


def _count(source: Source, column: str, raw: pd.Series, series: NDArray[np.int64]) -> Times:
    stamps = pd.to_datetime(raw, format="ISO8601", utc=True, errors="coerce")
    _refuse(source, f"column {column!r} holds what is no ISO datetime", stamps.isna(), raw)
    plain = stamps.dt.tz_localize(None).to_numpy().astype("datetime64[us]")
    unix = plain.astype(np.int64)
    step = _most_common_difference(unix, series)
    if not step:
        raise source.invalid(f"column {column!r} never advances within a series, so it does not tell how long a timestep is")
    return Times(unix // step, plain, step / MICROSECONDS)


def _most_common_difference(unix: NDArray[np.int64], series: NDArray[np.int64]) -> int:
    """Returns the most common positive difference of successive times within a series (of several the smallest), or 0."""
    order = np.lexsort((unix, series))
    differences = np.diff(unix[order])[np.diff(series[order]) == 0]
    lengths, counts = np.unique(differences[differences > 0], return_counts=True)
    return int(lengths[np.argmax(counts)]) if len(lengths) else 0


def _refuse(source: Source, fault: str, where: pd.Series[bool], quote: pd.Series | None = None) -> None:
    rows = np.flatnonzero(where)
    if len(rows):
        raise source.invalid(fault if quote is None else f"{fault}, {quoted(quote.iloc[rows[0]])}", rows)
