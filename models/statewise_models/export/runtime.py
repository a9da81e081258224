"""A graph in ONNX Runtime that is called as the network it was made from, so that training's own reports can judge it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor

from statewise.spec import SERIES_MEAN, SERIES_SCALE
from statewise_models.export.builder import LENGTHS, OUTPUT
from statewise_models.network import Network
from statewise_models.runtime import open_runtime

HEAD = "head"  # the head's values, before they are made raw; of tokens the two are the same


class RuntimeNetwork(Network):
    """`network`, but what `model` computes; see `Network.forward`. It cannot learn."""

    def __init__(self, network: Network, model: onnx.ModelProto) -> None:
        super().__init__(network.config)
        self.load_state_dict(network.state_dict())
        self.eval()
        self._values = OUTPUT["tokens"] if network.config.task == "tokens" else HEAD
        self._runtime = open_runtime(_with_output(model, self._values).SerializeToString())

    def forward(
        self, inputs: Mapping[str, Tensor], states: Sequence[Tensor], lengths: Tensor | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Returns the head's values and the new states, as `Network.forward` does."""
        timesteps, batch = next(iter(inputs.values())).shape[:2]
        rows = np.full(batch, timesteps) if lengths is None else lengths.numpy()
        # What a series has of its own is an input of the network's timesteps, and a state of the graph's rows.
        feed = {name: (tensor[0] if name in (SERIES_MEAN, SERIES_SCALE) else tensor).numpy() for name, tensor in inputs.items()}
        feed |= {LENGTHS: rows.astype(np.int32)}
        feed |= {name: state.detach().numpy() for name, state in zip(self.config.state_names, states, strict=True)}
        returned = [self._values, *(f"{name}_next" for name in self.config.state_names)]
        values, *new = (torch.from_numpy(array) for array in self._runtime.run(returned, feed))
        return values, new


def _with_output(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """Returns the model with the tensor `name` among its outputs."""
    more = onnx.ModelProto()
    more.CopyFrom(model)
    if all(info.name != name for info in more.graph.output):
        more.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    return more
