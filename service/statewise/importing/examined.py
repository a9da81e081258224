"""What a file is, as runs of it show: the reading of its axes that holds, the axes of its outputs, and that it can be streamed.

A file passes if it carries its states in their shape, gives each session what it gives it alone, and gives several timesteps at
once what it gives them one by one. Then a conversation with it, as it is, becomes the parity vectors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from statewise.importing.asked import Asked
from statewise.importing.foreign import Foreign
from statewise.importing.layout import Axes, Layout, layouts, lone_axis, told_axis
from statewise.importing.problems import Refused
from statewise.importing.roles import Roles, check_dtype, roles_of
from statewise.importing.trial import Draws, Parts, Trial, difference, open_file
from statewise.spec import Parity, TensorSpec

Array = NDArray[np.generic]
BATCH, TIMESTEPS = 2, 3
PARITY_TIMESTEPS = (2, 1, 3, 1)
TOLERANCE, HALF_TOLERANCE = 1e-4, 2e-2
"""The largest difference, as a share of the scale, that rounding may make; the second where anything is float16."""


@dataclass(frozen=True, slots=True, eq=False)
class Examined:
    """A file that can be streamed.

    Attributes:
        outputs: what it returns besides its states, with axes; where it returns states alone, these.
        timesteps: the most timesteps of one run, 0 for any number.
        why_one: why that is 1; empty where it is not.
        parity: what the file itself answers.
    """

    foreign: Foreign
    roles: Roles
    parts: Parts
    layout: Layout
    outputs: tuple[tuple[TensorSpec, Axes], ...]
    timesteps: int
    why_one: str
    parity: Parity


def examine(foreign: Foreign, asked: Asked) -> Examined:
    """Runs a file in all ways that matter; raises `Refused` where it cannot be streamed, or more must be told."""
    roles = roles_of(foreign, asked)
    runtime = open_file(foreign.raw)
    trial, draws = _reading(runtime, roles, asked)
    outputs = _outputs(trial, draws, asked)
    why_one = _why_one(trial, outputs, asked)
    tolerance = _tolerance(trial, outputs)
    if not why_one:
        _check_at_once(trial, draws, outputs, tolerance)
    if not trial.layout.batch:
        _check_apart(trial, draws, outputs, tolerance)
    if trial.parts.lengths and not why_one:
        _check_ragged(trial, draws, outputs, tolerance)
    timesteps = asked.timesteps or (1 if why_one else 0)
    parity = _parity(trial, draws, outputs, timesteps, tolerance)
    return Examined(foreign, roles, trial.parts, trial.layout, outputs, timesteps, why_one, parity)


def _reading(runtime: onnxruntime.InferenceSession, roles: Roles, asked: Asked) -> tuple[Trial, Draws]:
    """Returns the file in the one reading of its axes in which it runs."""
    problems: list[Refused] = []
    constants = {name: roles.ports[name] for name in roles.constants}
    for single in (False, True):
        try:
            readings = layouts(roles.sent, roles.states, constants, asked, single=single)
        except Refused as problem:
            problems.append(problem)
            continue
        held = []
        for layout in readings:
            try:
                trial = Trial(runtime, roles.parts(layout, asked), layout)
                held.append((trial, _draws(trial)))
            except Refused as problem:
                problems.append(problem)
        if len(held) > 1:
            listed = "\n".join(f"  {trial.layout}" for trial, _ in held)
            raise Refused(f"its axes can be read in more than one way; say --batch-axis or --time-axis:\n{listed}")
        if held:
            return held[0]
    raise problems[0]


def _draws(trial: Trial) -> Draws:
    """Returns inputs that the file answers with finite numbers; raises `Refused` where it does not run, or never does so."""
    for positive in (False, True):
        draws = Draws(trial.parts.sent, positive=positive)
        sessions = trial.start(_batch(trial))
        answers = [trial.run(sessions, draws(_timesteps(trial), _batch(trial))) for _ in range(2)]
        wrong = {
            name for answer in answers for name, array in answer.items() if array.dtype.kind == "f" and not np.isfinite(array).all()
        }
        if not wrong:
            return draws
    raise Refused(f"it returns NaN or infinity in {', '.join(sorted(wrong))}, and a step that does so fails")


def _batch(trial: Trial) -> int:
    return trial.layout.batch or BATCH


def _timesteps(trial: Trial) -> int:
    """Returns how many timesteps a run of a trial has: more than one only where every input has a time axis of any length."""
    return TIMESTEPS if all(_any_length(trial, name) for name in trial.layout.inputs) else 1


def _any_length(trial: Trial, name: str) -> bool:
    time = trial.layout.inputs[name].time
    return time is not None and isinstance(trial.layout.dims[name][time], str)


def _outputs(trial: Trial, draws: Draws, asked: Asked) -> tuple[tuple[TensorSpec, Axes], ...]:
    """Returns the outputs with the axes that grow when batch and time do."""
    batch, timesteps = _batch(trial), _timesteps(trial)
    plain = _shapes(trial, draws, timesteps, batch)
    wider = {} if trial.layout.batch else _shapes(trial, draws, timesteps, batch + 1)
    longer = _shapes(trial, draws, timesteps + 1, batch) if timesteps > 1 else {}
    states = [returned for _, returned in trial.parts.states]
    names = [name for name in plain if name not in states] or states
    outputs = []
    for name in names:
        shape, dtype = plain[name]
        check_dtype(name, dtype)
        axes = _axes(name, shape, wider.get(name, (shape, ""))[0], longer.get(name, (shape, ""))[0], trial, asked)
        outputs.append((TensorSpec(name, dtype, axes.shape(shape)), axes))  # type: ignore[arg-type]
    return tuple(outputs)


def _shapes(trial: Trial, draws: Draws, timesteps: int, batch: int) -> dict[str, tuple[tuple[int, ...], str]]:
    return {name: (array.shape, str(array.dtype)) for name, array in trial.run(trial.start(batch), draws(timesteps, batch)).items()}


def _axes(name: str, plain: tuple[int, ...], wider: tuple[int, ...], longer: tuple[int, ...], trial: Trial, asked: Asked) -> Axes:
    if not len(plain) == len(wider) == len(longer):
        raise Refused(f"output {name!r} has another number of axes with another batch or length")
    batches = [axis for axis, (a, b) in enumerate(zip(plain, wider, strict=True)) if a != b]
    times = [axis for axis, (a, b) in enumerate(zip(plain, longer, strict=True)) if a != b]
    if set(batches) & set(times):
        told = "say --time-axis none and --dim AXIS=1, so that one call is one timestep"
        raise Refused(f"output {name!r} has batch and time in one axis: {told}")
    if len(batches) > 1 or len(times) > 1:
        raise Refused(f"output {name!r} grows along more than one axis with the batch or the length")
    time = times[0] if times else None
    if trial.layout.batch:
        said, axis = told_axis(asked.batch_axis, name, "--batch-axis", len(plain))
        fits = said and axis is not None and plain[axis] == 1 and axis != time
        return Axes(axis if fits else lone_axis(plain, time), time)
    if not batches:
        raise Refused(
            f"output {name!r} has no batch axis, so it does not tell sessions apart; say --batch-axis none to serve them one by one"
        )
    return Axes(batches[0], time)


def _why_one(trial: Trial, outputs: tuple[tuple[TensorSpec, Axes], ...], asked: Asked) -> str:
    """Returns why a run takes one timestep, empty where it takes any number; raises `Refused` where there are two readings."""
    timeless = [name for name in trial.layout.inputs if not _any_length(trial, name)]
    if len(timeless) == len(trial.layout.inputs):
        return "it has no time axis"
    without = [f"input {name}" for name in timeless] + [f"output {tensor.name}" for tensor, axes in outputs if axes.time is None]
    if not without:
        return ""
    if not asked.time_axis:
        name = next(name for name in trial.layout.inputs if name not in timeless)
        axis = trial.layout.inputs[name].time
        dim = trial.layout.dims[name][axis or 0]
        raise Refused(
            f"axis {dim!r} of input {name} is of any length, and {without[0]} has no such axis. If one call takes N of them, such "
            f"as a chunk of samples, say --dim {dim}=N; if each is a timestep, --time-axis {name}={axis}"
            + "".join(
                f". If {each} is always the same, say --fixed {each}=VALUE; if each session has its own, --constant {each}=VALUE"
                for each in timeless
            )
        )
    return f"{without[0]} has no time axis"


def _tolerance(trial: Trial, outputs: tuple[tuple[TensorSpec, Axes], ...]) -> float:
    dtypes: set[str] = {tensor.dtype for tensor in (*trial.parts.sent, *(tensor for tensor, _ in outputs))}
    dtypes |= {trial.parts.ports[name].dtype for name in trial.parts.carried}
    return HALF_TOLERANCE if "float16" in dtypes else TOLERANCE


def _answers(
    trial: Trial, chunks: list[dict[str, Array]], outputs: tuple[tuple[TensorSpec, Axes], ...], first: int = 1
) -> list[dict[str, Array]]:
    """Returns what the file answers to a carried conversation of sessions numbered from `first` on, `[time, batch, …]` each."""
    sessions = trial.start(next(iter(chunks[0].values())).shape[1], first)
    answers = []
    for number, chunk in enumerate(chunks):
        returned = trial.run(sessions, chunk, last=number == len(chunks) - 1)
        answers.append({tensor.name: axes.from_file(returned[tensor.name]) for tensor, axes in outputs})
    return answers


def _together(answers: list[dict[str, Array]]) -> dict[str, Array]:
    return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}


def _cut(chunk: Mapping[str, Array], start: int, end: int) -> dict[str, Array]:
    return {name: array[start:end] for name, array in chunk.items()}


def _check_at_once(trial: Trial, draws: Draws, outputs: tuple[tuple[TensorSpec, Axes], ...], tolerance: float) -> None:
    """Holds several timesteps at once, and what comes after them, against the same one by one."""
    chunks = [draws(TIMESTEPS, _batch(trial)), draws(1, _batch(trial))]
    singles = [_cut(chunk, at, at + 1) for chunk in chunks for at in range(len(next(iter(chunk.values()))))]
    at_once, one_by_one = _together(_answers(trial, chunks, outputs)), _together(_answers(trial, singles, outputs))
    for name, values in at_once.items():
        if not (apart := difference(values, one_by_one[name])) <= tolerance:
            names = {port.dims[axis] for name, port in trial.parts.ports.items() if (axis := _time(trial, name)) is not None}
            told = " ".join(f"--dim {dim}=N" for dim in sorted(map(str, names)))
            raise Refused(
                f"{TIMESTEPS} timesteps at once give other numbers than one by one (output {name!r} differs by {apart:.1e} of its "
                f"scale), so its time axis is no sequence of timesteps. If one call is one timestep, say --time-axis none {told}"
            )


def _time(trial: Trial, name: str) -> int | None:
    return trial.layout.inputs[name].time if name in trial.layout.inputs else None


def _check_apart(trial: Trial, draws: Draws, outputs: tuple[tuple[TensorSpec, Axes], ...], tolerance: float) -> None:
    """Holds sessions side by side against each by itself."""
    chunks = [draws(1, BATCH + 1) for _ in range(TIMESTEPS)]
    side_by_side = _together(_answers(trial, chunks, outputs))
    for row in range(BATCH + 1):
        alone = [{name: array[:, row : row + 1] for name, array in chunk.items()} for chunk in chunks]
        for name, values in _together(_answers(trial, alone, outputs, 1 + row)).items():
            if not (apart := difference(side_by_side[name][:, row : row + 1], values)) <= tolerance:
                raise Refused(
                    f"sessions that run side by side disturb each other (output {name!r} differs by {apart:.1e} of its scale from "
                    "the session alone); say --batch-axis none to serve them one by one"
                )


def _check_ragged(trial: Trial, draws: Draws, outputs: tuple[tuple[TensorSpec, Axes], ...], tolerance: float) -> None:
    """Holds a short row beside a long one, and what comes after it, against the short row alone."""
    chunks = [draws(TIMESTEPS, BATCH), draws(1, BATCH)]
    sessions = trial.start(BATCH)
    trial.run(sessions, chunks[0], np.array([1, TIMESTEPS]))
    after = trial.run(sessions, chunks[1])
    alone = [{name: array[:1, :1] for name, array in chunk.items()} for chunk in chunks]
    expected = _answers(trial, alone, outputs)[1]
    for tensor, axes in outputs:
        ours = axes.from_file(after[tensor.name])[:, :1]
        if not (apart := difference(ours, expected[tensor.name])) <= tolerance:
            raise Refused(
                f"with {trial.parts.lengths!r} telling that a row is shorter, its state still differs from the row alone "
                f"(output {tensor.name!r}: {apart:.1e} of its scale)"
            )


def _parity(trial: Trial, draws: Draws, outputs: tuple[tuple[TensorSpec, Axes], ...], timesteps: int, tolerance: float) -> Parity:
    chunks = [draws(min(length, timesteps or length), _batch(trial)) for length in PARITY_TIMESTEPS]
    answers = _answers(trial, chunks, outputs)
    lists = [[{name: array.tolist() for name, array in each.items()} for each in side] for side in (chunks, answers)]
    return Parity(tuple(lists[0]), tuple(lists[1]), tolerance)
