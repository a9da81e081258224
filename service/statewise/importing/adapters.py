"""Nodes put before and behind a graph, so that its tensors have other axes outside than inside.

The graph's own tensors get other names inside, and nodes between the two; what it computes is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from statewise.importing.foreign import graphs_in
from statewise.importing.layout import Axes


class Adapted:
    """A copy of a graph whose inputs and outputs are being made anew.

    Attributes:
        inside: what goes before the names of the graph's own inputs and outputs, and of all that is added.
    """

    def __init__(self, model: onnx.ModelProto, renamed: Iterable[str]) -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        self._head: list[onnx.NodeProto] = []
        self._tail: list[onnx.NodeProto] = []
        self._tensors: dict[str, onnx.TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self.inside = _unused(model.graph)
        _rename(self.model.graph, {name: self.inside + name for name in renamed})

    def finished(self) -> onnx.ModelProto:
        """Returns the model with its new inputs and outputs."""
        graph = self.model.graph
        nodes = [*self._head, *graph.node, *self._tail]
        made = helper.make_graph(
            nodes, graph.name or "imported", self._inputs, self._outputs, [*graph.initializer, *self._tensors.values()]
        )
        self.model.graph.CopyFrom(made)
        self.model.ir_version = max(self.model.ir_version, 7)
        return self.model

    def takes(self, name: str, dtype: str, dims: Sequence[int | str]) -> None:
        """Declares an input."""
        self._inputs.append(_info(name, dtype, dims))

    def returns(self, name: str, dtype: str, dims: Sequence[int | str]) -> None:
        """Declares an output."""
        self._outputs.append(_info(name, dtype, dims))

    def tensor(self, name: str, values: NDArray[np.generic]) -> str:
        """Adds a constant, and returns its name."""
        self._tensors[name] = numpy_helper.from_array(np.asarray(values), name)
        return name

    def before(self, outside: str, inside: str, steps: Sequence[Step]) -> None:
        """Puts steps between an input and the tensor of the graph that it becomes."""
        self._head += self._chain(outside, inside, steps)

    def behind(self, inside: str, outside: str, steps: Sequence[Step]) -> None:
        """Puts steps between a tensor of the graph and the output that it becomes."""
        self._tail += self._chain(inside, outside, steps)

    def add(self, *nodes: onnx.NodeProto) -> None:
        """Puts nodes before the graph."""
        self._head += nodes

    def axes(self, places: Sequence[int]) -> str:
        """Returns a constant that names axes."""
        return self.tensor(f"{self.inside}axes/{_joined(places)}", np.array(places, np.int64))

    def _chain(self, start: str, end: str, steps: Sequence[Step]) -> list[onnx.NodeProto]:
        nodes, here = [], start
        for number, step in enumerate(steps or [identity()]):
            there = end if number == len(steps or [()]) - 1 else f"{self.inside}between/{start}/{end}/{number}"
            nodes.append(step(self, here, there))
            here = there
        return nodes


Step = Callable[[Adapted, str, str], onnx.NodeProto]


def identity() -> Step:
    """Leaves a tensor as it is."""
    return lambda _, taken, given: helper.make_node("Identity", [taken], [given])


def cast(dtype: str) -> Step:
    """Gives a tensor another dtype."""
    return lambda _, taken, given: helper.make_node("Cast", [taken], [given], to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def transpose(order: Sequence[int]) -> Step:
    """Gives a tensor's axes another order."""
    return lambda _, taken, given: helper.make_node("Transpose", [taken], [given], perm=list(order))


def squeeze(places: Sequence[int]) -> Step:
    """Takes axes of length 1 out."""
    return lambda to, taken, given: helper.make_node("Squeeze", [taken, to.axes(places)], [given])


def unsqueeze(places: Sequence[int]) -> Step:
    """Puts axes of length 1 in."""
    return lambda to, taken, given: helper.make_node("Unsqueeze", [taken, to.axes(places)], [given])


def reshape(shape: Sequence[int]) -> Step:
    """Gives a tensor another shape; 0 keeps an axis, -1 is what is left."""
    values = np.array(shape, np.int64)
    return lambda to, taken, given: helper.make_node(
        "Reshape", [taken, to.tensor(f"{to.inside}shape/{_joined(shape)}", values)], [given]
    )


def into(axes: Axes, rank: int) -> list[Step]:
    """Returns the steps from `[time, batch, …]` to a tensor of the file, of this rank."""
    absent, order = axes.absent(), axes.order(rank)
    return [*([squeeze(absent)] if absent else []), *([transpose(order)] if order != sorted(order) else [])]


def out_of(axes: Axes, rank: int) -> list[Step]:
    """Returns the steps from a tensor of the file, of this rank, to `[time, batch, …]`."""
    absent, order = axes.absent(), [int(place) for place in np.argsort(axes.order(rank))]
    return [*([transpose(order)] if order != sorted(order) else []), *([unsqueeze(absent)] if absent else [])]


def _joined(numbers: Sequence[int]) -> str:
    return "_".join(map(str, numbers))


def _unused(graph: onnx.GraphProto) -> str:
    """Returns a beginning that no tensor's name has: a file may have been adapted before."""
    names = {name for each in graphs_in(graph) for node in each.node for name in (*node.input, *node.output)}
    number = 1
    while any(name.startswith(f"statewise/{number}/") for name in names):
        number += 1
    return f"statewise/{number}/"


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Renames tensors of the graph, also where inner graphs name them; what was told of shapes is forgotten."""
    for each in graphs_in(graph):
        del each.value_info[:]
        for node in each.node:
            for field in (node.input, node.output):
                for place, name in enumerate(field):
                    field[place] = names.get(name, name)
        for tensor in each.initializer:
            tensor.name = names.get(tensor.name, tensor.name)
        if each is not graph:
            for info in each.output:
                info.name = names.get(info.name, info.name)


def _info(name: str, dtype: str, dims: Sequence[int | str]) -> onnx.ValueInfoProto:
    element = TensorProto.BOOL if dtype == "bool" else helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return helper.make_tensor_value_info(name, element, list(dims))
