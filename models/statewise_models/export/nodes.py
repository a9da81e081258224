"""Nodes and weights of an ONNX graph in the making, and loops over the time axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper


class Graph:
    """Nodes and weights in the making; `add` returns the name of what a node computes."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def add(self, op: str, inputs: Sequence[str], name: str, **attributes: object) -> str:
        """Adds a node of one output, which bears its name."""
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))  # type: ignore[arg-type]
        return name

    def constant(self, name: str, value: NDArray[np.generic]) -> str:
        """Adds a weight, unless there is one of that name."""
        if all(weight.name != name for weight in self.weights):
            self.weights.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name


class Loop:
    """One Scan over the first axis in the making: `add` adds to what is done at each timestep.

    Names within it begin with the loop's own. Its weights belong to the graph around it, whose names it sees, so it survives
    whatever is put before and after that graph.
    """

    def __init__(self, graph: Graph, name: str) -> None:
        self._graph = graph
        self._name = name
        self._body = Graph()
        self._carried: dict[str, str] = {}
        self._taken: dict[str, tuple[str, int]] = {}

    def add(self, op: str, inputs: Sequence[str], name: str, **attributes: object) -> str:
        """Adds a node of one output and returns its full name."""
        return self._body.add(op, inputs, f"{self._name}/{name}", **attributes)

    def split(self, value: str, names: Sequence[str]) -> list[str]:
        """Adds a node that cuts the last axis into equal parts, and returns their full names."""
        parts = [f"{self._name}/{name}" for name in names]
        self._body.nodes.append(helper.make_node("Split", [value], parts, name=f"{value}/split", axis=-1))
        return parts

    def constant(self, name: str, value: NDArray[np.generic]) -> str:
        """Adds a weight to the graph around the loop."""
        return self._graph.constant(name, value)

    def carry(self, first: str) -> str:
        """Returns the name of a state within the loop, which begins as the tensor `first`."""
        self._carried[first] = f"{self._name}/last/{first}"
        return self._carried[first]

    def take(self, sequence: str, element: int = TensorProto.FLOAT) -> str:
        """Returns the name, within the loop, of a timestep of the tensor `sequence`, `[time, …]`."""
        self._taken[sequence] = (f"{self._name}/at/{sequence}", element)
        return self._taken[sequence][0]

    def close(self, states: Mapping[str, tuple[str, str]], sequences: Mapping[str, str]) -> None:
        """Adds the loop to its graph.

        Args:
            states: for each `first` that is carried, what it becomes at a timestep, and the name of what it is after the last one.
            sequences: what is returned of every timestep, and the name of all of it, `[time, …]`.
        """
        copies = {value: self.add("Identity", [value], f"all/{name}") for value, name in sequences.items()}
        carried = [_untyped(name, TensorProto.FLOAT) for name in self._carried.values()]
        taken = [_untyped(*entry) for entry in self._taken.values()]
        returned = [states[first][0] for first in self._carried] + [copies[value] for value in sequences]
        body = helper.make_graph(
            self._body.nodes, self._name, [*carried, *taken], [_untyped(name, TensorProto.FLOAT) for name in returned]
        )
        outputs = [states[first][1] for first in self._carried] + list(sequences.values())
        inputs = [*self._carried, *self._taken]
        node = helper.make_node("Scan", inputs, outputs, name=self._name, body=body, num_scan_inputs=len(taken))
        self._graph.nodes.append(node)


def _untyped(name: str, element: int) -> onnx.ValueInfoProto:
    """Returns the value of a body, whose shape follows from the graph around it."""
    return helper.make_tensor_value_info(name, element, None)
