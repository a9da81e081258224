"""Frames on the client's side: what one message asks for, and what came of it so far. No I/O.

A frame is under way from its first message to its last answer. If the stream breaks in between, `request` makes the message that
asks for the rest again, with the same positions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from statewise.client.exchange import Answered, Asked, Exchange, Kind, advance
from statewise.client.failures import from_status
from statewise.client.kept import Kept, Sent
from statewise.client.recovery import BEHIND, RESUMED, Whereabouts
from statewise.errors import Reason, StatewiseError, Unavailable
from statewise.tensors import decode, encode
from statewise.v1 import sequence_pb2

FRAME_STEPS = 1024
"""The most steps of unrelated sessions that are put into one frame."""

Array = NDArray[Any]


class UnderWay(ABC):
    """A frame under way: a row for each of distinct sessions.

    Args:
        positions: `[rows]`, where the sessions stand before it.
        arrays: the inputs, `[rows, timesteps, …]` each.

    Attributes:
        rows: those that the message on the stream asks for and that are not answered.
    """

    def __init__(
        self,
        exchanges: Sequence[Exchange],
        positions: Sequence[int],
        arrays: Mapping[str, Array],
        timesteps: int,
        last: bool,
        timeout_seconds: float | None,
    ) -> None:
        self.rows = self._all = list(range(len(exchanges)))
        self._left = set(self.rows)
        self._exchanges = exchanges
        self._positions = np.fromiter(positions, "<u8", len(positions))
        self._arrays = arrays
        self._timesteps = timesteps
        self._last = last
        self._timeout_seconds = timeout_seconds

    @property
    def done(self) -> bool:
        """Whether every row is answered."""
        return not self._left

    def request(self, request_id: int) -> sequence_pb2.StepFrameRequest:
        """Returns the message that asks for what is left."""
        exchanges, arrays, positions = self._exchanges, self._arrays, self._positions
        if len(self.rows) < len(exchanges):
            exchanges = [exchanges[row] for row in self.rows]
            arrays = {name: array[self.rows] for name, array in arrays.items()}
            positions = positions[self.rows]
        request = sequence_pb2.StepFrameRequest(
            request_id=request_id,
            handles=np.fromiter([exchange.handle for exchange in exchanges], "<u8", len(exchanges)).tobytes(),
            positions=positions.tobytes(),
            inputs=[encode(name, array) for name, array in arrays.items()],
            output_timesteps=sequence_pb2.OUTPUT_TIMESTEPS_LAST if self._last else sequence_pb2.OUTPUT_TIMESTEPS_ALL,
        )
        if self._timeout_seconds is not None:
            request.timeout.FromNanoseconds(round(self._timeout_seconds * 1e9))
        return request

    def exchange(self, row: int) -> Exchange:
        """Returns the session of a row."""
        return self._exchanges[row]

    @abstractmethod
    def take(self, rows: Sequence[int], outputs: Mapping[str, Array]) -> None:
        """Takes the outputs `[rows, timesteps, …]` of rows that ran, whose sessions have advanced."""

    @abstractmethod
    def refuse(self, row: int, problem: StatewiseError) -> None:
        """Takes why a row failed, whose session has not."""

    def read(self, response: sequence_pb2.StepFrameResponse, kept: Kept) -> dict[int, Reason]:
        """Takes a response, and returns the rows whose session is to be resumed, and why; those are still left.

        The inputs of rows that ran are kept where their sessions are resumed from checkpoints.
        """
        positions = np.frombuffer(response.positions, "<u8")
        if len(positions):
            rows = [self.rows[place] for place in np.frombuffer(response.rows, "<u4").tolist()] if response.rows else self.rows
            outputs = {tensor.name: decode(tensor) for tensor in response.outputs}
            exchanges = self._exchanges if rows == self._all else [self._exchanges[row] for row in rows]
            told = positions.tolist()
            self._keep(exchanges, rows, told, kept)
            advance(exchanges, told, response.retiring, np.frombuffer(response.durable_positions, "<u8").tolist())
            self.take(rows, outputs)
            self._left.difference_update(rows)
        gone: dict[int, Reason] = {}
        for refused in response.errors:
            row, problem = self.rows[refused.row], from_status(refused.error)
            exchange = self._exchanges[row]
            behind = exchange.recovering and problem.reason in BEHIND
            if problem.reason and (problem.reason in RESUMED or behind or exchange.stands_before(problem)):
                gone[row] = problem.reason
                exchange.recovering = True
            else:
                self.give_up(row, problem)
        return gone

    def _keep(self, exchanges: Sequence[Exchange], rows: Sequence[int], positions: Sequence[int], kept: Kept) -> None:
        here = [place for place, exchange in enumerate(exchanges) if exchange.keeps]
        if not here:
            return
        if len(here) < len(rows):
            rows, exchanges = [rows[place] for place in here], [exchanges[place] for place in here]
            positions = [positions[place] for place in here]
        arrays = self._arrays
        if rows != self._all:
            arrays = {name: array[rows] for name, array in arrays.items()}
        kept.add(Sent([exchange.reference for exchange in exchanges], positions, arrays, self._timesteps))

    def astray(self, gone: dict[int, Reason], whereabouts: Whereabouts[Exchange], now: float) -> bool:
        """Whether rows that are gone show that the stream is to be opened anew.

        Rows that were resumed in vain for too long fail, and leave `gone`.
        """
        astray = False
        for row, reason in list(gone.items()):
            exchange = self._exchanges[row]
            try:
                astray |= whereabouts.astray(exchange, exchange.position, reason, now)
            except Unavailable as problem:
                self.give_up(row, problem)
                del gone[row]
        return astray

    def give_up(self, row: int, problem: StatewiseError) -> None:
        """Fails a row, unless it has been answered: its session may have been resumed a second time meanwhile, and stepped."""
        if row in self._left:
            self._left.discard(row)
            self._exchanges[row].take_back(int(self._positions[row]), self._timesteps)
            self.refuse(row, problem)

    def fail(self, problem: StatewiseError) -> None:
        """Fails all that is left; it is not known whether it ran. If it did, the server will call the next step STALE."""
        for row in sorted(self._left):
            self.give_up(row, copy(problem))  # each is raised by itself, with a traceback of its own

    def again(self) -> None:
        """Makes the next message ask for what is left."""
        self.rows = sorted(self._left)


class Steps(UnderWay):
    """Steps of one kind and of distinct sessions that happened to be asked for at about the same time."""

    def __init__(self, steps: Sequence[Asked], settled: Callable[[Asked, Answered], None]) -> None:
        first = steps[0]
        # To stack them would take five times as long.
        flat = {name: np.concatenate([asked.arrays[name] for asked in steps]) for name in first.arrays}
        arrays = {name: array.reshape(len(steps), len(array) // len(steps), *array.shape[1:]) for name, array in flat.items()}
        told = first.timesteps, first.kind.last, first.kind.timeout_seconds
        super().__init__([asked.exchange for asked in steps], [asked.position for asked in steps], arrays, *told)
        self._steps = steps
        self._settled = settled

    def take(self, rows: Sequence[int], outputs: Mapping[str, Array]) -> None:
        """See `UnderWay`."""
        for place, row in enumerate(rows):
            self._settled(self._steps[row], Answered(outputs, place))

    def refuse(self, row: int, problem: StatewiseError) -> None:
        """See `UnderWay`."""
        self._settled(self._steps[row], Answered({}, problem=problem))


class Columns(UnderWay):
    """The timesteps of many sessions, asked for together: `[sessions, timesteps, …]` each.

    Attributes:
        outputs: `[sessions, timesteps, …]` each, once a row has run; those of rows that failed are zero.
        problems: why rows failed.
    """

    def __init__(
        self,
        exchanges: Sequence[Exchange],
        arrays: Mapping[str, Array],
        timesteps: int,
        last: bool,
        timeout_seconds: float | None,
    ) -> None:
        super().__init__(exchanges, [exchange.tail for exchange in exchanges], arrays, timesteps, last, timeout_seconds)
        self.outputs: dict[str, Array] = {}
        self.problems: dict[int, StatewiseError] = {}
        for exchange in exchanges:
            exchange.tail += timesteps

    def take(self, rows: Sequence[int], outputs: Mapping[str, Array]) -> None:
        """See `UnderWay`."""
        if rows == self._all:
            self.outputs = dict(outputs)
            return
        for name, array in outputs.items():
            whole = self.outputs.setdefault(name, np.zeros((len(self._exchanges), *array.shape[1:]), array.dtype))
            whole[rows] = array

    def refuse(self, row: int, problem: StatewiseError) -> None:
        """See `UnderWay`."""
        self.problems[row] = problem


def frames_of(steps: Sequence[Asked]) -> Iterator[list[Asked]]:
    """Yields the steps by frames: of one kind, each session once in a frame, and its steps in order."""
    frames: dict[tuple[int, Kind], list[Asked]] = {}
    turns: dict[str, int] = {}
    for asked in steps:
        turn = turns.get(asked.exchange.session_id, 0)
        turns[asked.exchange.session_id] = turn + 1
        frames.setdefault((turn, asked.kind), []).append(asked)
    for kind in sorted(frames, key=lambda kind: kind[0]):
        for start in range(0, len(frames[kind]), FRAME_STEPS):
            yield frames[kind][start : start + FRAME_STEPS]
