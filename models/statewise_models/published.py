"""Published version → the network that was exported: what `memory` looks into, and what training can go on from.

    var/repository/<model>/<version>/model.onnx
        metadata `statewise.network`  → NetworkConfig
        initialisers of the graph     → the state_dict, as `export.builder` laid it out

A version is enough by itself: no file beside it is needed, and weights come back to the last bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import numpy_helper

from statewise_models.config import InvalidConfig, NetworkConfig
from statewise_models.export import NETWORK_KEY
from statewise_models.export.builder import GATE_ORDER
from statewise_models.export.int8 import QUANTISED_OP
from statewise_models.network import Network
from statewise_models.versions import published

__all__ = ["network_of", "published", "torch_weights"]

Arrays = Mapping[str, NDArray[np.float32]]


def network_of(path: Path) -> Network:
    """Returns the network that a version's ONNX file was exported from, with its weights, on the CPU and ready to predict.

    Raises:
        InvalidConfig: the file does not hold it: it cannot be read, was published before versions kept their network, or its
            weights are int8.
    """
    try:
        model = onnx.load(str(path))
    except (OSError, DecodeError) as error:
        raise InvalidConfig(f"{path}: cannot be read as an ONNX model: {error}") from error
    told = {entry.key: entry.value for entry in model.metadata_props}
    if any(node.op_type == QUANTISED_OP for node in model.graph.node):
        raise InvalidConfig(f"{path}: its weights are int8, so the network cannot be rebuilt: this takes a float32 version")
    if NETWORK_KEY not in told:
        raise InvalidConfig(f"{path}: has no {NETWORK_KEY!r} in its metadata, so the network cannot be rebuilt: train it again")
    config = NetworkConfig.from_json(told[NETWORK_KEY])
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    network = Network(config)
    network.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in torch_weights(config, arrays).items()})
    return network.eval()


def torch_weights(config: NetworkConfig, arrays: Arrays) -> dict[str, NDArray[np.float32]]:
    """Returns the state_dict of the network whose graph has the initialisers `arrays`: the inverse of `export.builder.build`."""
    weights = {"head.weight": arrays["head_weight"].T, "head.bias": arrays["head_bias"]}
    if config.vocabulary:
        weights["embedding.weight"] = arrays["embedding"]
    for layer in range(config.layers):
        weights |= _layer(config, arrays, layer)
    return weights


def _layer(config: NetworkConfig, arrays: Arrays, layer: int) -> dict[str, NDArray[np.float32]]:
    """Returns the weights of one recurrent layer under torch's names, the gates' blocks in torch's order."""
    if config.routes:
        names = {f"weight_ih_{layer}": "weight_ih", f"weight_hh_{layer}": "weight_hh", f"bias_{layer}": "bias_ih"}
        return {f"recurrent.{torchs}_l{layer}": arrays[ours].T for ours, torchs in names.items() if ours in arrays}
    order = np.argsort(GATE_ORDER[config.cell])

    def torch_order(blocks: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.concatenate([np.split(blocks, len(order))[place] for place in order])

    bias, recurrent_bias = np.split(arrays[f"B_{layer}"][0], 2)
    found = {"weight_ih": arrays[f"W_{layer}"][0], "weight_hh": arrays[f"R_{layer}"][0], "bias_ih": bias, "bias_hh": recurrent_bias}
    weights = {f"recurrent.{name}_l{layer}": torch_order(blocks) for name, blocks in found.items()}
    if config.cell == "peephole":
        of_input, of_output, of_forget = np.split(arrays[f"P_{layer}"][0], 3)
        weights[f"recurrent.peephole_l{layer}"] = np.concatenate([of_input, of_forget, of_output])
    return weights
