"""The recurrent layers that torch has no module for: LSTM with peepholes, and Elman networks with feedback between layers.

Each walks the time axis in Python; the products with the inputs of all timesteps are taken at once beforehand. Weights are named
and laid out as in torch's own recurrent modules, so that `export` and `reference` read all cells alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, linear

from statewise_models.config import OUT, NetworkConfig

PEEPHOLES = 3  # input gate, forget gate, output gate: in this order, as the gates' blocks


class PeepholeLSTM(nn.Module):
    """Stacked LSTM layers whose gates see the cell state (Gers & Schmidhuber, 2000): weights as `nn.LSTM`, and `peephole_l…`."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self._config = config
        hidden = config.hidden_size
        for layer in range(config.layers):
            seen = hidden if layer else config.front_size
            shapes = {"weight_ih": (4 * hidden, seen), "weight_hh": (4 * hidden, hidden), "bias_ih": (4 * hidden,)}
            shapes |= {"bias_hh": (4 * hidden,), "peephole": (PEEPHOLES * hidden,)}
            for name, shape in shapes.items():
                self.register_parameter(f"{name}_l{layer}", _weight(hidden, *shape))

    def forward(self, vectors: Tensor, states: Sequence[Tensor], lengths: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        """Returns the hidden states of the last layer `[timesteps, batch, hidden_size]` and the new states; see `Network`."""
        alive, new = _alive(vectors, lengths), []
        for layer in range(self._config.layers):
            if layer:
                vectors = dropout(vectors, self._config.dropout, self.training)
            vectors, last = self._walk(layer, vectors, states[2 * layer : 2 * layer + 2], alive)
            new += last
        return vectors, new

    def _walk(
        self, layer: int, vectors: Tensor, states: Sequence[Tensor], alive: list[Tensor] | None
    ) -> tuple[Tensor, list[Tensor]]:
        w, r, b, recurrent_b, peephole = (
            self.get_parameter(f"{name}_l{layer}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "peephole")
        )
        hidden, cell = states
        units = hidden.shape[1]
        before, after = peephole[: 2 * units], peephole[2 * units :]
        sequence = []
        for number, driven in enumerate(linear(vectors, w, b + recurrent_b)):
            drive = torch.addmm(driven, hidden, r.t())
            opened = torch.sigmoid(torch.addcmul(drive[:, : 2 * units], before, cell.repeat(1, 2)))
            new_cell = opened[:, units:] * cell + opened[:, :units] * torch.tanh(drive[:, 2 * units : 3 * units])
            output_gate = torch.sigmoid(torch.addcmul(drive[:, 3 * units :], after, new_cell))
            new_hidden = output_gate * torch.tanh(new_cell)
            hidden, cell = _kept(alive, number, (new_hidden, new_cell), (hidden, cell))
            sequence.append(hidden)
        return torch.stack(sequence), [hidden, cell]


class FeedbackElman(nn.Module):
    """Elman layers that see outputs of the last timestep by the routes of `config`: of themselves, of others, of the head.

    A layer's `weight_hh` has a block of columns for each of its routes, in the order of `config.routes`; a layer that nothing is
    fed to has none.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self._config = config
        hidden = config.hidden_size
        self._activation = {"tanh": torch.tanh, "relu": torch.relu}[config.activation]
        for layer in range(config.layers):
            self.register_parameter(f"weight_ih_l{layer}", _weight(hidden, hidden, hidden if layer else config.front_size))
            self.register_parameter(f"bias_ih_l{layer}", _weight(hidden, hidden))
            if fed := self._fed(layer):
                self.register_parameter(
                    f"weight_hh_l{layer}", _weight(hidden, hidden, sum(config.state_sizes[name] for name in fed))
                )

    def forward(
        self, vectors: Tensor, states: Sequence[Tensor], lengths: Tensor | None, head: nn.Linear
    ) -> tuple[Tensor, list[Tensor]]:
        """Returns the hidden states of the last layer `[timesteps, batch, hidden_size]` and the new states; see `Network`."""
        alive = _alive(vectors, lengths)
        kept = dict(zip(self._config.state_names, states, strict=True))
        sequence = []
        for number, driven in enumerate(linear(vectors, self.get_parameter("weight_ih_l0"), self.get_parameter("bias_ih_l0"))):
            outputs = self._step(driven, kept, head)
            new = _kept(alive, number, [outputs[name] for name in kept], list(kept.values()))
            kept = dict(zip(kept, new, strict=True))
            sequence.append(outputs[f"hidden_{self._config.layers - 1}"])
        return torch.stack(sequence), list(kept.values())

    def _step(self, driven: Tensor, kept: dict[str, Tensor], head: nn.Linear) -> dict[str, Tensor]:
        """Returns the outputs of all layers, and the head's values where they are kept, at one timestep."""
        outputs: dict[str, Tensor] = {}
        hidden = driven
        for layer in range(self._config.layers):
            drive = driven
            if layer:
                seen = dropout(hidden, self._config.dropout, self.training)
                drive = linear(seen, self.get_parameter(f"weight_ih_l{layer}"), self.get_parameter(f"bias_ih_l{layer}"))
            if fed := self._fed(layer):
                last = torch.cat([kept[name] for name in fed], dim=1)
                drive = torch.addmm(drive, last, self.get_parameter(f"weight_hh_l{layer}").t())
            hidden = outputs[f"hidden_{layer}"] = self._activation(drive)
        if any(route.source == OUT for route in self._config.routes):
            outputs["output"] = head(hidden)
        return outputs

    def _fed(self, layer: int) -> list[str]:
        """Returns the states that a layer, counted from 0, sees."""
        return [route.state for route in self._config.routes if route.target == layer + 1]


def _weight(hidden: int, *shape: int) -> nn.Parameter:
    """Returns first weights, drawn as torch's recurrent modules draw theirs."""
    bound = 1 / math.sqrt(hidden)
    return nn.Parameter(torch.empty(*shape).uniform_(-bound, bound))


def _alive(vectors: Tensor, lengths: Tensor | None) -> list[Tensor] | None:
    """Returns for each timestep which rows have it, bool `[batch, 1]`; `None` if all have all."""
    if lengths is None:
        return None
    ends = lengths.to(vectors.device)[:, None]
    return [ends > number for number in range(len(vectors))]


def _kept(alive: list[Tensor] | None, number: int, new: Sequence[Tensor], old: Sequence[Tensor]) -> Sequence[Tensor]:
    """Returns the states after a timestep: rows past their length stand still."""
    if alive is None:
        return new
    return [torch.where(alive[number], one, other) for one, other in zip(new, old, strict=True)]
