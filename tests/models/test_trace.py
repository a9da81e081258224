"""The explicit-gate graph: every gate is the textbook's, and a graph that does not do what is served is not published."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from builders.served import KINDS, LAYERS, TASKS, config
from statewise.repository import TRACE_FILE
from statewise.spec import METADATA_KEY, ModelSpec
from statewise_models import reference
from statewise_models.export import ParityError, export, plain_model, trace_model
from statewise_models.export.builder import OUTPUT
from statewise_models.export.conversation import conversation
from statewise_models.export.verify import verify_trace
from statewise_models.network import Network

BATCH, TIMESTEPS = 3, 20


@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("cell", KINDS)
@pytest.mark.parametrize("task", TASKS)
def test_every_gate_and_state_is_the_textbooks(task: str, cell: str, layers: int) -> None:
    """By name, timestep, layer and unit; and the output that goes with them is the one that is served."""
    torch.manual_seed(layers)
    network = Network(config(task, cell, layers)).eval()
    weights = {name: tensor.detach().numpy() for name, tensor in network.state_dict().items()}
    inputs = conversation(network.config, [(BATCH, TIMESTEPS)], seed=6)[0].inputs
    model = trace_model(network, plain_model(network))
    runtime = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [info.name for info in runtime.get_outputs()]
    traced = dict(zip(names, runtime.run(names, inputs), strict=True))
    expected = reference.trace(network.config, weights, inputs)
    output = traced.pop(OUTPUT[task])
    assert list(traced) == list(expected)
    for name, values in expected.items():
        assert traced[name].shape == values.shape == (TIMESTEPS, BATCH, values.shape[2])
        assert np.abs(traced[name] - values).max() <= 1e-5 * max(1.0, np.abs(values).max()), name
    whole = reference.run(network.config, weights, inputs)
    assert np.abs(output - whole).max() <= 1e-5 * np.abs(whole).max()
    assert model.opset_import[0].version <= 20


def test_a_version_has_its_trace_beside_it(tmp_path: Path) -> None:
    """It bears the spec of its model, so that a trace needs nothing else."""
    exported = export(Network(config("forecast", "peephole", 1)), repository=tmp_path, model="m")
    file = exported.path.with_name(TRACE_FILE)
    metadata = onnxruntime.InferenceSession(str(file)).get_modelmeta().custom_metadata_map
    assert ModelSpec.from_json(metadata[METADATA_KEY]).states[1].input == "cell_state_0"


@pytest.mark.parametrize("spoiled", ["head.weight", "recurrent.weight_hh_l0"])
def test_a_trace_that_does_not_do_what_is_served_is_refused(tmp_path: Path, spoiled: str) -> None:
    """A weight off by a thousandth in one of the two graphs is found, be it in the output's way or in the state's."""
    network = Network(config("classify", "lstm", 2))
    served = plain_model(network)
    (tmp_path / "model.onnx").write_bytes(served.SerializeToString())
    (tmp_path / "trace.onnx").write_bytes(trace_model(network, served).SerializeToString())
    assert verify_trace(network.config, tmp_path / "model.onnx", tmp_path / "trace.onnx") <= 1e-5
    with torch.no_grad():
        network.get_parameter(spoiled)[0] += 1e-3
    (tmp_path / "trace.onnx").write_bytes(trace_model(network, served).SerializeToString())
    with pytest.raises(ParityError, match="of the trace differs"):
        verify_trace(network.config, tmp_path / "model.onnx", tmp_path / "trace.onnx")
