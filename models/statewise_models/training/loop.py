"""The training loop: windows in order, states carried from one to the next, the best weights kept.

A `Lesson` (forecast, classify, tokens) brings windows, a loss and a judgement; this module knows no task. After each epoch the run
is saved, so `resume` goes on from there; the same settings give the same weights, resumed or not.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from statewise_models.config import InvalidConfig, NetworkConfig
from statewise_models.files import replace_bytes
from statewise_models.network import Network
from statewise_models.training.checkpoint import Checkpoint, load, save
from statewise_models.training.history import Epoch, Judgement, best
from statewise_models.training.lanes import Window
from statewise_models.training.settings import TrainingSettings
from statewise_models.training.start import Start

METRICS_FILE = "metrics.jsonl"
WARM_UP_SHARE = 0.1
LEAST_FACTOR = 0.01


class Diverged(RuntimeError):
    """The loss is no longer a finite number; the message says at which epoch."""


class Lesson(Protocol):
    """What a task brings to the loop."""

    @property
    def windows_an_epoch(self) -> int:
        """How many windows `windows` yields."""
        ...

    def windows(self) -> Iterable[Window]:
        """Returns the windows of one epoch, in order; random choices come from torch's generator."""
        ...

    def loss(self, values: Tensor, window: Window) -> Tensor:
        """Returns the loss of the head's values `[timesteps, lanes, head_size]`, a scalar."""
        ...

    def judge(self, network: Network) -> Judgement:
        """Returns how good the network is on the validation split."""
        ...


class Observer(Protocol):
    """Who watches a run."""

    def window_done(self) -> None:
        """Called after each window."""
        ...

    def epoch_done(self, history: Sequence[Epoch]) -> None:
        """Called after each epoch, with all so far."""
        ...


def fit(
    config: NetworkConfig,
    lesson: Lesson,
    settings: TrainingSettings,
    *,
    output: Path | None,
    resume: bool,
    observer: Observer,
    start: Start | None = None,
) -> tuple[Network, tuple[Epoch, ...]]:
    """Trains a network; returns it with its best weights, on the CPU, ready to predict, and the epochs.

    Args:
        output: the folder of checkpoint and metrics, or `None` for neither.
        resume: go on from the checkpoint in `output`.
        start: a version to start from, instead of drawn weights.

    Raises:
        Diverged: the loss is no longer finite.
        InvalidConfig: nothing to resume, a version of another kind to start from, or no CUDA device where one is asked for.
        OSError: `output` cannot be written.
    """
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        network = Network(config).to(_device(settings))
        optimiser = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
        if start:
            network.load_state_dict(start.weights(config))
        history, kept = _start(network, optimiser, settings, output if resume else None, start)
        if output:
            output.mkdir(parents=True, exist_ok=True)
        while not _finished(history, settings):
            torch.manual_seed(settings.seed + 1_000_003 * (len(history) + 1))
            epoch = _epoch(network, lesson, optimiser, settings, len(history), observer)
            history = (*history, epoch)
            if best(history) is epoch:
                kept = _copy(network)
            if output:
                made = Checkpoint(network.state_dict(), kept, optimiser.state_dict()["state"], history)
                save(output, made, config, settings, start.name if start else "")
                lines = (json.dumps(epoch.as_dict()) + "\n" for epoch in history)
                replace_bytes(output / METRICS_FILE, "".join(lines).encode())
            observer.epoch_done(history)
    network.load_state_dict(kept)
    return network.cpu().eval(), history


def _epoch(
    network: Network,
    lesson: Lesson,
    optimiser: torch.optim.Optimizer,
    settings: TrainingSettings,
    done: int,
    observer: Observer,
) -> Epoch:
    """Learns from every window once, then judges."""
    started = time.perf_counter()
    device = network.head.weight.device
    network.train()
    states: list[Tensor] = []
    losses: list[Tensor] = []
    for number, window in enumerate(lesson.windows()):
        rate = learning_rate(settings, done + number / lesson.windows_an_epoch)
        for group in optimiser.param_groups:
            group["lr"] = rate
        window = window.to(device)
        values, states = network(window.inputs, carry(network, states, window.fresh), window.lengths)
        loss = lesson.loss(values, window)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        clip_grad_norm_(network.parameters(), settings.clip)
        optimiser.step()
        losses.append(loss.detach())
        observer.window_done()
    training_loss = torch.stack(losses).mean().item()
    network.eval()
    judgement = lesson.judge(network)
    if not math.isfinite(training_loss) or not math.isfinite(judgement.loss):
        raise Diverged(f"the loss is no longer a finite number in epoch {done + 1}: a smaller learning rate may help")
    return Epoch(done + 1, training_loss, judgement, rate, time.perf_counter() - started)


def carry(network: Network, states: Sequence[Tensor], fresh: Tensor) -> list[Tensor]:
    """Returns the states that a window starts from: those the last one left, cut from its gradients; zeros where `fresh`."""
    if bool(fresh.all()):
        return network.initial(len(fresh))
    return [state.detach().masked_fill(fresh[:, None], 0.0) for state in states]


def walk(network: Network, windows: Iterable[Window]) -> Iterator[tuple[Window, Tensor]]:
    """Yields each window and the head's values for it, the states carried, as a session would."""
    states: list[Tensor] = []
    for window in windows:
        window = window.to(network.head.weight.device)
        values, states = network(window.inputs, carry(network, states, window.fresh), window.lengths)
        yield window, values


def learning_rate(settings: TrainingSettings, epochs_done: float) -> float:
    """Returns the learning rate after so many epochs: a linear rise, then half a cosine (Loshchilov & Hutter, 2017)."""
    share = epochs_done / settings.epochs
    if share < WARM_UP_SHARE:
        return settings.learning_rate * max(share / WARM_UP_SHARE, LEAST_FACTOR)
    falling = 0.5 * (1.0 + math.cos(math.pi * (share - WARM_UP_SHARE) / (1.0 - WARM_UP_SHARE)))
    return settings.learning_rate * max(falling, LEAST_FACTOR)


def _start(
    network: Network, optimiser: torch.optim.Optimizer, settings: TrainingSettings, folder: Path | None, start: Start | None
) -> tuple[tuple[Epoch, ...], dict[str, Tensor]]:
    """Returns the epochs done and the best weights: of a new run, or of the one in `folder`, which the network goes on with."""
    if folder is None:
        return (), _copy(network)
    checkpoint = load(folder, network.config, settings, start.name if start else "")
    network.load_state_dict(checkpoint.weights)
    optimiser.load_state_dict({"state": checkpoint.optimiser, "param_groups": optimiser.state_dict()["param_groups"]})
    return checkpoint.history, checkpoint.best


def _finished(history: Sequence[Epoch], settings: TrainingSettings) -> bool:
    waited = len(history) - best(history).number if history else 0
    return len(history) >= settings.epochs or waited >= settings.patience


def _copy(network: Network) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in network.state_dict().items()}


def _device(settings: TrainingSettings) -> torch.device:
    if settings.accelerator == "cuda" and not torch.cuda.is_available():
        raise InvalidConfig("accelerator cuda: torch sees no CUDA device here (auto or cpu trains without)")
    cuda = settings.accelerator != "cpu" and torch.cuda.is_available()
    return torch.device("cuda" if cuda else "cpu")
