"""Recurrent layers gate by gate, as loops over time (ONNX `Scan`) instead of the fused RNN, LSTM and GRU ops.

Two graphs need them: a feedback network's, which no fused op computes, and the explicit-gate graph (`builder.build_trace`), which
returns what every cell computes at each timestep under the names of `reference`. The products with the inputs of all timesteps
stand before the loop.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from statewise_models.config import OUT, TRACED, NetworkConfig
from statewise_models.export.nodes import Graph, Loop

Weights = Mapping[str, NDArray[np.float32]]
Computed = dict[str, str]
"""What a cell computes at a timestep, by `reference`'s names: the names of the tensors."""


def trace(graph: Graph, config: NetworkConfig, weights: Weights, vectors: str) -> dict[str, int]:
    """Adds all layers, from the initial state on; returns the names of their sequences `[time, batch, size]`, and the sizes.

    The names are those of `reference.trace`.
    """
    first = {name: _zeros(graph, vectors, name, size) for name, size in config.state_sizes.items()}
    if config.routes:
        names = [f"hidden_{layer}" for layer in range(config.layers)] + ["output"] * ("output" in config.state_sizes)
        feedback(graph, config, weights, vectors, first, {name: name for name in names})
        return {name: config.state_sizes.get(name, config.hidden_size) for name in names}
    for layer in range(config.layers):
        _layer(graph, config, weights, layer, vectors, first)
        vectors = f"hidden_{layer}"
    return {f"{name}_{layer}": config.hidden_size for layer in range(config.layers) for name in TRACED[config.cell]}


def feedback(
    graph: Graph,
    config: NetworkConfig,
    weights: Weights,
    vectors: str,
    first: Mapping[str, str],
    sequences: Mapping[str, str],
    alive: str | None = None,
) -> None:
    """Adds all layers of a feedback network as one loop.

    Args:
        vectors: what the first layer sees, `[time, batch, front_size]`.
        first: for each state, the tensor that it begins as. After the loop, states are named `…_next`.
        sequences: which outputs are returned of every timestep (`hidden_0`, `output` …), and the names of these sequences.
        alive: bool `[time, batch, 1]`, which rows have the timestep: others stand still. `None`: all have.
    """
    driven = _driven(graph, weights, 0, vectors, weights["recurrent.bias_ih_l0"])
    loop = Loop(graph, "feedback")
    kept = {name: loop.carry(tensor) for name, tensor in first.items()}
    drive = loop.take(driven)
    now = loop.take(alive, TensorProto.BOOL) if alive else ""
    computed: Computed = {}
    for layer in range(config.layers):
        if layer:
            drive = _product(loop, weights, f"recurrent.weight_ih_l{layer}", computed[f"hidden_{layer - 1}"])
            bias = loop.constant(f"bias_{layer}", weights[f"recurrent.bias_ih_l{layer}"])
            drive = loop.add("Add", [drive, bias], f"driven_{layer}")
        if fed := [kept[route.state] for route in config.routes if route.target == layer + 1]:
            seen = loop.add("Concat", fed, f"seen_{layer}", axis=1) if len(fed) > 1 else fed[0]
            drive = loop.add("Add", [drive, _product(loop, weights, f"recurrent.weight_hh_l{layer}", seen)], f"drive_{layer}")
        computed[f"hidden_{layer}"] = loop.add(_activation(config), [drive], f"hidden_{layer}")
    if any(route.source == OUT for route in config.routes):  # the same product again stands after the loop, for all timesteps
        product = _product(loop, weights, "head.weight", computed[f"hidden_{config.layers - 1}"])
        computed["output"] = loop.add("Add", [product, loop.constant("head_bias", weights["head.bias"])], "output")
    new = {name: computed[name] for name in first}
    if alive:
        new = {name: loop.add("Where", [now, value, kept[name]], f"{name}/stays") for name, value in new.items()}
    states = {tensor: (new[name], f"{name}_next") for name, tensor in first.items()}
    loop.close(states, {computed[name]: sequence for name, sequence in sequences.items()})


def _layer(graph: Graph, config: NetworkConfig, weights: Weights, layer: int, vectors: str, first: Mapping[str, str]) -> None:
    """Adds one layer, with a sequence for each name that its cell has in `TRACED`."""
    bias, recurrent_bias = (weights[f"recurrent.{name}_l{layer}"] for name in ("bias_ih", "bias_hh"))
    driven = _driven(graph, weights, layer, vectors, bias if config.cell == "gru" else bias + recurrent_bias)
    loop = Loop(graph, f"{config.cell}_{layer}")
    own = {name: tensor for name, tensor in first.items() if name.endswith(f"_{layer}")}
    last = [loop.carry(tensor) for tensor in own.values()]
    drive, recurrent = loop.take(driven), _product(loop, weights, f"recurrent.weight_hh_l{layer}", last[0])
    if config.cell == "gru":
        recurrent = loop.add("Add", [recurrent, loop.constant(f"recurrent_bias_{layer}", recurrent_bias)], "recurrent")
        computed = _gru(loop, drive, recurrent, last[0])
    elif config.cell == "elman":
        computed = {"hidden": loop.add(_activation(config), [loop.add("Add", [drive, recurrent], "drive")], "hidden")}
    else:
        peephole = weights.get(f"recurrent.peephole_l{layer}")
        computed = _lstm(loop, loop.add("Add", [drive, recurrent], "drive"), last[1], layer, peephole)
    states = {tensor: (computed[name.removesuffix(f"_{layer}")], f"{name}_next") for name, tensor in own.items()}
    loop.close(states, {computed[name]: f"{name}_{layer}" for name in TRACED[config.cell]})


def _lstm(loop: Loop, drive: str, cell: str, layer: int, peephole: NDArray[np.float32] | None) -> Computed:
    """Adds one timestep of an LSTM; `peephole` has a block for i, f and o, or is `None`."""
    drives = dict(zip(("i", "f", "candidate", "o"), loop.split(drive, [f"drive/{name}" for name in "ifco"]), strict=True))
    eyes = {} if peephole is None else dict(zip("ifo", np.split(peephole, 3), strict=True))

    def gate(name: str, seen: str) -> str:
        if name in eyes:
            glance = loop.add("Mul", [seen, loop.constant(f"peephole_{name}_{layer}", eyes[name])], f"glance/{name}")
            drives[name] = loop.add("Add", [drives[name], glance], f"seen/{name}")
        return loop.add("Sigmoid", [drives[name]], name)

    f, i, candidate = gate("f", cell), gate("i", cell), loop.add("Tanh", [drives["candidate"]], "candidate")
    kept, taken = loop.add("Mul", [f, cell], "kept"), loop.add("Mul", [i, candidate], "taken")
    new = loop.add("Add", [kept, taken], "cell_state")
    o = gate("o", new)
    hidden = loop.add("Mul", [o, loop.add("Tanh", [new], "squashed")], "hidden")
    return {"f": f, "i": i, "o": o, "candidate": candidate, "cell_state": new, "hidden": hidden}


def _gru(loop: Loop, drive: str, recurrent: str, hidden: str) -> Computed:
    """Adds one timestep of a GRU."""
    gates = ("reset", "update", "candidate")
    from_x, from_hidden = loop.split(drive, [f"x/{gate}" for gate in gates]), loop.split(recurrent, [f"r/{gate}" for gate in gates])
    reset, update = (
        loop.add("Sigmoid", [loop.add("Add", [from_x[place], from_hidden[place]], f"drive/{gates[place]}")], gates[place])
        for place in (0, 1)
    )
    let_in = loop.add("Mul", [reset, from_hidden[2]], "let_in")
    candidate = loop.add("Tanh", [loop.add("Add", [from_x[2], let_in], "drive/candidate")], "candidate")
    rest = loop.add("Sub", [loop.constant("one", np.ones((), np.float32)), update], "rest")
    taken, kept = loop.add("Mul", [rest, candidate], "taken"), loop.add("Mul", [update, hidden], "kept")
    return {"reset": reset, "update": update, "candidate": candidate, "hidden": loop.add("Add", [taken, kept], "hidden")}


def _driven(graph: Graph, weights: Weights, layer: int, vectors: str, bias: NDArray[np.float32]) -> str:
    """Adds the inputs' part of a layer's drive, for all timesteps at once."""
    product = _product(graph, weights, f"recurrent.weight_ih_l{layer}", vectors)
    return graph.add("Add", [product, graph.constant(f"bias_{layer}", bias)], f"driven_{layer}")


def _product(graph: Graph | Loop, weights: Weights, name: str, vectors: str) -> str:
    """Adds vectors times a weight matrix of torch's, `[out, in]`."""
    short = name.removeprefix("recurrent.").replace(".", "_").replace("_l", "_")
    return graph.add("MatMul", [vectors, graph.constant(short, weights[name].T)], f"{short}_product")


def _activation(config: NetworkConfig) -> str:
    return {"tanh": "Tanh", "relu": "Relu"}[config.activation]


def _zeros(graph: Graph, vectors: str, name: str, size: int) -> str:
    """Adds the initial state `[batch, size]`."""
    batch = graph.add("Slice", [graph.add("Shape", [vectors], f"{name}_of"), *(_ints(graph, n) for n in (1, 2))], f"{name}_batch")
    shape = graph.add("Concat", [batch, _ints(graph, size)], f"{name}_shape", axis=0)
    return graph.add("ConstantOfShape", [shape], f"{name}_first")


def _ints(graph: Graph, number: int) -> str:
    return graph.constant(f"int_{number}", np.array([number], np.int64))
