"""The cells in NumPy, straight from the textbooks' equations: what the tests believe.

One short function a cell takes one timestep and the state, and returns what the cell computes, by name: its gates and the new
state. Slow and plain on purpose. Weights come with a block of rows for each gate in torch's order; `blocks` takes them apart.

Sources: Elman (1990), Finding structure in time; Jordan (1986), Serial order: a parallel distributed processing approach;
Hochreiter & Schmidhuber (1997), Long short-term memory, with the forget gate of Gers, Schmidhuber & Cummins (2000), Learning to
forget, and the peepholes of Gers & Schmidhuber (2000), Recurrent nets that time and count; Cho et al. (2014), Learning phrase
representations using RNN encoder–decoder, with the reset gate upon the recurrent product, as cuDNN and ONNX
(`linear_before_reset`) have it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from statewise_models.config import GATES, OUT, TRACED, NetworkConfig

Floats = NDArray[np.float64]
Weights = Mapping[str, Floats]
Computed = dict[str, Floats]


def relu(value: Floats) -> Floats:
    """Returns max(value, 0)."""
    return np.maximum(value, 0.0)


def sigmoid(value: Floats) -> Floats:
    """Returns 1 / (1 + e^−value)."""
    return np.asarray(1.0 / (1.0 + np.exp(-value)))


def elman(x: Floats, hidden: Floats, w: Floats, r: Floats, b: Floats, activation: str = "tanh") -> Computed:
    """Returns the hidden state after `x`: hidden' = f(W [x, hidden] + b).

    Args:
        x: `[batch, inputs]`.
        hidden: `[batch, units]`; zeros at first. In a feedback network, all the outputs of the last timestep that the layer sees.
        w: `[units, inputs]`.
        r: `[units, units]`: an Elman cell sees its inputs and its own last hidden state, `inputs + units` values.
        b: `[units]`.
    """
    seen = np.concatenate([x, hidden], axis=-1)
    drive = seen @ np.concatenate([w, r], axis=1).T + b
    return {"hidden": relu(drive) if activation == "relu" else np.tanh(drive)}


def lstm(
    x: Floats, hidden: Floats, cell_state: Floats, w: Floats, r: Floats, b: Floats, peephole: Floats | None = None
) -> Computed:
    """Returns gates, hidden and cell state after `x`: C' = f∘C + i∘candidate, hidden' = o∘tanh(C').

    Args:
        w, r, b: blocks for input gate, forget gate, candidate and output gate, in this order: `[4·units, …]`.
        peephole: of an LSTM whose gates see the cell state, one weight a unit for input, forget and output gate, `[3·units]`: the
            first two see C, the output gate C'.
    """
    units = hidden.shape[-1]
    of_input, of_forget, of_output = blocks(np.zeros(3 * units) if peephole is None else peephole, 3)
    input_gate, forget_gate, candidate, output_gate = blocks(x @ w.T + hidden @ r.T + b, 4)
    i, f = sigmoid(input_gate + of_input * cell_state), sigmoid(forget_gate + of_forget * cell_state)
    candidate = np.tanh(candidate)
    new = f * cell_state + i * candidate
    o = sigmoid(output_gate + of_output * new)
    return {"f": f, "i": i, "o": o, "candidate": candidate, "cell_state": new, "hidden": o * np.tanh(new)}


def gru(x: Floats, hidden: Floats, w: Floats, r: Floats, b: Floats, recurrent_b: Floats) -> Computed:
    """Returns gates and hidden state after `x`: hidden' = (1 − update)∘candidate + update∘hidden.

    Args:
        w, r, b, recurrent_b: blocks for reset gate, update gate and candidate, in this order: `[3·units, …]`. The recurrent bias
            stands apart, since the reset gate scales the candidate's recurrent product with its bias.
    """
    from_x, from_hidden = blocks(x @ w.T + b, 3), blocks(hidden @ r.T + recurrent_b, 3)
    reset, update = sigmoid(from_x[0] + from_hidden[0]), sigmoid(from_x[1] + from_hidden[1])
    candidate = np.tanh(from_x[2] + reset * from_hidden[2])
    new = np.asarray((1.0 - update) * candidate + update * hidden)
    return {"reset": reset, "update": update, "candidate": candidate, "hidden": new}


def blocks(value: Floats, count: int) -> list[Floats]:
    """Returns the gates' parts of the last axis."""
    return np.split(value, count, axis=-1)


def run(config: NetworkConfig, weights: Weights, inputs: Mapping[str, NDArray[np.generic]]) -> Floats:
    """Returns the raw outputs `[timesteps, batch, …]` of a whole network from the initial state on.

    Args:
        weights: the network's `state_dict` as arrays.
        inputs: raw, as the served model takes them.
    """
    hidden = trace(config, weights, inputs)[f"hidden_{config.layers - 1}"]
    return _head(config, _values(weights, hidden), inputs)


def trace(config: NetworkConfig, weights: Weights, inputs: Mapping[str, NDArray[np.generic]]) -> Computed:
    """Returns what every layer computes, `[timesteps, batch, units]` each: `f_0`, `hidden_0` …, in the order of `TRACED`.

    A network whose output is fed back also has `output`, the head's values. Arguments as `run`.
    """
    vectors = _front(config, weights, inputs)
    if config.routes:
        return _feedback(config, weights, vectors)
    traced: Computed = {}
    for layer in range(config.layers):
        computed = _layer(config, weights, layer, vectors)
        traced |= {f"{name}_{layer}": computed[name] for name in TRACED[config.cell]}
        vectors = computed["hidden"]
    return traced


def recurrent_weights(config: NetworkConfig) -> int:
    """Returns how many weights tie one layer to its own last hidden state: one square for each gate."""
    return GATES[config.cell] * config.hidden_size**2


def _layer(config: NetworkConfig, weights: Weights, layer: int, vectors: Floats) -> Computed:
    w, r, b, recurrent_b = (
        weights[f"recurrent.{name}_l{layer}"].astype(np.float64) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    hidden = cell_state = np.zeros((vectors.shape[1], config.hidden_size))
    steps = []
    for x in vectors:
        if config.cell == "elman":
            computed = elman(x, hidden, w, r, b + recurrent_b, config.activation)
        elif config.cell == "gru":
            computed = gru(x, hidden, w, r, b, recurrent_b)
        else:
            computed = lstm(x, hidden, cell_state, w, r, b + recurrent_b, weights.get(f"recurrent.peephole_l{layer}"))
            cell_state = computed["cell_state"]
        hidden = computed["hidden"]
        steps.append(computed)
    return _stacked(steps)


def _feedback(config: NetworkConfig, weights: Weights, vectors: Floats) -> Computed:
    """Walks all layers together: each sees the layer below at this timestep, and by its routes outputs of the last one."""
    last = {name: np.zeros((vectors.shape[1], size)) for name, size in config.state_sizes.items()}
    steps = []
    for x in vectors:
        computed: Computed = {}
        for layer in range(config.layers):
            routes = [route for route in config.routes if route.target == layer + 1]
            seen = np.concatenate([x[:, :0], *(last[route.state] for route in routes)], axis=-1)
            r = weights.get(f"recurrent.weight_hh_l{layer}", np.zeros((config.hidden_size, 0)))
            w, b = weights[f"recurrent.weight_ih_l{layer}"], weights[f"recurrent.bias_ih_l{layer}"]
            x = computed[f"hidden_{layer}"] = elman(x, seen, w, r, b, config.activation)["hidden"]
        if any(route.source == OUT for route in config.routes):
            computed["output"] = _values(weights, x)
        last = {name: computed[name] for name in last}
        steps.append(computed)
    return _stacked(steps)


def _stacked(steps: Sequence[Computed]) -> Computed:
    return {name: np.stack([computed[name] for computed in steps]) for name in steps[0]}


def _values(weights: Weights, hidden: Floats) -> Floats:
    """Returns the head's values, before they become raw outputs."""
    return np.asarray(hidden @ weights["head.weight"].T + weights["head.bias"])


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
