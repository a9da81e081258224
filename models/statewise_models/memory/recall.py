"""Recall after a delay: a bit is shown, numbers without meaning follow, and after k timesteps the bit is asked for.

    timestep      0      1      2    …    k
    bit          ±1   noise  noise   …  noise
    mark          1      0      0    …    0        asked here: which bit was it?

Each cell learns it anew for each delay, from nothing, so the one signal that teaches it to hold the bit is a gradient that reaches
back k timesteps. It is the latch problem of Bengio, Simard & Frasconi (1994).

The LSTM's and the GRU's gates are *open* at first: biases are drawn so that they hold their state for 1 to `LONGEST` timesteps
(Tallec & Ollivier, 2018), the same for every delay. With torch's own first weights gates are half open, halve a gradient at each
timestep, and are measured too. An Elman cell has no gate to open.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_

from statewise_models.config import Cell, Feature, NetworkConfig
from statewise_models.memory.gradients import gradient_norms, shares
from statewise_models.network import Network

Gates = Literal["none", "half open", "open"]

KINDS: tuple[tuple[Cell, Gates], ...] = (
    ("elman", "none"),
    ("lstm", "half open"),
    ("gru", "half open"),
    ("lstm", "open"),
    ("gru", "open"),
)
LONGEST = 200
HALF_OPEN_TRIED = 50  # timesteps: they fail before, and more would only take time
DELAYS = (2, 5, 10, 20, 50, 100, 200)
HIDDEN = 32
BATCH = 64
UPDATES = 250
LEARNING_RATE = 0.01
KNOWN, TIMES = 0.05, 5  # learned: the loss (nats) of so many batches in a row is below this
ASKED = 1000  # sequences of the report
INPUT_GATE, FORGET_GATE, UPDATE_GATE = 0, 1, 1  # places of blocks in torch's order


@dataclass(frozen=True, slots=True)
class Trial:
    """One network for one delay.

    Attributes:
        cell, gates: what it is, and how its gates begin.
        delay: timesteps from the bit to the question.
        seed: of first weights and of the sequences.
        updates: at most so many, of `BATCH` new sequences each.
    """

    cell: Cell
    gates: Gates
    delay: int
    seed: int
    updates: int = UPDATES


@dataclass(frozen=True, slots=True)
class Recalled:
    """What came of a trial: the share of `ASKED` new sequences that are right (0.5 is chance), and what it took."""

    trial: Trial
    accuracy: float
    updates: int
    seconds: float


def trials(delays: Iterable[int], seeds: int) -> list[Trial]:
    """Returns the trials, the longest first; half-open gates are tried as far as `HALF_OPEN_TRIED`."""
    made = [
        Trial(cell, gates, delay, seed)
        for cell, gates in KINDS
        for delay in delays
        for seed in range(seeds)
        if gates != "half open" or delay <= HALF_OPEN_TRIED
    ]
    return sorted(made, key=lambda trial: -trial.delay)


def first_gradients(delay: int) -> dict[tuple[Cell, Gates], NDArray[np.float64]]:
    """Returns, for each kind that has learned nothing yet, what is left of its loss's gradient 1 … `delay` timesteps back."""
    found = {}
    with torch.random.fork_rng():
        for cell, gates in KINDS:
            torch.manual_seed(0)
            network = make(cell, gates)
            x, bits = sequences(BATCH, delay)
            ends = torch.full((BATCH,), delay)
            norms = gradient_norms(network, {"x": x}, network.initial(BATCH), partial(_losses, bits), ends)
            found[cell, gates] = shares(norms["cell_state" if cell == "lstm" else "hidden"])
    return found


def _losses(bits: Tensor, values: Tensor) -> Tensor:
    return cross_entropy(values[-1], bits, reduction="none")


def run(planned: list[Trial], workers: int) -> Iterator[Recalled]:
    """Runs trials in processes of one thread each; yields what came of them as they end."""
    with ProcessPoolExecutor(workers, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        for done in as_completed([pool.submit(attempt, trial) for trial in planned]):
            yield done.result()


def attempt(trial: Trial) -> Recalled:
    """Trains a network for one delay until it recalls or its updates are spent, and asks it."""
    started = time.perf_counter()
    with torch.random.fork_rng():
        torch.manual_seed(trial.seed)
        network = make(trial.cell, trial.gates)
        torch.manual_seed(1_000_003 * (trial.seed + 1) + trial.delay)
        updates = _learn(network, trial)
        accuracy = _ask(network, trial.delay)
    return Recalled(trial, accuracy, updates, time.perf_counter() - started)


def make(cell: Cell, gates: Gates) -> Network:
    """Returns a network that has learned nothing yet."""
    features = (Feature("bit"), Feature("mark"))
    network = Network(NetworkConfig("classify", cell, HIDDEN, features=features, labels=("minus", "plus")))
    if gates == "open":
        _open(network)
    return network


def sequences(count: int, delay: int) -> tuple[Tensor, Tensor]:
    """Returns inputs `[delay + 1, count, 2]` and bits, int64 `[count]`."""
    bits = torch.randint(0, 2, (count,))
    x = torch.zeros(delay + 1, count, 2)
    x[..., 0] = torch.randn(delay + 1, count)
    x[0, :, 0] = 2.0 * bits - 1.0
    x[0, :, 1] = 1.0
    return x, bits


def _open(network: Network) -> None:
    """Sets the gates' biases so that a state is held for about 1 to `LONGEST` timesteps, another time for each unit."""
    hidden, recurrent = network.config.hidden_size, network.recurrent
    held = torch.log(torch.empty(hidden).uniform_(1.0, LONGEST - 1.0))
    blocks: dict[int, Any] = {"lstm": {FORGET_GATE: held, INPUT_GATE: -held}, "gru": {UPDATE_GATE: held}}[network.config.cell]
    with torch.no_grad():
        for place, bias in blocks.items():
            rows = slice(place * hidden, (place + 1) * hidden)
            recurrent.get_parameter("bias_ih_l0")[rows] = bias
            recurrent.get_parameter("bias_hh_l0")[rows] = 0.0


def _learn(network: Network, trial: Trial) -> int:
    optimiser = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    known = 0
    for update in range(1, trial.updates + 1):
        x, bits = sequences(BATCH, trial.delay)
        values, _ = network({"x": x}, network.initial(BATCH))
        loss = cross_entropy(values[-1], bits)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        known = known + 1 if loss.item() < KNOWN else 0
        if known == TIMES:
            return update
    return trial.updates


@torch.no_grad()
def _ask(network: Network, delay: int) -> float:
    x, bits = sequences(ASKED, delay)
    values, _ = network({"x": x}, network.initial(ASKED))
    return float((values[-1].argmax(dim=-1) == bits).double().mean())
