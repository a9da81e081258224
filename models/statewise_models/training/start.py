"""A run that starts from a published version instead of from drawn weights.

What the version has learned is carried over whole, and told in the scales of the new data: the scales are computed anew, as for any
run, and the first layer and the head are corrected by just as much, so that before the first epoch the network answers as the
version does. So losses can be compared with those of any other run on the same data, and scales follow a series that drifts from
week to week; were they kept, the tenth version would still be scaled by the first one's data.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from statewise_models.config import OUT, Feature, InvalidConfig, NetworkConfig, Target
from statewise_models.network import Network

Weights = dict[str, Tensor]

FREE = ("dropout",)  # what a run may choose anew


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """A version to start from: the words that name it, and its network."""

    name: str
    network: Network

    def weights(self, config: NetworkConfig) -> Weights:
        """Returns the version's weights for a network of `config`, whose scales may differ.

        Raises:
            InvalidConfig: anything else differs; the message names the first.
        """
        _check_alike(self.name, self.network.config, config)
        weights = {name: weight.detach().double() for name, weight in self.network.state_dict().items()}
        if config.features:
            _rescale_inputs(weights, self.network.config, config)
        if config.targets:
            _rescale_targets(weights, self.network.config, config)
        return {name: weight.float() for name, weight in weights.items()}


def _check_alike(name: str, old: NetworkConfig, new: NetworkConfig) -> None:
    for field in dataclasses.fields(NetworkConfig):
        then, now = _compared(getattr(old, field.name)), _compared(getattr(new, field.name))
        if then != now and field.name not in FREE and _matters(field.name, new):
            word = "inputs" if field.name == "features" else field.name.replace("_size", " size")
            raise InvalidConfig(f"--init-from {name}: {word} must be the same: {name} has {_told(then)}, this run {_told(now)}")


def _matters(field: str, config: NetworkConfig) -> bool:
    """Whether a field makes any difference to a network."""
    without = {"activation": config.cell != "elman", "harmonics": config.calendar is None, "embedding_size": not config.vocabulary}
    return not without.get(field, False)


def _compared(value: Any) -> Any:
    """Returns a field without scales and ranges."""
    if isinstance(value, tuple) and value and isinstance(value[0], Feature | Target):
        bare: dict[str, Any] = {"mean": 0.0, "scale": 1.0}
        bare |= {"least": None, "greatest": None} if isinstance(value[0], Feature) else {}
        return tuple(dataclasses.replace(each, **bare) for each in value)
    return value


def _told(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(_told, value)) or "none"
    if isinstance(value, Feature):
        return value.name + (" (masked)" if value.missing == "mask" else "")
    if isinstance(value, Target):
        return value.name + (" (as a difference)" if value.difference else "")
    words = str(value)
    return words if len(words) <= 80 else words[:79] + "…"


def _rescale_inputs(weights: Weights, old: NetworkConfig, new: NetworkConfig) -> None:
    """Corrects the first layer: of a column, the old scaled value is `grown · new scaled value + moved`."""
    grown, moved = _change(old.features, new.features)
    weight, bias = weights["recurrent.weight_ih_l0"].clone(), weights["recurrent.bias_ih_l0"]
    columns = len(new.features)
    shift = weight[:, :columns] * moved
    weights["recurrent.bias_ih_l0"] = bias + shift.sum(dim=1)
    for number, place in enumerate(new.masked):  # a missing value is 0 in either scale: what its column moved is taken back
        weight[:, columns + number] -= shift[:, place]
    weight[:, :columns] *= grown
    weights["recurrent.weight_ih_l0"] = weight


def _rescale_targets(weights: Weights, old: NetworkConfig, new: NetworkConfig) -> None:
    """Corrects the head, the other way round: it gives new scaled values; then the layers that these are fed to."""
    grown, moved = _change(old.targets, new.targets)
    weights["head.weight"] = weights["head.weight"] / grown[:, None]
    weights["head.bias"] = (weights["head.bias"] - moved) / grown
    for layer in range(new.layers):
        begin = 0
        for route in (route for route in new.routes if route.target == layer + 1):
            end = begin + new.state_sizes[route.state]
            if route.source == OUT:
                _rescale_fed(weights, layer, slice(begin, end), grown, moved)
            begin = end


def _rescale_fed(weights: Weights, layer: int, columns: slice, grown: Tensor, moved: Tensor) -> None:
    """Corrects a layer that sees the head's values of the last timestep.

    Before the first timestep there is none, and a session begins with zeros: the mean, now that of the new data. So a session's
    first answers may differ from the version's, until what was fed at first has faded.
    """
    weight, bias = weights[f"recurrent.weight_hh_l{layer}"].clone(), weights[f"recurrent.bias_ih_l{layer}"]
    weights[f"recurrent.bias_ih_l{layer}"] = bias + weight[:, columns] @ moved
    weight[:, columns] *= grown
    weights[f"recurrent.weight_hh_l{layer}"] = weight


def _change(old: Sequence[Feature | Target], new: Sequence[Feature | Target]) -> tuple[Tensor, Tensor]:
    """Returns `grown` and `moved`, float64 `[columns]`: `(x − old mean) / old scale = grown · (x − mean) / scale + moved`."""
    pairs = [(then.mean, then.scale, now.mean, now.scale) for then, now in zip(old, new, strict=True)]
    old_mean, old_scale, mean, scale = torch.tensor(pairs, dtype=torch.float64).T
    return scale / old_scale, (mean - old_mean) / old_scale
