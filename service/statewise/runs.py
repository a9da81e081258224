"""One batch through the engine; if it fails, its steps one at a time, so that only the culprit fails. Runs in any thread."""

from __future__ import annotations

import numpy as np

from statewise.engine import Batch, Outcome
from statewise.models import Served
from statewise.runtime import EngineError

SHORT_SECONDS = 1e-3
"""Shorter runs go on the event loop itself: to hand one to the thread and back costs more than the loop could do meanwhile."""


def is_short(model: Served, steps: int, timesteps: int) -> bool:
    """Whether a run of so many steps, of up to so many timesteps, will be over soon."""
    return model.loaded.expected_seconds(steps, timesteps) < SHORT_SECONDS


def run_apart(model: Served, batch: Batch) -> tuple[Outcome, dict[int, EngineError]]:
    """Runs a batch and returns its outcome, and what went wrong with which of its steps; those are not `finite`.

    The sources are immutable, so a second run reads what the first one read.
    """
    try:
        return model.loaded.engine.run(batch, model.pool.states), {}
    except EngineError as problem:
        if problem.fatal:
            raise
        if len(batch.source) == 1:
            return _nothing(model, batch), {0: problem}
    parts = [run_apart(model, _step(batch, seat)) for seat in range(len(batch.source))]
    outputs = {
        tensor.name: np.concatenate([outcome.outputs[tensor.name] for outcome, _ in parts], axis=1) for tensor in model.spec.outputs
    }
    finite = np.concatenate([outcome.finite for outcome, _ in parts])
    return Outcome(outputs, finite), {seat: problems[0] for seat, (_, problems) in enumerate(parts) if problems}


def _step(batch: Batch, seat: int) -> Batch:
    """Returns one step of a batch; it stays padded, so that all outputs have one length."""
    here = slice(seat, seat + 1)
    return Batch(
        {name: array[:, here] for name, array in batch.inputs.items()},
        batch.lengths[here],
        batch.source[here],
        batch.target[here],
        {name: array[here] for name, array in batch.controls.items()},
    )


def _nothing(model: Served, batch: Batch) -> Outcome:
    timesteps = len(next(iter(batch.inputs.values())))
    outputs = {tensor.name: np.zeros((timesteps, 1, *tensor.shape), tensor.dtype) for tensor in model.spec.outputs}
    return Outcome(outputs, np.zeros(1, np.bool_))
