"""One person's look at a model: a series goes through an ordinary session of the host, and after each timestep its state is read.

A page talks over a WebSocket, a JSON object a message: `open` starts a session, `step` takes it some timesteps on. The session is
opened, stepped and closed as a client's is; its state is read as for a snapshot, in the engine's thread. What the gates did is told
by the explicit-gate graph beside the model, which reads the same series once, in a thread of its own. The session ends with the
connection, and by its idle timeout should that fail.
"""

from __future__ import annotations

import asyncio
import functools
import math
import secrets
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from statewise.console import series
from statewise.console.described import Told, numbers
from statewise.conversation import Answer, Indices, Step
from statewise.errors import StatewiseError
from statewise.host import Host
from statewise.models import Served
from statewise.opening import Open, Opened
from statewise.reading import gates
from statewise.reading.problems import BadInput
from statewise.repository import TRACE_FILE
from statewise.spec import SERIES_MEAN, SERIES_SCALE, StateSpec

MOST_STEPS = 64
"""The timesteps of one message."""
MOST_TRACED = 8_000_000
"""The numbers that a trace may have: 32 MB; a longer series of a wide model is played without gates."""
IDLE_SECONDS = 300.0
PREFIX = "console-"
Array = NDArray[np.generic]
Made = TypeVar("Made")
Stepped = tuple[int, dict[str, Array]]


class Heard:
    """The `Asker` of a playground: a step's tag is the future that its answer resolves."""

    def answer_one(self, tag: Any, answer: Answer, row: int) -> None:
        """Takes the position after a step and its outputs, `[1, …]` each."""
        if not tag.done():
            tag.set_result((int(answer.positions[row]), {name: array[row].copy() for name, array in answer.outputs.items()}))

    def answer(self, tag: object, answer: Answer, rows: Indices | None) -> None:
        """Takes nothing: a playground sends no frames."""
        raise NotImplementedError

    def refuse(self, tag: Any, row: int, position: int, problem: StatewiseError) -> None:
        """Takes why a step failed."""
        del row, position  # a playground has one session, and asks where it stands
        if not tag.done():
            tag.set_exception(problem)


@dataclass(frozen=True, slots=True, eq=False)
class Play:
    """A series on its way through a session.

    Attributes:
        traced: gates, `[timesteps, …]` each, by layer: `update_0`; empty where they cannot be shown.
    """

    opened: Opened
    series: series.Series
    traced: Mapping[str, Array]


class Playground:
    """What one connection does; its state is the session that it has open, changed by `answer` and `close` alone."""

    def __init__(self, host: Host, threads: Executor) -> None:
        self._host = host
        self._threads = threads
        self._heard = Heard()
        self._play: Play | None = None

    async def answer(self, message: object) -> Told:
        """Returns the answer to a message; what was wrong is told in it."""
        try:
            match message:
                case {"open": dict(raw)}:
                    return await self._open(series.Wanted.read(raw))
                case {"step": int(count)} if 1 <= count <= MOST_STEPS:
                    return await self._step(count)
            raise BadInput(f'takes {{"open": {{…}}}} or {{"step": 1 to {MOST_STEPS}}}')
        except (StatewiseError, BadInput) as problem:
            return {"refused": _refusal(problem)}

    async def close(self) -> None:
        """Ends the session."""
        play, self._play = self._play, None
        self._host.forget(self._heard)
        if play:
            await self._host.close(play.opened.session_id)

    async def _open(self, wanted: series.Wanted) -> Told:
        await self.close()
        served = await self._host.models.find(wanted.model, wanted.version, "")
        given = await self._apart(series.read, served.spec, wanted)
        why = ""
        traced: Mapping[str, Array] = {}
        try:
            traced = await self._apart(self._trace, served, given)
        except BadInput as problem:
            why = str(problem)
        session = PREFIX + secrets.token_hex(16)
        asked = Open(served.name, served.version, session, IDLE_SECONDS, constants=given.constants)
        self._play = Play(await self._host.open(asked), given, traced)
        return {
            "opened": {
                "model": served.name,
                "version": served.version,
                "session": session,
                "timesteps": len(given),
                "inputs": {name: [numbers(row) for row in array] for name, array in given.inputs.items()},
                "states": {state.input: math.prod(state.shape) for state in _shown(served)},
                "gates": {name: array.shape[-1] for name, array in traced.items()},
                "no_gates": why,
            }
        }

    async def _step(self, count: int) -> Told:
        if not (play := self._play):
            raise BadInput("no session is open")
        rows: list[Told] = []
        for _ in range(count):
            position = self._host.find(play.opened.session_id).position
            if position == len(play.series):
                break
            try:
                rows.append(await self._one(play, position))
            except StatewiseError as problem:
                return {"stepped": rows, "refused": _refusal(problem)}
        return {"stepped": rows}

    async def _one(self, play: Play, position: int) -> Told:
        """Takes the session one timestep on, and reads its state."""
        session = play.opened.session_id
        answered: asyncio.Future[Stepped] = asyncio.get_running_loop().create_future()
        self._host.step(Step(session, play.series.step(position), position), self._heard, answered)
        after, outputs = await answered
        states = (await self._host.snapshot(session)).states
        return {
            "position": after,
            "outputs": {name: numbers(array) for name, array in outputs.items()},
            "states": {state.input: numbers(states[state.input]) for state in _shown(play.opened.model)},
            "gates": {name: numbers(array[position]) for name, array in play.traced.items()},
        }

    def _trace(self, served: Served, given: series.Series) -> Mapping[str, Array]:
        """Returns what the gates do; raises `BadInput` where it cannot be told, and why."""
        file = self._host.models.repository.path(served.name, served.version).with_name(TRACE_FILE)
        if not file.is_file():
            raise BadInput(f"no gates: there is no {TRACE_FILE} beside this version")
        try:
            graph = gates.opened(file, threads=1)
        except Exception as problem:  # onnxruntime raises many unrelated classes
            raise BadInput(f"no gates: {TRACE_FILE} cannot be run: {problem}") from problem
        shown = {name for name in graph.sizes if not name.startswith(("hidden_", "cell_state_", "output"))}
        shown -= {tensor.name for tensor in served.spec.outputs}
        if sum(graph.sizes.values()) * len(given) > MOST_TRACED:
            raise BadInput("no gates: they are too many numbers for so long a series")
        traced = graph.read(given.inputs, given.constants)
        return {name: array for name, array in traced.items() if name in shown}

    async def _apart(self, work: Callable[..., Made], *arguments: object) -> Made:
        return await asyncio.get_running_loop().run_in_executor(self._threads, functools.partial(work, *arguments))


def _shown(served: Served) -> list[StateSpec]:
    """Returns the states that change; the mean and the scale of a series stay as they were given."""
    return [state for state in served.spec.states if state.input not in (SERIES_MEAN, SERIES_SCALE)]


def _refusal(problem: StatewiseError | BadInput) -> Told:
    reason = problem.reason if isinstance(problem, StatewiseError) else None
    return {"reason": str(reason or ""), "message": str(problem)}
