"""Versions that classify: right or wrong at a sequence's last timestep, as training counts it, and the recall of each label."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from statewise_models.config import InvalidConfig
from statewise_models.data.labelled import read_labelled
from statewise_models.data.policy import InvalidData
from statewise_models.evaluation.columns import Columns
from statewise_models.evaluation.judged import Figures, Judged, Measure, same
from statewise_models.evaluation.served import Served

ACCURACY = Measure("accuracy", "right", ".1%", more_is_better=True)
FREQUENT = "always the most frequent"

Places = NDArray[np.int64]


def judge_labels(versions: Sequence[Served], columns: Columns, warm_up: int) -> Judged:
    """Returns how well versions tell the labels of a file's sequences; errors as `judge_forecasts`.

    Args:
        warm_up: sequences that have no more timesteps than this are run but not scored.
    """
    labels: tuple[str, ...] = same(versions, "labels", [version.spec.outputs[0].features for version in versions])
    if not columns.series or not columns.label:
        raise InvalidConfig("--series and --label are needed: the columns that tell sequences apart and say what each is")
    data = read_labelled(
        columns.data,
        inputs=columns.inputs(versions),
        label=columns.label,
        series=columns.series,
        time=columns.time_for(versions),
        policy=columns.policy(versions),
        known=labels,
    )
    columns.check_step(versions, data.step_seconds)
    sequences = [sequence for sequence in data.sequences if len(sequence.x) > warm_up]
    if not sequences:
        raise InvalidData(f"{columns.data}: nothing is left to score: no sequence has more than {warm_up} timesteps")
    truth = np.array([sequence.label for sequence in sequences])
    said = {}
    for version in versions:
        fed = [columns.feed(version, data.inputs, sequence.x, sequence.time) for sequence in sequences]
        said[str(version)] = np.array([int(answer[-1].argmax()) for answer in version.answers(fed)])
    said[FREQUENT] = np.full(len(truth), np.bincount(truth).argmax())
    groups = {label: {columns.label: _right(truth, said, truth == place)} for place, label in enumerate(labels) if place in truth}
    left = len(data.sequences) - len(sequences)
    notes = (
        (f"{left} of {len(data.sequences)} sequences have no more than {warm_up} timesteps, and are not scored",) if left else ()
    )
    overall = {columns.label: _right(truth, said, np.ones(len(truth), bool))}
    return Judged(tuple(map(str, versions)), (ACCURACY,), overall, "sequences", groups, "label", notes)


def _right(truth: Places, said: dict[str, Places], chosen: NDArray[np.bool_]) -> dict[str, Figures]:
    """Returns the share of the chosen sequences of which each contestant says the label."""
    return {
        name: {"accuracy": float((places == truth)[chosen].mean()), "count": int(chosen.sum())} for name, places in said.items()
    }
