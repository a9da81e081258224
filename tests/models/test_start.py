"""A run that starts from a version: nothing learned is lost, nothing that does not fit is taken."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch

from builders.labelled import slopes
from builders.served import KINDS, config, name
from statewise.spec import Calendar, Vocabulary
from statewise_models.config import InvalidConfig
from statewise_models.data.table import Series, Table
from statewise_models.data.text import Text
from statewise_models.export.conversation import conversation
from statewise_models.network import Network
from statewise_models.training import Start, Trained, TrainingSettings, train_classify, train_forecast, train_tokens

QUICK = {"hidden": 8, "epochs": 6, "lanes": 2, "accelerator": "cpu"}


def forecast(**options: object) -> Trained:
    values = (50 + 10 * np.sin(np.arange(240) / 4)).astype(np.float32)[:, None]
    table = Table(("y",), ("y",), (Series("s", np.arange(240), None, values, values),), 0.0)
    return train_forecast(table, TrainingSettings(window=8, **QUICK), **options)


def classify(**options: object) -> Trained:
    return train_classify(slopes(60), TrainingSettings(**QUICK), **options)


def tokens(**options: object) -> Trained:
    vocabulary = Vocabulary(tuple(" abcdef"))
    text = Text(np.array(vocabulary.encode("abc def fed cba " * 40)), vocabulary)
    return train_tokens(text, TrainingSettings(window=8, embedding=3, **QUICK), **options)


@pytest.mark.parametrize("train", [forecast, classify, tokens])
def test_a_warm_start_needs_fewer_epochs(train: Callable[..., Trained]):
    """On the same data its first epoch is better than a cold start's first, and not worse than where the version was."""
    cold = train()
    warm = train(start=Start("m@1", cold.network))
    assert warm.history[0].validation.loss < cold.history[0].validation.loss
    assert warm.history[0].validation.loss < 1.2 * min(epoch.validation.loss for epoch in cold.history)


@pytest.mark.parametrize("cell", KINDS)
@pytest.mark.parametrize("task", ["forecast", "classify"])
def test_other_scales_change_nothing_that_was_learned(task: str, cell: str):
    """With the scales of other data, missing values and differences among it, the network answers as the version does.

    Where outputs are fed back, that is from any state on, told in the new scales.
    """
    torch.manual_seed(2)
    old = config(task, cell, 2)
    features = tuple(
        dataclasses.replace(each, mean=1.5 * each.mean + 1, scale=(2 + number) * each.scale)
        for number, each in enumerate(old.features)
    )
    targets = tuple(dataclasses.replace(each, mean=each.mean - 7, scale=0.3 * each.scale) for each in old.targets)
    new = dataclasses.replace(old, features=features, targets=targets)
    before, after = Network(old).eval(), Network(new).eval()
    after.load_state_dict(Start("m@1", before).weights(new))
    inputs = {key: torch.from_numpy(value) for key, value in conversation(old, [(5, 30)], seed=1)[0].inputs.items()}
    assert torch.isnan(inputs["x"]).any()
    with torch.no_grad():
        states = dict(zip(old.state_names, before.initial(5), strict=True))
        told = dict(states)
        if "output" in states and targets:
            states["output"] = torch.randn(5, len(targets))
            raw = [states["output"][:, [n]] * each.scale + each.mean for n, each in enumerate(old.targets)]
            told["output"] = torch.cat([(x - each.mean) / each.scale for x, each in zip(raw, targets, strict=True)], dim=1)
        expected, given = (
            network.predict(inputs, list(carried.values()))[0] for network, carried in ((before, states), (after, told))
        )
    assert (given - expected).abs().max() <= 1e-5 * expected.abs().max()


OTHERS = {
    "task": ("forecast", lambda old: config("classify", "gru", 1), "task must be the same: m@1 has forecast, this run classify"),
    "cell": ("forecast", lambda old: dataclasses.replace(old, cell="lstm"), "cell must be the same: m@1 has gru, this run lstm"),
    "layers": ("forecast", lambda old: dataclasses.replace(old, layers=3), "layers must be the same: m@1 has 1, this run 3"),
    "hidden": (
        "tokens",
        lambda old: dataclasses.replace(old, hidden_size=3),
        "hidden size must be the same: m@1 has 12, this run 3",
    ),
    "inputs": (
        "forecast",
        lambda old: dataclasses.replace(old, features=old.features[:1]),
        "inputs must be the same: m@1 has demand, wind",
    ),
    "masks": (
        "classify",
        lambda old: dataclasses.replace(old, features=tuple(dataclasses.replace(each, missing="refuse") for each in old.features)),
        "m@1 has left, right (masked), this run left, right",
    ),
    "targets": ("forecast", lambda old: dataclasses.replace(old, targets=old.targets[:1]), "targets must be the same"),
    "calendar": ("forecast", lambda old: dataclasses.replace(old, calendar=Calendar("time", 1800.0, (48,))), "calendar must be"),
    "labels": (
        "classify",
        lambda old: dataclasses.replace(old, labels=("calm", "busy")),
        "labels must be the same: m@1 has calm, busy, odd",
    ),
    "vocabulary": (
        "tokens",
        lambda old: dataclasses.replace(old, vocabulary=Vocabulary(bytes=True)),
        "vocabulary must be the same",
    ),
}


@pytest.mark.parametrize("which", OTHERS)
def test_another_kind_of_network_is_refused_by_its_first_difference(which: str):
    """One line names what differs, of the version and of the run."""
    task, change, told = OTHERS[which]
    old = config(task, "gru", 1)
    with pytest.raises(InvalidConfig) as refused:
        Start("m@1", Network(old)).weights(change(old))
    assert told in str(refused.value), name(task, "gru", 1)
    assert "\n" not in str(refused.value)


def test_what_makes_no_difference_is_no_difference():
    """Dropout may be chosen anew, and the activation of a cell that has none does not matter."""
    old = config("classify", "gru", 1)
    Start("m@1", Network(old)).weights(dataclasses.replace(old, dropout=0.5, activation="relu", embedding_size=7, harmonics=9))
