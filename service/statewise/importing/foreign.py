"""A foreign ONNX file as it is: its inputs and outputs; refused where it shows before the first run that it cannot be served."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import helper, version_converter
from onnx.external_data_helper import uses_external_data

from statewise.catalog import NEWEST_OPSET, OLDEST_OPSET
from statewise.importing.problems import Refused

DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
"""What ONNX Runtime has built in."""
RESERVED = "statewise/"

Dims = tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of the file.

    Attributes:
        dtype: in NumPy's words.
        dims: for each axis its length, or its name where it is dynamic: the file's own name for it, or `TENSOR.AXIS`.
    """

    name: str
    dtype: str
    dims: Dims

    def __str__(self) -> str:
        return f"{self.name} {self.dtype} [{', '.join(map(str, self.dims))}]"


@dataclass(frozen=True, slots=True, eq=False)
class Foreign:
    """A file that was read.

    Attributes:
        raw: the file.
        model: the same, in an opset that is served.
        opset: of the file.
        outputs: their `dims` are what the file says, which may be wrong; a run tells.
    """

    file: Path
    raw: bytes
    model: onnx.ModelProto
    opset: int
    inputs: dict[str, Port]
    outputs: dict[str, Port]


def read(file: Path) -> Foreign:
    """Reads an ONNX file; raises `Refused`, and `OSError` where it cannot be read."""
    raw = file.read_bytes()
    try:
        model = onnx.load_from_string(raw)
    except DecodeError as error:
        raise Refused(f"{file} is not an ONNX file, or a part of one: {error}") from error
    if not model.graph.output or not model.opset_import:
        raise Refused(f"{file} is not an ONNX file: it has no graph that returns anything")
    _check_tensors(model.graph)
    _check_operators(model)
    held = {tensor.name for tensor in model.graph.initializer}
    inputs = {info.name: _port(info) for info in model.graph.input if info.name not in held}
    outputs = {info.name: _port(info) for info in model.graph.output}
    reserved = [name for name in (*inputs, *outputs) if name.startswith(RESERVED)]
    if reserved:
        raise Refused(f"{reserved[0]!r} begins with {RESERVED!r}, which is kept for the server's own tensors")
    return Foreign(file, raw, _in_served_opset(_without_own_inputs(model)), opset_of(model), inputs, outputs)


def opset_of(model: onnx.ModelProto) -> int:
    """Returns the version of ONNX's own operators that a model uses."""
    return next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)


def graphs_in(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Yields a graph and all graphs inside its nodes (branches, bodies of loops)."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from graphs_in(inner)


def _check_tensors(graph: onnx.GraphProto) -> None:
    for each in graphs_in(graph):
        if each.sparse_initializer:
            raise Refused("it holds sparse tensors, which cannot be served")
        held = [attribute.t for node in each.node for attribute in node.attribute if attribute.HasField("t")]
        for tensor in (*each.initializer, *held):
            if uses_external_data(tensor):
                place = next((entry.value for entry in tensor.external_data if entry.key == "location"), "?")
                told = "make it one file: onnx.save(onnx.load('model.onnx'), 'whole.onnx')"
                raise Refused(f"its tensor {tensor.name!r} lies outside the file, in {place!r}, and a version is one file; {told}")


def _check_operators(model: onnx.ModelProto) -> None:
    own = {(function.domain, function.name) for function in model.functions}
    nodes = [node for graph in graphs_in(model.graph) for node in graph.node]
    nodes += [node for function in model.functions for node in function.node]
    custom = sorted({f"{n.domain}:{n.op_type}" for n in nodes if n.domain not in DOMAINS and (n.domain, n.op_type) not in own})
    if custom:
        raise Refused(f"it uses operators that ONNX Runtime does not have: {', '.join(custom)}")


def _port(info: onnx.ValueInfoProto) -> Port:
    tensor = info.type.tensor_type
    if not info.type.HasField("tensor_type"):
        raise Refused(f"{info.name!r} is no tensor but {info.type.WhichOneof('value') or 'of no type'}")
    dtype = "string" if tensor.elem_type == onnx.TensorProto.STRING else str(helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    dims = [d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else d.dim_param for d in tensor.shape.dim]
    return Port(info.name, dtype, tuple(dim or f"{info.name}.{axis}" for axis, dim in enumerate(dims)))


def _in_served_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns the model in an opset that is served; what a conversion may have changed, the dry run shows."""
    opset = opset_of(model)
    if OLDEST_OPSET <= opset <= NEWEST_OPSET:
        return model
    wanted = OLDEST_OPSET if opset < OLDEST_OPSET else NEWEST_OPSET
    try:
        converted = version_converter.convert_version(model, wanted)
        onnx.checker.check_model(converted)
    except Exception as error:  # the converter raises what it likes
        told = " ".join(str(error).split())[:200]
        raise Refused(
            f"its opset is {opset}; {OLDEST_OPSET} to {NEWEST_OPSET} are served, and it cannot be converted: {told}"
        ) from error
    return converted


def _without_own_inputs(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns the model without the initializers among its inputs, as they were listed in old files."""
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    held = {tensor.name for tensor in plain.graph.initializer}
    for info in [info for info in plain.graph.input if info.name in held]:
        plain.graph.input.remove(info)
    return plain
