"""A version that is broken is refused with the reason while the others are served, and a client is told."""

import json

import grpc
import numpy as np
import onnx
import pytest

from builders.foreign import torch_cell
from builders.served import start
from statewise.catalog import LoadError, load
from statewise.client import Client
from statewise.errors import EngineFailed, ModelUnknown
from statewise.importing import Asked, prepare, publish, read
from statewise.spec import METADATA_KEY
from statewise.v1 import model_pb2, model_pb2_grpc

CUTS = 24


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A recurrent model as it was imported."""
    folder = tmp_path_factory.mktemp("whole")
    publish(prepare(read(torch_cell(folder / "gru.onnx", "GRU", batch_first=True)), Asked()), folder / "repository", "gru")
    return folder / "repository" / "gru" / "1" / "model.onnx"


def altered(file, **changes):
    """A file's model with other words in its spec."""
    model = onnx.load(str(file))
    (spec,) = (json.loads(entry.value) for entry in model.metadata_props if entry.key == METADATA_KEY)
    onnx.helper.set_model_props(model, {METADATA_KEY: json.dumps({**spec, **changes})})
    return model.SerializeToString()


def lying(file):
    """A file whose weights are not those that answered: its parity vectors are off."""
    model = onnx.load(str(file))
    weight = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 2)
    array = onnx.numpy_helper.to_array(weight) * np.float32(1.01)
    weight.CopyFrom(onnx.numpy_helper.from_array(array, weight.name))
    return model.SerializeToString()


def test_a_file_cut_off_anywhere_is_refused(whole, tmp_path):
    """However much of it arrived: never an exception of another kind, never the end of the process."""
    raw, file = whole.read_bytes(), tmp_path / "model.onnx"
    for end in np.linspace(0, len(raw) - 1, CUTS).astype(int):
        file.write_bytes(raw[:end])
        with pytest.raises(LoadError, match=r"model\.onnx: "):
            load("gru", 1, file, 2, "CPUExecutionProvider", 1)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"batch": 1}, "its parity vectors are 3 timesteps of 2 sessions, more than it says that a run takes"),
        ({"timesteps": 1}, "its parity vectors are 3 timesteps of 2 sessions, more than it says that a run takes"),
        ({"batch": -1}, "batch, timesteps and idle_timeout_seconds must be 0 or more"),
        ({"controls": [{"kind": "start", "input": "x", "dtype": "int32"}]}, "names must be unique, these are not: x"),
        ({"controls": [{"kind": "start", "input": "s", "dtype": "int32"}]}, "its spec and its graph differ in s"),
        ({"controls": [{"kind": "corrid", "input": "s", "dtype": "bool"}]}, "corrid takes int32 or int64, not bool"),
        ({"lengths": "lengths"}, "its spec and its graph differ in lengths"),
    ],
)
def test_a_spec_that_its_graph_does_not_bear_out_is_refused(whole, tmp_path, changes, told):
    """The refusal names the field."""
    (tmp_path / "model.onnx").write_bytes(altered(whole, **changes))
    with pytest.raises(LoadError, match=told):
        load("gru", 1, tmp_path / "model.onnx", 2, "CPUExecutionProvider", 1)


def test_an_initial_value_of_another_size_is_refused(whole, tmp_path):
    """It holds as many bytes as the state, or none."""
    (state,) = json.loads(onnx.load(str(whole)).metadata_props[0].value)["states"]
    (tmp_path / "model.onnx").write_bytes(altered(whole, states=[{**state, "initial_base64": "AAAAAA=="}]))
    with pytest.raises(LoadError, match="initial_base64 holds 4 bytes, the state has 40"):
        load("gru", 1, tmp_path / "model.onnx", 2, "CPUExecutionProvider", 1)


def test_the_others_are_served_and_a_client_is_told_why_one_is_not(whole, tmp_path):
    """Truncated, lying and nonsense beside a good one: the server is ready, serves the good one, and says what it refuses."""
    for name, raw in {
        "cut": whole.read_bytes()[:-100],
        "lying": lying(whole),
        "nonsense": b"not a model at all",
        "good": whole.read_bytes(),
    }.items():
        (tmp_path / name / "1").mkdir(parents=True)
        (tmp_path / name / "1" / "model.onnx").write_bytes(raw)
    running = start(tmp_path)
    try:
        with grpc.insecure_channel(running.address) as channel:
            listed = model_pb2_grpc.ModelServiceStub(channel).ListModels(model_pb2.ListModelsRequest()).models
        told = {model.name: (model.versions[0].ready, model.versions[0].refused) for model in listed}
        assert {name for name, (ready, _) in told.items() if ready} == {"good"}
        assert "differs by" in told["lying"][1]
        assert all("model.onnx: " in why for name, (_, why) in told.items() if name != "good")
        with Client(running.address) as client:
            with client.open_session("good") as session:
                assert session.step([1, 2, 3]).shape == (2,)
            with pytest.raises((EngineFailed, ModelUnknown), match="cut"):
                client.open_session("cut")
    finally:
        running.stop()
