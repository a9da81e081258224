"""A run as one safetensors file, from which it goes on as though it had never stopped.

    weights.*  best.*  optimiser.<parameter>.*      tensors
    run                                             metadata, JSON: settings, network, history

Nothing else changes from epoch to epoch: random numbers and the learning rate follow from the seed and the epoch's number.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from statewise_models.config import InvalidConfig, NetworkConfig
from statewise_models.files import replace_bytes
from statewise_models.training.history import Epoch
from statewise_models.training.settings import TrainingSettings

CHECKPOINT_FILE = "checkpoint.safetensors"
MAY_DIFFER = ("epochs", "patience", "accelerator")

Weights = dict[str, Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A run between two epochs.

    Attributes:
        weights: of the network as it stands.
        best: of the network at its best epoch.
        optimiser: of each parameter, by its place, the optimiser's tensors by name.
        history: the epochs done.
    """

    weights: Weights
    best: Weights
    optimiser: dict[int, Weights]
    history: tuple[Epoch, ...]


def save(folder: Path, checkpoint: Checkpoint, config: NetworkConfig, settings: TrainingSettings, start: str = "") -> None:
    """Writes the checkpoint of a run, started from the version `start`, in `folder`, whole or not at all; raises `OSError`."""
    groups: dict[str, Weights] = {"weights": checkpoint.weights, "best": checkpoint.best}
    groups |= {f"optimiser.{place}": tensors for place, tensors in checkpoint.optimiser.items()}
    tensors = {f"{group}.{name}": tensor.contiguous() for group, named in groups.items() for name, tensor in named.items()}
    history = [epoch.as_dict() for epoch in checkpoint.history]
    run = {"settings": settings.as_dict(), "network": config.to_json(), "start": start, "history": history}
    replace_bytes(folder / CHECKPOINT_FILE, safetensors.torch.save(tensors, {"run": json.dumps(run)}))


def load(folder: Path, config: NetworkConfig, settings: TrainingSettings, start: str = "") -> Checkpoint:
    """Reads a run's checkpoint.

    Raises:
        InvalidConfig: there is none, it cannot be read, or it is of another run (settings, data or start differ).
    """
    path = folder / CHECKPOINT_FILE
    if not path.is_file():
        raise InvalidConfig(f"resume: there is no {path}")
    try:
        with safe_open(path, framework="pt") as file:
            run = json.loads(file.metadata()["run"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (a safetensors file is no mapping)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidConfig(f"resume: {path} cannot be read: {error}") from error
    _check_same(path, run, config, settings, start)
    places = {int(name.split(".")[1]) for name in tensors if name.startswith("optimiser.")}
    optimiser = {place: _group(tensors, f"optimiser.{place}") for place in sorted(places)}
    history = tuple(Epoch.from_dict(line) for line in run["history"])
    return Checkpoint(_group(tensors, "weights"), _group(tensors, "best"), optimiser, history)


def _group(tensors: Mapping[str, Tensor], group: str) -> Weights:
    return {name.removeprefix(f"{group}."): tensor for name, tensor in tensors.items() if name.startswith(f"{group}.")}


def _check_same(path: Path, run: dict[str, object], config: NetworkConfig, settings: TrainingSettings, start: str) -> None:
    then = run["settings"]
    now = json.loads(json.dumps(settings.as_dict()))
    assert isinstance(then, dict)
    for field, value in now.items():
        if field not in MAY_DIFFER and then.get(field) != value:
            raise InvalidConfig(f"resume: {path} was made with {field} {then.get(field)!r}, not {value!r}")
    if run.get("start", "") != start:
        raise InvalidConfig(
            f"resume: {path} was started from {run.get('start') or 'drawn weights'}, not {start or 'drawn weights'}"
        )
    if run["network"] != config.to_json():
        raise InvalidConfig(f"resume: {path} was made with other data: columns, labels or scales differ")
