"""Plain graph → pooled graph: the state stays in pools of rows, and a run names rows instead of carrying tensors.

    source[batch] ─ Gather from each pool ─→ plain graph ─→ new states ─ Scatter to rows target[batch] of each pool
                                                   └──→ outputs, finite[batch]

Each pool is an input and an output; the engine binds both to the same memory, so the scatter happens in place and the untouched
rows are never copied. Source and target rows of a batch are disjoint by the caller's word (rows are immutable once written).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from statewise.spec import ModelSpec, StateSpec

SOURCE = "statewise/source"
TARGET = "statewise/target"
FINITE = "statewise/finite"
ROWS = "statewise/rows"
OPSET = 17
IR_VERSION = 8


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


def pooled(plain: onnx.ModelProto, spec: ModelSpec, *, by_element: bool = False) -> onnx.ModelProto:
    """Returns the pooled graph, for pools of any number of rows.

    With `by_element` new rows are scattered element by element: on CUDA that runs a thread an element, and ScatterND a thread a
    row.

    Its inputs are those of the plain graph without the states, and `SOURCE` and `TARGET` (int64 `[batch]`) and the pools
    `[rows, *state.shape]`; its outputs those of the plain graph without the states, and `FINITE` (bool `[batch]`) and the pools.
    """
    carried = {state.input for state in spec.states}
    kept = [info for info in plain.graph.input if info.name not in carried]
    nodes = [node for state in spec.states for node in _gather(state)]
    nodes += list(plain.graph.node)
    nodes += [node for state in spec.states for node in _scatter(state, by_element)]
    nodes += _finite(spec)
    taken, returned = _infos(spec.states)
    returned_plain = [info for info in plain.graph.output if info.name in {tensor.name for tensor in spec.outputs}]
    graph = helper.make_graph(
        nodes,
        f"{plain.graph.name}_pooled",
        [*kept, _row_info(SOURCE), _row_info(TARGET), *taken],
        [*returned_plain, helper.make_tensor_value_info(FINITE, TensorProto.BOOL, ["batch"]), *returned],
        [*plain.graph.initializer, *_constants(spec)],
    )
    model = onnx.ModelProto()
    model.CopyFrom(plain)
    model.graph.CopyFrom(graph)
    return model


def rows_reader(dtypes: Sequence[str]) -> onnx.ModelProto:
    """Returns a graph that takes the pools and `SOURCE`, and returns the states of those rows.

    It is of pools and rows laid flat, `[rows, width]` and `[batch, width]`, and so serves every model with states of these dtypes.
    `flat_pool` and `flat_rows` name them, by their place.
    """
    nodes = [helper.make_node("Gather", [flat_pool(at), SOURCE], [flat_rows(at)], axis=0) for at in range(len(dtypes))]
    return _small("statewise_read", nodes, [_row_info(SOURCE), *_flat(flat_pool, dtypes)], _flat(flat_rows, dtypes), [])


def rows_writer(dtypes: Sequence[str], *, by_element: bool = False) -> onnx.ModelProto:
    """Returns a graph that takes the pools, `TARGET` and states, flat as in `rows_reader`, and returns the pools with them."""
    nodes = [node for at in range(len(dtypes)) for node in _write(flat_pool(at), flat_written(at), flat_rows(at), (1,), by_element)]
    inputs = [_row_info(TARGET), *_flat(flat_pool, dtypes), *_flat(flat_rows, dtypes)]
    return _small("statewise_write", nodes, inputs, _flat(flat_written, dtypes), [_axes((1,))])


def reserver(dtype: str) -> onnx.ModelProto:
    """Returns a graph that takes a shape, `ROWS` (int64 `[2]`), and returns a pool of it, flat as in `rows_reader`: zeros."""
    zero = numpy_helper.from_array(np.zeros(1, dtype))
    node = helper.make_node("ConstantOfShape", [ROWS], [flat_pool(0)], value=zero)
    taken = helper.make_tensor_value_info(ROWS, TensorProto.INT64, [2])
    return _small("statewise_reserve", [node], [taken], _flat(flat_pool, [dtype]), [])


def flat_pool(at: int) -> str:
    """Returns the input of `rows_reader` and `rows_writer` that takes a pool."""
    return f"statewise/pool/{at}"


def flat_written(at: int) -> str:
    """Returns the output of `rows_writer` that is the pool with the new rows."""
    return f"statewise/written/{at}"


def flat_rows(at: int) -> str:
    """Returns the tensor of `rows_reader` and `rows_writer` that holds a state's rows."""
    return f"statewise/rows/{at}"


def _small(
    name: str,
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    constants: list[onnx.TensorProto],
) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, name, inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def _flat(name: Callable[[int], str], dtypes: Sequence[str]) -> list[onnx.ValueInfoProto]:
    elements = [helper.np_dtype_to_tensor_dtype(np.dtype(dtype)) for dtype in dtypes]
    return [
        helper.make_tensor_value_info(name(at), element, [f"{name(at)}/rows", f"width/{at}"]) for at, element in enumerate(elements)
    ]


def _infos(states: Sequence[StateSpec]) -> tuple[list[onnx.ValueInfoProto], list[onnx.ValueInfoProto]]:
    taken, returned = [], []
    for pool in map(Pool, states):
        element = helper.np_dtype_to_tensor_dtype(np.dtype(pool.state.dtype))
        shape: list[str | int | None] = ["rows", *pool.state.shape]
        taken.append(helper.make_tensor_value_info(pool.input, element, shape))
        returned.append(helper.make_tensor_value_info(pool.output, element, shape))
    return taken, returned


def _row_info(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.INT64, ["batch"])


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


def _scatter(state: StateSpec, by_element: bool) -> list[onnx.NodeProto]:
    """The plain graph's new state → fresh rows of the pool."""
    pool, inner = Pool(state), _inner(state)
    if state.batch_axis == 0:
        return _write(pool.input, pool.output, state.output, inner, by_element)
    rows = f"{pool.output}/rows"
    back = [int(axis) for axis in np.argsort(_to_batch_axis(state))]
    turned = helper.make_node("Transpose", [state.output], [rows], perm=back)
    return [turned, *_write(pool.input, pool.output, rows, inner, by_element)]


def _write(pool: str, written: str, rows: str, inner: tuple[int, ...], by_element: bool) -> list[onnx.NodeProto]:
    """Rows `[batch, …]`, whose axes within a row are `inner` → the rows `TARGET` of the pool."""
    index = f"{written}/index"
    if not by_element:
        return [
            helper.make_node("Unsqueeze", [TARGET, _axes_name((1,))], [index]),
            helper.make_node("ScatterND", [pool, index, rows], [written]),
        ]
    column, shape = f"{index}/column", f"{index}/shape"
    return [
        helper.make_node("Unsqueeze", [TARGET, _axes_name(inner)], [column]),
        helper.make_node("Shape", [rows], [shape]),
        helper.make_node("Expand", [column, shape], [index]),
        helper.make_node("ScatterElements", [pool, index, rows], [written], axis=0),
    ]


def _inner(state: StateSpec) -> tuple[int, ...]:
    """Returns the axes of a row within its pool."""
    return tuple(range(1, len(state.shape) + 1))


def _to_batch_axis(state: StateSpec) -> list[int]:
    axes = list(range(1, len(state.shape) + 1))
    axes.insert(state.batch_axis, 0)
    return axes


def _finite(spec: ModelSpec) -> list[onnx.NodeProto]:
    """Row sums of outputs and new states → one flag a row: a sum minus itself is 0 only if every element is finite."""
    nodes, sums = [], []
    for name, axes, dtype in _watched(spec):
        summed, wide = f"statewise/sum/{name}", name
        if dtype == "float16":  # whose own sum would overflow
            wide = f"{summed}/wide"
            nodes.append(helper.make_node("Cast", [name], [wide], to=TensorProto.FLOAT))
        if axes:
            nodes.append(helper.make_node("ReduceSum", [wide, _axes_name(axes)], [summed], keepdims=0))
        else:  # ReduceSum over no axes sums over all
            summed = wide
        if dtype == "float64":  # which overflows where it is cast; what differs from itself does not
            own, summed = summed, f"statewise/difference/{name}"
            nodes.append(helper.make_node("Sub", [own, own], [f"{summed}/wide"]))
            nodes.append(helper.make_node("Cast", [f"{summed}/wide"], [summed], to=TensorProto.FLOAT))
        sums.append(summed)
    if not sums:
        return [helper.make_node("Equal", [TARGET, TARGET], [FINITE])]
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
    axes = {axes for _, axes, _ in _watched(spec)} | {_inner(state) for state in spec.states} | {(1,)}
    return [*map(_axes, sorted(axes)), numpy_helper.from_array(np.zeros((), np.float32), "statewise/zero")]


def _axes(axes: tuple[int, ...]) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(axes, np.int64), _axes_name(axes))
