"""Learns to continue text: at each timestep, from the tokens so far, the next one.

text → cuts (training first, then validation, then test) → lanes → `fit` → bits per token beside those of the tokens'
frequencies, and a sampled text → files.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from statewise_models.config import NetworkConfig
from statewise_models.data.split import Cuts
from statewise_models.data.split import cut as cut_by_time
from statewise_models.data.text import FEWEST_TOKENS, Text
from statewise_models.files import replace_bytes
from statewise_models.network import Network
from statewise_models.training.facts import facts_of_text
from statewise_models.training.history import Epoch, Judgement
from statewise_models.training.lanes import VOID, Lanes, Piece, Window, cut, lay
from statewise_models.training.loop import Observer, fit, walk
from statewise_models.training.progress import Bar
from statewise_models.training.settings import TrainingSettings
from statewise_models.training.start import Start
from statewise_models.training.trained import Trained

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SAMPLE_FILE = "sample.txt"
SAMPLE_TOKENS = 600
PROMPT_TOKENS = 40
TEMPERATURE = 0.8


@dataclass(frozen=True, slots=True, eq=False)
class TokensLesson:
    """Cross-entropy of the next token; judged by the same on the validation part."""

    training: Lanes
    validation: Lanes

    @property
    def windows_an_epoch(self) -> int:
        """How many windows an epoch has."""
        return len(self.training)

    def windows(self) -> Iterable[Window]:
        """Returns the windows in the order of the text."""
        return self.training

    def loss(self, values: Tensor, window: Window) -> Tensor:
        """Returns the mean cross-entropy, in nats a token."""
        return cross_entropy(values.flatten(0, 1), window.goals.flatten(), ignore_index=VOID)

    def judge(self, network: Network) -> Judgement:
        """Ranks by the loss."""
        loss = nats(network, self.validation)
        return Judgement(loss, (loss,), {"validation_bits": loss / math.log(2)})


def train_tokens(
    text: Text,
    settings: TrainingSettings,
    *,
    output: Path | None = None,
    resume: bool = False,
    observer: Observer | None = None,
    start: Start | None = None,
) -> Trained:
    """Trains a network to continue text; arguments and errors as `train_forecast`.

    `metrics[split]` holds `bits_per_token` (a character or a byte), `frequency_bits` (of a code that knows only how frequent each
    token is in the training part) and `count`; `metrics["sample"]` is a text that the network made.
    """
    cuts, parts = _parts(text, settings)
    config = NetworkConfig("tokens", **settings.layout, vocabulary=text.vocabulary, embedding_size=settings.embedding)
    lanes = {name: _lanes(text.tokens, part, settings) for name, part in parts.items()}
    lesson = TokensLesson(lanes["training"], lanes["validation"])
    with Bar.unless(observer, f"tokens {settings.cell}", settings.epochs, lesson.windows_an_epoch) as watcher:
        network, history = fit(config, lesson, settings, output=output, resume=resume, observer=watcher, start=start)
    metrics: dict[str, Any] = {}
    for split in list(parts)[1:]:
        metrics[split] = _evaluate(network, lanes[split], text, cuts, parts[split])
    metrics["sample"] = sample(network, text.tokens[cuts.train][-PROMPT_TOKENS:], SAMPLE_TOKENS, settings.seed)
    held_back = Text(text.tokens[parts[settings.reported]], text.vocabulary)
    trained = Trained(network, history, metrics, settings, facts_of_text(text, cuts), partial(_draw, history), held_back)
    if output:
        trained.write(output)
        replace_bytes(output / SAMPLE_FILE, metrics["sample"].encode())
    return trained


def rescore_text(network: Network, text: Text, settings: TrainingSettings) -> dict[str, Any]:
    """Returns the `metrics`, but for the sample, of another network on the splits of `train_tokens`."""
    cuts, parts = _parts(text, settings)
    judged = {split: part for split, part in parts.items() if split != "training"}
    return {split: _evaluate(network, _lanes(text.tokens, part, settings), text, cuts, part) for split, part in judged.items()}


def _parts(text: Text, settings: TrainingSettings) -> tuple[Cuts, dict[str, slice]]:
    """Returns where the text is cut: training, validation and, if there is a share for it, test."""
    shortest = max(settings.window, FEWEST_TOKENS)
    cuts = cut_by_time("the text", len(text.tokens), settings.validation, settings.test, minimum=shortest)
    return cuts, {"training": cuts.train, "validation": cuts.validation} | ({"test": cuts.test} if settings.test else {})


@torch.no_grad()
def nats(network: Network, lanes: Lanes) -> float:
    """Returns the mean cross-entropy of the next token, the states carried."""
    total, count = 0.0, 0
    for window, values in walk(network, lanes):
        goals = window.goals.flatten()
        total += cross_entropy(values.flatten(0, 1), goals, ignore_index=VOID, reduction="sum").item()
        count += int((goals != VOID).sum())
    return total / count


@torch.no_grad()
def sample(network: Network, prompt: NDArray[np.int64], length: int, seed: int, temperature: float = TEMPERATURE) -> str:
    """Returns `length` tokens, as text, that the network makes after `prompt` `[timesteps]`, one timestep at a time."""
    assert network.config.vocabulary is not None
    generator = torch.Generator().manual_seed(seed)
    tokens: list[int] = []
    following, states = torch.from_numpy(prompt)[:, None], network.initial(1)
    for _ in range(length):
        logits, states = network.predict({"token": following}, states)
        following = torch.multinomial(torch.softmax(logits[-1] / temperature, dim=-1), 1, generator=generator)
        tokens.append(int(following))
    return network.config.vocabulary.decode(tokens)


def _lanes(tokens: NDArray[np.int64], part: slice, settings: TrainingSettings) -> Lanes:
    """Lays a part of the text; its first token is predicted from the one before."""
    begin = max(part.start - 1, 0)
    piece = Piece({"token": tokens[begin : part.stop - 1]}, tokens[begin + 1 : part.stop])
    return lay(cut([piece], settings.lanes, settings.window), settings.lanes, settings.window)


def _evaluate(network: Network, lanes: Lanes, text: Text, cuts: Cuts, part: slice) -> dict[str, float]:
    vocabulary = len(text.vocabulary)
    counts = np.bincount(text.tokens[cuts.train], minlength=vocabulary) + 1.0  # one more each: a new token has a code as well
    code_bits = -np.log2(counts / counts.sum())
    return {
        "bits_per_token": nats(network, lanes) / math.log(2),
        "frequency_bits": float(code_bits[text.tokens[part]].mean()),
        "count": part.stop - part.start,
    }


def _draw(history: tuple[Epoch, ...], width: float) -> dict[str, Figure]:
    from statewise_models.plots import plot_losses

    return {"loss": plot_losses(history, "cross-entropy (nats a token)", width)}
