"""How far back a loss reaches: the norm of its gradient by the states that a session carried k timesteps before.

The network is walked a timestep at a time, so that each state between two timesteps is a tensor of its own:

    state ─ timestep ─ state ─ timestep ─ … ─ state ─ timestep t ─ loss_t
      └ k timesteps back                        └ k = 1

A state is differentiated as it is carried: all that leads from it to the loss counts, through every layer and gate. It is done in
float64, since what an Elman cell has left after 100 timesteps may be less than float32 can hold.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from statewise_models.network import Network

Inputs = Mapping[str, Tensor]
Norms = NDArray[np.float64]

GONE = 0.01
"""The share of a gradient below which hardly anything is left of it."""


def gradient_norms(
    network: Network, inputs: Inputs, states: Sequence[Tensor], losses: Callable[[Tensor], Tensor], ends: Tensor
) -> dict[str, Norms]:
    """Returns ‖∂loss / ∂state k timesteps back‖ by the kind of state (`hidden`, `cell_state`), all layers together.

    Args:
        inputs: raw, `[timesteps, batch, …]` each.
        states: what each row carries into the first timestep.
        losses: makes each row's own loss `[batch]` of the head's values `[timesteps, batch, head_size]` at its last timestep.
        ends: int64 `[batch]`, the place of each row's last timestep, at least 1.

    Returns:
        Arrays `[largest end, batch]`, k = 1 first; NaN where a row has not so many timesteps.
    """
    exact = copy.deepcopy(network).double()
    wide = {name: tensor.double() if tensor.is_floating_point() else tensor for name, tensor in inputs.items()}
    carried = [[state.double().detach().requires_grad_() for state in states]]
    values = []
    for now in range(int(ends.max()) + 1):
        value, new = exact({name: tensor[now : now + 1] for name, tensor in wide.items()}, carried[-1])
        values.append(value)
        carried.append(new)
    total = losses(torch.cat(values)).sum()
    between = [state for now in carried[1:-1] for state in now]
    gradients = torch.autograd.grad(total, between, allow_unused=True)
    names = exact.config.state_names
    return {
        kind: _by_distance([gradients[place :: len(names)] for place in places], ends) for kind, places in _kinds(names).items()
    }


def _by_distance(states: Sequence[Sequence[Tensor | None]], ends: Tensor) -> Norms:
    """Orders norms over several states, each given after every timestep, by the distance from the row's last timestep."""
    like = next(gradient for of_state in states for gradient in of_state if gradient is not None)
    rows = torch.arange(len(ends))
    timesteps = len(states[0])
    squares = torch.zeros(timesteps, len(ends), dtype=torch.float64)
    for of_state in states:
        for now, gradient in enumerate(of_state):
            squares[now] += (torch.zeros_like(like) if gradient is None else gradient).square().sum(dim=-1)
    norms = torch.full((timesteps, len(ends)), torch.nan, dtype=torch.float64)
    for back in range(1, timesteps + 1):
        long = rows[ends >= back]
        norms[back - 1, long] = squares[ends[long] - back, long].sqrt()
    return norms.numpy()


def _kinds(names: Sequence[str]) -> dict[str, list[int]]:
    """Returns the places of states by their kind: `hidden_0` and `hidden_1` are of the kind `hidden`."""
    kinds: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        kinds.setdefault(name.rstrip("0123456789").rstrip("_"), []).append(place)
    return kinds


def shares(norms: Norms) -> Norms:
    """Returns, of norms `[distances, windows]`, the median share of the first that is left at each distance `[distances]`.

    Windows without a first gradient are left out; NaN where no window is left.
    """
    left = np.full_like(norms, np.nan)
    np.divide(norms, norms[0], out=left, where=norms[0] > 0)
    told = np.full(len(left), np.nan)
    known = ~np.isnan(left).all(axis=1)
    told[known] = np.nanmedian(left[known], axis=1)
    return told


def gone(left: Norms) -> int | None:
    """Returns the first distance at which less than `GONE` of `shares` is left, or `None` if there is none."""
    under = np.flatnonzero(left < GONE)
    return int(under[0]) + 1 if len(under) else None
