"""Sequences → lanes → windows: how training reads many timesteps side by side and still carries every state.

A *piece* is a run of successive timesteps of one series. Pieces are laid end to end on parallel *lanes*, each begun at a window's
edge; the loop walks all lanes one *window* at a time. `fresh` tells it which lanes begin another piece, and so start from zeros.
What a lane has no timestep for is padding: its goals are void, and its state is never read again.

    lane 0  |aaaa|aaaa|aa··|dddd|      a, b, c, d: pieces    ·: padding
    lane 1  |bbbb|b···|cccc|c···|      fresh: windows 0 and 3 of lane 0, 0 and 2 of lane 1
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

VOID = -100  # the class index that `cross_entropy` skips; of real-valued goals, NaN

Array = NDArray[np.float32] | NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Successive timesteps of one series.

    Attributes:
        inputs: the network's inputs by name, `[timesteps, ...]`, float32 or int64.
        goals: what the head is to return, `[timesteps, ...]`: float32 (NaN: skip) or int64 (`VOID`: skip).
    """

    inputs: Mapping[str, Array]
    goals: Array

    def __len__(self) -> int:
        return len(self.goals)

    def part(self, begin: int, end: int) -> Piece:
        """Returns the timesteps from `begin` to before `end`."""
        return Piece({name: array[begin:end] for name, array in self.inputs.items()}, self.goals[begin:end])


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """What the loop learns from at once.

    Attributes:
        inputs: `[timesteps, lanes, ...]` by name.
        goals: `[timesteps, lanes, ...]`.
        fresh: bool `[lanes]`: those that start from zeros.
        lengths: int64 `[lanes]` on the CPU for a ragged window, or `None`.
    """

    inputs: dict[str, Tensor]
    goals: Tensor
    fresh: Tensor
    lengths: Tensor | None = None

    def to(self, device: torch.device) -> Window:
        """Returns the window with its tensors on `device` (lengths stay on the CPU)."""
        inputs = {name: tensor.to(device) for name, tensor in self.inputs.items()}
        return Window(inputs, self.goals.to(device), self.fresh.to(device), self.lengths)


@dataclass(frozen=True, slots=True, eq=False)
class Lanes:
    """Pieces laid on lanes; iterate for the windows, in order.

    Attributes:
        inputs, goals: `[windows · window, lanes, ...]`.
        fresh: bool `[windows, lanes]`.
        places: for each piece, its lane, first timestep and length.
        window: timesteps of a window.
    """

    inputs: dict[str, Tensor]
    goals: Tensor
    fresh: Tensor
    places: tuple[tuple[int, int, int], ...]
    window: int

    def __len__(self) -> int:
        return len(self.fresh)

    def __iter__(self) -> Iterator[Window]:
        for number, fresh in enumerate(self.fresh):
            when = slice(number * self.window, (number + 1) * self.window)
            yield Window({name: tensor[when] for name, tensor in self.inputs.items()}, self.goals[when], fresh)

    def pick(self, values: Tensor) -> list[NDArray[np.float32]]:
        """Returns, for each piece in the order given to `lay`, its part `[timesteps, ...]` of values `[timesteps, lanes, ...]`."""
        return [values[begin : begin + length, lane].numpy() for lane, begin, length in self.places]


def cut(pieces: Sequence[Piece], lanes: int, window: int) -> list[Piece]:
    """Cuts long pieces at windows' edges, so that `lanes` lanes come out about equally long."""
    share = -(-sum(map(len, pieces)) // lanes)
    longest = -(-share // window) * window
    return [piece.part(begin, begin + longest) for piece in pieces for begin in range(0, len(piece), longest)]


def lay(pieces: Sequence[Piece], lanes: int, window: int) -> Lanes:
    """Lays pieces, the longest first, each on the lane that is shortest so far; no lane stays empty."""
    ends = [0] * min(lanes, len(pieces))
    places = [(0, 0, 0)] * len(pieces)
    for number in sorted(range(len(pieces)), key=lambda number: -len(pieces[number])):
        lane = ends.index(min(ends))
        places[number] = (lane, ends[lane], len(pieces[number]))
        ends[lane] += -(-len(pieces[number]) // window) * window
    shape = (max(ends), len(ends))
    inputs = {name: _blank(array, shape, 0) for name, array in pieces[0].inputs.items()}
    goals = _blank(pieces[0].goals, shape, VOID)
    fresh = torch.zeros(shape[0] // window, shape[1], dtype=torch.bool)
    for piece, (lane, begin, length) in zip(pieces, places, strict=True):
        for name, array in piece.inputs.items():
            inputs[name][begin : begin + length, lane] = torch.from_numpy(array)
        goals[begin : begin + length, lane] = torch.from_numpy(piece.goals)
        fresh[begin // window, lane] = True
    return Lanes(inputs, goals, fresh, tuple(places), window)


def _blank(like: Array, shape: tuple[int, int], integer: int) -> Tensor:
    """Returns padding of `like`'s kind, `[*shape, ...]`: NaN for reals, `integer` for integers."""
    value = float("nan") if like.dtype.kind == "f" else integer
    return torch.full((*shape, *like.shape[1:]), value, dtype=torch.from_numpy(like[:0]).dtype)
