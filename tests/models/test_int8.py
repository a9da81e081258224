"""int8: what is published computes nearly what float32 does, says how nearly, and is refused where there is no kernel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from builders.served import LAYERS, TASKS, config
from statewise.spec import METADATA_KEY, ModelSpec
from statewise_models.config import InvalidConfig
from statewise_models.export import RuntimeNetwork, build, export, int8_model, quantised
from statewise_models.export.conversation import conversation, torch_conversation
from statewise_models.network import Network
from statewise_models.published import network_of


def network_for(task: str, layers: int = 1) -> Network:
    torch.manual_seed(0)
    return Network(config(task, "lstm", layers)).eval()


def spec_of(model: onnx.ModelProto) -> ModelSpec:
    return ModelSpec.from_json({entry.key: entry.value for entry in model.metadata_props}[METADATA_KEY])


@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("task", TASKS)
def test_an_int8_version_is_near_float32_and_says_how_near(task: str, layers: int) -> None:
    """Every task: all LSTM ops are quantised, outputs differ by 5 % of scale at most (on any CPU), and `about` tells the figure."""
    model = int8_model(network_for(task, layers), {"cell": "lstm"})
    assert [node.op_type for node in model.graph.node].count("DynamicQuantizeLSTM") == layers
    told = spec_of(model).about["int8"]
    assert 0 < told["float32_difference"] < 0.05
    assert set(told["microseconds"]) == {"1", "16", "64", "256"}
    assert told["bytes"].keys() == {"float32", "int8"}


def test_parity_vectors_are_those_of_the_int8_graph() -> None:
    """They are not torch's, which differ, so that the server checks what it serves."""
    network = network_for("classify")
    spec = spec_of(int8_model(network))
    expected = np.array(spec.parity.expected[0]["probability"])
    inputs = {name: torch.tensor(values) for name, values in spec.parity.steps[0].items()}
    theirs, _ = network.predict(inputs, network.initial(2))
    assert 1e-5 < np.abs(expected - theirs.detach().numpy()).max() < 0.05


def test_a_wild_neighbour_rounds_nobody_to_nothing() -> None:
    """One scale rounds a whole batch: beside a session with a value of a million deviations, another still gets its own answers."""
    network = network_for("forecast")
    int8 = RuntimeNetwork(network, quantised(build(network)))
    calm = conversation(network.config, [(2, 6)], seed=3, masked=False)
    wild = conversation(network.config, [(2, 6)], seed=3, masked=False)
    wild[0].inputs["x"][:, 1] = 5e9
    ((output, _),), ((beside, _),) = torch_conversation(int8, calm), torch_conversation(int8, wild)
    scale = np.array([target.scale for target in network.config.targets])
    assert np.abs((output - beside)[:, 0] / scale).max() < 0.05
    assert np.abs((output - beside)[:, 1] / scale).max() > 1.0


@pytest.mark.parametrize("task", TASKS)
def test_a_graph_can_stand_in_for_its_network(task: str) -> None:
    """Reports of training judge a graph as they judge a network: the float32 graph gives the same values, ragged and carried."""
    network = network_for(task)
    stand_in = RuntimeNetwork(network, build(network))
    chunks = conversation(network.config, [(3, 5), (3, 2)], seed=0, ragged=True)
    for (ours, _), (theirs, _), chunk in zip(
        torch_conversation(stand_in, chunks), torch_conversation(network, chunks), chunks, strict=True
    ):
        valid = np.arange(len(ours))[:, None] < chunk.lengths
        np.testing.assert_allclose(ours[valid], theirs[valid], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cell", ["elman", "gru"])
def test_cells_without_a_kernel_are_refused(cell: str, tmp_path: Path) -> None:
    """One line says which cell has one; nothing is published."""
    with pytest.raises(
        InvalidConfig, match=rf"int8 takes cell lstm, not '{cell}': ONNX Runtime's dynamic quantisation has a kernel"
    ):
        export(Network(config("tokens", cell, 1)), repository=tmp_path, model="m", int8=True)
    assert list(tmp_path.iterdir()) == []


def test_a_network_is_not_rebuilt_from_rounded_weights(tmp_path: Path) -> None:
    """Training and gradients go on from what was learned, not from what is left of it."""
    exported = export(network_for("tokens"), repository=tmp_path, model="m", int8=True)
    with pytest.raises(InvalidConfig, match="its weights are int8, so the network cannot be rebuilt"):
        network_of(exported.path)
