"""A network and data of its kind → windows of the data, each with the state that a session would bring to it.

forecast, tokens   windows that end all over the series; the session has read all that came before
classify           whole sequences, each from the initial state
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from statewise_models.config import InvalidConfig, NetworkConfig
from statewise_models.data.labelled import Labelled, read_labelled
from statewise_models.data.policy import REFUSE, InvalidData, Policy
from statewise_models.data.table import Table, read_table
from statewise_models.data.text import Text, read_tokens
from statewise_models.memory.gradients import Norms, gradient_norms
from statewise_models.network import Network
from statewise_models.training.forecast import piece_of
from statewise_models.training.panel import scales_of

Data = Table | Labelled | Text


@dataclass(frozen=True, slots=True)
class Columns:
    """Where a file has what a network does not name itself.

    Attributes:
        series, time, label: columns, or `None`.
        policy: what to do about faults of the file.
    """

    series: str | None = None
    time: str | None = None
    label: str | None = None
    policy: Policy = REFUSE


@dataclass(frozen=True, slots=True, eq=False)
class _Sequence:
    """One series: inputs `[timesteps, …]` by name, and the goals, `[timesteps, …]`, that belong to the same timesteps."""

    inputs: dict[str, Tensor]
    goals: Tensor


def norms_on(network: Network, path: Path, columns: Columns, back: int, windows: int) -> dict[str, Norms]:
    """Returns `norms_in` of a file.

    Raises:
        InvalidData: the file cannot be read, lacks a column, or no series is long enough.
        InvalidConfig: an option that the task needs is absent.
    """
    return norms_in(network, _read(network.config, path, columns), back, windows, str(path))


def norms_in(network: Network, data: Data, back: int, windows: int, called: str = "the data") -> dict[str, Norms]:
    """Returns `gradient_norms` of a network over up to `windows` windows of data of its kind, up to `back` timesteps back.

    Raises:
        InvalidData: no series is long enough; the message names the data as `called`.
    """
    if isinstance(data, Labelled):
        return _of_sequences(network, data, back, windows, called)
    if isinstance(data, Text):
        tokens = torch.from_numpy(data.tokens)
        return _of_series(network, [_Sequence({"token": tokens[:-1]}, tokens[1:])], _next_token, back, windows, called)
    return _of_series(network, _series(network.config, data), _squared_error, back, windows, called)


def _read(config: NetworkConfig, path: Path, columns: Columns) -> Data:
    """Reads a file as the network was trained on one."""
    names = [feature.name for feature in config.features]
    if config.vocabulary:
        return read_tokens(path, config.vocabulary)
    if config.task == "forecast":
        targets = [target.name for target in config.targets]
        known = [feature.name for feature in config.features if feature.ahead]
        seen = [name for name in names if name not in known]
        return read_table(
            path, targets=targets, inputs=seen, known=known, series=columns.series, time=columns.time, policy=columns.policy
        )
    if columns.label is None or columns.series is None:
        raise InvalidConfig("a model that classifies needs --label and --series, the columns of labels and of sequences")
    return read_labelled(
        path,
        inputs=names,
        label=columns.label,
        series=columns.series,
        time=columns.time,
        policy=columns.policy,
        known=config.labels,
    )


def _of_series(
    network: Network,
    series: Sequence[_Sequence],
    loss: Callable[[Tensor, Tensor], Tensor],
    back: int,
    windows: int,
    called: str,
) -> dict[str, Norms]:
    possible = [_ends(one, back) for one in series]
    owners, ends = np.repeat(np.arange(len(series)), [len(each) for each in possible]), np.concatenate(possible)
    if not len(ends):
        longest = max(len(one.goals) for one in series) + 1
        raise InvalidData(
            f"{called}: its longest series has {longest} timesteps; back {back} takes {back + 2} (less back would fit)"
        )
    chosen = np.linspace(0, len(ends) - 1, min(windows, len(ends))).astype(np.int64)
    inputs, states, goals = [], [], []
    for number, one in enumerate(series):
        mine = ends[chosen][owners[chosen] == number].tolist()
        states += _carried(network, one, [end - back for end in mine])
        inputs += [{name: tensor[end - back : end + 1] for name, tensor in one.inputs.items()} for end in mine]
        goals += [one.goals[end] for end in mine]
    stacked = {name: torch.stack([window[name] for window in inputs], dim=1) for name in inputs[0]}
    together = [torch.cat(parts) for parts in zip(*states, strict=True)]
    goal = torch.stack(goals)
    return gradient_norms(network, stacked, together, lambda values: loss(values, goal), torch.full((len(goals),), back))


def _ends(one: _Sequence, back: int) -> NDArray[np.int64]:
    """Returns the timesteps whose goals are known and that have `back` timesteps before them."""
    known = ~torch.isnan(one.goals.double()).numpy()
    # A part of a series may have no timestep at all.
    some: NDArray[np.bool_] = np.any(known.reshape(len(known), math.prod(known.shape[1:])), axis=1)
    return np.flatnonzero(some[back:]) + back


@torch.no_grad()
def _carried(network: Network, one: _Sequence, begins: Sequence[int]) -> list[list[Tensor]]:
    """Returns the states `[1, size]` that a session has when it has read all timesteps before each of `begins`, which ascend."""
    carried, read, states = [], 0, network.initial(1)
    for begin in begins:
        if begin > read:
            _, states = network({name: tensor[read:begin, None] for name, tensor in one.inputs.items()}, states)
            read = begin
        carried.append(states)
    return carried


def _of_sequences(network: Network, data: Labelled, back: int, windows: int, called: str) -> dict[str, Norms]:
    config = network.config
    long = [sequence for sequence in data.sequences if len(sequence.x) > 1]
    if not long:
        raise InvalidData(f"{called}: every sequence has one timestep only, so there is nothing to look back on")
    chosen = [long[int(place)] for place in np.linspace(0, len(long) - 1, min(windows, len(long)))]
    inputs = {"x": pad_sequence([torch.from_numpy(sequence.x) for sequence in chosen])}
    if config.calendar:
        inputs[config.calendar.input] = pad_sequence([torch.from_numpy(sequence.time) for sequence in chosen])
    goals = torch.tensor([sequence.label for sequence in chosen])
    ends = torch.tensor([len(sequence.x) - 1 for sequence in chosen])

    def loss(values: Tensor) -> Tensor:
        return cross_entropy(values[ends, torch.arange(len(ends))], goals, reduction="none")

    found = gradient_norms(network, inputs, network.initial(len(chosen)), loss, ends)
    return {kind: norms[:back] for kind, norms in found.items()}


def _series(config: NetworkConfig, table: Table) -> list[_Sequence]:
    made = []
    for series in table.series:
        piece = piece_of(config, scales_of(config), series)
        inputs = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in piece.inputs.items()}
        made.append(_Sequence(inputs, torch.from_numpy(piece.goals)))
    return made


def _squared_error(values: Tensor, goal: Tensor) -> Tensor:
    """Returns the squared error of the last timestep's forecast, each target in units of its scale, summed over targets."""
    return (values[-1] - goal).square().sum(dim=-1)


def _next_token(values: Tensor, goal: Tensor) -> Tensor:
    return cross_entropy(values[-1], goal, reduction="none")
