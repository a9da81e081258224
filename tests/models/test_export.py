"""Export: the graph, its spec, and that nothing unverified is ever published."""

from __future__ import annotations

import errno
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from builders.served import KINDS, LAYERS, TASKS, config
from statewise.repository import Repository, RepositoryError
from statewise.spec import METADATA_KEY, ModelSpec
from statewise_models.export import ParityError, export, plain_model
from statewise_models.export.conversation import conversation, torch_conversation
from statewise_models.network import Network


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    return Network(config("forecast", "lstm", 2))


@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("cell", KINDS)
@pytest.mark.parametrize("task", TASKS)
def test_every_kind_exports_within_the_tolerance(task: str, cell: str, layers: int, tmp_path: Path) -> None:
    """A published version differs from torch by at most 1e-5 of its scale over carried, ragged chunks."""
    exported = export(Network(config(task, cell, layers)), repository=tmp_path, model="m")
    assert exported.path == tmp_path / "m" / "1" / "model.onnx"
    assert 0 <= exported.largest_difference <= 1e-5


def test_the_model_describes_itself(network: Network) -> None:
    """The file alone tells inputs, outputs, state pairs, calendar and parity vectors; its opset is one that CUDA kernels match."""
    model = plain_model(network, {"trained": "today"})
    spec = ModelSpec.from_json({entry.key: entry.value for entry in model.metadata_props}[METADATA_KEY])
    assert [tensor.name for tensor in spec.inputs] == ["x", "time"]
    assert spec.inputs[0].missing == ("refuse", "mask")
    assert [(state.input, state.output) for state in spec.states] == [
        (name, f"{name}_next") for name in ("hidden_0", "cell_state_0", "hidden_1", "cell_state_1")
    ]
    assert spec.calendar.periods == (48, 336)
    assert spec.about["trained"] == "today"
    assert len(spec.parity.steps) == 3
    assert model.opset_import[0].version <= 20


@pytest.mark.parametrize("cell", KINDS)
def test_time_and_batch_are_dynamic_and_rows_stand_still_past_their_length(cell: str) -> None:
    """A row of 2 in a batch padded to 7 has the state that it would have alone."""
    torch.manual_seed(0)
    network = Network(config("forecast", cell, 2))
    runtime = onnxruntime.InferenceSession(plain_model(network).SerializeToString(), providers=["CPUExecutionProvider"])
    chunk = conversation(network.config, [(3, 7)], seed=4)[0]
    zeros = {name: np.zeros((3, size), np.float32) for name, size in network.config.state_sizes.items()}
    together = runtime.run(None, {**chunk.inputs, "lengths": np.array([7, 2, 4], np.int32), **zeros})
    alone = runtime.run(
        None,
        {
            **{name: array[:2, 1:2] for name, array in chunk.inputs.items()},
            "lengths": np.array([2], np.int32),
            **{name: zero[:1] for name, zero in zeros.items()},
        },
    )
    assert np.allclose(together[0][:2, 1:2], alone[0], rtol=1e-6)
    for ours, theirs in zip(together[1:], alone[1:], strict=True):
        assert np.allclose(ours[1:2], theirs, atol=1e-6)


@pytest.mark.parametrize("cell", ["elman", "lstm", "gru"])
def test_torchs_own_exporter_agrees(cell: str, tmp_path: Path) -> None:
    """The graph built here computes what torch's TorchScript-based exporter makes of the same recurrent layers."""
    network = Network(config("classify", cell, 2)).eval()
    vectors = torch.randn(6, 3, network.config.front_size)
    states = [torch.randn(3, 12) * 0.1 for _ in network.config.state_names]
    carried = network._stack(states)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network.recurrent, (vectors, carried), tmp_path / "torch.onnx", dynamo=False, opset_version=17)
    theirs = onnxruntime.InferenceSession(str(tmp_path / "torch.onnx"), providers=["CPUExecutionProvider"])
    tensors = [vectors, *(carried if isinstance(carried, tuple) else [carried])]
    feed = {info.name: tensor.numpy() for info, tensor in zip(theirs.get_inputs(), tensors, strict=True)}
    hidden = theirs.run(None, feed)[0]
    ours = plain_model(network)
    del ours.graph.output[:]
    ours.graph.output.append(onnx.helper.make_tensor_value_info("hidden_sequence_1", onnx.TensorProto.FLOAT, None))
    ours.graph.input.append(onnx.helper.make_tensor_value_info("front", onnx.TensorProto.FLOAT, ["time", "batch", "front"]))
    front = [node for node in ours.graph.node if "front" in node.output]
    ours.graph.node.remove(front[0])
    mine = onnxruntime.InferenceSession(ours.SerializeToString(), providers=["CPUExecutionProvider"])
    named = dict(zip(network.config.state_names, (state.numpy() for state in states), strict=True))
    unused = {"x": np.zeros((6, 3, 2), np.float32)}
    answer = mine.run(None, {**unused, **named, "front": vectors.numpy(), "lengths": np.full(3, 6, np.int32)})[0]
    assert np.abs(answer - hidden).max() <= 1e-5


def test_a_wrong_graph_is_refused_and_leaves_nothing(network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph whose weights are off by a thousandth fails verification, and no version appears."""

    def spoiled(trained: Network, about: object) -> onnx.ModelProto:
        with torch.no_grad():
            trained.head.weight += 1e-3
        model = plain_model(trained, {})
        with torch.no_grad():
            trained.head.weight -= 1e-3
        return model

    monkeypatch.setattr("statewise_models.export.plain_model", spoiled)
    with pytest.raises(ParityError, match="differs from torch by"):
        export(network, repository=tmp_path, model="m")
    assert Repository(tmp_path).models() == []
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_export_leaves_nothing(network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while a second version is verified: the first stands, and nothing else is there to load."""
    export(network, repository=tmp_path, model="m")

    def interrupted(*_: object) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr("statewise_models.export.verify", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export(network, repository=tmp_path, model="m")
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["1", "serving.json"]


def test_a_full_disk_is_said_in_one_line_and_leaves_nothing(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ENOSPC while the model is written."""

    def full(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(RepositoryError, match=r"cannot write to .*: No space left on device"):
        export(network, repository=tmp_path, model="m")
    assert list(tmp_path.iterdir()) == []


def test_the_first_version_is_served_and_later_ones_only_when_promoted(network: Network, tmp_path: Path) -> None:
    """P8: serving.json names version 1 until someone promotes."""
    place = Repository(tmp_path)
    assert [export(network, repository=tmp_path, model="m").version for _ in range(2)] == [1, 2]
    assert place.default("m") == 1
    assert export(network, repository=tmp_path, model="m", promote=True).version == 3
    assert place.default("m") == 3


def test_conversations_carry_their_state(network: Network) -> None:
    """What verify compares is carried: the same inputs from a fresh state have other outputs."""
    chunks = conversation(network.config, [(2, 3), (2, 3)], seed=0, masked=False)
    carried = torch_conversation(network, chunks)[1][0]
    fresh = torch_conversation(network, chunks[1:])[0][0]
    assert np.abs(carried - fresh).max() > 1.0
