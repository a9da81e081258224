"""What the server feeds into a model's control inputs, row by row of a batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from statewise.spec import ControlSpec


def controls_of(
    controls: Sequence[ControlSpec], starts: NDArray[np.bool_], ends: NDArray[np.bool_], numbers: NDArray[np.int64]
) -> dict[str, NDArray[np.generic]]:
    """Returns what the control inputs take, `[batch]` each.

    Args:
        starts: `[batch]`, whether a row is its session's first run.
        ends: `[batch]`, whether it is its last.
        numbers: `[batch]`, the sessions' numbers, as `Sessions.number` has them; a dtype that is too small takes the low bits.
    """
    told = {"start": starts, "end": ends, "ready": np.ones(len(numbers), np.bool_)}
    return {
        each.input: (numbers if each.kind == "corrid" else np.where(told[each.kind], each.on, each.off)).astype(each.dtype)
        for each in controls
    }
