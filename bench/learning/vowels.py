"""Labels: Japanese Vowels, nine speakers, the official 270 utterances to learn from and 370 to report on.

Settings and epoch are chosen on a fifth of the 270, drawn by the seed; the 370 are read once, after all that.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from bench.learning.ledger import Quiet, Result, Unit
from statewise_models.config import CELLS
from statewise_models.data.labelled import Labelled, read_labelled
from statewise_models.training import TrainingSettings, train_classify
from statewise_models.training.classify import Batches, evaluate
from statewise_models.training.history import best
from statewise_models.training.trained import Trained

TRAINING, TEST = "examples/data/vowels-train.csv", "examples/data/vowels-test.csv"
CHANNELS = tuple(f"c{number}" for number in range(1, 13))
VALIDATION = 0.2
EPOCHS = 60
CANDIDATES = ((100, 0.005, 1e-3), (100, 0.005, 1e-1), (100, 0.002, 1e-1))
"""Hidden units, learning rate and weight decay, of which validation chooses one for each cell."""
CHOOSING_SEEDS = (100, 101)
SEEDS = (0, 1, 2, 3, 4)


def choosing() -> list[Unit]:
    """Returns a unit for each cell, candidate and seed to choose by; none reads the test file."""
    return [
        Unit(f"vowels-choice/{cell}/{place}/{seed}", _validate, (cell, place, seed), "loss")
        for cell in CELLS
        for place in range(len(CANDIDATES))
        for seed in CHOOSING_SEEDS
    ]


def chosen(results: Mapping[str, Result]) -> dict[str, int]:
    """Returns each cell's candidate: the one of the least validation loss, mean over the seeds."""

    def loss(cell: str, place: int) -> float:
        return statistics.mean(float(results[f"vowels-choice/{cell}/{place}/{seed}"]["loss"]) for seed in CHOOSING_SEEDS)

    return {cell: min(range(len(CANDIDATES)), key=lambda place: loss(cell, place)) for cell in CELLS}


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
    judged = best(_train(cell, place, seed).history).validation
    return {"loss": judged.loss, "accuracy": judged.measures["validation_accuracy"]}


def _test(cell: str, place: int, seed: int) -> Result:
    trained = _train(cell, place, seed)
    figures = evaluate(trained.network, Batches(_read(TEST), calendar=False, size=64), frequent=0)
    return {
        "accuracy": figures["accuracy"],
        "confusion": figures["confusion"],
        "labels": trained.metrics["labels"],
        "validation_loss": best(trained.history).validation.loss,
        "seconds": trained.seconds,
        "parameters": trained.parameters,
        "candidate": place,
    }


def _train(cell: str, place: int, seed: int) -> Trained:
    hidden, rate, decay = CANDIDATES[place]
    settings = TrainingSettings(
        cell=cell,
        hidden=hidden,
        learning_rate=rate,
        weight_decay=decay,
        epochs=EPOCHS,
        patience=EPOCHS,
        validation=VALIDATION,
        test=0.0,
        seed=seed,
    )
    return train_classify(_read(TRAINING), settings, observer=Quiet())


def _read(path: str) -> Labelled:
    return read_labelled(path, inputs=CHANNELS, label="speaker", series="utterance", time="t")
