"""Plain graph → pooled graph: the state stays in pools of rows, and a run names rows instead of carrying tensors.

    source[batch] ─ Gather from each pool ─→ plain graph ─→ new states ─ Scatter to rows target[batch] of each pool
                                                   └──→ outputs, finite[batch]

Each pool is an input and an output; the engine binds both to the same memory, so the scatter happens in place and the untouched
rows are never copied. Source and target rows of a batch are disjoint by the caller's word (rows are immutable once written).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from statewise.spec import ModelSpec, StateSpec

SOURCE = "statewise/source"
TARGET = "statewise/target"
FINITE = "statewise/finite"


@dataclass(frozen=True, slots=True)
class Pool:
    """The pool of one state: the graph's input and output for it."""

    state: StateSpec

    @property
    def input(self) -> str:
        """The graph input that takes the pool."""
        return f"statewise/pool/{self.state.input}"

    @property
    def output(self) -> str:
        """The graph output that returns it, with the new rows."""
        return f"statewise/pool/{self.state.output}"


def pools(spec: ModelSpec) -> tuple[Pool, ...]:
    """Returns the pools of a model, in the order of its states."""
    return tuple(Pool(state) for state in spec.states)


def pooled(plain: onnx.ModelProto, spec: ModelSpec, rows: int) -> onnx.ModelProto:
    """Returns the pooled graph for pools of `rows` rows.

    Its inputs are those of the plain graph without the states, and `SOURCE` and `TARGET` (int64 `[batch]`) and the pools
    `[rows, *state.shape]`; its outputs those of the plain graph without the states, and `FINITE` (bool `[batch]`) and the pools.
    """
    carried = {state.input for state in spec.states}
    kept = [info for info in plain.graph.input if info.name not in carried]
    nodes = [node for state in spec.states for node in _gather(state)]
    nodes += list(plain.graph.node)
    nodes += [node for state in spec.states for node in _scatter(state)]
    nodes += _finite(spec)
    taken, returned = _infos(spec, rows)
    returned_plain = [info for info in plain.graph.output if info.name in {tensor.name for tensor in spec.outputs}]
    graph = helper.make_graph(
        nodes,
        f"{plain.graph.name}_pooled",
        [*kept, *_row_infos(), *taken],
        [*returned_plain, helper.make_tensor_value_info(FINITE, TensorProto.BOOL, ["batch"]), *returned],
        [*plain.graph.initializer, *_constants(spec)],
    )
    model = onnx.ModelProto()
    model.CopyFrom(plain)
    model.graph.CopyFrom(graph)
    return model


def _infos(spec: ModelSpec, rows: int) -> tuple[list[onnx.ValueInfoProto], list[onnx.ValueInfoProto]]:
    taken, returned = [], []
    for pool in pools(spec):
        element = helper.np_dtype_to_tensor_dtype(np.dtype(pool.state.dtype))
        shape = [rows, *pool.state.shape]
        taken.append(helper.make_tensor_value_info(pool.input, element, shape))
        returned.append(helper.make_tensor_value_info(pool.output, element, shape))
    return taken, returned


def _row_infos() -> list[onnx.ValueInfoProto]:
    return [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch"]) for name in (SOURCE, TARGET)]


def _gather(state: StateSpec) -> list[onnx.NodeProto]:
    """Rows of the pool → the plain graph's state input."""
    pool = Pool(state)
    if state.batch_axis == 0:
        return [helper.make_node("Gather", [pool.input, SOURCE], [state.input], axis=0)]
    rows = f"{pool.input}/rows"
    return [
        helper.make_node("Gather", [pool.input, SOURCE], [rows], axis=0),
        helper.make_node("Transpose", [rows], [state.input], perm=_to_batch_axis(state)),
    ]


def _scatter(state: StateSpec) -> list[onnx.NodeProto]:
    """The plain graph's new state → fresh rows of the pool."""
    pool = Pool(state)
    nodes, rows = [], state.output
    if state.batch_axis != 0:
        rows = f"{pool.output}/rows"
        back = [int(axis) for axis in np.argsort(_to_batch_axis(state))]
        nodes.append(helper.make_node("Transpose", [state.output], [rows], perm=back))
    index = f"{pool.output}/index"
    nodes.append(helper.make_node("Unsqueeze", [TARGET, "statewise/one"], [index]))
    nodes.append(helper.make_node("ScatterND", [pool.input, index, rows], [pool.output]))
    return nodes


def _to_batch_axis(state: StateSpec) -> list[int]:
    axes = list(range(1, len(state.shape) + 1))
    axes.insert(state.batch_axis, 0)
    return axes


def _finite(spec: ModelSpec) -> list[onnx.NodeProto]:
    """Row sums of outputs and new states → one flag a row: a sum minus itself is 0 only if every element is finite."""
    nodes, sums = [], []
    for name, axes, dtype in _watched(spec):
        summed, wide = f"statewise/sum/{name}", name
        if dtype != "float32":
            wide = f"{summed}/wide"
            nodes.append(helper.make_node("Cast", [name], [wide], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("ReduceSum", [wide, _axes_name(axes)], [summed], keepdims=0))
        sums.append(summed)
    nodes.append(helper.make_node("Sum", sums, ["statewise/sum"]))
    nodes.append(helper.make_node("Sub", ["statewise/sum", "statewise/sum"], ["statewise/difference"]))
    nodes.append(helper.make_node("Equal", ["statewise/difference", "statewise/zero"], [FINITE]))
    return nodes


def _watched(spec: ModelSpec) -> list[tuple[str, tuple[int, ...], str]]:
    """Returns name, axes to sum over (all but batch) and dtype of every float output and every state that must be finite."""
    tensors = [(t.name, t.batch_axis, len(t.shape) + (t.time_axis is not None), t.dtype) for t in spec.outputs]
    tensors += [(state.output, state.batch_axis, len(state.shape), state.dtype) for state in spec.states if state.finite]
    return [
        (name, tuple(axis for axis in range(others + 1) if axis != batch_axis), dtype)
        for name, batch_axis, others, dtype in tensors
        if dtype.startswith("float")
    ]


def _axes_name(axes: tuple[int, ...]) -> str:
    return "statewise/axes/" + "_".join(map(str, axes))


def _constants(spec: ModelSpec) -> list[onnx.TensorProto]:
    axes = {axes for _, axes, _ in _watched(spec)}
    return [
        numpy_helper.from_array(np.array([1], np.int64), "statewise/one"),
        numpy_helper.from_array(np.zeros((), np.float32), "statewise/zero"),
        *(numpy_helper.from_array(np.array(sorted(each), np.int64), _axes_name(each)) for each in sorted(axes)),
    ]
