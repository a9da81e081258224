"""The textbook cells, the facts they must show, and torch against them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from builders.served import LAYERS, TASKS, config
from statewise_models import reference
from statewise_models.config import CELLS, Feature, NetworkConfig
from statewise_models.export.conversation import conversation
from statewise_models.network import Network


def weights_of(network: Network) -> dict[str, np.ndarray]:
    return {name: tensor.detach().numpy() for name, tensor in network.state_dict().items()}


def test_an_elman_cell_sees_its_inputs_and_its_hidden_state_zeros_at_first() -> None:
    """10 inputs and 128 hidden units: 138 values; with no past, the hidden state is that of the inputs alone."""
    random = np.random.default_rng(0)
    x, w, r = random.normal(size=(1, 10)), random.normal(size=(128, 10)), random.normal(size=(128, 128))
    assert np.concatenate([w, r], axis=1).shape == (128, 138)
    first = reference.elman(x, np.zeros((1, 128)), w, r, np.zeros(128))
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
        hidden, kept = reference.lstm(x, np.zeros((1, 2)), cell, none, np.zeros((8, 2)), gates(-50, 50, 1, opened))
        assert np.allclose(kept, cell)
        assert np.allclose(hidden, share * np.tanh(cell))


def test_the_gru_keeps_or_replaces_by_its_update_gate() -> None:
    """An open update gate keeps the hidden state, a shut one takes the candidate."""
    hidden, zeros = np.array([[0.5, -0.25]]), np.zeros((6, 2))
    for update, expected in ((50.0, hidden), (-50.0, np.tanh([[2.0, 2.0]]))):
        bias = np.array([0, 0, update, update, 2.0, 2.0])
        assert np.allclose(reference.gru(np.zeros((1, 2)), hidden, zeros, zeros, bias, np.zeros(6)), expected)


def test_a_gru_has_three_quarters_of_the_lstms_recurrent_weights() -> None:
    """Three gates against four, in the reference's count and in torch's tensors."""
    counts = {}
    for cell in ("gru", "lstm"):
        made = config("classify", cell, 1)
        counts[cell] = Network(made).recurrent.get_parameter("weight_hh_l0").numel()
        assert counts[cell] == reference.recurrent_weights(made)
    assert counts["gru"] * 4 == counts["lstm"] * 3


@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("cell", CELLS)
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
