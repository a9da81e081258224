"""One session's side of the protocol, without any I/O: shapes, dtypes and positions. Both clients talk through it.

`ask` turns what the caller gives into what is asked, and counts its timesteps; `settle` takes them as consumed, or back, when the
answer arrives, whether or not anybody still waits for it; `answer` turns it into arrays, or raises. The server counts the same on
its side, so both agree on the position without asking; and what was asked can be sent again, with its position, on any stream.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, NoReturn

import grpc
import numpy as np
from google.protobuf.duration_pb2 import Duration
from numpy.typing import ArrayLike, NDArray

from statewise.client.failures import from_status
from statewise.client.recovery import KEPT_BYTES, Given, Kept, too_far
from statewise.errors import Reason, StatewiseError, Unavailable, error
from statewise.spec import Calendar, ConstantSpec, TensorSpec, Vocabulary
from statewise.tensors import DTYPES, decode, encode
from statewise.v1 import model_pb2, sequence_pb2, tensor_pb2

Array = NDArray[Any]
Outputs = Any
"""An array where the model has one output, a dict of arrays by name where it has several: the caller knows the model."""

CALLED_AGAIN = frozenset({Reason.MOVED, Reason.STORE_UNAVAILABLE, Reason.MODEL_NOT_HERE})
"""Reasons for which a call is made again for a while: another server may answer it, or this one later."""

CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.keepalive_time_ms", 30_000),  # a server whose machine vanished is noticed
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
)


@dataclass(frozen=True, slots=True)
class Model:
    """The model version that a session is pinned to.

    Attributes:
        task: `forecast`, `classify`, `tokens`, or empty.
        calendar: how the time input counts, or `None`.
        vocabulary: the meaning of token ids, or `None`.
        constants: what a session may or must be given when it is opened.
        series: of `Client.model` alone: for the series that it was trained on, what to give their sessions as `constants`.
        batch: the most sessions that share a run, 0 for any number; 1 where they are served one by one.
    """

    name: str
    version: int
    task: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    calendar: Calendar | None
    vocabulary: Vocabulary | None
    constants: tuple[ConstantSpec, ...] = ()
    series: Mapping[str, Mapping[str, Array]] = field(default_factory=dict)
    batch: int = 0


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
        outputs: of all rows of the frame, `[rows, timesteps, …]` each.
        row: the step's own.
        retiring: whether the session's model version leaves memory with its last session.
        durable: up to which position the store holds the session.
    """

    position: int
    outputs: Mapping[str, Array]
    row: int = 0
    problem: StatewiseError | None = None
    retiring: bool = False
    durable: int = 0


class Exchange:
    """What the client knows of one session.

    Attributes:
        position: timesteps consumed, as far as answers tell.
        tail: the position that the next step expects.
        retiring: whether new sessions get another version of the model.
        durable_position: up to which position the store holds the session, as far as answers tell.
        kept: the inputs since then; `None` for a session that is not resumed from checkpoints.
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
        self.retiring = False
        self.durability = opened.durability
        self.durable_position = opened.durable_position
        self.kept = Kept(kept_bytes) if opened.durability == sequence_pb2.DURABILITY_CHECKPOINT else None
        self.recovering = False
        self.settled: Callable[[], None] = _nothing

    def ask(self, x: ArrayLike | None, extra: Mapping[str, ArrayLike], last: bool, timeout_seconds: float | None) -> Asked:
        """Returns what is asked by the next timesteps; raises `InvalidInput` and counts nothing if they do not fit the model."""
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

    def settle(self, asked: Asked, answered: Answered) -> None:
        """Notes the outcome of a step."""
        if answered.problem:
            self.tail -= asked.timesteps
        else:
            if self.kept is not None:
                self.kept.add(Given(asked.position, asked.timesteps, asked.arrays))
            self.advance(answered.position, answered.retiring, answered.durable)
        self.settled()

    def advance(self, position: int, retiring: bool, durable: int) -> None:
        """Notes that a step has run, and how far the store is; its inputs are in `kept` by now, if they are to be."""
        self.position = position
        self.retiring = retiring
        if durable > self.durable_position:
            self.hear_of(durable)

    def hear_of(self, durable: int) -> None:
        """Notes up to which position the store holds the session, and keeps nothing from before."""
        self.durable_position = max(durable, self.durable_position)
        if self.kept is not None:
            self.kept.drop(self.durable_position)

    @property
    def full(self) -> bool:
        """Whether so much is kept that no step may be sent."""
        return self.kept is not None and self.kept.full

    def refuse_if_full(self) -> None:
        """Raises `Overloaded` if so much is kept that no step may be sent."""
        if self.kept is not None and self.kept.full:
            raise too_far(self.kept, self.position, self.durable_position)

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
        return _cast(tensor, value, leading)

    def _unknown(self, name: str) -> NoReturn:
        names = ", ".join(tensor.name for tensor in self.model.inputs)
        raise error(Reason.BAD_FIELD, f"{name}: not an input of {self.model.name!r}, which takes {names}", field=name)


def _nothing() -> None:
    """What is called when a step is settled for which nobody waits."""


def _cast(tensor: TensorSpec, value: ArrayLike, leading: tuple[int, ...]) -> Array:
    """Returns the value in the input's dtype."""
    array = _read(tensor, value)
    axes = len(leading) + len(tensor.shape)
    if (
        array.ndim not in (axes, axes + 1)
        or array.shape[: len(leading)] != leading
        or (tensor.shape and array.shape[-len(tensor.shape) :] != tensor.shape)
    ):
        one, many = [*leading, *tensor.shape], [*leading, "timesteps", *tensor.shape]
        message = f"{tensor.name}: takes {one} for one timestep or {many} for several, not {list(array.shape)}"
        raise error(Reason.BAD_FIELD, message.replace("'", ""), field=tensor.name)
    return _converted(tensor, array)


def _read(tensor: TensorSpec | ConstantSpec, value: ArrayLike) -> Array:
    """Returns the value as an array: numbers become floats, but a float never silently becomes an integer."""
    try:
        array = np.asarray(value)
    except ValueError as ragged:
        raise error(Reason.BAD_FIELD, f"{tensor.name}: {ragged}", field=tensor.name) from ragged
    if array.dtype.kind not in {"f": "fiub", "i": "iu", "b": "b"}[np.dtype(tensor.dtype).kind]:
        raise error(Reason.BAD_FIELD, f"{tensor.name}: takes {tensor.dtype}, not {array.dtype}", field=tensor.name)
    return array


def _converted(tensor: TensorSpec | ConstantSpec, array: Array) -> Array:
    if np.dtype(tensor.dtype).kind == "i" and array.size and not _fits(array, tensor.dtype):
        raise error(Reason.BAD_FIELD, f"{tensor.name}: {array.max()} or {array.min()} is beyond {tensor.dtype}", field=tensor.name)
    with np.errstate(over="ignore"):  # it becomes infinite, and the server refuses that by name
        return array.astype(tensor.dtype)


def _fits(array: Array, dtype: str) -> bool:
    limits = np.iinfo(dtype)
    return limits.min <= int(array.min()) and int(array.max()) <= limits.max


def read_model(message: model_pb2.Model) -> Model:
    """Returns the model that an open session tells of."""
    spec = message.spec
    calendar = Calendar(spec.calendar.input, spec.calendar.step_seconds, tuple(spec.calendar.periods))
    vocabulary = Vocabulary(tuple(spec.vocabulary.characters), spec.vocabulary.bytes) if spec.HasField("vocabulary") else None
    return Model(
        message.name,
        message.version,
        spec.task,
        tuple(_read_tensor(tensor) for tensor in spec.inputs),
        tuple(_read_tensor(tensor) for tensor in spec.outputs),
        calendar if spec.HasField("calendar") else None,
        vocabulary,
        tuple(_read_constant(constant) for constant in spec.constants),
        batch=spec.batch,
    )


def read_described(response: model_pb2.GetModelResponse) -> Model:
    """Returns the model that `GetModel` tells of, with what it knows of its series."""
    known = {each.series: {tensor.name: decode(tensor) for tensor in each.constants} for each in response.series}
    return replace(read_model(response.model), series=known)


def _read_constant(message: model_pb2.ConstantSpec) -> ConstantSpec:
    return ConstantSpec(
        message.name,
        DTYPES[message.data_type].name,  # type: ignore[arg-type]
        tuple(message.shape),
        features=tuple(message.features),
        required=message.required,
        positive=message.positive,
    )


def _read_tensor(message: model_pb2.TensorSpec) -> TensorSpec:
    return TensorSpec(
        message.name,
        DTYPES[message.data_type].name,  # type: ignore[arg-type]
        tuple(message.shape),
        features=tuple(message.features),
        missing=tuple("mask" if missing == model_pb2.MISSING_MASK else "refuse" for missing in message.missing),
        minimum=message.minimum if message.HasField("minimum") else None,
        maximum=message.maximum if message.HasField("maximum") else None,
        ahead=tuple(message.ahead),
    )


def open_request(
    model: str,
    version: int = 0,
    session_id: str = "",
    idle_timeout_seconds: float | None = None,
    resume: bool = False,
    retained_replies: int = 0,
    snapshot: bytes = b"",
    constants: Sequence[tensor_pb2.Tensor] = (),
    durability: str = "",
    checkpoint_every: int = 0,
) -> sequence_pb2.OpenSessionRequest:
    """Returns the request that opens a session; its token makes it safe to be sent again."""
    if resume and not session_id:
        raise error(Reason.BAD_FIELD, "session_id: to resume takes one", field="session_id")
    return sequence_pb2.OpenSessionRequest(
        model=model,
        version=version,
        session_id=session_id or secrets.token_hex(16),
        idle_timeout=_duration(idle_timeout_seconds),
        mode=sequence_pb2.OPEN_MODE_CREATE_OR_RESUME if resume else sequence_pb2.OPEN_MODE_CREATE,
        retained_replies=retained_replies,
        open_token=secrets.token_bytes(16),
        snapshot=snapshot,
        constants=constants,
        durability=_durability(durability),
        checkpoint_every=checkpoint_every,
    )


def _durability(asked: str) -> sequence_pb2.Durability:
    named = f"DURABILITY_{asked.upper() or 'UNSPECIFIED'}"
    if named not in sequence_pb2.Durability.keys():  # noqa: SIM118 (no mapping)
        raise error(Reason.BAD_FIELD, f"durability: takes memory, checkpoint or commit, not {asked!r}", field="durability")
    return sequence_pb2.Durability.Value(named)  # type: ignore[return-value]


def constants_of(model: Model, constants: Mapping[str, ArrayLike]) -> list[tensor_pb2.Tensor]:
    """Returns what an open gives, in the dtypes of the model; raises `InvalidInput` for a name that it does not know.

    A number goes where one number is taken, whatever the shape.
    """
    known = {constant.name: constant for constant in model.constants}
    for name in constants:
        if name not in known:
            told = f"the sessions of {model.name!r} are given {', '.join(known) or 'nothing'} when they are opened"
            raise error(Reason.BAD_FIELD, f"{name}: unknown; {told}", field=name)
    return [encode(name, _constant(known[name], value)) for name, value in constants.items()]


def _constant(constant: ConstantSpec, value: ArrayLike) -> Array:
    array = _read(constant, value)
    if array.size == 1 and np.prod(constant.shape, dtype=int) == 1:
        array = array.reshape(constant.shape)
    if array.shape != constant.shape:
        message = f"{constant.name}: takes {list(constant.shape)}, not {list(array.shape)}"
        raise error(Reason.BAD_FIELD, message, field=constant.name)
    return _converted(constant, array)


def resume_request(exchange: Exchange) -> sequence_pb2.OpenSessionRequest:
    """Returns the request that finds a session again."""
    return sequence_pb2.OpenSessionRequest(
        session_id=exchange.session_id,
        mode=sequence_pb2.OPEN_MODE_RESUME,
        server_instance=exchange.server_instance,
        durable_position=exchange.durable_position,
    )


def since(exchange: Exchange, position: int) -> list[Given]:
    """Returns what brings a session that is resumed at `position` to where its answers have come; raises `SessionGone`."""
    return (exchange.kept or Kept(0)).since(position, exchange.position)


def check_replayed(response: Any) -> None:
    """Raises what went wrong with a step that was sent again."""
    if response is grpc.aio.EOF:
        raise Unavailable("the stream has ended")
    for refused in response.errors:
        raise from_status(refused.error)


def fork_request(exchange: Exchange) -> sequence_pb2.ForkSessionRequest:
    """Returns the request that forks a session."""
    return sequence_pb2.ForkSessionRequest(
        session_id=exchange.session_id, new_session_id=secrets.token_hex(16), open_token=secrets.token_bytes(16)
    )


def _duration(length_seconds: float | None) -> Duration | None:
    if length_seconds is None:
        return None
    duration = Duration()
    duration.FromNanoseconds(round(length_seconds * 1e9))
    return duration


def lost(address: str, cause: StatewiseError | None) -> StatewiseError:
    """Returns the error of a step whose answer cannot be had."""
    message = f"{address} cannot be reached again for the answer: the step may or may not have run"
    return Unavailable(f"{message} ({cause})" if cause else message)


def closed(address: str) -> StatewiseError:
    """Returns the error of a call on a client that was closed."""
    return Unavailable(f"this client of {address} is closed")
