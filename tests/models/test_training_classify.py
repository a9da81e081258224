"""Classification: sequences of unlike length are learned whole, and padding is never seen."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from builders.labelled import LABELS, slopes
from statewise_models.config import CELLS, Feature, NetworkConfig
from statewise_models.data.labelled import Labelled
from statewise_models.data.policy import InvalidData
from statewise_models.network import Network
from statewise_models.training import TrainingSettings, train_classify
from statewise_models.training.classify import Batches, ClassifyLesson
from statewise_models.training.lanes import VOID

SETTINGS = TrainingSettings(cell="gru", hidden=8, epochs=8, lanes=8, learning_rate=0.02, seed=1, accelerator="cpu")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A network that has learned the slopes, and the folder of its files."""
    folder = tmp_path_factory.mktemp("slopes")
    return train_classify(slopes(), SETTINGS, output=folder), folder


@pytest.fixture(params=CELLS)
def network(request) -> Network:
    torch.manual_seed(0)
    return Network(NetworkConfig("classify", request.param, 6, 2, features=(Feature("x"),), labels=LABELS)).eval()


def batch(data: Labelled, *chosen: int):
    """Returns the window of some of the sequences."""
    part = dataclasses.replace(data, sequences=tuple(data.sequences[number] for number in chosen))
    (window,) = Batches(part, calendar=False, size=len(chosen))
    return window


def shortest_and_longest(data: Labelled) -> tuple[int, int]:
    lengths = [len(sequence.x) for sequence in data.sequences]
    assert min(lengths) < max(lengths)
    return lengths.index(min(lengths)), lengths.index(max(lengths))


def test_a_short_sequence_gives_the_same_beside_a_long_one(network):
    """Padding is no timestep: logits and state of a sequence do not depend on what it is batched with."""
    data = slopes()
    short, long = shortest_and_longest(data)
    alone, together = batch(data, short), batch(data, short, long)
    with torch.no_grad():
        one, one_states = network(alone.inputs, network.initial(1), alone.lengths)
        two, two_states = network(together.inputs, network.initial(2), together.lengths)
    length = len(data.sequences[short].x)
    torch.testing.assert_close(two[:length, 0], one[:, 0], atol=1e-6, rtol=1e-5)
    for mine, theirs in zip(one_states, two_states, strict=True):
        torch.testing.assert_close(theirs[0], mine[0], atol=1e-6, rtol=1e-5)


def test_what_stands_in_the_padding_does_not_matter(network):
    """Neither loss nor any gradient depends on the numbers that fill a batch up."""
    data = slopes()
    window = batch(data, *shortest_and_longest(data))
    lesson = ClassifyLesson(Batches(data, False, 8), Batches(data, False, 8))

    def learned(x):
        network.zero_grad()
        values, _ = network({"x": x}, network.initial(2), window.lengths)
        loss = lesson.loss(values, window)
        loss.backward()
        return [loss.detach(), *(weight.grad.clone() for weight in network.parameters())]

    filled = window.inputs["x"].clone()
    filled[window.goals == VOID] = 1e6
    assert not torch.equal(filled, window.inputs["x"])
    for one, other in zip(learned(window.inputs["x"]), learned(filled), strict=True):
        assert torch.equal(one, other)


def test_every_sequence_counts_the_same_and_later_timesteps_more():
    """The loss is the mean over sequences of their weighted means: 1/3 and 2/3 for two timesteps, all for one."""
    data = slopes(2)
    pair = tuple(
        dataclasses.replace(sequence, x=sequence.x[:length], time=sequence.time[:length])
        for sequence, length in zip(data.sequences, (1, 2), strict=True)
    )
    part = dataclasses.replace(data, sequences=pair)
    (window,) = Batches(part, calendar=False, size=2)
    logits = torch.tensor([[[2.0, 0.0], [1.0, 0.0]], [[9.0, -9.0], [0.0, 3.0]]])  # [timesteps, sequences, labels]
    nats = -torch.log_softmax(logits, dim=-1)
    expected = (nats[0, 0, 0] + (nats[0, 1, 1] + 2 * nats[1, 1, 1]) / 3) / 2
    lesson = ClassifyLesson(Batches(part, False, 2), Batches(part, False, 2))
    assert lesson.loss(logits, window).item() == pytest.approx(expected.item())


def test_an_epoch_reads_every_sequence_once_in_an_order_of_its_seed():
    """Shuffled batches lose and double nothing, and the generator's seed decides their order."""
    data = slopes()
    batches = Batches(data, calendar=False, size=7, shuffled=True)

    def read(seed):
        torch.manual_seed(seed)
        windows = list(batches)
        assert len(windows) == len(batches) == 6
        return [window.inputs["x"][:length, row, 0].tolist() for window in windows for row, length in enumerate(window.lengths)]

    once = read(1)
    assert sorted(once) == sorted(sequence.x[:, 0].tolist() for sequence in data.sequences)
    assert once == read(1) != read(2)


def test_it_learns_what_can_be_told_apart(trained):
    """Falling and rising lines are told apart without a mistake, on sequences that were never learned from."""
    network, _ = trained
    assert network.metrics["test"]["accuracy"] == 1.0
    assert network.metrics["test"]["majority"] == 0.5
    assert network.history[-1].validation.measures["validation_accuracy"] == 1.0


def test_the_label_can_be_read_at_every_timestep(trained):
    """Probabilities come with each timestep, sum to 1, and are right before the sequence ends."""
    network = trained[0].network
    unseen = slopes(seed=9)
    early = []
    for sequence in unseen.sequences:
        with torch.no_grad():
            probability, _ = network.predict({"x": torch.from_numpy(sequence.x)[:, None]}, network.initial(1))
        assert probability.shape == (len(sequence.x), 1, 2)
        torch.testing.assert_close(probability.sum(-1), torch.ones(len(sequence.x), 1))
        early.append(int(probability[2, 0].argmax()) == sequence.label)
    assert np.mean(early) > 0.8


def test_the_report_is_what_the_confusion_matrix_says(trained):
    """Counts by true and predicted label add up to accuracy and count, for the labels named."""
    metrics = trained[0].metrics
    assert metrics["labels"] == list(LABELS)
    for split, count in (("validation", 4), ("test", 10)):
        confusion = np.array(metrics[split]["confusion"])
        assert confusion.sum() == metrics[split]["count"] == count
        assert np.trace(confusion) / count == metrics[split]["accuracy"]
        assert confusion.sum(axis=1).tolist() == [count / 2, count / 2]


def test_its_files_are_written(trained):
    """Pictures are pictures, and the evaluation on disk is the one returned."""
    result, folder = trained
    for name in ("confusion.png", "loss.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    assert json.loads((folder / "evaluation.json").read_text()) == result.metrics
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["validation_accuracy"] == 1.0


def test_of_equally_right_epochs_the_surer_is_kept(trained):
    """Epochs are ranked by accuracy, and by loss where that is the same."""
    ranks = [epoch.validation.rank for epoch in trained[0].history]
    assert ranks == [(-epoch.validation.measures["validation_accuracy"], epoch.validation.loss) for epoch in trained[0].history]


def test_without_a_test_share_the_validation_is_reported(tmp_path):
    """`test=0` keeps nothing back for the report, and the picture is that of the validation."""
    result = train_classify(slopes(), dataclasses.replace(SETTINGS, test=0.0, epochs=1), output=tmp_path)
    assert "test" not in result.metrics
    assert (tmp_path / "confusion.png").exists()


@pytest.mark.parametrize(
    ("test", "kept", "told"), [(0.2, 2, "2 series.*test share of 0"), (0.2, 1, "1 series"), (0.0, 1, "1 series")]
)
def test_a_label_too_rare_for_every_part_is_refused_with_its_count(test, kept, told):
    """The count is that of the file, not of what a first split left of it."""
    data = slopes()
    rising = [sequence for sequence in data.sequences if sequence.label == 1]
    few = dataclasses.replace(data, sequences=tuple(each for each in data.sequences if each not in rising[kept:]))
    with pytest.raises(InvalidData, match=f"label 'rising' has {told}"):
        train_classify(few, dataclasses.replace(SETTINGS, test=test, epochs=1))


def test_a_loss_of_the_last_timestep_sees_no_other():
    """With `learn="last"` the logits of earlier timesteps change nothing; with `every` they do."""
    window = batch(slopes(), 0, 1)
    values = torch.randn(len(window.inputs["x"]), 2, len(LABELS), generator=torch.Generator().manual_seed(0))
    other = values.clone()
    other[0] += 1.0 + torch.arange(len(LABELS))
    assert min(window.lengths) > 1
    last, every = (ClassifyLesson([], [], learn) for learn in ("last", "every"))
    assert last.loss(values, window) == last.loss(other, window)
    assert every.loss(values, window) != every.loss(other, window)
