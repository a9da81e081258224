"""Mean, scale and range of columns, from the training split alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from statewise_models.config import Feature
from statewise_models.data.policy import InvalidData
from statewise_models.training.settings import TrainingSettings

Floats = NDArray[np.floating]


def features(names: Sequence[str], parts: Sequence[Floats], settings: TrainingSettings) -> tuple[Feature, ...]:
    """Returns the input columns with their scales and ranges.

    Args:
        names: the columns.
        parts: the training split, `[timesteps, columns]` each.

    Raises:
        InvalidData: a column without a value, or one with NaN that `settings` does not mask.
    """
    columns = np.concatenate(parts)
    made = []
    for place, name in enumerate(names):
        values = columns[:, place]
        mean, scale = moments(name, values)
        least, greatest = float(np.nanmin(values)), float(np.nanmax(values))
        made.append(Feature(name, mean, scale, settings.missing_of(name), least=least, greatest=greatest))
    return tuple(made)


def check_missing(names: Sequence[str], parts: Sequence[Floats], settings: TrainingSettings) -> None:
    """Raises `InvalidData` where a column has NaN and is not masked; `parts` are all splits, `[timesteps, columns]` each."""
    for place, name in enumerate(names):
        if settings.missing_of(name) == "refuse" and any(np.isnan(part[:, place]).any() for part in parts):
            raise InvalidData(f"column {name!r} has missing values: refused unless it is masked (missing {name}=mask)")


def moments(name: str, values: Floats) -> tuple[float, float]:
    """Returns mean and standard deviation of what is known in `[timesteps]`; the deviation of a constant column is taken as 1."""
    known = values[np.isfinite(values)].astype(np.float64)
    if not len(known):
        raise InvalidData(f"column {name!r} has no value in the training split")
    scale = float(known.std())
    return float(known.mean()), scale if scale > 1e-12 * float(np.abs(known).max()) else 1.0
