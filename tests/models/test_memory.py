"""How far back a model remembers: gradients against a closed form, windows against whole sessions, and the recall of a bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from builders.served import config
from statewise_models.config import Feature, NetworkConfig, Target
from statewise_models.data.policy import Policy
from statewise_models.memory.gradients import gone, gradient_norms, shares
from statewise_models.memory.recall import KINDS, Trial, attempt, first_gradients, sequences
from statewise_models.memory.windows import Columns, norms_on
from statewise_models.network import Network


def linear(recurrent: float, layers: int = 1) -> Network:
    """An Elman network of one unit a layer that stays where relu is the identity: hidden' = x + recurrent · hidden + 1."""
    network = Network(NetworkConfig("forecast", "elman", 1, layers, "relu", features=(Feature("x"),), targets=(Target("x"),)))
    values = {"weight_ih": 1.0, "weight_hh": recurrent, "bias_ih": 1.0, "bias_hh": 0.0}
    with torch.no_grad():
        for name, weight in network.recurrent.named_parameters():
            weight.fill_(values[name.rpartition("_")[0]])
        network.head.weight.fill_(3.0)
        network.head.bias.fill_(0.5)
    return network


def squared(values):
    return values[-1, :, 0].square()


def test_a_linear_elman_cell_has_the_gradient_of_its_closed_form():
    """∂(v·hidden_t + d)² / ∂hidden_{t−k} = 2 (v·hidden_t + d) v r^k, to the last digits, though r^k falls to 1e−52."""
    recurrent, timesteps = 0.3, 101
    x = torch.rand(timesteps, 2, 1)
    ends = torch.full((2,), timesteps - 1)
    norms = gradient_norms(linear(recurrent), {"x": x}, [torch.ones(2, 1)], squared, ends)["hidden"]
    hidden = np.ones((2, 1))
    for now in x.numpy().astype(np.float64):
        hidden = now + recurrent * hidden + 1.0
    first = np.abs(2 * (3.0 * hidden[:, 0] + 0.5) * 3.0)
    k = np.arange(1, timesteps)[:, None]
    np.testing.assert_allclose(norms, first * float(np.float32(recurrent)) ** k, rtol=1e-5)
    np.testing.assert_allclose(shares(norms), float(np.float32(recurrent)) ** (k[:, 0] - 1.0), rtol=1e-5)


def test_layers_are_told_together_and_short_rows_end_early():
    """Of two layers the norm is over both states; a row that ends at timestep 2 has two states before it and no third."""
    network = linear(0.5, layers=2)
    last = torch.tensor([4, 2])

    def at_the_end(values):
        return values[last, torch.arange(2), 0].square()

    x = torch.rand(5, 2, 1)
    norms = gradient_norms(network, {"x": x}, network.initial(2), at_the_end, last)["hidden"]
    assert norms.shape == (4, 2)
    assert np.isnan(norms[2:, 1]).all()
    assert np.isfinite(norms[:, 0]).all()
    # One timestep back: the second layer's state by r, the first layer's through both by r too; two back: r² and 2r².
    np.testing.assert_allclose(norms[1] / norms[0], np.hypot(0.25, 0.5) / np.hypot(0.5, 0.5), rtol=1e-5)


def test_windows_carry_the_state_of_a_whole_session(tmp_path: Path):
    """A window in the middle of a series has the gradients that the session has which read everything from the beginning."""
    torch.manual_seed(0)
    network = Network(NetworkConfig("forecast", "gru", 5, features=(Feature("x"),), targets=(Target("x", 0.0, 2.0),))).eval()
    values = np.sin(np.arange(30) / 3).astype(np.float32)
    (tmp_path / "wave.csv").write_text("x\n" + "\n".join(map(str, values)))
    found = norms_on(network, tmp_path / "wave.csv", Columns(), back=4, windows=3)["hidden"]
    for place, end in enumerate((4, 16, 28)):
        x = torch.from_numpy(values[: end + 1, None, None])

        def squared_error(head, goal=float(values[end + 1])):
            return ((2.0 * head[-1, :, 0] - goal) / 2.0) ** 2

        whole = gradient_norms(network, {"x": x}, network.initial(1), squared_error, torch.tensor([end]))["hidden"]
        np.testing.assert_allclose(found[:, place], whole[:4, 0], rtol=1e-5)


def test_every_task_has_its_windows(tmp_path: Path):
    """Text, labelled sequences of unlike length and a table with calendar, mask and two targets, each with the file it takes."""
    (tmp_path / "book.txt").write_text("abc head fade cab " * 9)
    rows = [f"{s},{t},{('calm', 'busy')[s % 2]},{t * s % 5},{t}" for s in range(6) for t in range(3 + s)]
    (tmp_path / "labels.csv").write_text("id,t,label,left,right\n" + "\n".join(rows))
    (tmp_path / "plant.csv").write_text(
        "t,demand,wind,price\n" + "\n".join(f"{t},{30000 + t % 7},{t % 3 or ''},{t}" for t in range(40))
    )
    text = norms_on(Network(config("tokens", "elman", 1)), tmp_path / "book.txt", Columns(), 6, 4)
    assert text["hidden"].shape == (6, 4)
    columns = Columns("id", "t", "label", Policy(missing={"right": "mask"}))
    labels = norms_on(Network(config("classify", "lstm", 3)), tmp_path / "labels.csv", columns, 100, 99)
    assert {kind: norms.shape for kind, norms in labels.items()} == {"hidden": (7, 6), "cell_state": (7, 6)}
    assert np.isfinite(labels["hidden"]).sum() == sum(2 + s for s in range(6))
    table = norms_on(
        Network(config("forecast", "gru", 1)),
        tmp_path / "plant.csv",
        Columns(time="t", policy=Policy(missing={"wind": "mask"})),
        9,
        5,
    )
    assert np.isfinite(table["hidden"]).all()


def test_a_distance_is_told_where_hardly_anything_is_left():
    """The first one below a hundredth; none where there is none."""
    assert gone(np.array([1.0, 0.5, 0.009, 0.2])) == 3
    assert gone(np.array([1.0, 0.01])) is None


@pytest.mark.parametrize(("cell", "gates"), KINDS)
def test_every_cell_recalls_a_bit_after_two_timesteps(cell, gates):
    """The task can be learned at all: what fails at long delays does not fail for want of a way to say it."""
    recalled = attempt(Trial(cell, gates, delay=2, seed=0))
    assert recalled.accuracy > 0.97
    assert recalled.updates < 250


def test_the_question_is_asked_after_the_delay():
    """The bit is in the first timestep alone; nothing later depends on it."""
    torch.manual_seed(0)
    x, bits = sequences(4000, 3)
    assert x.shape == (4, 4000, 2)
    assert torch.equal(x[0, :, 0], 2.0 * bits - 1.0)
    assert torch.equal(x[..., 1].sum(dim=1), torch.tensor([4000.0, 0.0, 0.0, 0.0]))
    assert (x[1:, :, 0] * (2.0 * bits - 1.0)).mean(dim=1).abs().max() < 0.08


def test_open_gates_let_the_gradient_through_and_an_elman_cell_does_not():
    """Before learning, 40 timesteps back: more than a tenth where gates are open, less than a millionth elsewhere."""
    first = first_gradients(40)
    assert {kind for kind in first if first[kind][-1] > 0.1} == {("lstm", "open"), ("gru", "open")}
    assert all(first[kind][-1] < 1e-6 for kind in KINDS if kind[1] != "open")
