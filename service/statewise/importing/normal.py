"""An examined file → the file that is served: `[time, batch, …]`, states with a batch axis, and the spec in its metadata."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass

import numpy as np
import onnx

from statewise.importing.adapters import Adapted, cast, into, out_of, reshape, squeeze, unsqueeze
from statewise.importing.asked import Asked
from statewise.importing.examined import Examined
from statewise.importing.layout import Axes
from statewise.spec import METADATA_KEY, ModelSpec, StateSpec

KEPT = "/kept"
"""Ends the name of the output that returns a constant, or a state that is an output as well."""


@dataclass(frozen=True, slots=True, eq=False)
class Normal:
    """A file that can be served, and what it carries."""

    model: onnx.ModelProto
    spec: ModelSpec


def normal(examined: Examined, asked: Asked) -> Normal:
    """Returns the file that is served."""
    spec = _spec(examined, asked)
    ports = examined.parts.ports
    adapted = Adapted(examined.foreign.model, [*ports, *examined.foreign.outputs])
    batch: int | str = 1 if spec.batch == 1 else "batch"
    time: int | str = 1 if spec.timesteps == 1 else "time"
    for tensor in spec.inputs:
        adapted.takes(tensor.name, tensor.dtype, [time, batch, *tensor.shape])
        adapted.before(
            tensor.name, adapted.inside + tensor.name, into(examined.layout.inputs[tensor.name], len(ports[tensor.name].dims))
        )
    for name, values in examined.parts.fixed.items():
        adapted.tensor(adapted.inside + name, values)
    _add_fed(adapted, examined, spec, batch)
    for tensor, axes in examined.outputs:
        adapted.returns(tensor.name, tensor.dtype, [time, batch, *tensor.shape])
        adapted.behind(adapted.inside + tensor.name, tensor.name, out_of(axes, len(tensor.shape) + len(axes.leading)))
    _add_states(adapted, examined, spec, batch)
    model = adapted.finished()
    onnx.helper.set_model_props(model, {METADATA_KEY: spec.to_json()})
    return Normal(model, spec)


def _add_fed(adapted: Adapted, examined: Examined, spec: ModelSpec, batch: int | str) -> None:
    """Adds what the server feeds, `[batch]` each, in the shape and dtype that the file takes."""
    fed = {control.input: control.dtype for control in spec.controls} | ({spec.lengths: "int32"} if spec.lengths else {})
    for name, dtype in fed.items():
        port = examined.parts.ports[name]
        dynamic = [axis for axis, dim in enumerate(port.dims) if isinstance(dim, str)]
        shape = [-1 if axis == (dynamic[0] if dynamic else 0) else 1 for axis in range(len(port.dims))]
        adapted.takes(name, dtype, [batch])
        steps = [*([cast(port.dtype)] if port.dtype != dtype else []), *([reshape(shape)] if len(shape) != 1 else [])]
        adapted.before(name, adapted.inside + name, steps)


def _add_states(adapted: Adapted, examined: Examined, spec: ModelSpec, batch: int | str) -> None:
    outputs = dict(examined.roles.pairs)
    for state in spec.states:
        axes = examined.layout.carried[state.input]
        dims: list[int | str] = list(state.shape)
        dims.insert(state.batch_axis, batch)
        adapted.takes(state.input, state.dtype, dims)
        adapted.returns(state.output, state.dtype, dims)
        adapted.before(state.input, adapted.inside + state.input, [squeeze([0])] if axes.batch is None else [])
        if state.input in outputs:
            adapted.behind(adapted.inside + outputs[state.input], state.output, [unsqueeze([0])] if axes.batch is None else [])
        else:
            adapted.behind(state.input, state.output, [])


def _spec(examined: Examined, asked: Asked) -> ModelSpec:
    roles, parts, layout = examined.roles, examined.parts, examined.layout
    returned = {tensor.name for tensor, _ in examined.outputs}
    states = [_state(examined, taken, name + KEPT * (name in returned), asked) for taken, name in roles.pairs]
    states += [_state(examined, name, name + KEPT, asked) for name in roles.constants]
    return ModelSpec(
        inputs=parts.sent,
        outputs=tuple(tensor for tensor, _ in examined.outputs),
        states=tuple(states),
        lengths=parts.lengths,
        parity=examined.parity,
        about=_about(examined),
        controls=parts.controls,
        batch=min(filter(None, (asked.batch, layout.batch)), default=0),
        timesteps=examined.timesteps,
        idle_timeout_seconds=asked.idle_timeout_seconds,
    )


def _state(examined: Examined, taken: str, returned: str, asked: Asked) -> StateSpec:
    axes: Axes = examined.layout.carried[taken]
    values = examined.parts.initial[taken]
    first = values.ravel()[:1]
    alike = bool((values == first).all())
    raw = "" if alike else base64.b64encode(values.astype(values.dtype.newbyteorder("<")).tobytes()).decode()
    may = taken in asked.given or taken in examined.roles.constants
    return StateSpec(
        taken,
        returned,
        str(values.dtype),  # type: ignore[arg-type]
        values.shape,
        axes.batch or 0,
        initial=float(first[0]) if alike else 0.0,
        given="may" if may else "never",
        initial_base64=raw,
    )


def _about(examined: Examined) -> dict[str, object]:
    foreign = examined.foreign
    parameters = sum(int(np.prod(tensor.dims, dtype=int)) for tensor in foreign.model.graph.initializer)
    digest = hashlib.sha256(foreign.raw).hexdigest()
    return {"imported_from": foreign.file.name, "sha256": digest, "opset": foreign.opset, "parameters": parameters}
