"""What callers give → arrays in the dtypes of the model; what does not fit is refused by name, before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from statewise.client.described import Model
from statewise.errors import Reason, error
from statewise.spec import ConstantSpec, TensorSpec
from statewise.tensors import encode
from statewise.v1 import tensor_pb2

Array = NDArray[Any]


def cast(tensor: TensorSpec, value: ArrayLike, leading: tuple[int, ...]) -> Array:
    """Returns the value in the input's dtype."""
    array = _read(tensor, value)
    axes = len(leading) + len(tensor.shape)
    if (
        array.ndim not in (axes, axes + 1)
        or array.shape[: len(leading)] != leading
        or (tensor.shape and array.shape[-len(tensor.shape) :] != tensor.shape)
    ):
        one, many = [*leading, *tensor.shape], [*leading, "timesteps", *tensor.shape]
        message = f"{tensor.name}: takes {one} for one timestep or {many} for several, not {list(array.shape)}"
        raise error(Reason.BAD_FIELD, message.replace("'", ""), field=tensor.name)
    return _converted(tensor, array)


def constants_of(model: Model, constants: Mapping[str, ArrayLike]) -> list[tensor_pb2.Tensor]:
    """Returns what an open gives, in the dtypes of the model; raises `InvalidInput` for a name that it does not know.

    A number goes where one number is taken, whatever the shape.
    """
    known = {constant.name: constant for constant in model.constants}
    for name in constants:
        if name not in known:
            told = f"the sessions of {model.name!r} are given {', '.join(known) or 'nothing'} when they are opened"
            raise error(Reason.BAD_FIELD, f"{name}: unknown; {told}", field=name)
    return [encode(name, _constant(known[name], value)) for name, value in constants.items()]


def _constant(constant: ConstantSpec, value: ArrayLike) -> Array:
    array = _read(constant, value)
    if array.size == 1 and np.prod(constant.shape, dtype=int) == 1:
        array = array.reshape(constant.shape)
    if array.shape != constant.shape:
        message = f"{constant.name}: takes {list(constant.shape)}, not {list(array.shape)}"
        raise error(Reason.BAD_FIELD, message, field=constant.name)
    return _converted(constant, array)


def _read(tensor: TensorSpec | ConstantSpec, value: ArrayLike) -> Array:
    """Returns the value as an array: numbers become floats, but a float never silently becomes an integer."""
    try:
        array = np.asarray(value)
    except ValueError as ragged:
        raise error(Reason.BAD_FIELD, f"{tensor.name}: {ragged}", field=tensor.name) from ragged
    if array.dtype.kind not in {"f": "fiub", "i": "iu", "b": "b"}[np.dtype(tensor.dtype).kind]:
        raise error(Reason.BAD_FIELD, f"{tensor.name}: takes {tensor.dtype}, not {array.dtype}", field=tensor.name)
    return array


def _converted(tensor: TensorSpec | ConstantSpec, array: Array) -> Array:
    if np.dtype(tensor.dtype).kind == "i" and array.size and not _fits(array, tensor.dtype):
        raise error(Reason.BAD_FIELD, f"{tensor.name}: {array.max()} or {array.min()} is beyond {tensor.dtype}", field=tensor.name)
    with np.errstate(over="ignore"):  # it becomes infinite, and the server refuses that by name
        return array.astype(tensor.dtype)


def _fits(array: Array, dtype: str) -> bool:
    limits = np.iinfo(dtype)
    return limits.min <= int(array.min()) and int(array.max()) <= limits.max
