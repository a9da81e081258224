"""A version in the repository → a model folder of Triton's, so that nobody is locked in.

Triton has the batch axis first and calls a model once a request: the file is wrapped so that a call is one timestep, and held
against the version's own parity vectors before it is written.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from statewise.controls import controls_of
from statewise.importing.adapters import Adapted, Step, squeeze, transpose, unsqueeze
from statewise.importing.problems import Refused
from statewise.importing.trial import difference, open_file, run
from statewise.importing.triton.names import CONFIG_FILE, FALSE_TRUE, KINDS, STATES_FOLDER, TYPES
from statewise.pool import initial
from statewise.spec import ControlSpec, ModelSpec, StateSpec

Array = NDArray[np.generic]
MOST_SEQUENCES = 1024
LARGEST_BATCH = 256
IDLE_SECONDS = 600.0


@dataclass(frozen=True, slots=True, eq=False)
class Exported:
    """A model as Triton takes it.

    Attributes:
        files: path within the model's folder → contents.
        notes: what Triton cannot do, or does otherwise.
        parity_difference: between it and the version's parity vectors, as a share of the scale.
    """

    name: str
    files: Mapping[str, bytes]
    notes: tuple[str, ...]
    parity_difference: float


def exported(name: str, version: int, model: onnx.ModelProto, spec: ModelSpec) -> Exported:
    """Returns a version as Triton takes it; raises `Refused` if it does not compute what the version does."""
    wrapped, states, sent = _wrapped(model, spec)
    apart = _held(wrapped, spec, states, sent)
    files = {f"{version}/model.onnx": wrapped.SerializeToString(), CONFIG_FILE: _config(name, spec, states, sent).encode()}
    for state in states:
        values = initial(state)
        if values.any():
            files[f"{STATES_FOLDER}/{_file_of(state)}"] = values.astype(values.dtype.newbyteorder("<")).tobytes()
    return Exported(name, files, tuple(_notes(spec, states, sent)), apart)


def write(made: Exported, folder: Path) -> Path:
    """Writes the model's folder into `folder`, whole or not at all, and returns it; raises `Refused` if it is there already."""
    place = folder / made.name
    if place.exists():
        raise Refused(f"{place} is there already: name another folder, or take it away first")
    folder.mkdir(parents=True, exist_ok=True)
    incoming = Path(tempfile.mkdtemp(dir=folder, prefix=".incoming-"))
    try:
        for path, contents in made.files.items():
            (incoming / path).parent.mkdir(exist_ok=True)
            (incoming / path).write_bytes(contents)
        incoming.chmod(0o755)
        incoming.rename(place)
    finally:
        shutil.rmtree(incoming, ignore_errors=True)
    return place


def _wrapped(model: onnx.ModelProto, spec: ModelSpec) -> tuple[onnx.ModelProto, list[StateSpec], list[StateSpec]]:
    """Returns the graph with batch first and one timestep a call; its states; and those that become inputs of every request.

    A state that Open must give and that never changes is sent with every request instead: Triton's sequences are given nothing.
    """
    kept = {(node.input[0], node.output[0]) for node in model.graph.node if node.op_type == "Identity"}
    sent = [state for state in spec.states if state.given == "must" and (state.input, state.output) in kept]
    states = [state for state in spec.states if state not in sent]
    names = [info.name for info in (*model.graph.input, *model.graph.output)]
    adapted = Adapted(model, names)
    for tensor in spec.inputs:
        adapted.takes(tensor.name, tensor.dtype, ["batch", *(tensor.shape or (1,))])
        adapted.before(tensor.name, adapted.inside + tensor.name, [*_flat(tensor.shape), unsqueeze([0])])
    for control in spec.controls:
        adapted.takes(control.input, control.dtype, ["batch", 1])
        adapted.before(control.input, adapted.inside + control.input, [squeeze([1])])
    if spec.lengths:
        adapted.add(*_ones(adapted, spec.inputs[0].name, adapted.inside + spec.lengths))
    for state in spec.states:
        adapted.takes(state.input, state.dtype, ["batch", *(state.shape or (1,))])
        adapted.before(state.input, adapted.inside + state.input, [*_flat(state.shape), *_moved(state)])
    for tensor in spec.outputs:
        adapted.returns(tensor.name, tensor.dtype, ["batch", *(tensor.shape or (1,))])
        adapted.behind(adapted.inside + tensor.name, tensor.name, [squeeze([0]), *_raised(tensor.shape)])
    for state in states:
        adapted.returns(state.output, state.dtype, ["batch", *(state.shape or (1,))])
        adapted.behind(adapted.inside + state.output, state.output, [*_moved(state, back=True), *_raised(state.shape)])
    made = adapted.finished()
    del made.metadata_props[:]  # they tell of another layout
    return made, states, sent


def _flat(shape: tuple[int, ...]) -> list[Step]:
    return [] if shape else [squeeze([1])]  # Triton's tensors have an axis besides that of the batch


def _raised(shape: tuple[int, ...]) -> list[Step]:
    return [] if shape else [unsqueeze([1])]


def _moved(state: StateSpec, *, back: bool = False) -> list[Step]:
    order = list(range(1, len(state.shape) + 1))
    order.insert(state.batch_axis, 0)
    if back:
        order = [int(axis) for axis in np.argsort(order)]
    return [transpose(order)] if state.batch_axis else []


def _ones(adapted: Adapted, like: str, name: str) -> list[onnx.NodeProto]:
    """Returns the nodes that make `[batch]` ones."""
    first, second = adapted.axes([0]), adapted.axes([1])
    one = helper.make_tensor("one", onnx.TensorProto.INT32, [1], [1])
    return [
        helper.make_node("Shape", [like], [f"{name}/shape"]),
        helper.make_node("Slice", [f"{name}/shape", first, second], [f"{name}/batch"]),
        helper.make_node("ConstantOfShape", [f"{name}/batch"], [name], value=one),
    ]


def _held(wrapped: onnx.ModelProto, spec: ModelSpec, states: list[StateSpec], sent: list[StateSpec]) -> float:
    """Runs the parity vectors timestep by timestep as Triton would; returns the largest difference, or raises `Refused`."""
    runtime, carried, largest = open_file(wrapped.SerializeToString()), dict[str, Array](), 0.0
    for number, (step, expected) in enumerate(zip(spec.parity.steps, spec.parity.expected, strict=True)):
        inputs = {tensor.name: np.asarray(step[tensor.name], tensor.dtype) for tensor in spec.inputs}
        timesteps, batch = next(iter(inputs.values())).shape[:2]
        carried = carried or {s.input: _first(s, spec.parity.constants, batch) for s in (*states, *sent)}
        for at in range(timesteps):
            last = number == len(spec.parity.steps) - 1 and at == timesteps - 1
            told = _told(spec.controls, batch, start=number == at == 0, end=last)
            now = {t.name: inputs[t.name][at].reshape(batch, *(t.shape or (1,))) for t in spec.inputs}
            returned = run(runtime, {**now, **told, **carried})
            carried |= {state.input: returned[state.output] for state in states}
            for tensor in spec.outputs:
                wanted = np.asarray(expected[tensor.name], "float64")[at] if tensor.name in expected else None
                if wanted is not None:
                    largest = max(largest, difference(returned[tensor.name].reshape(wanted.shape), wanted))
    if not largest <= spec.parity.tolerance:
        raise Refused(f"one timestep a call, its output differs by {largest:.1e} of its scale from the version's own")
    return largest


def _told(controls: tuple[ControlSpec, ...], batch: int, *, start: bool, end: bool) -> dict[str, Array]:
    told = controls_of(controls, np.full(batch, start), np.full(batch, end), 1 + np.arange(batch, dtype=np.int64))
    return {name: array.reshape(batch, 1) for name, array in told.items()}


def _first(state: StateSpec, given: Mapping[str, Any], batch: int) -> Array:
    values = np.asarray(given[state.input], state.dtype) if state.input in given else np.repeat(initial(state)[None], batch, axis=0)
    return values.reshape(batch, *(state.shape or (1,)))


def _notes(spec: ModelSpec, states: list[StateSpec], sent: list[StateSpec]) -> list[str]:
    notes = [f"{state.input} is sent with every request: Triton's sequences are given nothing when they start" for state in sent]
    notes += [
        f"{s.input} always starts from its initial value: Triton's sequences are given nothing"
        for s in states
        if s.given != "never"
    ]
    masked = [tensor.name for tensor in spec.inputs if tensor.masked or tensor.minimum is not None or tensor.maximum is not None]
    notes += [f"Triton does not check what {name} takes: bad values reach the model" for name in masked]
    notes.append("a request is one timestep")
    return notes


def _config(name: str, spec: ModelSpec, states: list[StateSpec], sent: list[StateSpec]) -> str:
    idle = round((spec.idle_timeout_seconds or IDLE_SECONDS) * 1e6)
    inputs = [_tensor(t.name, t.dtype, t.shape) for t in spec.inputs] + [_tensor(s.input, s.dtype, s.shape) for s in sent]
    outputs = [_tensor(t.name, t.dtype, t.shape) for t in spec.outputs]
    lines = [
        f'name: "{name}"',
        'backend: "onnxruntime"',
        f"max_batch_size: {spec.batch or LARGEST_BATCH}",
        f"input [\n  {_listed(inputs)}\n]",
        f"output [\n  {_listed(outputs)}\n]",
        "sequence_batching {",
        f"  max_sequence_idle_microseconds: {idle}",
        f"  oldest {{ max_candidate_sequences: {MOST_SEQUENCES} }}",
    ]
    if spec.controls:
        lines.append(f"  control_input [\n    {_listed(list(map(_control, spec.controls)), 4)}\n  ]")
    if states:
        lines.append(f"  state [\n    {_listed(list(map(_state, states)), 4)}\n  ]")
    return "\n".join([*lines, "}", ""])


def _file_of(state: StateSpec) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in state.input)


def _listed(entries: list[str], indent: int = 2) -> str:
    return (",\n" + " " * indent).join(entries)


def _dims(shape: tuple[int, ...]) -> str:
    return f"dims: [ {', '.join(map(str, shape or (1,)))} ]"


def _tensor(name: str, dtype: str, shape: tuple[int, ...]) -> str:
    return f'{{ name: "{name}" data_type: {TYPES[dtype]} {_dims(shape)} }}'


def _control(control: ControlSpec) -> str:
    kind = next(name for name, ours in KINDS.items() if ours == control.kind)
    if control.kind == "corrid":
        return f'{{ name: "{control.input}" control [ {{ kind: {kind} data_type: {TYPES[control.dtype]} }} ] }}'
    pair = ", ".join(_number(value, control.dtype) for value in (control.off, control.on))
    return f'{{ name: "{control.input}" control [ {{ kind: {kind} {FALSE_TRUE[control.dtype]}: [ {pair} ] }} ] }}'


def _number(value: float, dtype: str) -> str:
    return str(bool(value)).lower() if dtype == "bool" else str(int(value)) if dtype == "int32" else repr(value)


def _state(state: StateSpec) -> str:
    source = f'data_file: "{_file_of(state)}"' if initial(state).any() else "zero_data: true"
    like = f"data_type: {TYPES[state.dtype]} {_dims(state.shape)}"
    first = f'initial_state: {{ name: "{state.input}" {like} {source} }}'
    return f'{{ input_name: "{state.input}" output_name: "{state.output}" {like} {first} }}'
