"""Tensors on the wire ↔ NumPy: little-endian, row-major bytes. Server and client share this one codec."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from statewise.errors import Reason, error
from statewise.v1 import tensor_pb2

Array = NDArray[np.generic]

DTYPES: dict[int, np.dtype[np.generic]] = {
    tensor_pb2.DATA_TYPE_FLOAT32: np.dtype("<f4"),
    tensor_pb2.DATA_TYPE_FLOAT64: np.dtype("<f8"),
    tensor_pb2.DATA_TYPE_FLOAT16: np.dtype("<f2"),
    tensor_pb2.DATA_TYPE_INT32: np.dtype("<i4"),
    tensor_pb2.DATA_TYPE_INT64: np.dtype("<i8"),
    tensor_pb2.DATA_TYPE_BOOL: np.dtype("bool"),
}
DATA_TYPES = {dtype.name: number for number, dtype in DTYPES.items()}
NUMBERS = {dtype: number for number, dtype in DTYPES.items()}  # `dtype.name` is computed anew each time it is read


def decode(tensor: tensor_pb2.Tensor) -> Array:
    """Returns a tensor's array, a read-only view of its bytes; raises `InvalidInput` naming the field that is wrong."""
    name = tensor.name or "the tensor"
    dtype = DTYPES.get(tensor.data_type)
    if dtype is None:
        raise error(Reason.BAD_FIELD, f"{name}: data_type must be one of {', '.join(DATA_TYPES)}", field="data_type")
    shape, data = tuple(tensor.shape), tensor.data
    if shape and min(shape) < 0:
        raise error(Reason.BAD_FIELD, f"{name}: shape {list(shape)} must not be negative", field="shape")
    if math.prod(shape) * dtype.itemsize != len(data):
        message = f"{name}: shape {list(shape)} of {dtype.name} takes {math.prod(shape) * dtype.itemsize} bytes of data"
        raise error(Reason.BAD_FIELD, f"{message}, not {len(data)}", field="data")
    try:
        array = np.frombuffer(data, dtype).reshape(shape)
    except ValueError as refused:  # too many axes, or a length beyond memory beside one of 0
        raise error(Reason.BAD_FIELD, f"{name}: shape of {len(shape)} axes cannot be taken: {refused}", field="shape") from refused
    if dtype.kind == "b" and (array.view(np.uint8) > 1).any():
        raise error(Reason.BAD_FIELD, f"{name}: a bool is the byte 0 or 1", field="data")
    return array


def encode(name: str, array: Array) -> tensor_pb2.Tensor:
    """Returns an array as a tensor; raises `TypeError` for a dtype that cannot travel."""
    number = NUMBERS.get(array.dtype) or DATA_TYPES.get(array.dtype.name)
    if number is None:
        raise TypeError(f"{name}: {array.dtype} cannot travel; one of {', '.join(DATA_TYPES)} can")
    raw = np.ascontiguousarray(array, DTYPES[number]).tobytes()
    return tensor_pb2.Tensor(name=name, data_type=number, shape=array.shape, data=raw)  # type: ignore[arg-type]
