"""What a step or an open may bring: its tensors held against the model's spec before anything runs.

Recurrent ops answer NaN and infinity with finite numbers, and a bad token id would fail a whole batch; so both are refused here.
Names, dtypes and shapes are checked message by message, values over whole columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from statewise.errors import Reason, StatewiseError, error
from statewise.masks import every, some
from statewise.spec import DType, ModelSpec, StateSpec, TensorSpec

Array = NDArray[np.generic]
_DTYPES = {name: np.dtype(name) for name in get_args(DType)}  # NumPy reads a dtype's name anew each time it is compared with one


def check_shapes(spec: ModelSpec, inputs: Mapping[str, Array], longest: int, *, steps: int | None = None) -> int:
    """Returns the number of timesteps that `inputs` bring: `[timesteps, …]` each, or `[steps, timesteps, …]` of a frame.

    Args:
        longest: the most timesteps that a step may have.
        steps: how many steps a frame has; `None` for the inputs of a single step.

    Raises:
        InvalidInput: an input is missing, unknown, of another dtype or shape, or of another length than the others.
    """
    if len(inputs) != len(spec.inputs):
        raise _wrong_names(spec, inputs)
    leading = 0 if steps is None else 1
    timesteps = 0
    for tensor in spec.inputs:
        array = inputs.get(tensor.name)
        if array is None:
            raise _wrong_names(spec, inputs)
        if array.dtype != _DTYPES[tensor.dtype]:
            raise _bad(tensor.name, f"takes {tensor.dtype}, not {array.dtype}")
        shape = array.shape
        if len(shape) != leading + 1 + len(tensor.shape) or shape[leading + 1 :] != tensor.shape:
            takes = ", ".join([*["steps"] * leading, "timesteps", *map(str, tensor.shape)])
            raise _bad(tensor.name, f"takes shape [{takes}], not {list(shape)}")
        if steps is not None and shape[0] != steps:
            raise _bad(tensor.name, f"brings {shape[0]} steps, the frame has {steps} sessions")
        if timesteps and shape[leading] != timesteps:
            raise _bad("inputs", f"all inputs must have the same number of timesteps, not {timesteps} and {shape[leading]}")
        timesteps = shape[leading]
        if not 1 <= timesteps <= longest:
            raise _bad("inputs", f"a step takes 1 to {longest} timesteps, not {timesteps}")
    return timesteps


def check_values(spec: ModelSpec, inputs: Mapping[str, Array]) -> dict[int, StatewiseError]:
    """Returns what is wrong with the values of which steps of a column, `[steps, timesteps, …]` each; empty if nothing is."""
    wrong: dict[int, StatewiseError] = {}
    for tensor in spec.inputs:
        array = inputs[tensor.name]
        if array.dtype.kind == "f":
            if not every(np.isfinite(array)):
                _check_finite(tensor, array, wrong)
        elif tensor.minimum is not None or tensor.maximum is not None:
            _check_range(tensor, array, wrong)
    return wrong


def check_constants(spec: ModelSpec, given: Mapping[str, Array]) -> None:
    """Holds what an open gives, `[*shape]` each, against what sessions of the model may and must be given.

    Raises:
        InvalidInput: one that must be given is missing; one is unknown, of another dtype or shape, not finite, or not positive.
    """
    states = {state.input: state for state in spec.states if state.given != "never"}
    takes = f"the model's sessions are given {', '.join(states) or 'nothing'} when they are opened"
    for name in sorted(given.keys() - states.keys()):
        raise _bad(name, f"unknown; {takes}")
    for name, state in states.items():
        if name in given:
            _check_constant(state, given[name])
        elif state.given == "must":
            raise _bad(name, f"missing; {takes}")


def _check_constant(state: StateSpec, array: Array) -> None:
    if array.dtype != state.dtype:
        raise _bad(state.input, f"takes {state.dtype}, not {array.dtype}")
    if array.shape != state.shape:
        raise _bad(state.input, f"takes shape {list(state.shape)}, not {list(array.shape)}")
    if state.finite and array.dtype.kind == "f" and not np.isfinite(array).all():
        raise _bad(state.input, f"takes finite numbers, not {array.tolist()}")
    if state.positive and not np.greater(array, 0).all():
        raise _bad(state.input, f"takes numbers above 0, not {array.tolist()}")


def _check_finite(tensor: TensorSpec, array: Array, wrong: dict[int, StatewiseError]) -> None:
    refused = ~np.isfinite(array)
    if tensor.masked:
        masked = np.array([missing == "mask" for missing in tensor.missing])
        refused &= ~(np.isnan(array) & masked)
    flat = refused.reshape(len(refused), -1)
    for step in np.flatnonzero(flat.any(axis=1)).tolist():
        timestep, *rest = map(int, np.unravel_index(flat[step].argmax(), refused.shape[1:]))
        feature = tensor.features[rest[-1]] if tensor.features else str(rest)
        value = array[(step, timestep, *rest)]
        message = f"input {tensor.name!r}: {value} at timestep {timestep}, feature {feature}; the step has not run"
        wrong[step] = error(Reason.NON_FINITE_INPUT, message, field=tensor.name)


def _check_range(tensor: TensorSpec, array: Array, wrong: dict[int, StatewiseError]) -> None:
    low = -np.inf if tensor.minimum is None else tensor.minimum
    high = np.inf if tensor.maximum is None else tensor.maximum
    whole = array.astype(np.int64, copy=False)
    outside = (whole < low) | (whole > high)
    if not some(outside):
        return
    for step in np.flatnonzero(outside.reshape(len(outside), -1).any(axis=1)).tolist():
        found = f"{array[step].min()} to {array[step].max()}"
        wrong[step] = _bad(tensor.name, f"takes {tensor.minimum} to {tensor.maximum}, not {found}")


def _wrong_names(spec: ModelSpec, inputs: Mapping[str, Array]) -> StatewiseError:
    expected = {tensor.name for tensor in spec.inputs}
    unknown, absent = sorted(inputs.keys() - expected), sorted(expected - inputs.keys())
    told = [f"unknown: {', '.join(unknown)}"] * bool(unknown) + [f"missing: {', '.join(absent)}"] * bool(absent)
    return _bad("inputs", f"the model takes {', '.join(sorted(expected))} ({'; '.join(told)})")


def _bad(field: str, message: str) -> StatewiseError:
    return error(Reason.BAD_FIELD, f"{field}: {message}", field=field)
