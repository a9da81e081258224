"""The door for forecasting: a CSV or Parquet file of numeric columns → series of float32 inputs and targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from statewise_models.data.clock import Stamps
from statewise_models.data.policy import REFUSE, InvalidData, Policy
from statewise_models.data.records import Piece, read_pieces
from statewise_models.data.source import open_source


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """Successive timesteps, without a gap.

    Attributes:
        name: the series' id; the file's name where it has none; `NAME/2`, … for the pieces of a series split at its gaps.
        time: int64 `[timesteps]`, each one more than the last: `floor(unix_seconds / step_seconds)`, the file's integers, or
            counted from 0.
        stamps: datetime64[us] `[timesteps]` in UTC, for plots; `None` without datetimes.
        x: float32 `[timesteps, inputs]`, raw; NaN only in columns that mask it.
        y: float32 `[timesteps, targets]`, raw, at the same timesteps as `x`; NaN only in columns that mask it and in filled gaps.
        whole: the id of the series that this is a piece of; empty where it is `name`.
    """

    name: str
    time: NDArray[np.int64]
    stamps: Stamps | None
    x: NDArray[np.float32]
    y: NDArray[np.float32]
    whole: str = ""

    def __len__(self) -> int:
        """Returns the timesteps."""
        return len(self.time)

    @property
    def id(self) -> str:
        """The series' id, the same for all its pieces."""
        return self.whole or self.name

    def part(self, timesteps: slice) -> Series:
        """Returns some of its timesteps."""
        stamps = None if self.stamps is None else self.stamps[timesteps]
        return replace(self, time=self.time[timesteps], stamps=stamps, x=self.x[timesteps], y=self.y[timesteps])


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Several series of the same columns.

    Attributes:
        inputs, targets: the columns, in the order of the last axes of `x` and `y`.
        series: sorted by name, the pieces of one by time.
        step_seconds: seconds of a timestep; 0 where the file's times are not datetimes.
        known: the inputs whose value at the next timestep is known when the forecast is made.
        timed: whether the times are the file's, and so mean the same in all series; else each series counts its rows from 0.
    """

    inputs: tuple[str, ...]
    targets: tuple[str, ...]
    series: tuple[Series, ...]
    step_seconds: float
    known: tuple[str, ...] = ()
    timed: bool = False

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the series, each once."""
        return tuple(dict.fromkeys(series.id for series in self.series))


def read_table(
    path: str | Path,
    *,
    targets: Sequence[str],
    inputs: Sequence[str] = (),
    known: Sequence[str] = (),
    series: str | None = None,
    time: str | None = None,
    policy: Policy = REFUSE,
) -> Table:
    """Reads a table to forecast.

    Args:
        path: a `.csv` (comma, UTF-8, with a header) or `.parquet` file.
        targets: the columns to forecast.
        inputs: the columns that the network sees; by default the targets.
        known: further columns that it sees one timestep ahead: what is known before it comes, such as promotions and holidays.
        series: the column with the series' ids; `None`: the file is one series. Series may be interleaved.
        time: the column with ISO datetimes (without an offset: UTC) or with integers that count timesteps; `None`: a row is a
            timestep. The timestep of datetimes is their most common difference.
        policy: what to do about gaps, duplicates, unsorted times and missing values.

    Raises:
        InvalidData: the file cannot be read, lacks a column, or has a fault that `policy` refuses; the message names the lines.
        InvalidConfig: `policy` does not fit the columns.
    """
    inputs = (*(inputs or targets), *_known(known, targets, inputs))
    columns = distinct("target", targets) + [name for name in distinct("input", inputs) if name not in targets]
    source = open_source(path, list(dict.fromkeys([*columns, *filter(None, (series, time))])))
    pieces, step_seconds = read_pieces(source, columns=columns, inputs=inputs, series=series, time=time, policy=policy)
    x_places = [columns.index(name) for name in inputs]
    made = tuple(_series(piece, x_places, len(targets)) for piece in pieces)
    return Table(inputs, tuple(targets), made, step_seconds, tuple(known), time is not None)


def _known(known: Sequence[str], targets: Sequence[str], inputs: Sequence[str]) -> list[str]:
    """Returns the known columns; raises `InvalidData` for one that cannot be seen ahead, or is seen already."""
    for name in known:
        if name in targets:
            raise InvalidData(f"known column {name!r} is a target: its next value is what is to be forecast")
        if name in inputs:
            raise InvalidData(f"known column {name!r} is an input too: it is seen one timestep ahead, so name it once")
    return distinct("known", known) if known else []


def distinct(role: str, names: Sequence[str]) -> list[str]:
    """Returns the columns of a role; raises `InvalidData` if there is none, or one twice."""
    if not names:
        raise InvalidData(f"at least one {role} column is needed")
    for name in names:
        if names.count(name) > 1:
            raise InvalidData(f"{role} column {name!r} is named more than once")
    return list(names)


def _series(piece: Piece, x_places: Sequence[int], targets: int) -> Series:
    records = piece.records
    values = records.values.astype(np.float32)
    x, y = np.ascontiguousarray(values[:, x_places]), np.ascontiguousarray(values[:, :targets])
    return Series(piece.name, records.time, records.stamps, x, y, piece.series)
