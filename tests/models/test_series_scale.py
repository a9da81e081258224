"""A scale for each series: series of any size are learned alike, and what their sessions are given is told and kept."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from builders import panel
from statewise.spec import METADATA_KEY, SERIES_MEAN, SERIES_SCALE, ModelSpec
from statewise_models.config import Feature, InvalidConfig, NetworkConfig, SeriesScale, Target
from statewise_models.data.policy import InvalidData, Policy
from statewise_models.data.table import Series, Table
from statewise_models.export import export, plain_model
from statewise_models.export.contract import MOST_SERIES, contract
from statewise_models.network import Network
from statewise_models.training import TrainingSettings, train_forecast
from statewise_models.training.forecast import configure, cut_table, forecast_table
from statewise_models.training.panel import series_scales

SETTINGS = TrainingSettings(cell="gru", hidden=8, epochs=1, window=32, scale="series", accelerator="cpu")
FEATURES = (Feature("a", 0.1, 1.2), Feature("rain", 4.0, 2.0, "mask"), Feature("b", 0.0, 0.9), Feature("promo", 0.2, 0.4, ahead=1))
TARGETS = (Target("a", 0.0, 0.3, difference=True), Target("b", 0.1, 0.9), Target("unseen"))


def config(**changed: object) -> NetworkConfig:
    """Two targets that are inputs, one of them differenced; one that is none; and columns of one scale for all."""
    series = (SeriesScale("s", (1.0, 2.0, 3.0), (4.0, 5.0, 6.0)),)
    chosen = {"features": FEATURES, "targets": TARGETS, "scale": "series", "series": series, **changed}
    return NetworkConfig("forecast", "lstm", 6, 2, **chosen)


def test_every_target_is_seen_and_forecast_in_the_series_own_scale() -> None:
    """What the first layer sees, and what the head's values mean: by hand, column by column."""
    network = Network(config()).eval()
    x = torch.tensor([[[12.0, 6.0, 700.0, 1.0]]])
    mean, scale = torch.tensor([[[10.0, 500.0, 7.0]]]), torch.tensor([[[2.0, 100.0, 3.0]]])
    inputs = {"x": x, SERIES_MEAN: mean, SERIES_SCALE: scale}
    seen = [((12 - 10) / 2 - 0.1) / 1.2, 1.0, ((700 - 500) / 100 - 0.0) / 0.9, (1 - 0.2) / 0.4, 0.0]
    np.testing.assert_allclose(network.front(inputs)[0, 0].tolist(), seen, rtol=1e-6)
    raw = [12 + 0.5 * 0.3 * 2, (0.5 * 0.9 + 0.1) * 100 + 500, 0.5 * 3 + 7]
    np.testing.assert_allclose(network.raw(torch.full((1, 1, 3), 0.5), inputs)[0, 0].tolist(), raw, rtol=1e-6)


@pytest.mark.parametrize("targets", [TARGETS, TARGETS[1:], TARGETS[:1]], ids=["mixed", "values", "changes"])
def test_the_graph_computes_it_like_torch_and_returns_what_it_was_given(targets, tmp_path) -> None:
    """Within 1e-5 over series from tenths to thousands in size; a graph that changed what was given would be refused."""
    made = config(targets=targets, series=())
    assert export(Network(made), repository=tmp_path, model="m").largest_difference <= 1e-5


def test_the_file_tells_what_is_given_to_which_series() -> None:
    """Pairs of states that Open must give, the table of series, and parity vectors that bring them."""
    model = plain_model(Network(config()))
    spec = ModelSpec.from_json({entry.key: entry.value for entry in model.metadata_props}[METADATA_KEY])
    given = {state.input: state for state in spec.states if state.given == "must"}
    assert list(given) == [SERIES_MEAN, SERIES_SCALE]
    assert all(state.features == ("a", "b", "unseen") and state.shape == (3,) for state in given.values())
    assert (given[SERIES_SCALE].initial, given[SERIES_SCALE].positive) == (1.0, True)
    assert spec.series == {"s": {SERIES_MEAN: [1.0, 2.0, 3.0], SERIES_SCALE: [4.0, 5.0, 6.0]}}
    assert set(spec.parity.constants) == {SERIES_MEAN, SERIES_SCALE}


def test_a_file_is_not_mostly_a_table_of_series() -> None:
    """Of more series than fit, the file tells none; `scales.json` has all."""
    many = tuple(SeriesScale(f"s{number}", (0.0,) * 3, (1.0,) * 3) for number in range(MOST_SERIES + 1))
    assert contract(Network(config(series=many)), {}).series == {}
    assert len(contract(Network(config(series=many[1:])), {}).series) == MOST_SERIES


def test_a_configuration_comes_back_as_it_was() -> None:
    """Also that of before, which knew no scales."""
    assert NetworkConfig.from_json(config().to_json()) == config()
    before = json.loads(config(scale="global", series=()).to_json())
    del before["scale"], before["series"]
    assert NetworkConfig.from_json(json.dumps(before)) == config(scale="global", series=())


def test_labels_have_no_scale() -> None:
    """Only what is forecast has a mean and a scale of its series."""
    with pytest.raises(InvalidConfig, match="task classify has none"):
        NetworkConfig("classify", "gru", features=FEATURES, labels=("a", "b"), scale="series")


def test_series_of_any_size_weigh_the_same(tmp_path) -> None:
    """A panel from 3 to 2,000,000 in size: with a scale for each, the errors are a small share of those with one for all."""
    data = panel.table(tmp_path)
    chosen = dataclasses.replace(SETTINGS, epochs=12, learning_rate=0.03)

    def ratios(scale: str) -> list[float]:
        metrics = train_forecast(data, dataclasses.replace(chosen, scale=scale)).metrics
        each = [scored["sales"] for scored in metrics["series"]["test"].values()]
        return sorted(methods["model"]["rmse"] / methods["persistence"]["rmse"] for methods in each)

    own, common = ratios("series"), ratios("global")
    assert own[-1] < 0.8, "every series is forecast better than by persistence"
    assert np.median(own) < 0.1 * np.median(common)


def test_the_scale_is_of_the_training_part_alone(tmp_path) -> None:
    """What comes after the cut-off changes no scale, and pieces of one series share theirs."""
    rows = panel.frame()
    later = rows.assign(sales=rows["sales"].where(rows["day"] < "2000-08-01", 0.0))
    later = later[~((later["store"] == "market") & (later["day"] == "2000-03-20"))]
    data = panel.table(tmp_path, later, policy=Policy(gaps="split"))
    settings = dataclasses.replace(SETTINGS, cutoff="2000-09-01", validation_from="2000-08-01")
    scales = {each.name: each for each in series_scales(data, cut_table(data, settings), 32)}
    assert set(scales) == set(panel.STORES)
    for name, each in scales.items():
        learned = later[(later["store"] == name) & (later["day"] < "2000-08-01")]["sales"]
        np.testing.assert_allclose([each.mean[0], each.scale[0]], [learned.mean(), learned.std(ddof=0)], rtol=1e-5)


def test_a_series_with_too_little_to_learn_from_has_no_scale(tmp_path) -> None:
    """It is refused by its name, with what would help; with one scale for all it is judged."""
    data = panel.table(tmp_path)
    settings = dataclasses.replace(SETTINGS, cutoff="2000-08-01", validation_from="2000-04-10")
    told = r"series 'kiosk' has 10 values of 'sales' to learn from, and its own scale takes a window of 32 \(--scale global"
    with pytest.raises(InvalidData, match=told):
        train_forecast(data, settings)
    assert "kiosk" in train_forecast(data, dataclasses.replace(settings, scale="global")).metrics["series"]["test"]


def test_a_series_that_was_not_trained_on_has_no_scale(tmp_path) -> None:
    """It is named, instead of being forecast by somebody else's."""
    data = panel.table(tmp_path)
    cuts = cut_table(data, SETTINGS)
    network = Network(configure(data, cuts, SETTINGS))
    other = dataclasses.replace(data, series=(dataclasses.replace(data.series[0], name="new", whole=""),))
    with pytest.raises(InvalidData, match="series 'new' is not one that the network was trained on"):
        forecast_table(network, other, cuts[:1])


def test_the_scales_are_written_beside_the_checkpoint(tmp_path) -> None:
    """One JSON object a series, ready to be given at Open; another run's scales are not resumed with."""
    data = panel.table(tmp_path)
    trained = train_forecast(data, SETTINGS, output=tmp_path / "out")
    written = json.loads((tmp_path / "out" / "scales.json").read_text())
    assert {name: given[SERIES_SCALE] for name, given in written.items()} == {
        each.name: list(each.scale) for each in trained.network.config.series
    }
    changed = panel.table(tmp_path, panel.frame(seed=1))
    with pytest.raises(InvalidConfig, match="made with other data"):
        train_forecast(changed, dataclasses.replace(SETTINGS, epochs=2), output=tmp_path / "out", resume=True)


def test_naive_forecasts_are_each_series_own() -> None:
    """Persistence and the period ago, by hand: no series' value is taken for another's, and a young one is judged too."""
    spans = {"a": (0, 80), "b": (0, 80), "young": (66, 80)}
    series = []
    for size, (name, span) in zip((1.0, 1000.0, 10.0), spans.items(), strict=True):
        values = (size * (np.arange(*span) % 20))[:, None].astype(np.float32)
        series.append(Series(name, np.arange(*span), None, values, values))
    data = Table(("y",), ("y",), tuple(series), 0.0, timed=True)
    settings = TrainingSettings(
        cell="gru", hidden=4, epochs=1, window=8, calendar=(20,), cutoff="70", validation_from="60", accelerator="cpu"
    )
    metrics = train_forecast(data, settings).metrics
    # Test is 70 … 79: each value is one more than the last, and the same as 20 before.
    each = metrics["series"]["test"]
    assert {name: each[name]["y"]["persistence"]["rmse"] for name in spans} == pytest.approx({"a": 1, "b": 1000, "young": 10})
    assert {name: each[name]["y"].get("naive_20", {}).get("rmse") for name in spans} == {"a": 0, "b": 0, "young": None}
    overall = metrics["test"]["y"]
    assert {method: figures["count"] for method, figures in overall.items()} == dict.fromkeys(overall, 30)
    assert overall["persistence"]["rmse"] == pytest.approx(np.sqrt((1 + 1000**2 + 10**2) / 3))
    assert overall["naive_20"]["rmse"] == pytest.approx(np.sqrt(10**2 / 3))
