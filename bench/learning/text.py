"""Text: Python's own help texts, a character at a time. The last twentieth is the test, the one before it chooses the epoch."""

from __future__ import annotations

import tempfile
from pathlib import Path
from pydoc_data.topics import topics

from bench.learning.baselines import bits_per_character
from bench.learning.ledger import CELLS, Quiet, Result, Unit
from statewise_models.data.split import Cuts, cut
from statewise_models.data.text import read_text
from statewise_models.training import TrainingSettings, train_tokens

ORDERS = (1, 3, 6)
SEED = 0
COPIED = 40  # characters: a stretch as long that stands in the training part too was copied, not written anew
SETTINGS = {"hidden": 256, "epochs": 8, "patience": 8, "lanes": 32, "window": 64, "learning_rate": 0.005}


def units() -> list[Unit]:
    """Returns a unit for each cell, and one for the baselines."""
    networks = [Unit(f"text/{cell}", _train, (cell,), "bits") for cell in reversed(CELLS)]
    return [*networks, Unit("text/ngrams", _ngrams, (), "3")]


def whole() -> str:
    """Returns the help texts in the order of their names."""
    return "\n".join(topics[name] for name in sorted(topics))


def _settings(cell: str) -> TrainingSettings:
    return TrainingSettings(cell=cell, validation=0.05, test=0.05, seed=SEED, **SETTINGS)  # type: ignore[arg-type]


def _train(cell: str) -> Result:
    settings = _settings(cell)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "topics.txt"
        file.write_text(whole(), encoding="utf-8")
        trained = train_tokens(read_text(file), settings, observer=Quiet())
    return {
        "bits": trained.metrics["test"]["bits_per_token"],
        "sample": trained.metrics["sample"],
        "seconds": trained.seconds,
        "parameters": trained.parameters,
        "epochs": len(trained.history),
    }


def _ngrams() -> Result:
    """Returns the bits a character of the n-grams by order, and what there is to say of the text."""
    text, cuts = whole(), _cuts()
    training, tested = text[cuts.train], text[cuts.test]
    bits = {str(order): bits_per_character(training, tested, order, len(set(text))) for order in ORDERS}
    copied = sum(tested[place : place + COPIED] in training for place in range(0, len(tested) - COPIED, COPIED))
    return {**bits, "characters": len(text), "held_out": len(tested), "copied": copied / (len(tested) // COPIED)}


def _cuts() -> Cuts:
    """Returns where `train_tokens` cuts the text."""
    settings = _settings("lstm")
    return cut("the text", len(whole()), settings.validation, settings.test, settings.window)
