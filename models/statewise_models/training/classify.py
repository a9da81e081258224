"""Learns to classify sequences: one label each, readable at every timestep.

labelled sequences → test and validation drawn by seed → scales of the training part → packed batches of whole sequences → `fit` →
accuracy at the last timestep and confusion matrix → files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from statewise_models.config import NetworkConfig
from statewise_models.data.labelled import Labelled, split_labelled
from statewise_models.data.policy import InvalidData
from statewise_models.network import Network
from statewise_models.training.facts import facts_of_labelled
from statewise_models.training.history import Epoch, Judgement
from statewise_models.training.lanes import VOID, Window
from statewise_models.training.loop import Observer, fit, walk
from statewise_models.training.progress import Bar
from statewise_models.training.scaling import check_missing, features
from statewise_models.training.settings import TrainingSettings
from statewise_models.training.start import Start
from statewise_models.training.trained import Trained

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True, eq=False)
class Batches:
    """Whole sequences in batches; iterate for ragged windows, in the order of the sequences or, if `shuffled`, at random.

    Attributes:
        data: the sequences.
        calendar: whether the network takes `time`.
        size: sequences of a batch.
    """

    data: Labelled
    calendar: bool
    size: int
    shuffled: bool = False

    def __len__(self) -> int:
        return -(-len(self.data.sequences) // self.size)

    def __iter__(self) -> Iterator[Window]:
        count = len(self.data.sequences)
        order = torch.randperm(count) if self.shuffled else torch.arange(count)
        for begin in range(0, count, self.size):
            yield self._window(order[begin : begin + self.size].tolist())

    def _window(self, chosen: list[int]) -> Window:
        sequences = [self.data.sequences[number] for number in chosen]
        inputs = {"x": pad_sequence([torch.from_numpy(sequence.x) for sequence in sequences])}
        if self.calendar:
            inputs["time"] = pad_sequence([torch.from_numpy(sequence.time) for sequence in sequences])
        goals = pad_sequence([torch.full((len(s.x),), s.label) for s in sequences], padding_value=VOID)
        lengths = torch.tensor([len(sequence.x) for sequence in sequences])
        return Window(inputs, goals, torch.ones(len(chosen), dtype=torch.bool), lengths)


@dataclass(frozen=True, slots=True, eq=False)
class ClassifyLesson:
    """Cross-entropy at every timestep, later ones weighing more, or at the last alone; judged by the errors at the last."""

    training: Batches
    validation: Batches
    learn: str = "every"

    @property
    def windows_an_epoch(self) -> int:
        """How many batches an epoch has."""
        return len(self.training)

    def windows(self) -> Iterable[Window]:
        """Returns the batches, in an order of torch's generator."""
        return self.training

    def loss(self, values: Tensor, window: Window) -> Tensor:
        """Returns the mean over sequences of the cross-entropy (nats): of all timesteps, their weights growing, or of the last."""
        if self.learn == "last":
            return cross_entropy(_last(values, window), window.goals[0])
        each = cross_entropy(values.flatten(0, 1), window.goals.flatten(), reduction="none", ignore_index=VOID)
        assert window.lengths is not None
        lengths = window.lengths.to(values.device)
        weight = torch.arange(1, len(values) + 1, device=values.device)[:, None].expand(-1, len(lengths)).to(values.dtype)
        total = lengths * (lengths + 1) / 2
        return (each.view_as(window.goals) * weight / total).sum() / len(lengths)

    @torch.no_grad()
    def judge(self, network: Network) -> Judgement:
        """Ranks by accuracy, then by loss."""
        losses, right = [], 0
        for window, values in walk(network, self.validation):
            losses.append(self.loss(values, window) * len(window.fresh))
            right += int((_last(values, window).argmax(-1) == window.goals[0]).sum())
        count = len(self.validation.data.sequences)
        loss = torch.stack(losses).sum().item() / count
        return Judgement(loss, (-right / count, loss), {"validation_accuracy": right / count})


def train_classify(
    data: Labelled,
    settings: TrainingSettings,
    *,
    output: Path | None = None,
    resume: bool = False,
    observer: Observer | None = None,
    start: Start | None = None,
) -> Trained:
    """Trains a network to tell labels apart; arguments and errors as `train_forecast`.

    `metrics[split]` holds `accuracy` (at the last timestep), `majority` (the accuracy of always saying the most frequent label of
    the training part), `count`, and `confusion`, counts `[true label][predicted label]`; `metrics["labels"]` names them.
    """
    check_missing(data.inputs, [sequence.x for sequence in data.sequences], settings)
    _check_labels(data, settings)
    batches = _parts(data, settings)
    training = batches["training"]
    config = configure(training, settings)
    made = {name: Batches(part, bool(config.calendar), settings.lanes, name == "training") for name, part in batches.items()}
    lesson = ClassifyLesson(made.pop("training"), made["validation"], settings.learn)
    with Bar.unless(observer, f"classify {settings.cell}", settings.epochs, lesson.windows_an_epoch) as watcher:
        network, history = fit(config, lesson, settings, output=output, resume=resume, observer=watcher, start=start)
    frequent = int(np.bincount([sequence.label for sequence in training.sequences]).argmax())
    metrics = {"labels": list(data.labels)} | {split: evaluate(network, part, frequent) for split, part in made.items()}
    facts = facts_of_labelled(data, batches, config)
    trained = Trained(network, history, metrics, settings, facts, partial(_draw, history, metrics), batches[settings.reported])
    if output:
        trained.write(output)
    return trained


def rescore_sequences(network: Network, data: Labelled, settings: TrainingSettings) -> dict[str, Any]:
    """Returns the `metrics` of another network on the splits of `train_classify`."""
    parts = _parts(data, settings)
    frequent = int(np.bincount([sequence.label for sequence in parts.pop("training").sequences]).argmax())
    made = {name: Batches(part, bool(network.config.calendar), settings.lanes) for name, part in parts.items()}
    return {split: evaluate(network, part, frequent) for split, part in made.items()}


def _parts(data: Labelled, settings: TrainingSettings) -> dict[str, Labelled]:
    """Returns the sequences of training, validation and, if there is a share for it, test."""
    rest, test = split_labelled(data, settings.test, settings.seed)
    training, validation = split_labelled(rest, settings.validation / (1 - settings.test), settings.seed)
    return {"training": training, "validation": validation} | ({"test": test} if test.sequences else {})


def configure(training: Labelled, settings: TrainingSettings) -> NetworkConfig:
    """Returns the network for labelled sequences: their columns with the scales of the training part."""
    if not training.sequences:
        raise InvalidData("no sequence is left for training: smaller shares for validation and test would leave some")
    columns = features(training.inputs, [sequence.x for sequence in training.sequences], settings)
    return settings.network("classify", training.step_seconds, features=columns, labels=training.labels)


def _check_labels(data: Labelled, settings: TrainingSettings) -> None:
    """Raises `InvalidData` where a label has too few series to be in every part."""
    parts = ["training", "validation", *(["test"] if settings.test else [])]
    for number, label in enumerate(data.labels):
        count = len({sequence.series for sequence in data.sequences if sequence.label == number})
        if count < len(parts):
            remedy = " (with a test share of 0, two would do)" if count == 2 else ""
            raise InvalidData(f"label {label!r} has {count} series; {', '.join(parts)} need one each{remedy}")


def _last(values: Tensor, window: Window) -> Tensor:
    """Returns the values of each sequence's last timestep, `[lanes, labels]`."""
    assert window.lengths is not None
    return values[window.lengths - 1, torch.arange(len(window.lengths))]


@torch.no_grad()
def evaluate(network: Network, batches: Batches, frequent: int) -> dict[str, Any]:
    """Returns the figures of a split, as `train_classify` tells them; `frequent` is the label that is always said."""
    labels = len(batches.data.labels)
    confusion = np.zeros((labels, labels), np.int64)
    for window, values in walk(network, batches):
        np.add.at(confusion, (window.goals[0].numpy(), _last(values, window).argmax(-1).numpy()), 1)
    count = int(confusion.sum())
    return {
        "accuracy": float(np.trace(confusion)) / count,
        "majority": float(confusion[frequent].sum()) / count,
        "count": count,
        "confusion": confusion.tolist(),
    }


def _draw(history: tuple[Epoch, ...], metrics: dict[str, Any], width: float) -> dict[str, Figure]:
    from statewise_models.plots import plot_confusion, plot_losses

    split = "test" if "test" in metrics else "validation"
    return {
        "loss": plot_losses(history, "cross-entropy (nats)", width),
        "confusion": plot_confusion(metrics[split]["confusion"], metrics["labels"], split),
    }
