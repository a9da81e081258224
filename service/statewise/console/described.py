"""What is served, as JSON for the page: models and versions, their specs, and what a series for them looks like.

Everything is told as it is; the page escapes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from statewise.host import Host
from statewise.models import Served
from statewise.reading.rows import names_of
from statewise.repository import REPORT_FILE, TRACE_FILE, RepositoryError, Serving
from statewise.spec import ConstantSpec, ModelSpec, StateSpec, TensorSpec

MOST_SERIES = 500
"""The series whose names a page is told, of those that a model knows."""
MOST_NUMBERS = 1024
"""The numbers of one tensor that a page is told for a timestep."""
Told = dict[str, Any]


def models(host: Host) -> list[Told]:
    """Returns all models of the repository, with their versions and what serves them."""
    return [model(host, name) for name in host.models.repository.models()]


def model(host: Host, name: str) -> Told:
    """Returns a model and its versions, newest first; raises `RepositoryError` where there is no such model."""
    versions = host.models.repository.versions(name)
    try:
        serving = host.models.serving(name)
    except RepositoryError:
        serving = Serving(0)
    return {
        "name": name,
        "default": serving.default,
        "canary": serving.canary,
        "share": serving.share,
        "problem": host.models.refused.get((name, 0), ""),
        "versions": [_version(host, name, number, serving) for number in reversed(versions)],
    }


def version(host: Host, name: str, number: int) -> Told:
    """Returns all of one version; raises `RepositoryError` where there is no such version."""
    file = host.models.repository.path(name, number)
    served = host.models.ready.get((name, number))
    told = {
        "name": name,
        **_version(host, name, number, host.models.serving(name)),
        "report": file.with_name(REPORT_FILE).is_file(),
        "trace": file.with_name(TRACE_FILE).is_file(),
    }
    return {**told, "digest": served.loaded.digest, "spec": spec(served.spec)} if served else told


def report(host: Host, name: str, number: int) -> Path:
    """Returns the page that training wrote about a version; raises `RepositoryError` where there is none."""
    file = host.models.repository.path(name, number).with_name(REPORT_FILE)
    if not file.is_file():
        raise RepositoryError(f"{name}@{number} has no report")
    return file


def capacity(host: Host) -> Told:
    """Returns what is taken of what the server takes on."""
    limits = host.limits
    pools = {served.pool.number: served for served in host.models.ready.values()}
    return {
        "sessions": {"used": len(host.sessions), "limit": limits.sessions},
        "pending": {"used": len(host.sessions.steps), "limit": limits.pending_steps},
        "batch": limits.batch,
        "pools": [_pool(host, served) for _, served in sorted(pools.items())],
    }


def spec(told: ModelSpec) -> Told:
    """Returns a spec, with the columns of a series for it."""
    vocabulary = told.vocabulary
    return {
        "task": told.task,
        "inputs": [_tensor(tensor) for tensor in told.inputs],
        "outputs": [_tensor(tensor) for tensor in told.outputs],
        "states": [_state(state) for state in told.states],
        "constants": [_constant(constant) for constant in told.constants],
        "calendar": dataclasses.asdict(told.calendar) if told.calendar else None,
        "vocabulary": {"bytes": vocabulary.bytes, "characters": list(vocabulary.characters)} if vocabulary else None,
        "about": told.about,
        "series": list(told.series)[:MOST_SERIES],
        "columns": columns(told),
    }


def columns(told: ModelSpec) -> list[Told]:
    """Returns the columns of a series that people draw or paste, and the range in which the values of each are likely.

    The range is that of the parity vectors, which export draws as the model's data are spread.
    """
    if told.vocabulary:
        return []
    timed = told.calendar.input if told.calendar else None
    return [column for tensor in told.inputs if tensor.name != timed for column in _columns(told, tensor)]


def numbers(array: NDArray[np.generic]) -> list[float | int | None]:
    """Returns the first numbers of a tensor, exactly; what is not finite has no word in JSON and is `None`."""
    flat: list[Any] = np.ravel(array)[:MOST_NUMBERS].tolist()
    return (
        flat if array.dtype.kind != "f" or np.isfinite(array).all() else [value if math.isfinite(value) else None for value in flat]
    )


def _version(host: Host, name: str, number: int, serving: Serving) -> Told:
    served = host.models.ready.get((name, number))
    refused = host.models.refused.get((name, number), "")
    return {
        "version": number,
        "state": _state_of(served, refused),
        "role": "default" if number == serving.default else "canary" if number == serving.canary else "",
        "refused": refused,
        "sessions": host.sessions.count(served.number) if served else 0,
        "provider": served.loaded.provider.removesuffix("ExecutionProvider") if served else "",
        "task": served.spec.task if served else None,
        "cell": _cell(served.spec) if served else "",
    }


def _cell(told: ModelSpec) -> str:
    return str(told.about.get("cell", "imported" if "imported_from" in told.about else ""))


def _state_of(served: Served | None, refused: str) -> str:
    if served:
        return "retiring" if served.retiring else "ready"
    return "refused" if refused else "not loaded"


def _pool(host: Host, served: Served) -> Told:
    pool = served.pool
    of = sorted({other.name for other in host.models.ready.values() if other.pool is pool})
    row = pool.states.bytes_of(pool.states.states)
    return {"models": of, "rows": pool.rows.count, "used": pool.rows.used, "row_bytes": row}


def _tensor(tensor: TensorSpec) -> Told:
    return {
        "name": tensor.name,
        "dtype": tensor.dtype,
        "shape": list(tensor.shape),
        "features": list(tensor.features),
        "missing": tensor.masked,
        "minimum": tensor.minimum,
        "maximum": tensor.maximum,
    }


def _state(state: StateSpec) -> Told:
    told = {"name": state.input, "dtype": state.dtype, "shape": list(state.shape), "initial": state.initial}
    return {**told, "given": state.given, "features": list(state.features)}


def _constant(constant: ConstantSpec) -> Told:
    return {
        "name": constant.name,
        "shape": list(constant.shape),
        "features": list(constant.features),
        "required": constant.required,
        "positive": constant.positive,
    }


def _columns(told: ModelSpec, tensor: TensorSpec) -> Iterable[Told]:
    seen = [np.asarray(step[tensor.name], np.float64).reshape(-1, math.prod(tensor.shape)) for step in told.parity.steps]
    values = np.concatenate(seen) if seen else np.array([[0.0], [1.0]]) * np.ones(math.prod(tensor.shape))
    masked = [each == "mask" for each in tensor.missing] or [False] * math.prod(tensor.shape)
    for place, name in enumerate(names_of(tensor)):
        middle, spread = float(values[:, place].mean()), float(values[:, place].std()) or 1.0
        told_of = {"name": name, "input": tensor.name, "place": place, "middle": middle, "spread": spread}
        yield {**told_of, "whole": tensor.dtype.startswith("int"), "masked": masked[place]}
