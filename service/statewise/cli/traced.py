"""What a trace is, to whoever makes one and whoever draws it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from statewise.spec import ModelSpec

Array = NDArray[np.generic]


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """What a model's cells did while it read a file.

    Attributes:
        title: the model and its version.
        source: what was read.
        spec: of the model.
        skipped: timesteps that ran before the first one here.
        arrays: `[timesteps, …]` each: the inputs, the raw output, and for each layer its gates and states, such as `f_0` and
            `hidden_0`; of a table also `row`, the lines of the file.
    """

    title: str
    source: str
    spec: ModelSpec
    skipped: int
    arrays: dict[str, Array]
