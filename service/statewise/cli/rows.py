"""The rows of a CSV → the inputs of a model's timesteps. What cannot be read is refused with its row and column."""

from __future__ import annotations

import csv
import datetime
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TextIO

from statewise.cli.problems import BadInput
from statewise.spec import Calendar, TensorSpec

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
    """

    model: Model
    renamed: dict[str, str]
    time: str | None
    series: str | None

    @property
    def wanted(self) -> list[str]:
        """Returns every column that must be there."""
        features = [self.column(feature) for tensor in self.model.inputs for feature in tensor.features]
        time = self.time if self.model.calendar and self.model.calendar.step_seconds else None
        return [*features, *(name for name in (time, self.series) if name)]

    def column(self, feature: str) -> str:
        """Returns the column that holds a feature."""
        return self.renamed.get(feature, feature)


@dataclass(frozen=True, slots=True)
class Row:
    """One timestep: the line of the file, the series (empty where there is one only), and the inputs by name."""

    number: int
    series: str
    inputs: dict[str, Any]


def rows_of(source: TextIO, data: Path, columns: Columns) -> Iterator[Row]:
    """Yields the timesteps of a CSV; raises `BadInput` naming the row and column that cannot be read."""
    reader, counts = csv.DictReader(source), Counter[str]()
    try:
        _check_header(reader.fieldnames or (), columns)
        for row in reader:
            if None in row or None in row.values():
                raise BadInput(f"row {reader.line_num}: it has not as many fields as the header")
            name = row[columns.series] if columns.series else ""
            yield Row(reader.line_num, name, _inputs(columns, row, reader.line_num, counts[name]))
            counts[name] += 1
    except UnicodeDecodeError as error:
        raise BadInput(f"{data} is not UTF-8 text: {error.reason} at byte {error.start}") from error
    except csv.Error as error:
        raise BadInput(f"row {reader.line_num}: {error}") from error
    if reader.line_num < 2:
        raise BadInput(f"{data} has no rows")


def _check_header(header: Sequence[str], columns: Columns) -> None:
    unknown = columns.renamed.keys() - {feature for tensor in columns.model.inputs for feature in tensor.features}
    if unknown:
        raise BadInput(f"--column: the model has no feature {', '.join(sorted(unknown))}")
    absent = [column for column in columns.wanted if column not in header]
    if absent:
        raise BadInput(f"no column {', '.join(absent)}; the file has: {', '.join(header) or 'nothing'}")


def _inputs(columns: Columns, row: dict[str, str], number: int, index: int) -> dict[str, Any]:
    inputs: dict[str, Any] = {}
    calendar = columns.model.calendar
    for tensor in columns.model.inputs:
        if tensor.features:
            inputs[tensor.name] = [_number(tensor, place, columns, row, number) for place in range(len(tensor.features))]
        elif calendar and tensor.name == calendar.input and columns.time:
            text = row.get(columns.time)
            inputs[tensor.name] = index if text is None else _time(text, columns.time, number, calendar.step_seconds)
    return inputs


def _number(tensor: TensorSpec, place: int, columns: Columns, row: dict[str, str], number: int) -> float:
    column = columns.column(tensor.features[place])
    text = row[column].strip()
    masked = bool(tensor.missing) and tensor.missing[place] == "mask"
    if text.lower() in ABSENT:
        if masked:
            return math.nan
        raise BadInput(f"row {number}, column {column}: the value is missing, and the model takes no missing values there")
    try:
        value = float(text)
    except ValueError:
        raise BadInput(f"row {number}, column {column}: {text!r} is not a number") from None
    if not math.isfinite(value):
        raise BadInput(f"row {number}, column {column}: {text!r} is not finite")
    return value


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
