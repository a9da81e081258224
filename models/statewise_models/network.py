"""The network in torch: raw inputs → front → recurrent layers → head → raw outputs, with the state carried by the caller.

Training and serving see the same raw values: scaling, masking, calendar and differences are part of the network. Time is the
first axis and batch the second throughout, as in the exported graph.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from statewise.spec import SERIES_MEAN, SERIES_SCALE
from statewise_models.cells import FeedbackElman, PeepholeLSTM
from statewise_models.config import NetworkConfig

TAU = 2 * math.pi


class Network(nn.Module):
    """A recurrent network of `config`'s making.

    `inputs` are `x` float32 `[timesteps, batch, features]` and, with a calendar, `time` int64 `[timesteps, batch]`; for tokens,
    `token` int64 `[timesteps, batch]`. With `scale="series"` also `series_mean` and `series_scale`, float32 `[timesteps or 1,
    batch, targets]`, which the exported graph takes as states. `states` are one tensor `[batch, size]` for each of
    `config.state_sizes`.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        if config.vocabulary:
            self.embedding = nn.Embedding(len(config.vocabulary), config.embedding_size)
        self.recurrent = _recurrent(config)
        self.head = nn.Linear(config.hidden_size, config.head_size)

    def initial(self, batch: int) -> list[Tensor]:
        """Returns the state of `batch` sessions just opened: zeros."""
        like = self.head.weight
        return [like.new_zeros(batch, size) for size in self.config.state_sizes.values()]

    def forward(
        self, inputs: Mapping[str, Tensor], states: Sequence[Tensor], lengths: Tensor | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Returns the head's values `[timesteps, batch, head_size]` (scaled targets or logits: what losses see) and the new states.

        Args:
            lengths: int64 `[batch]` on the CPU, the timesteps of each row; rows stand still past theirs. `None`: all are full.
        """
        hidden, new = self._recur(self.front(inputs), states, lengths)
        return self.head(hidden), new

    def predict(
        self, inputs: Mapping[str, Tensor], states: Sequence[Tensor], lengths: Tensor | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Returns the raw outputs (own units, probabilities or logits), as the exported graph does, and the new states."""
        values, new = self(inputs, states, lengths)
        return self.raw(values, inputs), new

    def front(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Returns what the first layer sees, `[timesteps, batch, front_size]`: scaled columns, masks, calendar; or embeddings."""
        if self.config.vocabulary:
            return cast(Tensor, self.embedding(inputs["token"]))
        x = self._in_series_units(inputs) if self.config.scale == "series" else inputs["x"]
        mean = x.new_tensor([feature.mean for feature in self.config.features])
        scale = x.new_tensor([feature.scale for feature in self.config.features])
        absent = torch.isnan(x)
        columns = [torch.where(absent, torch.zeros_like(x), (x - mean) / scale)]
        if self.config.masked:
            columns.append(absent[..., list(self.config.masked)].to(x.dtype))
        if self.config.calendar:
            columns.append(self._calendar(inputs["time"], x.dtype))
        return torch.cat(columns, dim=-1)

    def raw(self, values: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        """Turns the head's values into raw outputs."""
        if self.config.task == "classify":
            return torch.softmax(values, dim=-1)
        if self.config.task == "tokens":
            return values
        mean = values.new_tensor([target.mean for target in self.config.targets])
        scale = values.new_tensor([target.scale for target in self.config.targets])
        shifted = values * scale + mean
        if self.config.scale == "series":
            differenced = torch.tensor([target.difference for target in self.config.targets], device=values.device)
            level = inputs[SERIES_MEAN].masked_fill(differenced, 0.0)
            shifted = shifted * inputs[SERIES_SCALE] + level
        return shifted + self.base(inputs)

    def base(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Returns the present values of the differenced targets, `[timesteps, batch, targets]`; zeros for the others."""
        x = inputs["x"]
        columns = [torch.zeros_like(x[..., 0]) if place is None else x[..., place] for place in self.config.base_places]
        return torch.stack(columns, dim=-1)

    def _in_series_units(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Returns `x` with its target columns scaled by the series' own mean and scale."""
        x, mean, scale = inputs["x"], inputs[SERIES_MEAN], inputs[SERIES_SCALE]
        places = enumerate(self.config.target_places)
        columns = [x[..., at] if place is None else (x[..., at] - mean[..., place]) / scale[..., place] for at, place in places]
        return torch.stack(columns, dim=-1)

    def _calendar(self, time: Tensor, dtype: torch.dtype) -> Tensor:
        assert self.config.calendar is not None
        waves = []
        for period in self.config.calendar.periods:
            phase = torch.remainder(time, period).to(dtype) * (TAU / period)
            for harmonic in range(1, self.config.harmonics + 1):
                waves += [torch.sin(phase * harmonic), torch.cos(phase * harmonic)]
        return torch.stack(waves, dim=-1)

    def _recur(self, vectors: Tensor, states: Sequence[Tensor], lengths: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        if isinstance(self.recurrent, FeedbackElman):
            return cast(tuple[Tensor, list[Tensor]], self.recurrent(vectors, states, lengths, self.head))
        if isinstance(self.recurrent, PeepholeLSTM):
            return cast(tuple[Tensor, list[Tensor]], self.recurrent(vectors, states, lengths))
        carried = self._stack(states)
        if lengths is None:
            hidden, new = self.recurrent(vectors, carried)
            return hidden, self._unstack(new)
        packed = pack_padded_sequence(vectors, lengths, enforce_sorted=False)
        out, new = self.recurrent(packed, carried)
        hidden, _ = pad_packed_sequence(out, total_length=vectors.shape[0])
        return hidden, self._unstack(new)

    def _stack(self, states: Sequence[Tensor]) -> Tensor | tuple[Tensor, Tensor]:
        if self.config.cell == "lstm":
            return torch.stack(list(states[0::2])), torch.stack(list(states[1::2]))
        return torch.stack(list(states))

    def _unstack(self, new: Tensor | tuple[Tensor, Tensor]) -> list[Tensor]:
        if isinstance(new, tuple):
            return [state for pair in zip(*new, strict=True) for state in pair]
        return list(new)


def _recurrent(config: NetworkConfig) -> nn.RNNBase | PeepholeLSTM | FeedbackElman:
    dropout = config.dropout if config.layers > 1 else 0.0
    sizes = (config.front_size, config.hidden_size, config.layers)
    if config.routes:
        return FeedbackElman(config)
    if config.cell == "peephole":
        return PeepholeLSTM(config)
    if config.cell == "elman":
        return nn.RNN(*sizes, nonlinearity=config.activation, dropout=dropout)
    if config.cell == "lstm":
        return nn.LSTM(*sizes, dropout=dropout)
    return nn.GRU(*sizes, dropout=dropout)
