"""The textbook cells, the facts they must show, and torch against them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from builders.served import KINDS, LAYERS, TASKS, config
from statewise_models import reference
from statewise_models.config import Feature, NetworkConfig, Route
from statewise_models.export import plain_model
from statewise_models.export.conversation import conversation
from statewise_models.network import Network


def weights_of(network: Network) -> dict[str, np.ndarray]:
    return {name: tensor.detach().numpy() for name, tensor in network.state_dict().items()}


def test_an_elman_cell_sees_its_inputs_and_its_hidden_state_zeros_at_first() -> None:
    """10 inputs and 128 hidden units: 138 values; with no past, the hidden state is that of the inputs alone."""
    random = np.random.default_rng(0)
    x, w, r = random.normal(size=(1, 10)), random.normal(size=(128, 10)), random.normal(size=(128, 128))
    assert np.concatenate([w, r], axis=1).shape == (128, 138)
    first = reference.elman(x, np.zeros((1, 128)), w, r, np.zeros(128))["hidden"]
    assert np.allclose(first, np.tanh(x @ w.T))
    network = Network(
        NetworkConfig("classify", "elman", 128, features=tuple(Feature(str(n)) for n in range(10)), labels=("a", "b"))
    )
    assert sum(network.recurrent.get_parameter(name).shape[1] for name in ("weight_ih_l0", "weight_hh_l0")) == 138
    assert not torch.stack(network.initial(3)).any()


def test_the_lstm_lets_out_the_squashed_cell_state() -> None:
    """An open output gate gives tanh(C), a shut one 0; a shut input gate and an open forget gate keep C."""
    cell = np.array([[0.3, -2.0]])
    x, none = np.zeros((1, 1)), np.zeros((8, 1))
    gates = lambda i, f, g, o: np.repeat([i, f, g, o], 2).astype(float)  # noqa: E731
    for opened, share in ((50.0, 1.0), (-50.0, 0.0)):
        computed = reference.lstm(x, np.zeros((1, 2)), cell, none, np.zeros((8, 2)), gates(-50, 50, 1, opened))
        assert np.allclose(computed["cell_state"], cell)
        assert np.allclose(computed["hidden"], share * np.tanh(cell))


def test_peepholes_let_the_gates_see_the_cell_state() -> None:
    """Input and forget gate see the last cell state, the output gate the new one; weights of zero leave an LSTM."""
    cell, x, none = np.array([[2.0, -1.5]]), np.zeros((1, 1)), np.zeros((8, 1))
    candidate = np.array([0, 0, 0, 0, 50.0, 50.0, 0, 0])  # tanh of it is 1, and all gates are at a half but for the peepholes
    computed = reference.lstm(x, np.zeros((1, 2)), cell, none, np.zeros((8, 2)), candidate, np.repeat([3.0, 2.0, 1.0], 2))
    i, f = 1 / (1 + np.exp(-3 * cell)), 1 / (1 + np.exp(-2 * cell))
    new = f * cell + i
    for name, expected in {"i": i, "f": f, "cell_state": new, "o": 1 / (1 + np.exp(-new))}.items():
        assert np.allclose(computed[name], expected), name
    without = reference.lstm(x, np.zeros((1, 2)), cell, none, np.zeros((8, 2)), candidate, np.zeros(6))
    assert np.allclose(without["f"], 0.5)


def test_a_jordan_network_sees_its_own_output() -> None:
    """One layer fed by `out` alone: beside the inputs it sees the head's last values, and not its own hidden state."""
    made = config("forecast", "jordan", 1)
    torch.manual_seed(0)
    network = Network(made).eval()
    weights = weights_of(network)
    assert (made.state_sizes, weights["recurrent.weight_hh_l0"].shape) == ({"output": 2}, (12, 2))
    inputs = conversation(made, [(1, 2)], seed=0, masked=False)[0].inputs
    with torch.no_grad():
        (first, second) = network.front({key: torch.from_numpy(value) for key, value in inputs.items()})[:, 0].numpy()
    w, r, b = (weights[f"recurrent.{name}_l0"] for name in ("weight_ih", "weight_hh", "bias_ih"))
    output = weights["head.weight"] @ np.tanh(w @ first + b) + weights["head.bias"]
    traced = reference.trace(made, weights, inputs)
    assert np.allclose(traced["output"][0, 0], output, atol=1e-6)
    assert np.allclose(traced["hidden_0"][1, 0], np.tanh(w @ second + r @ output + b), atol=1e-6)


def test_each_layer_fed_to_itself_is_the_plain_elman_network() -> None:
    """`1:1,2:2` of two layers is torch's own RNN, in the same states and the same ONNX op."""
    own = dataclasses.replace(config("classify", "elman", 2), feedback=(Route(2, 2), Route(1, 1)))
    assert isinstance(Network(own).recurrent, torch.nn.RNN)
    assert own.state_names == ("hidden_0", "hidden_1")
    assert [node.op_type for node in plain_model(Network(own)).graph.node].count("RNN") == 2


def test_the_gru_keeps_or_replaces_by_its_update_gate() -> None:
    """An open update gate keeps the hidden state, a shut one takes the candidate."""
    hidden, zeros = np.array([[0.5, -0.25]]), np.zeros((6, 2))
    for update, expected in ((50.0, hidden), (-50.0, np.tanh([[2.0, 2.0]]))):
        bias = np.array([0, 0, update, update, 2.0, 2.0])
        computed = reference.gru(np.zeros((1, 2)), hidden, zeros, zeros, bias, np.zeros(6))
        assert np.allclose(computed["hidden"], expected)


def test_a_gru_has_three_quarters_of_the_lstms_recurrent_weights() -> None:
    """Three gates against four, in the reference's count and in torch's tensors."""
    counts = {}
    for cell in ("gru", "lstm"):
        made = config("classify", cell, 1)
        counts[cell] = Network(made).recurrent.get_parameter("weight_hh_l0").numel()
        assert counts[cell] == reference.recurrent_weights(made)
    assert counts["gru"] * 4 == counts["lstm"] * 3


@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("cell", KINDS)
@pytest.mark.parametrize("task", TASKS)
def test_torch_computes_what_the_textbook_says(task: str, cell: str, layers: int) -> None:
    """The network's raw outputs equal the reference's within 1e-5 of their scale, missing values and calendar included."""
    torch.manual_seed(layers)
    network = Network(config(task, cell, layers)).eval()
    inputs = conversation(network.config, [(4, 25)], seed=2)[0].inputs
    with torch.no_grad():
        ours = network.predict({key: torch.from_numpy(value) for key, value in inputs.items()}, network.initial(4))[0].numpy()
    expected = reference.run(network.config, weights_of(network), inputs)
    assert np.abs(ours - expected).max() <= 1e-5 * np.abs(expected).max()


def test_the_relu_elman_is_the_textbooks() -> None:
    """The other activation of the Elman cell."""
    torch.manual_seed(3)
    made = NetworkConfig("classify", "elman", 8, 2, "relu", features=(Feature("a"), Feature("b")), labels=("x", "y"))
    network = Network(made).eval()
    inputs = conversation(made, [(3, 20)], seed=1)[0].inputs
    with torch.no_grad():
        ours = network.predict({"x": torch.from_numpy(inputs["x"])}, network.initial(3))[0].numpy()
    assert np.abs(ours - reference.run(made, weights_of(network), inputs)).max() <= 1e-5
