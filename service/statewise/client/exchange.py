"""One session's side of the protocol, without any I/O: shapes, dtypes and positions. Both clients talk through it.

`ask` turns what the caller gives into what is asked, and counts its timesteps; `advance` takes them as consumed, `take_back` takes
them back, when the answer arrives, whether or not anybody still waits for it; `answer` turns it into arrays, or raises. The server
counts the same on its side, so both agree on the position without asking; and what was asked can be sent again, with its position,
on any stream.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

import grpc
import numpy as np
from numpy.typing import ArrayLike, NDArray

from statewise.client.casts import cast
from statewise.client.described import read_model
from statewise.client.failures import from_status
from statewise.client.recovery import KEPT_BYTES, too_far
from statewise.errors import Reason, StatewiseError, Unavailable, error
from statewise.v1 import sequence_pb2

Array = NDArray[Any]
Outputs = Any
"""An array where the model has one output, a dict of arrays by name where it has several: the caller knows the model."""
NO_BOUND = 1 << 62


class Kind(NamedTuple):
    """What steps have in common that may share a message.

    Attributes:
        lengths: timesteps of each input that is given.
    """

    model: str
    version: int
    lengths: tuple[tuple[str, int], ...]
    last: bool
    timeout_seconds: float | None


@dataclass(slots=True, eq=False)  # nobody changes it; to freeze it would make it three times as dear, and there is one a step
class Asked:
    """A step under way, whatever message carries it.

    Attributes:
        arrays: `[timesteps, …]` each, by input.
        position: where the session stands before it.
        single: whether the answer loses its time axis.
    """

    exchange: Exchange
    kind: Kind
    arrays: dict[str, Array]
    position: int
    timesteps: int
    single: bool


class Answered(NamedTuple):
    """The answer to a step: a row of what its frame returned, or why it failed.

    Attributes:
        outputs: of all rows that were answered together, `[rows, timesteps, …]` each.
        row: the step's own.
    """

    outputs: Mapping[str, Array]
    row: int = 0
    problem: StatewiseError | None = None


class Exchange:
    """What the client knows of one session.

    Attributes:
        position: timesteps consumed, as far as answers tell.
        tail: the position that the next step expects.
        failures: how many steps have failed.
        retiring: whether new sessions get another version of the model.
        durable_position: up to which position the store holds the session, as far as answers tell.
        keeps: whether the inputs since then are kept: it is resumed from checkpoints.
        reference: to this.
        recovering: whether it is being resumed.
        settled: called when a step is settled, so that another may be sent.
    """

    def __init__(self, opened: sequence_pb2.OpenSessionResponse, kept_bytes: int = KEPT_BYTES) -> None:
        self.session_id = opened.session_id
        self.model = read_model(opened.model)
        self._inputs = {tensor.name: (tensor, np.dtype(tensor.dtype)) for tensor in self.model.inputs}
        self._first = self.model.inputs[0].name
        self._shape, self._dtype = self.model.inputs[0].shape, np.dtype(self.model.inputs[0].dtype)
        self._usual = Kind(self.model.name, self.model.version, ((self._first, 1),), False, None)
        self.handle = opened.handle
        self.retained_replies = opened.retained_replies
        self.server_instance = opened.server_instance
        self.position = opened.position
        self.tail = opened.position
        self.failures = 0
        self._failed_at = -1  # the first since the session went on
        self.retiring = False
        self.durability = opened.durability
        self.durable_position = opened.durable_position
        self.keeps = opened.durability == sequence_pb2.DURABILITY_CHECKPOINT
        self.reference = weakref.ref(self)
        self._timestep_bytes = sum(dtype.itemsize * math.prod(tensor.shape) for tensor, dtype in self._inputs.values())
        self._most_kept = -(-kept_bytes // max(1, self._timestep_bytes)) if self.keeps else NO_BOUND
        self.recovering = False
        self.settled: Callable[[], None] = _nothing

    def ask(
        self, x: ArrayLike | None, extra: Mapping[str, ArrayLike], last: bool, timeout_seconds: float | None, failures: int
    ) -> Asked:
        """Returns what is asked by the next timesteps; raises `InvalidInput` and counts nothing if they do not fit the model.

        Args:
            failures: how many steps had failed when the caller last heard of any. A step that comes after one whose failure is
                answered and not heard of yet would run in that one's place, where those between them are missing: it fails, as
                on the server those do that were sent in time.
        """
        if failures != self.failures:
            raise error(Reason.BEHIND_FAILED, "a step before this one failed", expected=self._failed_at)
        self.refuse_if_full()
        plain = timeout_seconds is None and not extra and not last
        if plain and type(x) is np.ndarray and x.shape == self._shape and x.dtype == self._dtype:
            asked = Asked(self, self._usual, {self._first: x[None].copy()}, self.tail, 1, True)  # nearly always
        else:
            asked = self._unusual(x, extra, last, timeout_seconds)
        self.tail += asked.timesteps
        return asked

    def columns(self, sessions: int, x: ArrayLike | None, extra: Mapping[str, ArrayLike]) -> tuple[dict[str, Array], bool]:
        """Returns the inputs of many sessions, `[sessions, timesteps, …]`, and whether they were given without a time axis."""
        return self._timed(x, extra, (sessions,))

    def take_back(self, position: int, timesteps: int) -> None:
        """Notes that the step of a position has failed; one before it may still be under way."""
        self.tail -= timesteps
        self.failures += 1
        self._failed_at = position if self._failed_at < self.position else min(self._failed_at, position)

    def hear_of(self, durable: int) -> None:
        """Notes up to which position the store holds the session; what was before is kept no more."""
        self.durable_position = max(durable, self.durable_position)

    def end(self) -> None:
        """Notes that the session is closed: nothing of it is kept."""
        self.hear_of(self.position)

    @property
    def full(self) -> bool:
        """Whether so much is kept that no step may be sent."""
        return self.position - self.durable_position >= self._most_kept

    def refuse_if_full(self) -> None:
        """Raises `Overloaded` if so much is kept that no step may be sent."""
        if self.full:
            kept_bytes = (self.position - self.durable_position) * self._timestep_bytes
            raise too_far(kept_bytes, self.position, self.durable_position)

    def stands_before(self, problem: StatewiseError) -> bool:
        """Whether a step was refused because the session stands before its last answer: an older checkpoint was taken over.

        So it may be when a server that owns it no more has answered, while the session was being resumed on another.
        """
        return self.keeps and problem.reason is Reason.AHEAD and int(problem.metadata["expected"]) < self.position

    def resumed(self, opened: sequence_pb2.OpenSessionResponse) -> None:
        """Notes where the session is now; what was to be sent again has been."""
        self.handle, self.server_instance = opened.handle, opened.server_instance
        self.hear_of(opened.durable_position)

    @staticmethod
    def answer(asked: Asked, answered: Answered) -> Outputs:
        """Returns the outputs of a step; raises what the server says went wrong."""
        if answered.problem:
            raise answered.problem
        here = (answered.row, 0) if asked.single else answered.row
        if len(answered.outputs) == 1:
            (array,) = answered.outputs.values()
            return array[here]
        return {name: array[here] for name, array in answered.outputs.items()}

    def _unusual(self, x: ArrayLike | None, extra: Mapping[str, ArrayLike], last: bool, timeout_seconds: float | None) -> Asked:
        timed, single = self._timed(x, extra, ())
        lengths = tuple((name, len(array)) for name, array in sorted(timed.items()))
        kind = Kind(self.model.name, self.model.version, lengths, last, timeout_seconds)
        timesteps = min((length for _, length in lengths), default=0)
        return Asked(self, kind, timed, self.tail, timesteps, single or last)

    def _timed(
        self, x: ArrayLike | None, extra: Mapping[str, ArrayLike], leading: tuple[int, ...]
    ) -> tuple[dict[str, Array], bool]:
        arrays = self._arrays(x, extra, leading)
        singles = {name: array.ndim == len(leading) + len(self._inputs[name][0].shape) for name, array in arrays.items()}
        if len(set(singles.values())) > 1:
            told = ", ".join(f"{name} {'one timestep' if single else 'several'}" for name, single in singles.items())
            raise error(Reason.BAD_FIELD, f"inputs: all must bring one timestep or all several ({told})", field="inputs")
        if not all(singles.values()):
            return arrays, False
        here = (slice(None),) * len(leading) + (None,)
        return {name: array[here] for name, array in arrays.items()}, True

    def _arrays(self, x: ArrayLike | None, extra: Mapping[str, ArrayLike], leading: tuple[int, ...]) -> dict[str, Array]:
        given = dict(extra)
        if x is not None:
            if self._first in given:
                raise error(Reason.BAD_FIELD, f"{self._first}: given twice", field=self._first)
            given[self._first] = x
        return {name: self._cast(name, value, leading) for name, value in given.items()}

    def _cast(self, name: str, value: ArrayLike, leading: tuple[int, ...]) -> Array:
        """Returns a copy of a value in its input's dtype."""
        tensor, dtype = self._inputs.get(name) or self._unknown(name)
        if isinstance(value, np.ndarray) and value.dtype == dtype and value.shape == leading + tensor.shape:  # nearly always
            return value.copy()
        return cast(tensor, value, leading)

    def _unknown(self, name: str) -> NoReturn:
        names = ", ".join(tensor.name for tensor in self.model.inputs)
        raise error(Reason.BAD_FIELD, f"{name}: not an input of {self.model.name!r}, which takes {names}", field=name)


def advance(exchanges: Sequence[Exchange], positions: Sequence[int], retiring: bool, durable: Sequence[int]) -> None:
    """Notes that a step of each of the sessions has run.

    Args:
        durable: up to where the store holds each of them; empty where there is no store.
    """
    for exchange, position in zip(exchanges, positions, strict=True):
        exchange.position = position
        exchange.retiring = retiring
    if durable:
        for exchange, held in zip(exchanges, durable, strict=True):
            if held > exchange.durable_position:
                exchange.hear_of(held)


def _nothing() -> None:
    """What is called when a step is settled for which nobody waits."""


class Recovered:
    """Sessions that were resumed since all was last asked for again.

    Until then they count as being resumed: a step of theirs that is told to be ahead came before one that is to be sent again.
    """

    def __init__(self) -> None:
        self._exchanges: set[Exchange] = set()

    def add(self, exchange: Exchange) -> None:
        """Notes that an attempt to resume a session has ended."""
        self._exchanges.add(exchange)

    def end(self, under_way: Container[Exchange]) -> None:
        """Has them count as resumed, but for those that are being resumed anew: all is asked for again now."""
        for exchange in self._exchanges:
            exchange.recovering = exchange in under_way
        self._exchanges.clear()


def check_replayed(response: Any) -> None:
    """Raises what went wrong with a step that was sent again."""
    if response is grpc.aio.EOF:
        raise Unavailable("the stream has ended")
    for refused in response.errors:
        raise from_status(refused.error)
