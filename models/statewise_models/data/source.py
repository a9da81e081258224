"""Opens a CSV or Parquet file: path → columns that are checked as they are asked for, with rows named as the file counts them.

A CSV stays text until a column is read, so that a refusal can quote what the file says. Its blank lines are rows without values
(pandas would skip them, and a series would silently lose a timestep); empty rows at the end of the file are dropped.
"""

from __future__ import annotations

import csv
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from statewise_models.data.policy import InvalidData

MISSING_WORDS = ("", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "Null", "null", "None")
ROWS_SHOWN = 5
COLUMNS_SHOWN = 20
TEXT_SHOWN = 40

Rows = NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """An open file.

    Attributes:
        path: the file.
        columns: its columns by name, with at least one row; of a CSV all are text.
    """

    path: Path
    columns: pd.DataFrame

    def __len__(self) -> int:
        return len(self.columns)

    def numbers(self, column: str) -> NDArray[np.float64]:
        """Returns a column as float64 `[rows]`, NaN where it has no value.

        Raises:
            InvalidData: text that is no number, or no number at all.
        """
        raw = self.columns[column]
        if not pd.api.types.is_numeric_dtype(raw):
            raw = raw.astype("str")
            raw = raw.mask(raw.isin(MISSING_WORDS))
        values = pd.to_numeric(raw, errors="coerce")
        texts = np.flatnonzero(values.isna() & raw.notna())
        if len(texts):
            raise self.invalid(f"column {column!r} holds text where numbers are due, {quoted(raw.iloc[texts[0]])}", texts)
        if values.isna().all():
            raise self.invalid(f"column {column!r} holds no number at all")
        return values.to_numpy(dtype=np.float64, na_value=np.nan)

    def words(self, column: str) -> pd.Series[str]:
        """Returns a column of names or labels as text; raises `InvalidData` where it is empty."""
        raw = self.columns[column]
        words = raw.astype("str")
        empty = np.flatnonzero(raw.isna() | (words == ""))
        if len(empty):
            raise self.invalid(f"column {column!r} is empty", empty)
        return words

    def invalid(self, fault: str, rows: Rows | None = None, remedy: str = "") -> InvalidData:
        """Returns the error of a fault, ready to raise: one line with the file, the first few of `rows`, the remedy."""
        where = "" if rows is None else f": {self._where(rows)}"
        return InvalidData(f"{self.path}: {fault}{where}" + (f" ({remedy})" if remedy else ""))

    def _where(self, rows: Rows) -> str:
        shown = [int(row) for row in rows[:ROWS_SHOWN]]
        csv_file = self.path.suffix.lower() == ".csv"
        numbers = _lines(self.path, shown) if csv_file else [row + 1 for row in shown]
        word = ("line" if csv_file else "row") + ("s" if len(rows) > 1 else "")
        more = f" and {len(rows) - len(shown)} more" if len(rows) > len(shown) else ""
        return f"{word} {', '.join(map(str, numbers))}{more}"


def open_source(path: str | Path, columns: Sequence[str]) -> Source:
    """Opens a file by its suffix, `.csv` (comma, UTF-8, a header) or `.parquet`.

    Args:
        columns: those that will be asked for.

    Raises:
        InvalidData: not found, unreadable, not what its suffix says, empty, or without one of `columns`.
    """
    path = Path(path)
    readers = {".csv": _read_csv, ".parquet": _read_parquet}
    if path.is_dir():
        raise InvalidData(f"{path}: is a directory, not a file")
    if path.suffix.lower() not in readers:
        raise InvalidData(f"{path}: the suffix must be one of {', '.join(readers)}")
    try:
        data = readers[path.suffix.lower()](path, columns)
    except OSError as error:
        raise InvalidData(f"{path}: {error.strerror or error}") from error
    if not len(data):
        raise InvalidData(f"{path}: has no rows")
    return Source(path, data)


def quoted(text: object) -> str:
    """Returns the beginning of a cell's text in quotes, on one line."""
    shown = str(text)
    return repr(shown if len(shown) <= TEXT_SHOWN else shown[:TEXT_SHOWN] + "…")


def _read_csv(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header = next(csv.reader(file, skipinitialspace=True), [])
        _check_columns(path, header, columns)
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # every row longer than the header
            data = pd.read_csv(
                path,
                dtype=str,
                na_values=[""],
                keep_default_na=False,
                skip_blank_lines=False,
                skipinitialspace=True,
                index_col=False,
            )
    except UnicodeDecodeError as error:
        raise InvalidData(f"{path}: is not UTF-8 text, so not CSV") from error
    except pd.errors.ParserWarning as error:
        raise InvalidData(f"{path}: is not CSV: rows have more fields than the header") from error
    except (pd.errors.ParserError, csv.Error) as error:
        raise InvalidData(f"{path}: is not CSV: {str(error).strip().removeprefix('Error tokenizing data. C error: ')}") from error
    filled = np.flatnonzero(data.notna().any(axis=1))
    return data.iloc[: filled[-1] + 1 if len(filled) else 0]


def _read_parquet(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    with path.open("rb") as file:
        try:
            data = pd.read_parquet(file)
        except (ValueError, OSError, NotImplementedError) as error:
            raise InvalidData(f"{path}: is not Parquet: {str(error).splitlines()[0]}") from error
    if any(name is not None for name in data.index.names):
        data = data.reset_index()  # pandas writes an index of times this way
    _check_columns(path, [str(name) for name in data.columns], columns)
    return data


def _check_columns(path: Path, present: Sequence[str], columns: Sequence[str]) -> None:
    if not any(present):
        raise InvalidData(f"{path}: is empty: the first line must name the columns")
    shown = ", ".join(repr(name) for name in present[:COLUMNS_SHOWN]) + (", …" if len(present) > COLUMNS_SHOWN else "")
    for column in columns:
        if present.count(column) != 1:
            fault = "has no column" if column not in present else "has more than one column"
            raise InvalidData(f"{path}: {fault} {column!r}; its columns are {shown}")


def _lines(path: Path, rows: Sequence[int]) -> list[int]:
    """Returns the file's line on which each data row begins; quoted fields may span lines, so counting rows is not enough."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        ends = [reader.line_num for _ in islice(reader, max(rows) + 1)]
    return [ends[row] + 1 for row in rows]
