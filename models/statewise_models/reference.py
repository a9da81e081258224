"""The cells in NumPy, straight from the textbooks' equations: what the tests believe.

One short function a cell takes one timestep and the state, and returns the new state. Slow and plain on purpose. Weights come with
a block of rows for each gate in torch's order; `blocks` takes them apart.

Sources: Elman (1990), Finding structure in time; Hochreiter & Schmidhuber (1997), Long short-term memory, with the forget gate of
Gers, Schmidhuber & Cummins (2000), Learning to forget; Cho et al. (2014), Learning phrase representations using RNN
encoder–decoder, with the reset gate upon the recurrent product, as cuDNN and ONNX (`linear_before_reset`) have it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from statewise_models.config import GATES, NetworkConfig

Floats = NDArray[np.float64]
Weights = Mapping[str, Floats]


def relu(value: Floats) -> Floats:
    """Returns max(value, 0)."""
    return np.maximum(value, 0.0)


def sigmoid(value: Floats) -> Floats:
    """Returns 1 / (1 + e^−value)."""
    return np.asarray(1.0 / (1.0 + np.exp(-value)))


def elman(x: Floats, hidden: Floats, w: Floats, r: Floats, b: Floats, activation: str = "tanh") -> Floats:
    """Returns the hidden state after `x`: hidden' = f(W [x, hidden] + b).

    Args:
        x: `[batch, inputs]`.
        hidden: `[batch, units]`; zeros at first.
        w: `[units, inputs]`.
        r: `[units, units]`: an Elman cell sees its inputs and its own last hidden state, `inputs + units` values.
        b: `[units]`.
    """
    seen = np.concatenate([x, hidden], axis=-1)
    drive = seen @ np.concatenate([w, r], axis=1).T + b
    return relu(drive) if activation == "relu" else np.tanh(drive)


def lstm(x: Floats, hidden: Floats, cell: Floats, w: Floats, r: Floats, b: Floats) -> tuple[Floats, Floats]:
    """Returns hidden and cell state after `x`: C' = f∘C + i∘candidate, hidden' = o∘tanh(C').

    Args:
        w, r, b: blocks for input gate, forget gate, candidate and output gate, in this order: `[4·units, …]`.
    """
    input_gate, forget_gate, candidate, output_gate = blocks(x @ w.T + hidden @ r.T + b, 4)
    cell = sigmoid(forget_gate) * cell + sigmoid(input_gate) * np.tanh(candidate)
    return sigmoid(output_gate) * np.tanh(cell), cell


def gru(x: Floats, hidden: Floats, w: Floats, r: Floats, b: Floats, recurrent_b: Floats) -> Floats:
    """Returns the hidden state after `x`: hidden' = (1 − update)∘candidate + update∘hidden.

    Args:
        w, r, b, recurrent_b: blocks for reset gate, update gate and candidate, in this order: `[3·units, …]`. The recurrent bias
            stands apart, since the reset gate scales the candidate's recurrent product with its bias.
    """
    from_x, from_hidden = blocks(x @ w.T + b, 3), blocks(hidden @ r.T + recurrent_b, 3)
    reset, update = sigmoid(from_x[0] + from_hidden[0]), sigmoid(from_x[1] + from_hidden[1])
    candidate = np.tanh(from_x[2] + reset * from_hidden[2])
    return np.asarray((1.0 - update) * candidate + update * hidden)


def blocks(value: Floats, count: int) -> list[Floats]:
    """Returns the gates' parts of the last axis."""
    return np.split(value, count, axis=-1)


def run(config: NetworkConfig, weights: Weights, inputs: Mapping[str, NDArray[np.generic]]) -> Floats:
    """Returns the raw outputs `[timesteps, batch, …]` of a whole network from the initial state on.

    Args:
        weights: the network's `state_dict` as arrays.
        inputs: raw, as the served model takes them.
    """
    vectors = _front(config, weights, inputs)
    for layer in range(config.layers):
        vectors = _layer(config, weights, layer, vectors)
    return _head(config, vectors @ weights["head.weight"].T + weights["head.bias"], inputs)


def recurrent_weights(config: NetworkConfig) -> int:
    """Returns how many weights tie one layer to its own last hidden state: one square for each gate."""
    return GATES[config.cell] * config.hidden_size**2


def _layer(config: NetworkConfig, weights: Weights, layer: int, vectors: Floats) -> Floats:
    w, r, b, recurrent_b = (
        weights[f"recurrent.{name}_l{layer}"].astype(np.float64) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    hidden = cell = np.zeros((vectors.shape[1], config.hidden_size))
    sequence = []
    for x in vectors:
        if config.cell == "elman":
            hidden = elman(x, hidden, w, r, b + recurrent_b, config.activation)
        elif config.cell == "lstm":
            hidden, cell = lstm(x, hidden, cell, w, r, b + recurrent_b)
        else:
            hidden = gru(x, hidden, w, r, b, recurrent_b)
        sequence.append(hidden)
    return np.stack(sequence)


def _front(config: NetworkConfig, weights: Weights, inputs: Mapping[str, NDArray[np.generic]]) -> Floats:
    if config.vocabulary:
        return weights["embedding.weight"].astype(np.float64)[inputs["token"].astype(np.int64)]
    columns: list[Floats] = []
    x = inputs["x"].astype(np.float64)
    for place, feature in enumerate(config.features):
        known = np.where(np.isnan(x[..., place]), feature.mean, x[..., place])
        columns.append((known - feature.mean) / feature.scale)
    columns += [np.isnan(x[..., place]).astype(np.float64) for place in config.masked]
    columns += _waves(config, inputs)
    return np.stack(columns, axis=-1)


def _waves(config: NetworkConfig, inputs: Mapping[str, NDArray[np.generic]]) -> Sequence[Floats]:
    if not config.calendar:
        return []
    time = inputs[config.calendar.input].astype(np.int64)
    turns = [
        2 * np.pi * harmonic * (time % period) / period
        for period in config.calendar.periods
        for harmonic in range(1, config.harmonics + 1)
    ]
    return [wave(turn) for turn in turns for wave in (np.sin, np.cos)]


def _head(config: NetworkConfig, values: Floats, inputs: Mapping[str, NDArray[np.generic]]) -> Floats:
    if config.task == "tokens":
        return values
    if config.task == "classify":
        powers = np.exp(values - values.max(axis=-1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=-1, keepdims=True))
    raw = values * [target.scale for target in config.targets] + [target.mean for target in config.targets]
    for place, source in enumerate(config.base_places):
        if source is not None:
            raw[..., place] += inputs["x"][..., source].astype(np.float64)
    return np.asarray(raw)
