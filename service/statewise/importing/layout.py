"""Where the tensors of a file have their batch and time axes, and how they come to `[time, batch, …]` and back.

The batch axis is the dynamic axis that all states share; what else is dynamic in an input is its time axis. Where the file names
its axes that is one reading. Where it does not there may be several: all are tried, and those that fail are none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from statewise.importing.asked import EVERY, Asked
from statewise.importing.foreign import Dims, Port
from statewise.importing.problems import Refused

Array = NDArray[np.generic]
T = TypeVar("T")
MOST_READINGS = 64


@dataclass(frozen=True, slots=True)
class Axes:
    """Where a tensor of the file has its axes; `None` where it has no such axis."""

    batch: int | None
    time: int | None = None

    @property
    def leading(self) -> tuple[int, ...]:
        """Returns the places of those axes that are there, time before batch."""
        return tuple(axis for axis in (self.time, self.batch) if axis is not None)

    def shape(self, dims: Sequence[T]) -> tuple[T, ...]:
        """Returns the lengths of one timestep of one session."""
        return tuple(dim for axis, dim in enumerate(dims) if axis not in self.leading)

    def order(self, rank: int) -> list[int]:
        """Returns the permutation that brings a tensor of this rank from time and batch first to the file's order."""
        order = list(range(len(self.leading), rank))
        for place, axis in sorted(zip(self.leading, range(rank), strict=False)):
            order.insert(place, axis)
        return order

    def absent(self) -> list[int]:
        """Returns the axes of `[time, batch, …]` that the file's tensor lacks."""
        return [axis for axis, place in enumerate((self.time, self.batch)) if place is None]

    def to_file(self, values: Array) -> Array:
        """Returns `[time, batch, …]` as the file takes it; an axis that it lacks must be of length 1."""
        kept = values.squeeze(tuple(self.absent()))
        return np.ascontiguousarray(kept.transpose(self.order(kept.ndim)))

    def from_file(self, values: Array) -> Array:
        """Returns what the file returned as `[time, batch, …]`."""
        return np.expand_dims(values.transpose(np.argsort(self.order(values.ndim))), tuple(self.absent()))


@dataclass(frozen=True, slots=True)
class Layout:
    """One reading of the inputs.

    Attributes:
        inputs: of what a client sends.
        carried: of states and constants, by their inputs.
        dims: of all inputs, their dynamic axes being those of batch and time alone.
        batch: the most sessions of one run: 1 where the file has one session a run, otherwise 0.
    """

    inputs: Mapping[str, Axes]
    carried: Mapping[str, Axes]
    dims: Mapping[str, Dims]
    batch: int

    @property
    def timed(self) -> bool:
        """Whether any input has a time axis."""
        return any(axes.time is not None for axes in self.inputs.values())

    def __str__(self) -> str:
        return ", ".join(f"{name}: batch axis {axes.batch}, time axis {axes.time}" for name, axes in self.inputs.items())


def set_lengths(ports: Mapping[str, Port], lengths: Mapping[str, int]) -> dict[str, Port]:
    """Returns the inputs with the lengths that were told for dynamic axes; raises `Refused` for one that there is not."""
    known = {dim for port in ports.values() for dim in port.dims if isinstance(dim, str)}
    known |= {f"{port.name}.{axis}" for port in ports.values() for axis, dim in enumerate(port.dims) if isinstance(dim, str)}
    for name in lengths:
        if name not in known:
            raise Refused(f"--dim {name}: no input has a dynamic axis of that name; there are {', '.join(sorted(known)) or 'none'}")

    def set_in(port: Port) -> Port:
        dims = [lengths.get(f"{port.name}.{axis}", lengths.get(str(dim), dim)) for axis, dim in enumerate(port.dims)]
        return Port(port.name, port.dtype, tuple(dims))

    return {name: set_in(port) for name, port in ports.items()}


def layouts(
    sent: Mapping[str, Port], states: Mapping[str, Port], constants: Mapping[str, Port], asked: Asked, *, single: bool
) -> list[Layout]:
    """Returns the readings of the inputs that the file and what was told allow; none if there is no such reading.

    Args:
        sent: what a client sends; `states` and `constants`: what is carried. All with the lengths that were told.
        single: read it as a file that takes one session a run, or as one that takes any number.

    Raises:
        Refused: what was told cannot be, or an axis must be told.
    """
    names = _batch_names(states, asked)
    whole = {**sent, **states, **constants}
    if single:
        whole = {name: _alone(port, names, asked) for name, port in whole.items()}
    elif not all(_dynamic(port) for port in whole.values()) or _told_alone(sent, asked):
        return []
    found = {
        name: _readings(port, _named(states.get(name), names), names, asked, single, name in sent) for name, port in whole.items()
    }
    count = int(np.prod([len(each) for each in found.values()]))
    if count > MOST_READINGS:
        raise Refused(f"its axes can be read in {count} ways: say --batch-axis and --time-axis")
    readings = []
    for chosen in product(*found.values()):
        axes = dict(zip(found, chosen, strict=True))
        carried = {name: each for name, each in axes.items() if name not in sent}
        dims = {name: port.dims for name, port in whole.items()}
        readings.append(Layout({name: axes[name] for name in sent}, carried, dims, 1 if single else 0))
    return readings


def told_axis(axes: Mapping[str, int | None], tensor: str, option: str, rank: int) -> tuple[bool, int | None]:
    """Returns whether an axis of a tensor was told, and which; raises `Refused` if the tensor has no such axis."""
    if tensor not in axes and EVERY not in axes:
        return False, None
    axis = axes[tensor] if tensor in axes else axes[EVERY]
    if axis is not None and not -rank <= axis < rank:
        if tensor in axes:
            raise Refused(f"{option} {tensor}={axis}: {tensor} has {rank} axes")
        return False, None  # said of all: of those that have so many
    return True, None if axis is None else axis % rank


def lone_axis(dims: Sequence[int | str], time: int | None) -> int | None:
    """Returns which axis of length 1 is the batch axis of a file that takes one session a run; `None` if that does not show."""
    ones = [axis for axis, dim in enumerate(dims) if dim == 1 and axis != time]
    return 0 if 0 in ones else ones[0] if len(ones) == 1 else None


def _dynamic(port: Port) -> list[int]:
    return [axis for axis, dim in enumerate(port.dims) if isinstance(dim, str)]


def _told_alone(sent: Mapping[str, Port], asked: Asked) -> bool:
    """Whether it was told that an input has no batch axis."""
    told = [told_axis(asked.batch_axis, port.name, "--batch-axis", len(port.dims)) for port in sent.values()]
    return (True, None) in told


def _named(port: Port | None, names: set[str]) -> int | None:
    """Returns the batch axis of a state by its name; `None` where the file has none, or for what is no state."""
    return next((axis for axis, dim in enumerate(port.dims) if dim in names), None) if port else None


def _batch_names(states: Mapping[str, Port], asked: Asked) -> set[str]:
    """Returns the names that the batch axis has in the states; none where no state has a dynamic axis."""
    names: set[str] = set()
    for port in states.values():
        dynamic = [port.dims[axis] for axis in _dynamic(port)]
        if asked.batch_axis.get(port.name) is not None:
            axis = told_axis(asked.batch_axis, port.name, "--batch-axis", len(port.dims))[1] or 0
            dynamic = [port.dims[axis]] if isinstance(port.dims[axis], str) else []
        if len(dynamic) > 1:
            shared = [dim for dim in dynamic if len(states) > 1 and all(dim in other.dims for other in states.values())]
            if len(shared) != 1:
                raise Refused(
                    f"state {port} has more than one dynamic axis: say which is the batch axis (--batch-axis {port.name}=0), "
                    f"or how long another one is (--dim {dynamic[0]}=1)"
                )
            dynamic = shared
        names |= {str(dim) for dim in dynamic}
    return names


def _alone(port: Port, names: set[str], asked: Asked) -> Port:
    """Returns an input of a file that takes one session a run: its batch axis is of length 1."""
    told, axis = told_axis(asked.batch_axis, port.name, "--batch-axis", len(port.dims))
    if told and axis is not None and isinstance(port.dims[axis], int) and port.dims[axis] != 1:
        raise Refused(f"the batch axis of {port} is fixed at {port.dims[axis]}: export the model with a dynamic one")
    dims = [1 if dim in names or (told and place == axis) else dim for place, dim in enumerate(port.dims)]
    return Port(port.name, port.dtype, tuple(dims))


def _readings(port: Port, of_state: int | None, names: set[str], asked: Asked, single: bool, sent: bool) -> list[Axes]:
    """Returns the axes that an input may have; raises `Refused` if there are none."""
    if not sent:
        batches = [of_state if of_state is not None else _carried_batch(port, names, single)]
        return [_with_time(port, batch, (True, None)) for batch in batches]
    told, axis = told_axis(asked.batch_axis, port.name, "--batch-axis", len(port.dims))
    time = told_axis(asked.time_axis, port.name, "--time-axis", len(port.dims))
    dynamic = _dynamic(port)
    named = [place for place in dynamic if port.dims[place] in names]
    if told:
        return [_with_time(port, axis, time)]
    if single:
        rest = time[1] if time[0] else dynamic[0] if dynamic else None
        return [_with_time(port, lone_axis(port.dims, rest), time)]
    choices = named if len(named) == 1 else [place for place in dynamic if not (time[0] and place == time[1])]
    readings, problems = [], []
    for batch in choices:
        try:
            readings.append(_with_time(port, batch, time))
        except Refused as problem:
            problems.append(problem)
    if not readings:
        raise problems[0] if problems else Refused(f"input {port} has no axis that can be the batch axis")
    return readings


def _carried_batch(port: Port, names: set[str], single: bool) -> int | None:
    """Returns the batch axis of a constant, or of a state whose dynamic axes were all given lengths."""
    dynamic = [axis for axis in _dynamic(port) if port.dims[axis] in names] or _dynamic(port)
    return dynamic[0] if dynamic and not single else None


def _with_time(port: Port, batch: int | None, time: tuple[bool, int | None]) -> Axes:
    """Returns the axes with this batch axis: what else is dynamic is the time axis; raises `Refused` if that cannot be."""
    told, axis = time
    rest = [place for place in _dynamic(port) if place != batch]
    if told and axis is not None and axis == batch:
        raise Refused(f"{port} cannot have batch and time in one axis")
    if told and axis is not None and isinstance(port.dims[axis], int) and port.dims[axis] != 1:
        raise Refused(f"the time axis of {port} is fixed at {port.dims[axis]}: say --time-axis none, and one call is one timestep")
    left = [place for place in rest if not (told and place == axis)]
    if (told and left) or len(left) > 1:
        name = port.dims[left[-1]]
        raise Refused(f"{port} has another dynamic axis than those of batch and time: say how long it is (--dim {name}=512)")
    return Axes(batch, axis if told else left[0] if left else None)
