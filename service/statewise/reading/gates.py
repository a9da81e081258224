"""The explicit-gate graph of a version: what its cells do, gate by gate, while they read a series from its beginning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from statewise.spec import METADATA_KEY, ModelSpec

if TYPE_CHECKING:
    import onnxruntime

Array = NDArray[np.generic]


@dataclass(frozen=True, slots=True, eq=False)
class Gates:
    """A graph that returns gates and states, ready to run.

    Attributes:
        spec: of the model beside which it lies.
    """

    spec: ModelSpec
    runtime: onnxruntime.InferenceSession

    @property
    def sizes(self) -> dict[str, int]:
        """How many numbers of each gate and state, and of the output, it returns for a timestep."""
        return {info.name: info.shape[-1] for info in self.runtime.get_outputs()}

    def read(self, inputs: Mapping[str, Array], given: Mapping[str, Any]) -> dict[str, Array]:
        """Returns the output and every gate and state, `[timesteps, …]` each.

        Args:
            inputs: `[timesteps, …]` each.
            given: what the session was given when it was opened, by state.
        """
        fed = {tensor.name: inputs[tensor.name][:, None] for tensor in self.spec.inputs}
        for state in self.spec.states:
            if state.given != "never":
                fed[state.input] = np.broadcast_to(given.get(state.input, state.initial), state.shape).astype(state.dtype)[None]
        names = list(self.sizes)
        return {name: array[:, 0] for name, array in zip(names, self.runtime.run(names, fed), strict=True)}


def opened(file: Path, threads: int = 0) -> Gates:
    """Returns a graph, ready to run in `threads` threads; 0 is as many as there are cores."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    runtime = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return Gates(ModelSpec.from_json(runtime.get_modelmeta().custom_metadata_map[METADATA_KEY]), runtime)
