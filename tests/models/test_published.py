"""A published version gives back the network that it was exported from."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import onnx
import pytest
import torch

from builders.served import KINDS, LAYERS, TASKS, config
from statewise_models.config import InvalidConfig
from statewise_models.export import NETWORK_KEY, export, plain_model
from statewise_models.network import Network
from statewise_models.published import network_of, published


@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("cell", KINDS)
@pytest.mark.parametrize("task", TASKS)
def test_a_version_gives_its_network_back(task: str, cell: str, layers: int, tmp_path: Path) -> None:
    """Configuration and weights come back to the last bit, for every task, cell and number of layers."""
    network = Network(dataclasses.replace(config(task, cell, layers), activation="tanh" if cell == "lstm" else "relu", dropout=0.1))
    (tmp_path / "model.onnx").write_bytes(plain_model(network).SerializeToString())
    again = network_of(tmp_path / "model.onnx")
    assert again.config == network.config
    assert again.training is False
    for name, weight in network.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight), name


def test_words_name_a_version(tmp_path: Path) -> None:
    """MODEL is what new sessions get, MODEL@2 is version 2."""
    for _ in range(2):
        export(Network(config("tokens", "gru", 1)), repository=tmp_path, model="writer")
    assert [str(published(tmp_path, words)) for words in ("writer", "writer@2")] == ["writer@1", "writer@2"]
    assert published(tmp_path, "writer@2").path == tmp_path / "writer" / "2" / "model.onnx"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("nobody", r"no model 'nobody' in .* \(it has: writer\)"),
        ("writer@7", r"model 'writer' has no version 7 \(it has: 1\)"),
        ("writer@new", "a version is named MODEL or MODEL@NUMBER, not 'writer@new'"),
        ("../writer", "cannot name a model"),
    ],
)
def test_words_that_name_nothing_are_refused(words: str, told: str, tmp_path: Path) -> None:
    """One line says what there is."""
    export(Network(config("tokens", "gru", 1)), repository=tmp_path, model="writer")
    with pytest.raises(InvalidConfig, match=told):
        published(tmp_path, words)


def test_a_file_without_its_network_is_refused(tmp_path: Path) -> None:
    """A version from before versions kept their network, and a file that is no model."""
    model = plain_model(Network(config("tokens", "gru", 1)))
    kept = [entry for entry in model.metadata_props if entry.key != NETWORK_KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    onnx.save(model, str(tmp_path / "old.onnx"))
    with pytest.raises(InvalidConfig, match="the network cannot be rebuilt: train it again"):
        network_of(tmp_path / "old.onnx")
    (tmp_path / "text.onnx").write_text("not a model")
    with pytest.raises(InvalidConfig, match="cannot be read as an ONNX model"):
        network_of(tmp_path / "text.onnx")
