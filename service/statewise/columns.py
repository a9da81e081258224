"""Steps ↔ columns: single steps are laid side by side for a run, and a step's cuts are joined after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from statewise.engine import Batch
from statewise.spec import ModelSpec

Array = NDArray[np.generic]


def gathered(spec: ModelSpec, chunks: Sequence[Mapping[str, Array]], sources: Sequence[int], targets: Sequence[int]) -> Batch:
    """Returns the batch of chunks `[timesteps, …]` of unlike length: columns of `[longest, batch, …]`, padded with zeros."""
    first = spec.inputs[0].name
    lengths = np.array([len(chunk[first]) for chunk in chunks], np.int32)
    inputs = {}
    for tensor in spec.inputs:
        column = np.zeros((int(lengths.max()), len(chunks), *tensor.shape), tensor.dtype)
        for place, chunk in enumerate(chunks):
            column[: lengths[place], place] = chunk[tensor.name]
        inputs[tensor.name] = column
    return Batch(inputs, lengths, np.array(sources, np.int64), np.array(targets, np.int64))


def joined(parts: Sequence[Mapping[str, Array]], last_only: bool) -> dict[str, Array]:
    """Returns the outputs `[timesteps, …]` of a step that ran in cuts; of the last timestep alone where that is asked for."""
    if last_only:
        return {name: array[-1:] for name, array in parts[-1].items()}
    if len(parts) == 1:
        return dict(parts[0])
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
