"""The door for classification: a long CSV or Parquet file (one row a timestep, several series) → sequences with one label each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from statewise_models.config import InvalidConfig
from statewise_models.data.policy import REFUSE, InvalidData, Policy
from statewise_models.data.records import read_pieces
from statewise_models.data.source import Source, open_source, quoted
from statewise_models.data.table import distinct


@dataclass(frozen=True, slots=True, eq=False)
class LabelledSequence:
    """One sequence and what it is.

    Attributes:
        name: the series' id; `NAME/2`, … for the pieces of a series split at its gaps.
        series: the series' id, the same for all its pieces.
        x: float32 `[timesteps, inputs]`, raw; NaN only in columns that mask it.
        time: int64 `[timesteps]`, each one more than the last.
        label: the place of its label in `Labelled.labels`.
    """

    name: str
    series: str
    x: NDArray[np.float32]
    time: NDArray[np.int64]
    label: int


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """Labelled sequences of the same columns.

    Attributes:
        inputs: the columns, in the order of the last axis of `x`.
        labels: at least two, sorted as text.
        sequences: sorted by name.
        step_seconds: seconds of a timestep; 0 where the file's times are not datetimes.
    """

    inputs: tuple[str, ...]
    labels: tuple[str, ...]
    sequences: tuple[LabelledSequence, ...]
    step_seconds: float


def read_labelled(
    path: str | Path,
    *,
    inputs: Sequence[str],
    label: str,
    series: str,
    time: str | None = None,
    policy: Policy = REFUSE,
    known: Sequence[str] | None = None,
) -> Labelled:
    """Reads sequences to classify; `path`, `series`, `time` and `policy` are as for `read_table`.

    Args:
        inputs: the columns that the network sees.
        label: the column with the label, the same in all rows of a series.
        known: the labels that there may be, in their order; `None`: those of the file, at least two.

    Raises:
        InvalidData: as `read_table`; also a series with two labels, a file with one, a label that is not among `known`, or the
            label among the inputs.
        InvalidConfig: `policy` does not fit the columns.
    """
    columns = distinct("input", inputs)
    if label in columns:
        raise InvalidData(f"column {label!r} is both label and input: the network would see what it is to say")
    source = open_source(path, list(dict.fromkeys([*columns, label, series, *([time] if time else [])])))
    label_of, labels = _labels(source, label, series, known)
    pieces, step_seconds = read_pieces(source, columns=columns, inputs=columns, series=series, time=time, policy=policy)
    sequences = tuple(
        LabelledSequence(
            piece.name, piece.series, piece.records.values.astype(np.float32), piece.records.time, label_of[piece.series]
        )
        for piece in pieces
    )
    return Labelled(tuple(columns), labels, sequences, step_seconds)


def split_labelled(data: Labelled, share: float, seed: int) -> tuple[Labelled, Labelled]:
    """Splits at random into training and validation; every label gives about `share` of its series, at least one and not all.

    Pieces of one series stay together: what is validated was not seen in training, not even another part of it.

    Args:
        share: of the series for validation, at least 0 and below 1; 0 gives an empty validation.
        seed: the same seed gives the same split.

    Raises:
        InvalidData: a label with a single series cannot be in both.
        InvalidConfig: `share` out of range.
    """
    if not 0.0 <= share < 1.0:
        raise InvalidConfig(f"the share for validation must be at least 0 and below 1, not {share}")
    random = np.random.default_rng(seed)
    chosen: set[str] = set()
    for number, label in enumerate(data.labels if share else ()):
        names = list(dict.fromkeys(sequence.series for sequence in data.sequences if sequence.label == number))
        if len(names) < 2:
            raise InvalidData(f"label {label!r} has {len(names)} series; training and validation need one each")
        count = min(max(round(len(names) * share), 1), len(names) - 1)
        chosen.update(names[place] for place in random.choice(len(names), count, replace=False))
    training = tuple(sequence for sequence in data.sequences if sequence.series not in chosen)
    validation = tuple(sequence for sequence in data.sequences if sequence.series in chosen)
    return replace(data, sequences=training), replace(data, sequences=validation)


def _labels(source: Source, label: str, series: str, known: Sequence[str] | None) -> tuple[dict[str, int], tuple[str, ...]]:
    """Returns the place of each series' label, and the labels."""
    names, words = source.words(series), source.words(label)
    numbers, labels = pd.factorize(words, sort=True)
    if known is not None:
        numbers, labels = pd.Index(known).get_indexer(pd.Index(words)), pd.Index(known)
        strange = np.flatnonzero(numbers < 0)
        if len(strange):
            fault = f"column {label!r} holds {quoted(words.iloc[strange[0]])}, which is not among the labels {', '.join(known)}"
            raise source.invalid(fault, strange)
    elif len(labels) < 2:
        raise source.invalid(f"column {label!r} has one label only, {labels[0]!r}; at least two are needed to tell apart")
    first = pd.Series(numbers).groupby(names.to_numpy()).transform("first")
    other = np.flatnonzero(first != numbers)
    if len(other):
        row = other[0]
        fault = f"series {names.iloc[row]!r} has more than one label, {labels[first.iloc[row]]!r} and {labels[numbers[row]]!r}"
        raise source.invalid(fault, other)
    return dict(zip(names.tolist(), numbers.tolist(), strict=True)), tuple(str(word) for word in labels)
