"""What each input of a file is for: told, or proposed where there is one reading; and the bounds of integer inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import onnx
from numpy.typing import NDArray

from statewise.importing.asked import Asked
from statewise.importing.foreign import Foreign, Port
from statewise.importing.layout import Layout, set_lengths
from statewise.importing.pairs import Pairs, proposed_pairs, told_pairs
from statewise.importing.problems import Refused
from statewise.importing.trial import Parts
from statewise.spec import ControlSpec, DType, TensorSpec

Array = NDArray[np.generic]
LENGTHS_NAMES = frozenset({"lengths", "seq_lens", "seq_lengths", "sequence_lens", "sequence_lengths"})
SERVED: tuple[str, ...] = get_args(DType)


@dataclass(frozen=True, slots=True, eq=False)
class Roles:
    """What the inputs are for, with the lengths that were told for their axes.

    Attributes:
        pairs: of states; `by` says how they were found: told, names or shapes.
    """

    ports: Mapping[str, Port]
    sent: dict[str, Port]
    pairs: Pairs
    by: str
    constants: dict[str, Any]
    fixed: dict[str, Any]
    controls: tuple[ControlSpec, ...]
    lengths: str | None
    bounds: Mapping[str, tuple[int, int]]

    @property
    def states(self) -> dict[str, Port]:
        """Returns the inputs that take states."""
        return {taken: self.ports[taken] for taken, _ in self.pairs}

    def parts(self, layout: Layout, asked: Asked) -> Parts:
        """Returns what the inputs are for, in one reading of their axes; raises `Refused` where a value does not fit."""
        sent = tuple(self._sent(port, layout) for port in self.sent.values())
        initial = {}
        for name in (*self.states, *self.constants):
            shape = layout.carried[name].shape(layout.dims[name])
            value = self.constants[name] if name in self.constants else asked.initial.get(name, 0)
            initial[name] = _filled(name, value, shape, self.ports[name].dtype)
        fixed = {name: _filled(name, value, self.ports[name].dims, self.ports[name].dtype) for name, value in self.fixed.items()}
        return Parts(sent, self.pairs, tuple(self.constants), initial, fixed, self.controls, self.lengths, self.ports)

    def _sent(self, port: Port, layout: Layout) -> TensorSpec:
        shape = layout.inputs[port.name].shape(layout.dims[port.name])
        low, high = self.bounds.get(port.name, (None, None))
        return TensorSpec(port.name, port.dtype, tuple(map(int, shape)), minimum=low, maximum=high)  # type: ignore[arg-type]


def roles_of(foreign: Foreign, asked: Asked) -> Roles:
    """Returns what each input is for; raises `Refused` where it must be told, or what was told cannot be."""
    for option, names in _named(asked).items():
        for name in names:
            if name not in foreign.inputs:
                raise Refused(f"{option} {name}: the file has no input {name!r}; it has {', '.join(foreign.inputs)}")
    ports = set_lengths(foreign.inputs, asked.dims)
    lengths = asked.lengths or next((p.name for p in ports.values() if _takes_lengths(p)), None)
    taken = {*asked.constants, *asked.fixed, *asked.controls, lengths}
    free = {name: port for name, port in ports.items() if name not in taken}
    pairs, by = (told_pairs(asked.states, free, foreign.outputs), "told") if asked.states else proposed_pairs(free, foreign.outputs)
    _check_initial(asked, pairs)
    states = [name for name, _ in pairs]
    sent = {name: port for name, port in free.items() if name not in states}
    if not sent:
        raise Refused("no input is left for what a client sends")
    for name in (*sent, *states, *asked.constants):
        check_dtype(name, ports[name].dtype)
    controls = tuple(_control(ports[name], asked) for name in asked.controls)
    constants, fixed = dict(asked.constants), dict(asked.fixed)
    return Roles(ports, sent, pairs, by, constants, fixed, controls, lengths, _bounds(foreign.model.graph, sent))


def check_dtype(name: str, dtype: str) -> None:
    """Raises `Refused` for what cannot travel or be kept."""
    if dtype not in SERVED:
        raise Refused(f"{name!r} is {dtype}; served are {', '.join(SERVED)}")


def _named(asked: Asked) -> dict[str, tuple[str, ...]]:
    return {
        "--constant": tuple(asked.constants),
        "--fixed": tuple(asked.fixed),
        "--control": tuple(asked.controls),
        "--lengths": (asked.lengths,) if asked.lengths else (),
    }


def _check_initial(asked: Asked, pairs: Pairs) -> None:
    states = [name for name, _ in pairs]
    for option, names in (("--initial", tuple(asked.initial)), ("--given", asked.given)):
        for name in names:
            if name not in states:
                raise Refused(f"{option} {name}: the states are {', '.join(states)}")


def _takes_lengths(port: Port) -> bool:
    return port.name.lower() in LENGTHS_NAMES and port.dtype in ("int32", "int64") and len(port.dims) == 1


def _control(port: Port, asked: Asked) -> ControlSpec:
    fed = asked.controls[port.name]
    if fed.kind == "corrid":
        if np.dtype(port.dtype if port.dtype != "string" else object).kind not in "iu":
            raise Refused(f"--control corrid={port.name}: it is {port.dtype}, and a session's number is an integer")
        return ControlSpec("corrid", port.name, "int32" if np.dtype(port.dtype).itemsize <= 4 else "int64")
    if port.dtype not in ("int32", "float32", "bool"):
        raise Refused(f"--control {fed.kind}={port.name}: it is {port.dtype}; int32, float32 and bool are fed")
    return ControlSpec(fed.kind, port.name, port.dtype, fed.off, fed.on)  # type: ignore[arg-type]


def _filled(name: str, value: Any, dims: tuple[int | str, ...], dtype: str) -> Array:
    """Returns a value in all places of a tensor; raises `Refused` if it does not fit."""
    if any(isinstance(dim, str) for dim in dims):
        raise Refused(f"{name!r} has a dynamic axis, so it is no state or constant of one length: {list(dims)}")
    shape = tuple(map(int, dims))
    array = np.asarray(value)
    if array.size == int(np.prod(shape, dtype=int)):
        array = array.reshape(shape)
    try:
        filled = np.broadcast_to(array, shape).astype(dtype)
    except (ValueError, TypeError) as error:
        raise Refused(f"{name!r} is {dtype} {list(shape)}, and {array.size} values do not fill it") from error
    if (
        not np.array_equal(filled.astype(np.float64), np.broadcast_to(array, shape).astype(np.float64))
        and np.dtype(dtype).kind in "ib"
    ):
        raise Refused(f"{name!r} is {dtype}, which cannot hold {array.ravel()[0]}")
    return filled


def _bounds(graph: onnx.GraphProto, sent: Mapping[str, Port]) -> dict[str, tuple[int, int]]:
    """Returns the least and greatest value of the integer inputs by which a table of the file's is looked up."""
    tables = {tensor.name: tensor.dims for tensor in graph.initializer}
    same = {node.output[0]: node.input[0] for node in graph.node if node.op_type in ("Cast", "Identity")}
    found: dict[str, tuple[int, int]] = {}
    for node in graph.node:
        if node.op_type != "Gather" or node.input[0] not in tables:
            continue
        name = node.input[1]
        while name in same:
            name = same[name]
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
        if name in sent and sent[name].dtype in ("int32", "int64"):
            found[name] = 0, min(int(tables[node.input[0]][axis]) - 1, found.get(name, (0, 1 << 62))[1])
    return found
