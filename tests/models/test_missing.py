"""Missing values: a masked feature is read as its mean beside a 0/1 column, in training and in the served graph alike."""

from __future__ import annotations

import json

import numpy as np
import onnxruntime
import pytest
import torch

from statewise.spec import METADATA_KEY
from statewise_models.config import Feature, NetworkConfig, Target
from statewise_models.data.policy import InvalidData
from statewise_models.data.table import Series, Table
from statewise_models.export import plain_model
from statewise_models.network import Network
from statewise_models.training import TrainingSettings, train_forecast

FEATURES = (Feature("load", 50.0, 10.0), Feature("wind", 4.0, 2.0, "mask"), Feature("rain", 1.0, 0.5, "mask"))
X = np.array([[[60.0, 6.0, np.nan]], [[50.0, np.nan, 1.5]], [[45.0, np.nan, np.nan]]], np.float32)  # [timesteps, 1, features]
MEANS = np.where(np.isnan(X), np.array([50.0, 4.0, 1.0], np.float32), X)
SEEN = [[1.0, 1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 1.0, 1.0, 0.0], [-0.5, 0.0, 0.0, 1.0, 1.0]]
"""What the first layer sees of X: three scaled columns, then whether wind and rain are missing."""
SETTINGS = TrainingSettings(cell="gru", hidden=6, epochs=3, window=8, lanes=2, missing={"wind": "mask"}, accelerator="cpu")


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    return Network(NetworkConfig("forecast", "gru", 6, features=FEATURES, targets=(Target("load", 50.0, 10.0),))).eval()


def served(network: Network, x: np.ndarray) -> np.ndarray:
    """Returns the exported graph's forecasts of one session, in ONNX Runtime."""
    runtime = onnxruntime.InferenceSession(plain_model(network).SerializeToString(), providers=["CPUExecutionProvider"])
    zeros = {name: np.zeros((1, network.config.hidden_size), np.float32) for name in network.config.state_names}
    return runtime.run(["forecast"], {"x": x, "lengths": np.array([len(x)], np.int32), **zeros})[0]


def learned(network: Network, x: np.ndarray) -> np.ndarray:
    """Returns the training network's forecasts of one session."""
    with torch.no_grad():
        return network.predict({"x": torch.from_numpy(x)}, network.initial(1))[0].numpy()


@pytest.fixture
def gappy() -> Table:
    """A wave whose second input is missing in every fifth timestep."""
    load = (50 + 10 * np.sin(np.arange(160) / 5)).astype(np.float32)
    wind = np.where(np.arange(160) % 5 == 0, np.nan, 4 + np.cos(np.arange(160))).astype(np.float32)
    x = np.stack([load, wind], axis=-1)
    return Table(("load", "wind"), ("load",), (Series("gappy", np.arange(160), None, x, x[:, :1]),), 0.0)


def test_a_missing_value_is_the_mean_and_a_one(network):
    """The first layer sees scaled columns, 0 where one is missing, and a 0/1 column for each masked feature and no other."""
    assert network.config.front_size == 5
    np.testing.assert_allclose(network.front({"x": torch.from_numpy(X)})[:, 0].numpy(), SEEN)


def test_the_served_graph_masks_as_training_did(network):
    """ONNX Runtime gives torch's forecasts for values that are missing, and finite ones."""
    answer = served(network, X)
    assert np.isfinite(answer).all()
    np.testing.assert_allclose(answer, learned(network, X), rtol=1e-6)


@pytest.mark.parametrize("answer", [learned, served])
def test_the_mask_tells_a_missing_value_from_the_mean(network, answer):
    """A sensor that says the mean is not one that is silent; with no weight upon the mask they are the same."""
    assert np.abs(answer(network, X) - answer(network, MEANS)).max() > 1e-3
    with torch.no_grad():
        network.recurrent.weight_ih_l0[:, 3:] = 0.0
    np.testing.assert_allclose(answer(network, X), answer(network, MEANS), rtol=1e-6)


def test_the_spec_says_which_features_may_be_missing(network):
    """A server refuses NaN in the one and takes it in the others by what the file says."""
    (spec,) = [json.loads(entry.value) for entry in plain_model(network).metadata_props if entry.key == METADATA_KEY]
    assert spec["inputs"][0]["missing"] == ["refuse", "mask", "mask"]


def test_a_feature_that_refuses_has_no_mask():
    """Without masked features the first layer sees the columns and nothing else, and the graph asks for no NaN."""
    network = Network(NetworkConfig("forecast", "gru", 6, features=FEATURES[:1], targets=(Target("load"),)))
    assert network.config.front_size == network.recurrent.input_size == 1
    (spec,) = [json.loads(entry.value) for entry in plain_model(network).metadata_props if entry.key == METADATA_KEY]
    assert "mask" not in json.dumps(spec["inputs"])


def test_training_learns_from_masked_columns(gappy):
    """Mean and scale are those of the known values; the loss is finite, and the graph of the result says the same as torch."""
    trained = train_forecast(gappy, SETTINGS)
    wind = trained.network.config.features[1]
    known = gappy.series[0].x[:100, 1]
    assert (wind.name, wind.missing) == ("wind", "mask")
    assert wind.mean == pytest.approx(np.nanmean(known, dtype=np.float64))
    assert wind.scale == pytest.approx(np.nanstd(known, dtype=np.float64))
    assert np.isfinite([epoch.training_loss for epoch in trained.history]).all()
    x = gappy.series[0].x[:20, None]
    np.testing.assert_allclose(served(trained.network, x), learned(trained.network, x), rtol=1e-5)


def test_training_refuses_missing_values_that_are_not_masked(gappy):
    """A column is masked because someone said so, never because it happened to have a hole."""
    settings = TrainingSettings(cell="gru", hidden=6, epochs=3, window=8, lanes=2, accelerator="cpu")
    with pytest.raises(InvalidData, match="column 'wind' has missing values"):
        train_forecast(gappy, settings)
