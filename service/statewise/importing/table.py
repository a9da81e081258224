"""What an import found, as tables for people."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from rich import box
from rich.markup import escape
from rich.table import Table

from statewise.importing import Imported
from statewise.importing.layout import Axes
from statewise.pool import initial
from statewise.spec import ModelSpec, StateSpec

SHOWN_VALUES = 4


def found(imported: Imported) -> Table:
    """Returns the table of tensors: what each is for, its dtype and shape, and where the file has its axes."""
    table = Table("", "tensor", "dtype", "a timestep", "axes in the file", "", box=box.SIMPLE_HEAD)
    for row in _rows(imported):
        table.add_row(*map(escape, row))
    return table


def facts(imported: Imported) -> list[str]:
    """Returns what else there is to know, a line each."""
    spec = imported.spec
    return [
        f"states: {_how(imported)}",
        f"a run takes {_run(imported)}",
        f"parity: {len(spec.parity.steps)} carried steps, the server's graph differs from the file by at most "
        f"{imported.loaded.parity_difference:.1e} of its scale (allowed: {spec.parity.tolerance:.0e})",
    ]


def _rows(imported: Imported) -> Iterator[tuple[str, ...]]:
    spec, examined = imported.spec, imported.examined
    inputs = examined.layout.inputs if examined else {}
    outputs = {tensor.name: axes for tensor, axes in examined.outputs} if examined else {}
    for tensor in spec.inputs:
        bounds = f"{tensor.minimum} to {tensor.maximum}" if tensor.maximum is not None else ""
        yield "input", tensor.name, tensor.dtype, _shape(tensor.shape), _axes(inputs.get(tensor.name)), bounds
    for state in spec.states:
        kind = "constant" if imported.examined and state.input in imported.examined.roles.constants else "state"
        name = f"{state.input} → {state.output}" if kind == "state" else state.input
        carried = examined.layout.carried.get(state.input) if examined else None
        yield kind, name, state.dtype, _shape(state.shape), _axes(carried), _begins(state)
    for control in spec.controls:
        told = "" if control.kind == "corrid" else f", {control.off:g} or {control.on:g}"
        yield "control", control.input, control.dtype, "[]", "", f"{control.kind}{told}"
    if spec.lengths:
        yield "lengths", spec.lengths, "int32", "[]", "", "the timesteps of each row"
    for name, values in (examined.parts.fixed if examined else {}).items():
        yield "fixed", name, str(values.dtype), _shape(values.shape), "", f"{_values(values)}, the same for all"
    for tensor in spec.outputs:
        yield "output", tensor.name, tensor.dtype, _shape(tensor.shape), _axes(outputs.get(tensor.name)), ""


def _begins(state: StateSpec) -> str:
    told = f"begins as {_values(initial(state))}"
    return f"{told}, or what Open gives" if state.given == "may" else "given by Open" if state.given == "must" else told


def _values(values: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> str:
    flat = values.ravel().tolist()
    if len(set(flat)) == 1:
        return str(flat[0])
    return ", ".join(f"{value:g}" for value in flat[:SHOWN_VALUES]) + (" …" if len(flat) > SHOWN_VALUES else "")


def _shape(shape: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, shape))}]"


def _axes(axes: Axes | None) -> str:
    if axes is None:
        return ""
    told = [f"batch {axes.batch}"] * (axes.batch is not None) + [f"time {axes.time}"] * (axes.time is not None)
    return ", ".join(told) or "neither batch nor time"


def _how(imported: Imported) -> str:
    if not imported.examined:
        return "the file describes itself"
    by = {"told": "as told", "names": "proposed from their names", "shapes": "proposed from their shapes, the only ones that fit"}
    return f"{by[imported.examined.roles.by]}; check them, since two that are swapped fail nowhere"


def _run(imported: Imported) -> str:
    spec, examined = imported.spec, imported.examined
    if spec.batch == 1:
        sessions = f"one session, so they are served one by one{_why_alone(imported)}"
    else:
        sessions = f"up to {spec.batch} sessions" if spec.batch else "any number of sessions"
    return f"{sessions}; {_timesteps(spec, examined.why_one if examined else '')}"


def _timesteps(spec: ModelSpec, why: str) -> str:
    if spec.timesteps == 1:
        return f"one timestep{f' ({why})' if why else ''}"
    return "any number of timesteps" + ("" if spec.lengths else ", the same for all sessions of a run")


def _why_alone(imported: Imported) -> str:
    """Returns what keeps sessions from sharing a run, where a constant alone does."""
    examined = imported.examined
    if not examined:
        return ""
    scalars = [name for name in examined.roles.constants if not examined.parts.ports[name].dims]
    dynamic = any(isinstance(dim, str) for port in examined.roles.states.values() for dim in port.dims)
    if scalars and dynamic:
        return f" ({scalars[0]} has no batch axis; with --fixed {scalars[0]}=VALUE it is one for all, and sessions share runs)"
    return " (the file has no batch axis of any length)"
