"""One session's side of the protocol, without any I/O: shapes, dtypes and positions. Both clients talk through it.

`ask` turns what the caller gives into a request and counts its timesteps; `settle` takes them as consumed, or back, when the
response arrives, whether or not anybody still waits for it; `answer` turns the response into arrays, or raises. The server counts
the same on its side, so both agree on the position without asking.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from google.protobuf.duration_pb2 import Duration
from numpy.typing import ArrayLike, NDArray

from statewise.client.failures import from_status
from statewise.errors import Reason, StatewiseError, Unavailable, error
from statewise.spec import Calendar, TensorSpec, Vocabulary
from statewise.tensors import DTYPES, decode, encode
from statewise.v1 import model_pb2, sequence_pb2

Array = NDArray[Any]
Outputs = Any
"""An array where the model has one output, a dict of arrays by name where it has several: the caller knows the model."""

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
    """

    name: str
    version: int
    task: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    calendar: Calendar | None
    vocabulary: Vocabulary | None


@dataclass(frozen=True, slots=True)
class Asked:
    """A request under way: whose it is, the timesteps that it counts for, and whether the answer loses its time axis."""

    exchange: Exchange
    timesteps: int
    single: bool


class Exchange:
    """What the client knows of one session. `tail` is the position that the next step expects."""

    def __init__(self, opened: sequence_pb2.OpenSessionResponse) -> None:
        self.session_id = opened.session_id
        self.model = read_model(opened.model)
        self.position = opened.position
        self.tail = opened.position

    def ask(
        self, request_id: int, x: ArrayLike | None, extra: Mapping[str, ArrayLike], last: bool, timeout_seconds: float | None
    ) -> tuple[sequence_pb2.StepRequest, Asked]:
        """Returns the request for the next timesteps; raises `InvalidInput` and counts nothing if they do not fit the model."""
        arrays = self._arrays(x, extra)
        singles = {name: array.ndim == len(self._tensor(name).shape) for name, array in arrays.items()}
        if len(set(singles.values())) > 1:
            told = ", ".join(f"{name} {'one timestep' if single else 'several'}" for name, single in singles.items())
            raise error(Reason.BAD_FIELD, f"inputs: all must bring one timestep or all several ({told})", field="inputs")
        single = all(singles.values())
        timed = {name: array[None] if single else array for name, array in arrays.items()}
        timesteps = min((len(array) for array in timed.values()), default=0)
        request = sequence_pb2.StepRequest(
            request_id=request_id,
            session_id=self.session_id,
            position=self.tail,
            inputs=[encode(name, array) for name, array in timed.items()],
            output_timesteps=sequence_pb2.OUTPUT_TIMESTEPS_LAST if last else sequence_pb2.OUTPUT_TIMESTEPS_ALL,
        )
        if timeout_seconds is not None:
            duration = Duration()
            duration.FromNanoseconds(round(timeout_seconds * 1e9))
            request.timeout.CopyFrom(duration)
        self.tail += timesteps
        return request, Asked(self, timesteps, single or last)

    def settle(self, asked: Asked, response: sequence_pb2.StepResponse | None) -> None:
        """Notes the outcome of a step. `None`: it is not known; if it did run, the server will call the next one STALE."""
        if response is None or response.HasField("error"):
            self.tail -= asked.timesteps
        else:
            self.position = response.position

    def answer(self, asked: Asked, response: sequence_pb2.StepResponse) -> Outputs:
        """Returns the outputs of a step; raises what the server says went wrong."""
        if response.HasField("error"):
            raise from_status(response.error)
        outputs = {tensor.name: decode(tensor) for tensor in response.outputs}
        if asked.single:
            outputs = {name: array[0] for name, array in outputs.items()}
        return next(iter(outputs.values())) if len(outputs) == 1 else outputs

    def _arrays(self, x: ArrayLike | None, extra: Mapping[str, ArrayLike]) -> dict[str, Array]:
        given = dict(extra)
        if x is not None:
            first = self.model.inputs[0].name
            if first in given:
                raise error(Reason.BAD_FIELD, f"{first}: given twice", field=first)
            given[first] = x
        return {name: _cast(self._tensor(name), value) for name, value in given.items()}

    def _tensor(self, name: str) -> TensorSpec:
        for tensor in self.model.inputs:
            if tensor.name == name:
                return tensor
        names = ", ".join(tensor.name for tensor in self.model.inputs)
        raise error(Reason.BAD_FIELD, f"{name}: not an input of {self.model.name!r}, which takes {names}", field=name)


def _cast(tensor: TensorSpec, value: ArrayLike) -> Array:
    """Returns the value in the input's dtype: numbers become floats, but a float never silently becomes an integer."""
    try:
        array = np.asarray(value)
    except ValueError as ragged:
        raise error(Reason.BAD_FIELD, f"{tensor.name}: {ragged}", field=tensor.name) from ragged
    kinds = {"f": "fiub", "i": "iu", "b": "b"}[np.dtype(tensor.dtype).kind]
    if array.dtype.kind not in kinds:
        raise error(Reason.BAD_FIELD, f"{tensor.name}: takes {tensor.dtype}, not {array.dtype}", field=tensor.name)
    if array.ndim not in (len(tensor.shape), len(tensor.shape) + 1) or (
        tensor.shape and array.shape[-len(tensor.shape) :] != tensor.shape
    ):
        one = list(tensor.shape)
        message = f"{tensor.name}: takes {one} for one timestep or {['timesteps', *one]} for several, not {list(array.shape)}"
        raise error(Reason.BAD_FIELD, message.replace("'", ""), field=tensor.name)
    if kinds == "iu" and array.size and not _fits(array, tensor.dtype):
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
    )


def open_request(model: str, version: int, session_id: str, idle_timeout_seconds: float | None) -> sequence_pb2.OpenSessionRequest:
    """Returns the request that opens a session."""
    request = sequence_pb2.OpenSessionRequest(model=model, version=version, session_id=session_id)
    if idle_timeout_seconds is not None:
        request.idle_timeout.FromNanoseconds(round(idle_timeout_seconds * 1e9))
    return request


def lost(address: str, cause: StatewiseError | None) -> StatewiseError:
    """Returns the error of a step whose stream ended before its answer."""
    message = f"the stream to {address} ended before the answer: the step may or may not have run"
    return Unavailable(f"{message} ({cause})" if cause else message)


def closed(address: str) -> StatewiseError:
    """Returns the error of a call on a client that was closed."""
    return Unavailable(f"this client of {address} is closed")
