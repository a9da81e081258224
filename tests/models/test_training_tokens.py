"""Tokens: text is learned in its order, judged against its letters' frequencies, and continued."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import torch

from statewise_models.config import NetworkConfig
from statewise_models.data.text import read_text
from statewise_models.export import plain_model
from statewise_models.network import Network
from statewise_models.training import TrainingSettings, train_tokens
from statewise_models.training.lanes import VOID
from statewise_models.training.tokens import _lanes, nats, sample

VERSE = "row, row, row your boat, gently down the stream; merrily, merrily, merrily, merrily, life is but a dream.\n" * 14
SETTINGS = TrainingSettings(
    hidden=24, embedding=8, epochs=10, window=16, lanes=4, learning_rate=0.02, validation=0.1, test=0.1, seed=1, accelerator="cpu"
)
LEVELS = ("characters", "bytes")


@pytest.fixture(scope="module")
def verses(tmp_path_factory):
    """The verses at each level, with a letter of two bytes."""
    path = tmp_path_factory.mktemp("text") / "verses.txt"
    path.write_text(VERSE.replace("dream", "dréam"))
    return {level: read_text(path, level=level) for level in LEVELS}


@pytest.fixture(scope="module")
def trained(verses, tmp_path_factory):
    """A network trained at each level, and the folder of its files."""
    folders = {level: tmp_path_factory.mktemp(level) for level in LEVELS}
    return {level: (train_tokens(verses[level], SETTINGS, output=folders[level]), folders[level]) for level in LEVELS}


def entropy_bits(tokens) -> float:
    counts = np.unique(tokens, return_counts=True)[1]
    shares = counts / counts.sum()
    return float(-(shares * np.log2(shares)).sum())


@pytest.mark.parametrize("level", LEVELS)
def test_it_learns_more_than_how_frequent_tokens_are(trained, verses, level):
    """Bits a token fall below the entropy of single tokens: the network has learned from what came before."""
    metrics = trained[level][0].metrics
    for split in ("validation", "test"):
        assert metrics[split]["bits_per_token"] < 0.7 * entropy_bits(verses[level].tokens)
        assert metrics[split]["bits_per_token"] < metrics[split]["frequency_bits"]


@pytest.mark.parametrize("level", LEVELS)
def test_the_vocabulary_is_the_texts(trained, verses, level):
    """Characters are those of the file, bytes all 256; the exported model's output is as wide."""
    network = trained[level][0].network
    assert network.config.vocabulary == verses[level].vocabulary
    assert len(verses[level].vocabulary) == (len(set(VERSE)) + 1 if level == "characters" else 256)
    (output,) = [output for output in plain_model(network).graph.output if output.name == "logits"]
    assert output.type.tensor_type.shape.dim[2].dim_value == len(verses[level].vocabulary)


@pytest.mark.parametrize("level", LEVELS)
def test_a_sample_is_written_in_the_vocabulary(trained, level):
    """sample.txt is the text of the report, made of nothing that the model does not know."""
    result, folder = trained[level]
    written = (folder / "sample.txt").read_bytes().decode("utf-8")
    assert written == result.metrics["sample"]
    if level == "characters":
        assert len(written) == 600
        assert set(written) <= set(result.network.config.vocabulary.characters)
    assert json.loads((folder / "evaluation.json").read_text()) == result.metrics
    assert (folder / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_a_sample_is_repeatable(trained):
    """The same seed makes the same text, another one another."""
    network = trained["characters"][0].network
    made = [sample(network, np.array([1, 2, 3]), 80, seed) for seed in (1, 1, 2)]
    assert made[0] == made[1] != made[2]


@pytest.mark.parametrize("level", LEVELS)
def test_losses_are_told_in_bits(trained, level):
    """What the lines of metrics.jsonl call bits are the loss's nats, by the logarithm of 2."""
    for epoch in trained[level][0].history:
        assert epoch.validation.measures["validation_bits"] == pytest.approx(epoch.validation.loss / math.log(2))


def test_a_character_never_seen_is_refused_by_name(verses):
    """A vocabulary of characters says which one it lacks; one of bytes takes every text."""
    with pytest.raises(ValueError, match="Z"):
        verses["characters"].vocabulary.encode("row Z")
    vocabulary = verses["bytes"].vocabulary
    assert vocabulary.decode(vocabulary.encode("row Z — 行")) == "row Z — 行"


def test_characters_seen_only_in_the_last_part_still_have_a_code(tmp_path):
    """What training never saw is judged, with a finite number of bits, not refused or skipped."""
    path = tmp_path / "late.txt"
    path.write_text("abcabcab" * 40 + "zzzzzzzz" * 6)
    metrics = train_tokens(read_text(path), dataclasses.replace(SETTINGS, epochs=1)).metrics
    assert metrics["test"]["count"] == 37
    assert 0 < metrics["test"]["bits_per_token"] < 100
    assert 0 < metrics["test"]["frequency_bits"] < 100


def test_every_token_of_a_part_is_predicted_once_from_the_one_before():
    """Parts lose no token at their border: only the text's very first has nothing before it."""
    tokens = np.arange(100, 200)
    goals = []
    for part in (slice(0, 80), slice(80, 90), slice(90, 100)):
        for window in _lanes(tokens, part, SETTINGS):
            known = window.goals != VOID
            assert torch.equal(window.inputs["token"][known] + 1, window.goals[known])
            goals += window.goals[known].tolist()
    assert sorted(goals) == tokens[1:].tolist()


def test_an_untrained_network_knows_nothing(tmp_path):
    """The loss of equal logits is the logarithm of the vocabulary's size, padding not counted."""
    (tmp_path / "text.txt").write_text("abcd" * 30)
    text = read_text(tmp_path / "text.txt")
    network = Network(NetworkConfig("tokens", "gru", 4, vocabulary=text.vocabulary, embedding_size=2)).eval()
    torch.nn.init.zeros_(network.head.weight)
    torch.nn.init.zeros_(network.head.bias)
    assert nats(network, _lanes(text.tokens, slice(0, 119), SETTINGS)) == pytest.approx(math.log(4))
