"""Random carried conversations in the units of a model's inputs, and what torch answers to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from statewise.spec import SERIES_MEAN, SERIES_SCALE
from statewise_models.config import NetworkConfig
from statewise_models.network import Network

MISSING_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Chunk:
    """The inputs of one call, each `[timesteps, batch, …]`, and the int64 timesteps `[batch]` of each row.

    Attributes:
        constants: what the rows were given when they began, `[batch, …]` each.
    """

    inputs: dict[str, NDArray[np.generic]]
    lengths: NDArray[np.int64]
    constants: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    def tensors(self, device: torch.device) -> dict[str, torch.Tensor]:
        """Returns what the network in torch takes: the inputs, and what was given as an input that does not change."""
        given = {name: array[None] for name, array in self.constants.items()}
        return {name: torch.from_numpy(array).to(device) for name, array in {**self.inputs, **given}.items()}


def conversation(
    config: NetworkConfig, shapes: Sequence[tuple[int, int]], *, seed: int, ragged: bool = False, masked: bool = True
) -> list[Chunk]:
    """Returns one chunk for each `(batch, timesteps)`, drawn around the features' means with their scales.

    Args:
        ragged: rows have random lengths, one of them the full one.
        masked: features that take NaN have some.
    """
    random = np.random.default_rng(seed)
    begin = int(random.integers(0, 10**6))
    given = _constants(config, random, max(batch for batch, _ in shapes))
    chunks = []
    for batch, timesteps in shapes:
        lengths = random.integers(1, timesteps + 1, batch) if ragged else np.full(batch, timesteps)
        lengths[random.integers(batch)] = timesteps
        constants = {name: array[:batch] for name, array in given.items()}
        inputs = _inputs(config, random, begin, timesteps, batch, masked, constants)
        chunks.append(Chunk(inputs, lengths.astype(np.int64), constants))
        begin += timesteps
    return chunks


def _constants(config: NetworkConfig, random: np.random.Generator, batch: int) -> dict[str, NDArray[np.float32]]:
    """Returns means and scales of series from tenths to thousands, `[batch, targets]` each."""
    if config.scale == "global":
        return {}
    scale = 10.0 ** random.uniform(-1, 3, (batch, len(config.targets)))
    mean = scale * random.normal(0, 5, scale.shape)
    return {SERIES_MEAN: mean.astype(np.float32), SERIES_SCALE: scale.astype(np.float32)}


def _inputs(
    config: NetworkConfig,
    random: np.random.Generator,
    begin: int,
    timesteps: int,
    batch: int,
    masked: bool,
    constants: dict[str, NDArray[np.float32]],
) -> dict[str, NDArray[np.generic]]:
    if config.vocabulary:
        return {"token": random.integers(0, len(config.vocabulary), (timesteps, batch))}
    mean = [feature.mean for feature in config.features]
    scale = [feature.scale for feature in config.features]
    x = random.normal(mean, scale, (timesteps, batch, len(mean))).astype(np.float32)
    for at, place in enumerate(config.target_places) if constants else ():
        if place is not None:
            x[..., at] = x[..., at] * constants[SERIES_SCALE][:, place] + constants[SERIES_MEAN][:, place]
    for place in config.masked if masked else ():
        x[..., place][random.random((timesteps, batch)) < MISSING_SHARE] = np.nan
    inputs: dict[str, NDArray[np.generic]] = {"x": x}
    if config.calendar:
        inputs[config.calendar.input] = np.arange(begin, begin + timesteps)[:, None] + np.arange(batch) * 1000
    return inputs


def torch_outputs(network: Network, chunks: Sequence[Chunk]) -> list[NDArray[np.float32]]:
    """Returns torch's raw outputs `[timesteps, batch, …]` to each chunk, the state carried from one to the next."""
    return [output for output, _ in torch_conversation(network, chunks)]


def torch_conversation(network: Network, chunks: Sequence[Chunk]) -> list[tuple[NDArray[np.float32], list[NDArray[np.float32]]]]:
    """Returns torch's raw outputs and new states to each chunk; every chunk must have the same batch."""
    training, answers = network.training, []
    network.eval()
    states = network.initial(len(chunks[0].lengths))
    with torch.no_grad():
        for chunk in chunks:
            output, states = network.predict(chunk.tensors(states[0].device), states, torch.from_numpy(chunk.lengths))
            answers.append((output.cpu().numpy(), [state.cpu().numpy() for state in states]))
    network.train(training)
    return answers
