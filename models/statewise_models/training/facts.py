"""What a network learned from, in words: for the report, and for whoever wonders later which rows a version has seen."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from statewise_models.config import Feature, NetworkConfig
from statewise_models.data.labelled import Labelled
from statewise_models.data.split import Cuts
from statewise_models.data.table import Series, Table
from statewise_models.data.text import Text
from statewise_models.sheet import Row, Sheet

_PARTS = {"training": "train", "validation": "validation", "test": "test"}  # as people and `Cuts` call them
SPLITS = tuple(_PARTS)
OFTENEST = 12  # tokens that are shown

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Facts:
    """What a network learned from.

    Attributes:
        amounts: how much of what there is, as name and value.
        sheets: its columns, labels or tokens, and which part was for what.
    """

    amounts: tuple[tuple[str, str], ...]
    sheets: tuple[Sheet, ...]


def facts_of_table(table: Table, cuts: Sequence[Cuts], config: NetworkConfig) -> Facts:
    """Returns the facts of a table cut by time."""
    timesteps = sum(map(len, table.series))
    amounts = (
        ("timesteps", f"{timesteps:,}"),
        ("series", f"{len(table.series):,}" if len(table.series) > 1 else f"1 ({table.series[0].name})"),
        ("a timestep", f"{table.step_seconds:g} s" if table.step_seconds else "a row, or as the file's integers count"),
    )
    rows = _inputs(config, [series.x for series in table.series])
    y = np.concatenate([series.y for series in table.series])
    for target, column in zip(config.targets, y.T, strict=True):
        if target.difference:
            rows.append((f"change of {target.name}", "learned", _number(target.mean), _number(target.scale), "", "", ""))
        elif target.name not in table.inputs:
            rows.append((target.name, "target", *_numbers(target.mean, target.scale, column)))
    split = []
    for name in SPLITS:
        parts = [getattr(cut, _PARTS[name]) for cut in cuts]
        if any(part.start < part.stop for part in parts):
            split.append(_span(name, table.series, parts))
    return Facts(amounts, (_columns(rows), Sheet("Split by time", ("part", "from", "to"), ("timesteps",), (tuple(split),))))


def facts_of_labelled(data: Labelled, parts: Mapping[str, Labelled], config: NetworkConfig) -> Facts:
    """Returns the facts of labelled sequences and of the parts that they were split into."""
    lengths = [len(sequence.x) for sequence in data.sequences]
    amounts = (
        ("sequences", f"{len(lengths):,}"),
        ("timesteps", f"{sum(lengths):,}, {min(lengths):,} to {max(lengths):,} a sequence"),
        ("labels", f"{len(data.labels):,}"),
    )
    rows = _inputs(config, [sequence.x for sequence in data.sequences])
    counts = {
        name: np.bincount([sequence.label for sequence in part.sequences], minlength=len(data.labels))
        for name, part in parts.items()
    }
    labels = [
        (label, *(f"{counts[name][number]:,}" for name in parts), f"{sum(count[number] for count in counts.values()):,}")
        for number, label in enumerate(data.labels)
    ]
    split = Sheet("Sequences by label and part, drawn by the seed", ("label",), (*parts, "all"), (tuple(labels),))
    return Facts(amounts, (_columns(rows), split))


def facts_of_text(text: Text, cuts: Cuts) -> Facts:
    """Returns the facts of a text cut by place."""
    kind = "bytes" if text.vocabulary.bytes else "characters"
    counts = np.bincount(text.tokens, minlength=len(text.vocabulary))
    oftenest = [number for number in np.argsort(-counts, kind="stable")[:OFTENEST].tolist() if counts[number]]
    frequent = [(repr(text.vocabulary.decode([number])), f"{counts[number] / len(text):.1%}") for number in oftenest]
    amounts = (
        (kind, f"{len(text):,}"),
        ("vocabulary", f"{len(text.vocabulary):,}"),
        ("of these in the text", f"{np.count_nonzero(counts):,}"),
    )
    split = []
    for name in SPLITS:
        part = getattr(cuts, _PARTS[name])
        if part.start < part.stop:
            split.append((name, f"{part.start:,}", f"{part.stop - 1:,}", f"{part.stop - part.start:,}"))
    return Facts(
        amounts,
        (
            Sheet("Split by place", ("part",), ("from", "to", kind), (tuple(split),)),
            Sheet("The most frequent tokens", ("token",), ("share",), (tuple(frequent),)),
        ),
    )


def _inputs(config: NetworkConfig, parts: Sequence[Floats]) -> list[Row]:
    """Returns a row for each input column of `[timesteps, columns]`."""
    targets = {target.name for target in config.targets}
    columns = zip(config.features, np.concatenate(parts).T, strict=True)
    return [(feature.name, _role(feature, targets), *_numbers(feature.mean, feature.scale, column)) for feature, column in columns]


def _role(feature: Feature, targets: Collection[str]) -> str:
    return "known ahead" if feature.ahead else "target, input" if feature.name in targets else "input"


def _columns(rows: Sequence[Row]) -> Sheet:
    return Sheet("Columns", ("column", "role"), ("mean*", "scale*", "least", "greatest", "missing"), (tuple(rows),))


def _numbers(mean: float, scale: float, values: Floats) -> Row:
    """Returns mean and scale (of the training part), and range and missing values (of all of it)."""
    known = values[np.isfinite(values)]
    absent = len(values) - len(known)
    span = (_number(known.min()), _number(known.max())) if len(known) else ("", "")
    return (_number(mean), _number(scale), *span, f"{absent:,} ({absent / len(values):.1%})" if absent else "0")


def _number(value: float | np.floating) -> str:
    return f"{float(value):,.5g}"


def _span(name: str, series: Sequence[Series], parts: Sequence[slice]) -> Row:
    """Returns when a part begins and ends, over all series, and its timesteps."""
    some = [(each, part) for each, part in zip(series, parts, strict=True) if part.start < part.stop]
    begin = min(_when(each)[part.start] for each, part in some)
    end = max(_when(each)[part.stop - 1] for each, part in some)
    return (name, _told(begin), _told(end), f"{sum(part.stop - part.start for _, part in some):,}")


def _when(series: Series) -> NDArray[Any]:
    return series.time if series.stamps is None else series.stamps


def _told(when: Any) -> str:
    if isinstance(when, np.datetime64):
        return str(when.astype("datetime64[s]")).replace("T", " ").removesuffix(":00") + " UTC"
    return f"{when:,}"
