"""The loop: states are carried, runs are repeatable and resumable, and the best weights are the ones returned."""

import dataclasses
import errno
import json

import numpy as np
import pytest
import torch

from statewise_models.config import Feature, InvalidConfig, NetworkConfig
from statewise_models.data.table import Series, Table
from statewise_models.files import check_writable, replace_bytes, replace_file
from statewise_models.network import Network
from statewise_models.training import Diverged, TrainingSettings, train_forecast
from statewise_models.training.checkpoint import load
from statewise_models.training.history import Epoch, Judgement, best
from statewise_models.training.lanes import Piece, lay
from statewise_models.training.loop import carry, learning_rate, walk

SETTINGS = TrainingSettings(cell="gru", hidden=6, layers=2, dropout=0.3, epochs=6, window=8, lanes=2, seed=3, accelerator="cpu")


@pytest.fixture
def waves():
    values = (50 + 10 * np.sin(np.arange(160) / 5) + np.random.default_rng(0).normal(0, 1, 160)).astype(np.float32)[:, None]
    return Table(("y",), ("y",), (Series("waves", np.arange(160), None, values, values),), 0.0)


class Watcher:
    """Counts, and calls what is to happen after an epoch."""

    def __init__(self, after=lambda history: None):
        self.windows, self.after = 0, after

    def window_done(self):
        """Counts a window."""
        self.windows += 1

    def epoch_done(self, history):
        """Calls what is to happen."""
        self.after(history)


def stop_after(number):
    def after(history):
        if len(history) == number:
            raise KeyboardInterrupt

    return Watcher(after)


def weights(trained):
    return {name: weight.numpy() for name, weight in trained.network.state_dict().items()}


def assert_same_weights(one, other):
    for name, weight in weights(one).items():
        np.testing.assert_array_equal(weight, weights(other)[name], err_msg=name)


def changed(settings, **fields):
    return dataclasses.replace(settings, **fields)


def test_the_same_seed_gives_the_same_weights(waves):
    """A run can be repeated to the last bit, dropout included; another seed gives another network."""
    one, again = train_forecast(waves, SETTINGS), train_forecast(waves, SETTINGS)
    assert_same_weights(one, again)
    other = train_forecast(waves, changed(SETTINGS, seed=4))
    assert any((weight != weights(other)[name]).any() for name, weight in weights(one).items())


def test_training_leaves_the_callers_random_numbers_alone(waves):
    """Seeding a run does not reseed the program around it."""
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    train_forecast(waves, changed(SETTINGS, epochs=1))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("stopped_after", [1, 4])
def test_a_resumed_run_ends_as_if_never_stopped(waves, tmp_path, stopped_after):
    """Weights, history and metrics of a run that was interrupted and resumed equal those of one that was not."""
    whole = train_forecast(waves, SETTINGS, output=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train_forecast(waves, SETTINGS, output=tmp_path / "parts", observer=stop_after(stopped_after))
    resumed = train_forecast(waves, SETTINGS, output=tmp_path / "parts", resume=True)
    assert_same_weights(whole, resumed)
    assert [epoch.training_loss for epoch in resumed.history] == [epoch.training_loss for epoch in whole.history]
    assert [epoch.validation for epoch in resumed.history] == [epoch.validation for epoch in whole.history]
    assert resumed.metrics == whole.metrics


def test_resuming_a_finished_run_trains_no_more(waves, tmp_path):
    """`resume` is safe to repeat: nothing is left to do, and the same network comes back."""
    whole = train_forecast(waves, SETTINGS, output=tmp_path)
    watcher = Watcher()
    assert_same_weights(whole, train_forecast(waves, SETTINGS, output=tmp_path, resume=True, observer=watcher))
    assert watcher.windows == 0


def test_resume_refuses_another_runs_checkpoint(waves, tmp_path):
    """A checkpoint is not mixed with other settings or other data; the message names what differs."""
    with pytest.raises(InvalidConfig, match="there is no"):
        train_forecast(waves, SETTINGS, output=tmp_path / "none", resume=True)
    assert not (tmp_path / "none").exists()
    train_forecast(waves, changed(SETTINGS, epochs=1), output=tmp_path)
    with pytest.raises(InvalidConfig, match=r"learning_rate 0\.01, not 0\.5"):
        train_forecast(waves, changed(SETTINGS, learning_rate=0.5), output=tmp_path, resume=True)
    series = waves.series[0]
    doubled = Table(("y",), ("y",), (Series("waves", series.time, None, series.x * 2, series.y * 2),), 0.0)
    with pytest.raises(InvalidConfig, match="other data"):
        train_forecast(doubled, SETTINGS, output=tmp_path, resume=True)


def test_resume_refuses_a_damaged_checkpoint(waves, tmp_path):
    """Half a file is no checkpoint, and says so."""
    train_forecast(waves, changed(SETTINGS, epochs=1), output=tmp_path)
    file = tmp_path / "checkpoint.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InvalidConfig, match="cannot be read"):
        train_forecast(waves, SETTINGS, output=tmp_path, resume=True)


def test_the_best_weights_are_kept(waves, tmp_path):
    """What training returns is the network of the epoch with the least validation loss, not the last one."""
    rough = changed(SETTINGS, learning_rate=0.3, epochs=12, patience=12, dropout=0.0)
    trained = train_forecast(waves, rough)
    kept = best(trained.history)
    assert kept.number < len(trained.history)
    with pytest.raises(KeyboardInterrupt):
        train_forecast(waves, rough, output=tmp_path, observer=stop_after(kept.number))
    then = load(tmp_path, trained.network.config, rough).weights
    for name, weight in trained.network.state_dict().items():
        assert torch.equal(weight, then[name])


def test_training_stops_early(waves):
    """`patience` epochs without a better one end the run."""
    trained = train_forecast(waves, changed(SETTINGS, learning_rate=0.3, epochs=60, patience=3))
    assert len(trained.history) == best(trained.history).number + 3 < 60


def test_a_diverging_run_says_so(waves):
    """A loss that is no number ends the run with a reason instead of a useless network."""
    with pytest.raises(Diverged, match="smaller learning rate"):
        train_forecast(waves, changed(SETTINGS, cell="elman", activation="relu", learning_rate=1e30))


def test_metrics_are_a_line_an_epoch(waves, tmp_path):
    """`metrics.jsonl` can be read line by line, and survives a resume without a line twice."""
    with pytest.raises(KeyboardInterrupt):
        train_forecast(waves, SETTINGS, output=tmp_path, observer=stop_after(2))
    trained = train_forecast(waves, SETTINGS, output=tmp_path, resume=True)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert [line["validation_loss"] for line in lines] == [epoch.validation.loss for epoch in trained.history]


@pytest.mark.parametrize("cell", ["elman", "lstm", "gru"])
def test_windows_with_carried_state_give_what_the_whole_series_gives(cell):
    """Cutting a series into windows changes nothing but the reach of gradients: training sees what serving will."""
    config = NetworkConfig("classify", cell, 5, 2, features=(Feature("x"),), labels=("a", "b"))
    torch.manual_seed(0)
    network = Network(config).eval()
    x = torch.randn(37, 1)
    lanes = lay([Piece({"x": x.numpy()}, np.zeros((37, 1), np.float32))], 1, 8)
    with torch.no_grad():
        windows = torch.cat([values for _, values in walk(network, lanes)])[:37]
        whole, _ = network({"x": x[:, None]}, network.initial(1))
    torch.testing.assert_close(windows, whole, atol=1e-6, rtol=1e-5)


def test_fresh_lanes_start_from_zeros_and_gradients_stop():
    """A new series does not see the last one's state, not even one that is no number; others carry theirs, without gradient."""
    network = Network(NetworkConfig("classify", "lstm", 2, features=(Feature("x"),), labels=("a", "b")))
    states = [torch.full((2, 2), float("nan"), requires_grad=True), torch.ones(2, 2, requires_grad=True)]
    states[0].data[1] = 5.0
    hidden, cell_state = carry(network, states, torch.tensor([True, False]))
    assert hidden.tolist() == [[0, 0], [5, 5]]
    assert cell_state.tolist() == [[0, 0], [1, 1]]
    assert not hidden.requires_grad


def test_the_learning_rate_rises_and_falls():
    """It peaks at a tenth of the run and ends near zero, never at it."""
    settings = TrainingSettings(epochs=100, learning_rate=0.5)
    rates = [learning_rate(settings, epoch) for epoch in range(100)]
    assert rates.index(max(rates)) == 10
    assert max(rates) == pytest.approx(0.5)
    assert 0 < rates[0] < 0.01
    assert 0 < rates[-1] < 0.01


def test_epochs_survive_json():
    """A checkpoint's history is the history, further measures included."""
    epoch = Epoch(3, 0.5, Judgement(0.25, (-0.9, 0.25), {"validation_accuracy": 0.9}), 0.01, 1.5)
    assert Epoch.from_dict(json.loads(json.dumps(epoch.as_dict()))) == epoch


def test_of_two_equal_epochs_the_earlier_is_best():
    """No change for nothing: patience counts from the first of equals."""
    history = [Epoch(number, 1.0, Judgement(1.0, (1.0,)), 0.1, 0.0) for number in (1, 2)]
    assert best(history).number == 1


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path):
    """A full disk costs the new file only: the old one stands, nothing lies beside it, and the error names the file."""
    replace_bytes(tmp_path / "kept", b"old")

    def fill(incoming):
        incoming.write_bytes(b"half of the ne")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="kept") as caught:
        replace_file(tmp_path / "kept", fill)
    assert caught.value.errno == errno.ENOSPC
    assert (tmp_path / "kept").read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["kept"]


def test_checking_a_folder_leaves_nothing(tmp_path):
    """The check before training makes neither folder nor file, and fails where a file is in the way."""
    check_writable(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        check_writable(tmp_path / "file" / "b")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("window", 0),
        ("lanes", 0),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("validation", 0.0),
        ("test", 0.9),
        ("weight_decay", -1.0),
        ("seed", -1),
        ("accelerator", "tpu"),
        ("dropout", 1.0),
        ("hidden", 0),
        ("harmonics", 0),
        ("embedding", 0),
        ("calendar", (1,)),
        ("calendar", (48, 48)),
        ("calendar", (48, 2**63)),
    ],
)
def test_settings_refuse_what_makes_no_sense(field, value):
    """A wrong setting is refused when it is made, by its name."""
    with pytest.raises(InvalidConfig, match=field.removesuffix("s")):
        TrainingSettings(**{field: value})


def test_a_bidirectional_cell_is_refused_with_the_reason():
    """`bilstm` is told why it cannot be."""
    with pytest.raises(InvalidConfig, match="cannot be streamed"):
        TrainingSettings(cell="bilstm")
