"""Network → plain ONNX graph, built op by op from the weights.

    (x | time | token [time, batch, …], lengths [batch], hidden_0 [batch, hidden], …)
        → front → one RNN/LSTM/GRU op a layer → head → (forecast | probability | logits, hidden_0_next, …)

torch's own exporters either freeze the time axis or are deprecated (docs/decisions/0003), so the graph is written here. ONNX
Runtime's CUDA kernels do not match the recurrent ops of opset 22, so the opset must stay at 20 or below; 17 has all that is needed
here and is read by runtimes back to 2022.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from statewise_models.config import GATES, NetworkConfig
from statewise_models.export import own_scale
from statewise_models.network import TAU, Network

OPSET = 17
IR_VERSION = 8
LENGTHS = "lengths"
OUTPUT = {"forecast": "forecast", "classify": "probability", "tokens": "logits"}

# The order of the gates' blocks in ONNX, as places in torch's order: LSTM i,f,g,o → i,o,f,c; GRU r,z,n → z,r,h.
_GATE_ORDER = {"elman": (0,), "lstm": (0, 3, 1, 2), "gru": (1, 0, 2)}
_OP = {"elman": "RNN", "lstm": "LSTM", "gru": "GRU"}


class _Graph:
    """Nodes and weights in the making; `add` returns the name of what a node computes."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def add(self, op: str, inputs: Sequence[str], name: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))  # type: ignore[arg-type]
        return name

    def constant(self, name: str, value: NDArray[np.generic]) -> str:
        if all(weight.name != name for weight in self.weights):
            self.weights.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name


def build(network: Network) -> onnx.ModelProto:
    """Returns the plain graph of a network: dynamic time and batch, ragged batches by `lengths`, raw values in and out."""
    config = network.config
    weights = {name: tensor.detach().cpu().numpy().astype(np.float32) for name, tensor in network.state_dict().items()}
    graph = _Graph()
    vectors = _front(graph, config, weights)
    for layer in range(config.layers):
        vectors = _layer(graph, config, weights, layer, vectors)
    _head(graph, config, weights, vectors)
    own_scale.pass_through(graph, config)
    made = helper.make_graph(graph.nodes, f"statewise_{config.cell}", _inputs(config), _outputs(config), graph.weights)
    return helper.make_model(
        made,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="statewise",
        producer_version=version("statewise"),
    )


def _inputs(config: NetworkConfig) -> list[onnx.ValueInfoProto]:
    ragged = ["time", "batch"]
    infos = [helper.make_tensor_value_info(LENGTHS, TensorProto.INT32, ["batch"])]
    if config.vocabulary:
        infos.append(helper.make_tensor_value_info("token", TensorProto.INT64, ragged))
    else:
        infos.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, [*ragged, len(config.features)]))
    if config.calendar:
        infos.append(helper.make_tensor_value_info(config.calendar.input, TensorProto.INT64, ragged))
    return infos + [_state(name, config) for name in config.state_names] + own_scale.infos(config)


def _outputs(config: NetworkConfig) -> list[onnx.ValueInfoProto]:
    output = helper.make_tensor_value_info(OUTPUT[config.task], TensorProto.FLOAT, ["time", "batch", config.head_size])
    return [output] + [_state(f"{name}_next", config) for name in config.state_names] + own_scale.infos(config, "_next")


def _state(name: str, config: NetworkConfig) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", config.hidden_size])


def _front(graph: _Graph, config: NetworkConfig, weights: dict[str, NDArray[np.float32]]) -> str:
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


def _scaled(graph: _Graph, config: NetworkConfig) -> str:
    mean = graph.constant("feature_mean", np.array([feature.mean for feature in config.features], np.float32))
    scale = graph.constant("feature_scale", np.array([feature.scale for feature in config.features], np.float32))
    scaled = graph.add("Div", [graph.add("Sub", [own_scale.inputs(graph, config), mean], "centred"), scale], "scaled")
    if not config.masked:
        return scaled
    absent = graph.add("IsNaN", ["x"], "absent")
    return graph.add("Where", [absent, graph.constant("zero", np.zeros((), np.float32)), scaled], "scaled_known")


def _calendar(graph: _Graph, config: NetworkConfig) -> list[str]:
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


def _layer(graph: _Graph, config: NetworkConfig, weights: dict[str, NDArray[np.float32]], layer: int, vectors: str) -> str:
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
    graph.nodes.append(helper.make_node(op, inputs, outputs, name=f"recurrent_{layer}", **attributes))  # type: ignore[arg-type]
    for name in names:
        graph.add("Squeeze", [f"{name}_last", front], f"{name}_next")
    direction = graph.constant("direction_axis", np.array([1], np.int64))
    return graph.add("Squeeze", [f"sequence_{layer}", direction], f"hidden_sequence_{layer}")


def _onnx_weights(config: NetworkConfig, weights: dict[str, NDArray[np.float32]], layer: int) -> dict[str, NDArray[np.float32]]:
    """Returns W `[1, gates·hidden, in]`, R `[1, gates·hidden, hidden]` and B `[1, 2·gates·hidden]` with ONNX's order of gates."""

    def reordered(name: str) -> NDArray[np.float32]:
        blocks = np.split(weights[f"recurrent.{name}_l{layer}"], GATES[config.cell])
        return np.concatenate([blocks[place] for place in _GATE_ORDER[config.cell]])

    bias = np.concatenate([reordered("bias_ih"), reordered("bias_hh")])
    return {"W": reordered("weight_ih")[None], "R": reordered("weight_hh")[None], "B": bias[None]}


def _head(graph: _Graph, config: NetworkConfig, weights: dict[str, NDArray[np.float32]], hidden: str) -> None:
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


def _base(graph: _Graph, config: NetworkConfig) -> str:
    """Adds the present values of the differenced targets. They are gathered: a 0/1 matrix would spread a NaN of another column."""
    places = graph.constant("base_places", np.array([place or 0 for place in config.base_places], np.int64))
    present = graph.add("Gather", ["x", places], "present", axis=2)
    if None not in config.base_places:
        return present
    differenced = graph.constant("differenced", np.array([place is not None for place in config.base_places]))
    return graph.add("Where", [differenced, present, graph.constant("zero", np.zeros((), np.float32))], "base")
