"""Labels: Japanese Vowels, nine speakers, the official 270 utterances to learn from and 370 to report on.

Settings are chosen by training on one half of the 270 and looking at the other, which is enough to tell them apart: of a fifth held
back, all get nearly everything right. Then networks learn from all 270 with them, to the last epoch, where the learning rate has
come to rest: no epoch is chosen, so nothing need be held back. The 370 are read after all that.

The loss counts the last timestep alone, where the report reads the answer (`--learn last`). That of every timestep, so that a label
can be read early, was right less often at the end with half of the 270 held back.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

import numpy as np
from numpy.typing import NDArray

from bench.learning.ledger import CELLS, Quiet, Result, Unit
from statewise_models.data.labelled import Labelled, read_labelled, split_labelled
from statewise_models.network import Network
from statewise_models.training import TrainingSettings
from statewise_models.training.classify import Batches, ClassifyLesson, configure, evaluate
from statewise_models.training.history import Epoch, Judgement
from statewise_models.training.loop import fit

TRAINING, TEST = "examples/data/vowels-train.csv", "examples/data/vowels-test.csv"
CHANNELS = tuple(f"c{number}" for number in range(1, 13))
VALIDATION = 0.5
EPOCHS = 60
CANDIDATES: tuple[dict[str, float], ...] = (
    {"layers": 1, "hidden": 100, "dropout": 0.0},
    {"layers": 2, "hidden": 100, "dropout": 0.5},
)
"""Settings of which validation chooses one for each cell."""
COMMON = {"learn": "last", "learning_rate": 0.005, "weight_decay": 0.9, "epochs": EPOCHS, "patience": EPOCHS, "lanes": 16}
CHOOSING_SEEDS = (100, 101, 102)
SEEDS = (0, 1, 2, 3, 4)


def choosing() -> list[Unit]:
    """Returns a unit for each cell, candidate and seed to choose by; none reads the test file."""
    return [
        Unit(f"vowels-choice/{cell}/{place}/{seed}", _validate, (cell, place, seed), "accuracy")
        for cell in CELLS
        for place in range(len(CANDIDATES))
        for seed in CHOOSING_SEEDS
    ]


def chosen(results: Mapping[str, Result]) -> dict[str, int]:
    """Returns each cell's candidate: the one that was right most often on what was held back."""
    return {cell: max(range(len(CANDIDATES)), key=lambda place: held_back(results, cell, place)) for cell in CELLS}


def held_back(results: Mapping[str, Result], cell: str, place: int) -> float:
    """Returns a candidate's accuracy on what was held back, mean over the seeds."""
    return statistics.mean(float(results[f"vowels-choice/{cell}/{place}/{seed}"]["accuracy"]) for seed in CHOOSING_SEEDS)


def units(choice: Mapping[str, int]) -> list[Unit]:
    """Returns a unit for each cell and seed, with the cell's candidate."""
    return [Unit(f"vowels/{cell}/{seed}", _test, (cell, choice[cell], seed), "accuracy") for cell in CELLS for seed in SEEDS]


def baseline() -> Unit:
    """Returns the unit of what needs no network and no order of timesteps."""
    return Unit("vowels/nearest mean", _nearest_mean, (), "accuracy")


def _nearest_mean() -> Result:
    """Gives each utterance the speaker whose mean is nearest to its own, channels scaled by the spread of the training means."""
    (means, labels), (tested, truth) = (_means(_read(path)) for path in (TRAINING, TEST))
    scale = means.std(axis=0)
    centres = np.stack([means[labels == label].mean(axis=0) for label in np.unique(labels)])
    distances = np.linalg.norm((tested[:, None] - centres) / scale, axis=-1)
    return {"accuracy": float((distances.argmin(axis=1) == truth).mean())}


def _means(data: Labelled) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Returns each utterance's mean over its timesteps `[utterances, channels]`, and its label."""
    means = np.stack([sequence.x.mean(axis=0, dtype=np.float64) for sequence in data.sequences])
    return means, np.array([sequence.label for sequence in data.sequences])


def _validate(cell: str, place: int, seed: int) -> Result:
    training, held_back = split_labelled(_read(TRAINING), VALIDATION, seed)
    network, history = _learn(training, cell, place, seed)
    figures = evaluate(network, Batches(held_back, False, 64), frequent=0)
    return {"accuracy": figures["accuracy"], "seconds": _seconds(history)}


def _test(cell: str, place: int, seed: int) -> Result:
    training = _read(TRAINING)
    network, history = _learn(training, cell, place, seed)
    figures = evaluate(network, Batches(_read(TEST), False, 64), frequent=0)
    return {
        "accuracy": figures["accuracy"],
        "confusion": figures["confusion"],
        "seconds": _seconds(history),
        "parameters": sum(weight.numel() for weight in network.parameters()),
        "candidate": place,
    }


@dataclass(frozen=True, slots=True, eq=False)
class _ToTheEnd(ClassifyLesson):
    """Each epoch ranks before all that came earlier, so the last one is kept."""

    epochs: Iterator[int] = field(default_factory=count)

    def judge(self, network: Network) -> Judgement:  # noqa: ARG002
        """Looks at nothing."""
        return Judgement(0.0, (-float(next(self.epochs)),))


def _learn(training: Labelled, cell: str, place: int, seed: int) -> tuple[Network, tuple[Epoch, ...]]:
    settings = TrainingSettings(cell=cell, seed=seed, **COMMON, **CANDIDATES[place])  # type: ignore[arg-type]
    batches = Batches(training, False, settings.lanes, shuffled=True)
    lesson = _ToTheEnd(batches, batches, settings.learn)
    return fit(configure(training, settings), lesson, settings, output=None, resume=False, observer=Quiet())


def _seconds(history: Sequence[Epoch]) -> float:
    return sum(epoch.seconds for epoch in history)


def _read(path: str) -> Labelled:
    return read_labelled(path, inputs=CHANNELS, label="speaker", series="utterance", time="t")
