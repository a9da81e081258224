"""Network → plain ONNX graph, built op by op from the weights.

    (x | time | token [time, batch, …], lengths [batch], hidden_0 [batch, hidden], …)
        → front → one RNN/LSTM/GRU op a layer → head → (forecast | probability | logits, hidden_0_next, …)

A feedback network has a loop in place of those ops. Beside the plain graph stands the explicit-gate graph, which shows what the
cells do and is never served: raw inputs → front → loops → head → the output, and every gate and state of every timestep.

torch's own exporters either freeze the time axis or are deprecated (docs/decisions/0003), so the graph is written here. ONNX
Runtime's CUDA kernels do not match the recurrent ops of opset 22, so the opset must stay at 20 or below; 17 has all that is needed
here and is read by runtimes back to 2022.
"""

from __future__ import annotations

from importlib.metadata import version

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from statewise_models.config import GATES, NetworkConfig
from statewise_models.export import explicit, own_scale
from statewise_models.export.nodes import Graph
from statewise_models.network import TAU, Network

OPSET = 17
IR_VERSION = 8
LENGTHS = "lengths"
OUTPUT = {"forecast": "forecast", "classify": "probability", "tokens": "logits"}

# The order of the gates' blocks in ONNX, as places in torch's order: LSTM i,f,g,o → i,o,f,c; GRU r,z,n → z,r,h.
GATE_ORDER = {"elman": (0,), "lstm": (0, 3, 1, 2), "peephole": (0, 3, 1, 2), "gru": (1, 0, 2)}
_OP = {"elman": "RNN", "lstm": "LSTM", "peephole": "LSTM", "gru": "GRU"}


def build(network: Network) -> onnx.ModelProto:
    """Returns the plain graph of a network: dynamic time and batch, ragged batches by `lengths`, raw values in and out."""
    config, weights, graph = network.config, weights_of(network), Graph()
    vectors = _front(graph, config, weights)
    if config.routes:
        vectors = _feedback(graph, config, weights, vectors)
    else:
        for layer in range(config.layers):
            vectors = _layer(graph, config, weights, layer, vectors)
    _head(graph, config, weights, vectors)
    own_scale.pass_through(graph, config)
    states = [(name, size) for name, size in config.state_sizes.items()]
    lengths = helper.make_tensor_value_info(LENGTHS, TensorProto.INT32, ["batch"])
    taken = [lengths, *_raw_inputs(config), *(_state(*state) for state in states), *own_scale.infos(config)]
    returned = [_output(config), *(_state(f"{name}_next", size) for name, size in states), *own_scale.infos(config, "_next")]
    return _model(graph, config, taken, returned)


def build_trace(network: Network) -> onnx.ModelProto:
    """Returns the explicit-gate graph of a network: raw inputs of all timesteps → the raw output and what every layer computed.

    It begins from the initial state, and its rows are all of full length. Every output is `[time, batch, size]`; the names besides
    the raw output's are those of `reference.trace`: `f_0`, `hidden_0` …
    """
    config, weights, graph = network.config, weights_of(network), Graph()
    traced = explicit.trace(graph, config, weights, _front(graph, config, weights))
    _head(graph, config, weights, f"hidden_{config.layers - 1}")
    taken = [*_raw_inputs(config), *own_scale.infos(config)]
    return _model(graph, config, taken, [_output(config), *(_sequence(*each) for each in traced.items())])


def weights_of(network: Network) -> dict[str, NDArray[np.float32]]:
    """Returns the weights by torch's names."""
    return {name: tensor.detach().cpu().numpy().astype(np.float32) for name, tensor in network.state_dict().items()}


def _model(
    graph: Graph, config: NetworkConfig, taken: list[onnx.ValueInfoProto], returned: list[onnx.ValueInfoProto]
) -> onnx.ModelProto:
    made = helper.make_graph(graph.nodes, f"statewise_{config.cell}", taken, returned, graph.weights)
    return helper.make_model(
        made,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="statewise",
        producer_version=version("statewise"),
    )


def _raw_inputs(config: NetworkConfig) -> list[onnx.ValueInfoProto]:
    ragged = ["time", "batch"]
    if config.vocabulary:
        return [helper.make_tensor_value_info("token", TensorProto.INT64, ragged)]
    infos = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [*ragged, len(config.features)])]
    if config.calendar:
        infos.append(helper.make_tensor_value_info(config.calendar.input, TensorProto.INT64, ragged))
    return infos


def _output(config: NetworkConfig) -> onnx.ValueInfoProto:
    return _sequence(OUTPUT[config.task], config.head_size)


def _sequence(name: str, size: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["time", "batch", size])


def _state(name: str, size: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size])


def _front(graph: Graph, config: NetworkConfig, weights: dict[str, NDArray[np.float32]]) -> str:
    """Adds raw inputs → what the first layer sees, `[time, batch, front_size]`."""
    if config.vocabulary:
        return graph.add("Gather", [graph.constant("embedding", weights["embedding.weight"]), "token"], "embedded")
    columns = [_scaled(graph, config)]
    if config.masked:
        places = graph.constant("masked_places", np.array(config.masked, np.int64))
        masks = graph.add("Gather", ["absent", places], "absent_masked", axis=2)
        columns.append(graph.add("Cast", [masks], "masks", to=TensorProto.FLOAT))
    if config.calendar:
        columns += _calendar(graph, config)
    return graph.add("Concat", columns, "front", axis=2) if len(columns) > 1 else columns[0]


def _scaled(graph: Graph, config: NetworkConfig) -> str:
    mean = graph.constant("feature_mean", np.array([feature.mean for feature in config.features], np.float32))
    scale = graph.constant("feature_scale", np.array([feature.scale for feature in config.features], np.float32))
    scaled = graph.add("Div", [graph.add("Sub", [own_scale.inputs(graph, config), mean], "centred"), scale], "scaled")
    if not config.masked:
        return scaled
    absent = graph.add("IsNaN", ["x"], "absent")
    return graph.add("Where", [absent, graph.constant("zero", np.zeros((), np.float32)), scaled], "scaled_known")


def _calendar(graph: Graph, config: NetworkConfig) -> list[str]:
    """Adds sin and cos `[time, batch, 1]` of every harmonic; the phase is exact, since the modulus is taken in int64."""
    assert config.calendar is not None
    axis = graph.constant("last_axis", np.array([2], np.int64))
    waves = []
    for period in config.calendar.periods:
        modulus = graph.constant(f"period_{period}", np.array(period, np.int64))
        index = graph.add("Mod", [config.calendar.input, modulus], f"index_{period}")
        place = graph.add("Cast", [index], f"place_{period}", to=TensorProto.FLOAT)
        turn = graph.constant(f"turn_{period}", np.array(TAU / period, np.float32))
        phase = graph.add("Unsqueeze", [graph.add("Mul", [place, turn], f"angle_{period}"), axis], f"phase_{period}")
        for harmonic in range(1, config.harmonics + 1):
            factor = graph.constant(f"harmonic_{harmonic}", np.array(harmonic, np.float32))
            angle = graph.add("Mul", [phase, factor], f"phase_{period}_{harmonic}")
            waves += [graph.add(op, [angle], f"{op.lower()}_{period}_{harmonic}") for op in ("Sin", "Cos")]
    return waves


def _layer(graph: Graph, config: NetworkConfig, weights: dict[str, NDArray[np.float32]], layer: int, vectors: str) -> str:
    """Adds one recurrent op with its states carried in and out, and returns its output `[time, batch, hidden]`."""
    w, r, bias = (graph.constant(f"{name}_{layer}", value) for name, value in _onnx_weights(config, weights, layer).items())
    front = graph.constant("front_axis", np.array([0], np.int64))
    names = [name for name in config.state_names if name.endswith(f"_{layer}")]
    carried = [graph.add("Unsqueeze", [name, front], f"{name}_carried") for name in names]
    last = [f"{name}_last" for name in names]
    attributes: dict[str, object] = {"hidden_size": config.hidden_size}
    if config.cell == "elman":
        attributes["activations"] = [{"tanh": "Tanh", "relu": "Relu"}[config.activation]]
    if config.cell == "gru":
        attributes["linear_before_reset"] = 1
    op, inputs, outputs = _OP[config.cell], [vectors, w, r, bias, LENGTHS, *carried], [f"sequence_{layer}", *last]
    if config.cell == "peephole":
        inputs.append(graph.constant(f"P_{layer}", _peephole(weights, layer)))
    graph.nodes.append(helper.make_node(op, inputs, outputs, name=f"recurrent_{layer}", **attributes))  # type: ignore[arg-type]
    for name in names:
        graph.add("Squeeze", [f"{name}_last", front], f"{name}_next")
    direction = graph.constant("direction_axis", np.array([1], np.int64))
    return graph.add("Squeeze", [f"sequence_{layer}", direction], f"hidden_sequence_{layer}")


def _onnx_weights(config: NetworkConfig, weights: dict[str, NDArray[np.float32]], layer: int) -> dict[str, NDArray[np.float32]]:
    """Returns W `[1, gates·hidden, in]`, R `[1, gates·hidden, hidden]` and B `[1, 2·gates·hidden]` with ONNX's order of gates."""

    def reordered(name: str) -> NDArray[np.float32]:
        blocks = np.split(weights[f"recurrent.{name}_l{layer}"], GATES[config.cell])
        return np.concatenate([blocks[place] for place in GATE_ORDER[config.cell]])

    bias = np.concatenate([reordered("bias_ih"), reordered("bias_hh")])
    return {"W": reordered("weight_ih")[None], "R": reordered("weight_hh")[None], "B": bias[None]}


def _peephole(weights: dict[str, NDArray[np.float32]], layer: int) -> NDArray[np.float32]:
    """Returns P `[1, 3·hidden]` with ONNX's order of gates: i, f, o → i, o, f."""
    of_input, of_forget, of_output = np.split(weights[f"recurrent.peephole_l{layer}"], 3)
    return np.concatenate([of_input, of_output, of_forget])[None]


def _feedback(graph: Graph, config: NetworkConfig, weights: dict[str, NDArray[np.float32]], vectors: str) -> str:
    """Adds all layers of a feedback network, states carried in and out; returns the last one's output `[time, batch, hidden]`."""
    sequence = f"hidden_sequence_{config.layers - 1}"
    states = {name: name for name in config.state_names}
    explicit.feedback(graph, config, weights, vectors, states, {f"hidden_{config.layers - 1}": sequence}, _alive(graph, vectors))
    return sequence


def _alive(graph: Graph, vectors: str) -> str:
    """Adds which rows have a timestep, bool `[time, batch, 1]`: those whose length is beyond its index."""
    first, one = (graph.constant(name, np.array(value, np.int64)) for name, value in (("index_0", 0), ("index_1", 1)))
    timesteps = graph.add("Gather", [graph.add("Shape", [vectors], "vectors_shape"), first], "timesteps")
    index = graph.add("Cast", [graph.add("Range", [first, timesteps, one], "index")], "index_narrow", to=TensorProto.INT32)
    column = graph.add("Unsqueeze", [index, graph.constant("column_axes", np.array([1, 2], np.int64))], "index_column")
    row = graph.add("Unsqueeze", [LENGTHS, graph.constant("last_axis_of_two", np.array([1], np.int64))], "lengths_row")
    return graph.add("Less", [column, row], "alive")


def _head(graph: Graph, config: NetworkConfig, weights: dict[str, NDArray[np.float32]], hidden: str) -> None:
    """Adds hidden → raw outputs."""
    weight = graph.constant("head_weight", weights["head.weight"].T)
    bias = graph.constant("head_bias", weights["head.bias"])
    output = OUTPUT[config.task]
    product = graph.add("MatMul", [hidden, weight], "head_product")
    if config.task == "tokens":
        graph.add("Add", [product, bias], output)
        return
    values = graph.add("Add", [product, bias], "head")
    if config.task == "classify":
        graph.add("Softmax", [values], output, axis=2)
        return
    mean = graph.constant("target_mean", np.array([target.mean for target in config.targets], np.float32))
    scale = graph.constant("target_scale", np.array([target.scale for target in config.targets], np.float32))
    change = graph.add("Mul", [values, scale], "change")
    differenced = any(place is not None for place in config.base_places)
    last = "shifted" if differenced or config.scale == "series" else output
    shifted = graph.add("Add", [change, mean], last)
    if config.scale == "series":
        shifted = own_scale.outputs(graph, config, shifted, "in_own_units" if differenced else output)
    if differenced:
        graph.add("Add", [shifted, _base(graph, config)], output)


def _base(graph: Graph, config: NetworkConfig) -> str:
    """Adds the present values of the differenced targets. They are gathered: a 0/1 matrix would spread a NaN of another column."""
    places = graph.constant("base_places", np.array([place or 0 for place in config.base_places], np.int64))
    present = graph.add("Gather", ["x", places], "present", axis=2)
    if None not in config.base_places:
        return present
    differenced = graph.constant("differenced", np.array([place is not None for place in config.base_places]))
    return graph.add("Where", [differenced, present, graph.constant("zero", np.zeros((), np.float32))], "base")
