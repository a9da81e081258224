"""Tensors of the Open Inference Protocol ↔ NumPy, and a request's shapes ↔ a step's.

On the wire the batch axis comes first, and a sequence's batch is 1. A model that takes `[timesteps, *shape]` for a step takes here
`[1, *shape]` for one timestep, or `[1, timesteps, *shape]`; the two differ in rank, so neither can be taken for the other. A
scalar's timestep has the shape `[1]`, since a tensor of this protocol has at least one axis beside the batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from statewise.errors import StatewiseError
from statewise.inference import open_inference_pb2 as wire
from statewise.rpc.inference.problems import bad
from statewise.spec import ModelSpec

Array = NDArray[np.generic]

DATATYPES = {"float32": "FP32", "float64": "FP64", "float16": "FP16", "int32": "INT32", "int64": "INT64", "bool": "BOOL"}
"""What the protocol calls each element type of a model."""
_DTYPES = {name: np.dtype(dtype).newbyteorder("<") for dtype, name in DATATYPES.items()}
_FIELDS = {
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "BOOL": "bool_contents",
}


def read(request: wire.ModelInferRequest) -> dict[str, Array]:
    """Returns a request's inputs as they travel, `[1, …]` each; raises `InvalidInput`."""
    raw, arrays = request.raw_input_contents, {}
    if raw and len(raw) != len(request.inputs):
        raise bad(f"raw_input_contents: {len(raw)} of them for {len(request.inputs)} inputs", "raw_input_contents")
    for number, tensor in enumerate(request.inputs):
        if tensor.name in arrays:
            raise bad(f"input {tensor.name!r} already exists in request", "inputs")
        if tensor.parameters:
            told = ", ".join(sorted(tensor.parameters))
            raise bad(f"input {tensor.name!r}: takes no parameters ({told}); shared memory is not offered", "inputs")
        if raw and tensor.HasField("contents"):
            told = "contents field must not be specified when using raw_input_contents"
            raise bad(f"{told} for {tensor.name!r} for model {request.model_name!r}", "contents")
        arrays[tensor.name] = _array(tensor, raw[number] if raw else None)
    return arrays


def lay_out(spec: ModelSpec, arrays: Mapping[str, Array]) -> tuple[dict[str, Array], bool]:
    """Returns the inputs of a step, `[timesteps, …]` each, and whether any of them came with an axis of time.

    Raises:
        InvalidInput: an input has another batch than 1, or another type or shape than the model takes.
    """
    inputs, timed = {}, False
    for tensor in spec.inputs:
        array = arrays.get(tensor.name)
        if array is None:
            raise _wrong_names(spec, arrays)
        wanted = DATATYPES[tensor.dtype]
        if array.dtype != _DTYPES[wanted]:
            told = f"data-type is {DATATYPES[array.dtype.name]!r}, but the model expects {wanted!r}"
            raise bad(f"inference input {tensor.name!r} {told}", tensor.name)
        inputs[tensor.name], with_time = _step(tensor.name, array, tensor.shape)
        timed |= with_time
    if len(arrays) > len(inputs):
        raise _wrong_names(spec, arrays)
    return inputs, timed


def constant(name: str, array: Array, shape: tuple[int, ...]) -> Array:
    """Returns a value that a sequence starts with, `[*shape]`, from `[1, *shape]`; raises `InvalidInput`."""
    if array.shape not in ((1, *shape), (1, *dims(shape))):
        raise bad(f"input {name!r}: takes shape {[1, *(shape or (1,))]}, not {list(array.shape)}", name)
    return array.reshape(shape)


def dims(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the shape of a timestep as this protocol tells it."""
    return shape or (1,)


def _wrong_names(spec: ModelSpec, arrays: Mapping[str, Array]) -> StatewiseError:
    takes = [tensor.name for tensor in spec.inputs]
    unexpected = sorted(arrays.keys() - set(takes))
    told = f"unexpected inference input {unexpected[0]!r}" if unexpected else f"expected {len(takes)} inputs but got {len(arrays)}"
    return bad(f"{told}; the model takes {', '.join(sorted(takes))}", "inputs")


def _array(tensor: wire.ModelInferRequest.InferInputTensor, raw: bytes | None) -> Array:
    name, shape = tensor.name, tuple(tensor.shape)
    dtype = _DTYPES.get(tensor.datatype)
    if dtype is None:
        raise bad(f"inference input {name!r} data-type must be one of {', '.join(_DTYPES)}, not {tensor.datatype!r}", "datatype")
    if not shape or min(shape) < 1:
        raise bad(f"input {name!r}: shape {list(shape)} must hold positive lengths, the batch first", "shape")
    if raw is None:
        return _typed(tensor, dtype, shape)
    expected = math.prod(shape) * dtype.itemsize
    if len(raw) != expected:
        raise bad(f"input byte size mismatch for input {name!r}. Expected {expected}, got {len(raw)}", "raw_input_contents")
    array = np.frombuffer(raw, dtype).reshape(_axes(name, shape))
    if dtype.kind == "b" and (array.view(np.uint8) > 1).any():
        raise bad(f"input {name!r}: a BOOL is the byte 0 or 1", "raw_input_contents")
    return array


def _typed(tensor: wire.ModelInferRequest.InferInputTensor, dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> Array:
    """Returns a tensor whose elements are in the field of its type."""
    name, wanted = tensor.name, _FIELDS.get(tensor.datatype)
    filled = [field.name for field, _ in tensor.contents.ListFields()]
    if wanted is None:
        raise bad(f"input {name!r}: {tensor.datatype} travels in raw_input_contents alone", "contents")
    if not filled:
        raise bad(f"unable to find data for input tensor {name!r}", "contents")
    if filled != [wanted]:
        raise bad(f"unexpected explicit tensor data for input tensor {name!r}: {tensor.datatype} travels in {wanted}", "contents")
    values = getattr(tensor.contents, wanted)
    if len(values) != math.prod(shape):
        raise bad(f"input {name!r}: shape {list(shape)} takes {math.prod(shape)} elements, not {len(values)}", "contents")
    return np.array(values, dtype).reshape(_axes(name, shape))


def _axes(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns a shape that NumPy takes."""
    if len(shape) > 32:
        raise bad(f"input {name!r}: a shape of {len(shape)} axes cannot be taken", "shape")
    return shape


def _step(name: str, array: Array, shape: tuple[int, ...]) -> tuple[Array, bool]:
    """Returns an input as a step takes it, and whether it came with an axis of time."""
    got = array.shape
    if got[0] != 1 and got[1:] in (shape, dims(shape)):
        raise bad(f"input {name!r}: inference request must specify batch-size 1, since it is one of a sequence", name)
    if got == (1, *shape):
        return array, False  # the batch of one stands for the one timestep
    if len(got) == len(shape) + 2 and got[0] == 1 and got[2:] == shape:
        return array[0], not (shape == () and got[1] == 1)
    if not shape and len(got) == 3 and got[0] == got[2] == 1:
        return array[0, :, 0], True
    one, many = ", ".join(map(str, (1, *dims(shape)))), ", ".join(map(str, (1, "timesteps", *dims(shape))))
    raise bad(f"unexpected shape for input {name!r}. Expected [{one}] for one timestep or [{many}], got {list(got)}", name)
