"""The rows of a CSV → the inputs of a model's timesteps. What cannot be read is refused with its row and column.

Where a model is told what is known of the next timestep, a row waits for the one that follows it in its series.
"""

from __future__ import annotations

import csv
import datetime
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TextIO

import numpy as np
from numpy.typing import NDArray

from statewise.reading.problems import BadInput
from statewise.spec import Calendar, TensorSpec

Array = NDArray[np.generic]
ABSENT = ("", "nan", "na")


class Model(Protocol):
    """What is asked of a model here: a client's `Model`, or a `ModelSpec`."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What a timestep brings."""
        ...

    @property
    def calendar(self) -> Calendar | None:
        """How the time input counts."""
        ...


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns of a file a model wants.

    Attributes:
        renamed: feature → column, where they differ.
        time: the time column, or `None` for a model without a calendar. Where time is the row's index, it may be absent.
        series: the column that tells series apart, or `None`.
        name: of the only series, where there is no such column.
    """

    model: Model
    renamed: dict[str, str]
    time: str | None
    series: str | None
    name: str

    @property
    def wanted(self) -> list[str]:
        """Returns every column that must be there."""
        features = [self.column(feature) for tensor in self.model.inputs for feature in self.features(tensor)]
        time = self.time if self.model.calendar and self.model.calendar.step_seconds else None
        return [*features, *(name for name in (time, self.series) if name)]

    @property
    def ahead(self) -> list[str]:
        """Returns the columns whose value of the next row a timestep brings."""
        named = [zip(names_of(tensor), tensor.ahead, strict=False) for tensor in self.model.inputs]
        return [self.column(feature) for pairs in named for feature, ahead in pairs if ahead]

    def features(self, tensor: TensorSpec) -> tuple[str, ...]:
        """Returns the names of what a timestep of an input holds; none for the time."""
        calendar = self.model.calendar
        return () if calendar and tensor.name == calendar.input else names_of(tensor)

    def column(self, feature: str) -> str:
        """Returns the column that holds a feature."""
        return self.renamed.get(feature, feature)


@dataclass(frozen=True, slots=True)
class Row:
    """One timestep: the line of the file, the series, and the inputs by name."""

    number: int
    series: str
    inputs: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Line:
    """What the file has of one row."""

    number: int
    cells: dict[str, str]


def rows_of(source: TextIO, data: Path, columns: Columns) -> Iterator[Row]:
    """Yields the timesteps of a CSV; raises `BadInput` naming the row and column that cannot be read.

    With columns of which the next row is known, the last row of each series is no timestep: it tells those columns, and no other
    of its cells is read.
    """
    reader, counts, waiting, ahead = csv.DictReader(source), Counter[str](), dict[str, _Line](), columns.ahead
    try:
        _check_header(reader.fieldnames or (), columns)
        for row in reader:
            if None in row or None in row.values():
                raise BadInput(f"row {reader.line_num}: it has not as many fields as the header")
            name = row[columns.series] if columns.series else columns.name
            line = _Line(reader.line_num, row)
            now = waiting.get(name) if ahead else line
            if now:
                yield Row(now.number, name, _inputs(columns, now, line, counts[name]))
                counts[name] += 1
            waiting[name] = line
    except UnicodeDecodeError as error:
        raise BadInput(f"{data} is not UTF-8 text: {error.reason} at byte {error.start}") from error
    except csv.Error as error:
        raise BadInput(f"row {reader.line_num}: {error}") from error
    if reader.line_num < 2:
        raise BadInput(f"{data} has no rows")


def _check_header(header: Sequence[str], columns: Columns) -> None:
    unknown = columns.renamed.keys() - {feature for tensor in columns.model.inputs for feature in columns.features(tensor)}
    if unknown:
        raise BadInput(f"--column: the model has no feature {', '.join(sorted(unknown))}")
    absent = [column for column in columns.wanted if column not in header]
    if absent:
        raise BadInput(f"no column {', '.join(absent)}; the file has: {', '.join(header) or 'nothing'}")


def _inputs(columns: Columns, now: _Line, following: _Line, index: int) -> dict[str, Any]:
    inputs: dict[str, Any] = {}
    calendar = columns.model.calendar
    for tensor in columns.model.inputs:
        if names := columns.features(tensor):
            ahead = tensor.ahead or (0,) * len(names)
            lines = [following if each else now for each in ahead]
            values = [
                _number(tensor, place, columns.column(name), line)
                for place, (name, line) in enumerate(zip(names, lines, strict=True))
            ]
            inputs[tensor.name] = values if tensor.features else np.array(values, tensor.dtype).reshape(tensor.shape)
        elif calendar and tensor.name == calendar.input and columns.time:
            text = now.cells.get(columns.time)
            inputs[tensor.name] = index if text is None else _time(text, columns.time, now.number, calendar.step_seconds)
    return inputs


def stacked(model: Model, rows: Sequence[Row]) -> dict[str, Array]:
    """Returns the inputs of rows, `[timesteps, …]` each."""
    return {tensor.name: np.array([row.inputs[tensor.name] for row in rows], tensor.dtype) for tensor in model.inputs}


def _number(tensor: TensorSpec, place: int, column: str, line: _Line) -> float:
    number = line.number
    text = line.cells[column].strip()
    masked = bool(tensor.missing) and tensor.missing[place] == "mask"
    if text.lower() in ABSENT:
        if masked:
            return math.nan
        raise BadInput(f"row {number}, column {column}: the value is missing, and the model takes no missing values there")
    if not tensor.dtype.startswith("float"):
        return _integer(text, tensor, f"row {number}, column {column}")
    try:
        value = float(text)
    except ValueError:
        raise BadInput(f"row {number}, column {column}: {text!r} is not a number") from None
    if not math.isfinite(value):
        raise BadInput(f"row {number}, column {column}: {text!r} is not finite")
    return value


def _integer(text: str, tensor: TensorSpec, where: str) -> int:
    whole = text.lstrip("+-").isdecimal() and (tensor.dtype != "bool" or text in ("0", "1"))
    if not whole or abs(int(text)) >= 1 << (31 if tensor.dtype == "int32" else 63):
        raise BadInput(f"{where}: {text!r} is no {'0 or 1' if tensor.dtype == 'bool' else tensor.dtype}")
    return int(text)


def names_of(tensor: TensorSpec) -> tuple[str, ...]:
    """Returns a name for each element of a timestep: those that the model has, or the tensor's name and their numbers."""
    count = math.prod(tensor.shape)
    return tensor.features or ((tensor.name,) if count == 1 else tuple(f"{tensor.name}_{place}" for place in range(count)))


def _time(text: str, column: str, number: int, step_seconds: float) -> int:
    """Returns the index of a time: that of an ISO date and time (UTC where it names no zone), or the integer itself."""
    try:
        if not step_seconds:
            return int(text)
        stamp = datetime.datetime.fromisoformat(text.strip())
        stamp = stamp if stamp.tzinfo else stamp.replace(tzinfo=datetime.UTC)
        return int(stamp.timestamp() // step_seconds)
    except ValueError:
        wanted = "an ISO date and time" if step_seconds else "an integer"
        raise BadInput(f"row {number}, column {column}: {text!r} is not {wanted}") from None
