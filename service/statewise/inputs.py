"""What a step may bring: its tensors held against the model's spec before anything runs.

Recurrent ops answer NaN and infinity with finite numbers, and a bad token id would fail a whole batch; so both are refused here.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from statewise.errors import Reason, StatewiseError, error
from statewise.spec import ModelSpec, TensorSpec

Array = NDArray[np.generic]


def check_inputs(spec: ModelSpec, inputs: Mapping[str, Array], longest: int) -> int:
    """Returns the number of timesteps that `inputs` (`[timesteps, …]` each) bring.

    Raises:
        InvalidInput: an input is missing, unknown, of another dtype or shape, out of its range, or not finite.
    """
    expected = {tensor.name for tensor in spec.inputs}
    if inputs.keys() != expected:
        unknown, absent = sorted(inputs.keys() - expected), sorted(expected - inputs.keys())
        told = [f"unknown: {', '.join(unknown)}"] * bool(unknown) + [f"missing: {', '.join(absent)}"] * bool(absent)
        raise _bad("inputs", f"the model takes {', '.join(sorted(expected))} ({'; '.join(told)})")
    timesteps = {_timesteps(tensor, inputs[tensor.name]) for tensor in spec.inputs}
    if len(timesteps) > 1:
        raise _bad("inputs", f"all inputs must have the same number of timesteps, not {sorted(timesteps)}")
    (length,) = timesteps
    if not 1 <= length <= longest:
        raise _bad("inputs", f"a step takes 1 to {longest} timesteps, not {length}")
    for tensor in spec.inputs:
        _check_values(tensor, inputs[tensor.name])
    return length


def _timesteps(tensor: TensorSpec, array: Array) -> int:
    if array.dtype != tensor.dtype:
        raise _bad(tensor.name, f"takes {tensor.dtype}, not {array.dtype}")
    if array.ndim != 1 + len(tensor.shape) or array.shape[1:] != tensor.shape:
        shape = ", ".join(["timesteps", *map(str, tensor.shape)])
        raise _bad(tensor.name, f"takes shape [{shape}], not {list(array.shape)}")
    return int(array.shape[0])


def _check_values(tensor: TensorSpec, array: Array) -> None:
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            _check_finite(tensor, array)
    elif tensor.minimum is not None or tensor.maximum is not None:
        low, high = tensor.minimum, tensor.maximum
        if (low is not None and array.min() < low) or (high is not None and array.max() > high):
            raise _bad(tensor.name, f"takes {low} to {high}, not {array.min()} to {array.max()}")


def _check_finite(tensor: TensorSpec, array: Array) -> None:
    refused = ~np.isfinite(array)
    if tensor.masked:
        masked = np.array([missing == "mask" for missing in tensor.missing])
        refused &= ~(np.isnan(array) & masked)
    places = np.argwhere(refused)
    if len(places):
        first = tuple(places[0])
        feature = tensor.features[first[-1]] if tensor.features else str(list(map(int, first[1:])))
        message = f"input {tensor.name!r}: {array[first]} at timestep {first[0]}, feature {feature}; the step has not run"
        raise error(Reason.NON_FINITE_INPUT, message, field=tensor.name)


def _bad(field: str, message: str) -> StatewiseError:
    return error(Reason.BAD_FIELD, f"{field}: {message}", field=field)
