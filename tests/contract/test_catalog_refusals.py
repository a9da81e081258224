"""A file whose parity vectors are no tensors is refused as a file that cannot be served; it never ends the server."""

import json

import onnx
import pytest

from builders.tiny import fill
from statewise.catalog import LoadError, load
from statewise.spec import METADATA_KEY
from statewise_models.config import Feature, NetworkConfig, Target
from statewise_models.export import plain_model
from statewise_models.network import Network

SMALL = 2


@pytest.fixture(scope="module")
def text_model(tmp_path_factory):
    """A model of tokens as it was exported."""
    root = tmp_path_factory.mktemp("tiny")
    fill(root)
    return root / "text" / "1" / "model.onnx"


@pytest.mark.parametrize(
    "token", [None, {}, [], "a", 3, [[]], [[None]], [[0], [1, 2]], [["a"]], [[10**9]], [[10**30]], [[0.5, {}]]]
)
def test_parity_vectors_that_are_no_tensors_are_refused(text_model, tmp_path, token):
    """Whatever stands where the carried steps should, the refusal names the file."""
    model = onnx.load(str(text_model))
    spec = json.loads(model.metadata_props[0].value)
    spec["parity"]["steps"][0]["token"] = token
    onnx.helper.set_model_props(model, {METADATA_KEY: json.dumps(spec)})
    onnx.save(model, str(tmp_path / "broken.onnx"))
    with pytest.raises(LoadError, match=r"broken\.onnx: "):
        load("text", 1, tmp_path / "broken.onnx", SMALL, "CPUExecutionProvider", 1)


@pytest.mark.parametrize("values", [None, "y", [], [[[None] * 4] * 2] * 3, [[["y"] * 4] * 2] * 3, [[[0.0] * 4] * 2] * 3])
def test_expected_outputs_that_are_not_the_models_are_refused(text_model, tmp_path, values):
    """What is recorded as the model's answer must be numbers of its shape, and be its answer."""
    model = onnx.load(str(text_model))
    spec = json.loads(model.metadata_props[0].value)
    (name,) = spec["parity"]["expected"][0]
    spec["parity"]["expected"][0][name] = values
    onnx.helper.set_model_props(model, {METADATA_KEY: json.dumps(spec)})
    onnx.save(model, str(tmp_path / "broken.onnx"))
    with pytest.raises(LoadError, match=r"broken\.onnx: (its parity|output)"):
        load("text", 1, tmp_path / "broken.onnx", SMALL, "CPUExecutionProvider", 1)


@pytest.mark.parametrize("place", ["parity", "series"])
@pytest.mark.parametrize("values", [None, "much", [1.0, 2.0, 3.0], [[["x"]]]])
def test_values_to_be_given_that_do_not_fit_their_state_are_refused(tmp_path, place, values):
    """Neither what the parity vectors' sessions were given, nor what is kept for a series, ends the server at a client's call."""
    config = NetworkConfig("forecast", "gru", 4, features=(Feature("y"),), targets=(Target("y"),), scale="series")
    model = plain_model(Network(config))
    onnx.save(model, str(tmp_path / "whole.onnx"))
    assert load("y", 1, tmp_path / "whole.onnx", SMALL, "CPUExecutionProvider", 1).spec.constants
    spec = json.loads(model.metadata_props[0].value)
    held = spec["parity"]["constants"] if place == "parity" else spec["series"].setdefault("corner", {})
    held["series_scale"] = values
    onnx.helper.set_model_props(model, {METADATA_KEY: json.dumps(spec)})
    onnx.save(model, str(tmp_path / "broken.onnx"))
    with pytest.raises(LoadError, match=r"broken\.onnx: (its parity|what it keeps)"):
        load("y", 1, tmp_path / "broken.onnx", SMALL, "CPUExecutionProvider", 1)


def test_the_same_file_unbroken_is_served(text_model):
    """What is refused above is refused for its vectors alone."""
    assert load("text", 1, text_model, SMALL, "CPUExecutionProvider", 1).spec.task == "tokens"
