"""The parameters of a request: what they are called, which type each takes, and what they mean here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from statewise.errors import Reason, error
from statewise.inference import open_inference_pb2 as wire
from statewise.rpc.inference.problems import NO_SEQUENCE, bad

EMPTY_FINAL = "triton_enable_empty_final_response"
LONGEST_STRING_ID = 128
_RESERVED = "triton_"
_FARTHEST = 2**63 - 1
_TYPES = {
    "sequence_id": ("int64_param", "string_param"),
    "sequence_start": ("bool_param",),
    "sequence_end": ("bool_param",),
    "priority": ("int64_param", "uint64_param"),
    "timeout": ("int64_param",),
    "position": ("int64_param", "uint64_param"),
    EMPTY_FINAL: ("bool_param",),  # every request has one reply, which is never empty
}


class Parameters(NamedTuple):
    """What a request says of its sequence.

    Attributes:
        sequence: the sequence's id; integers are unsigned.
        start, end: whether the request is the first, or the last, of its sequence.
        position: how many timesteps the sequence will have consumed when its turn comes, or `None`.
        timeout_seconds: how long it may wait for its turn, or `None`.
    """

    sequence: int | str
    start: bool = False
    end: bool = False
    position: int | None = None
    timeout_seconds: float | None = None


def read(parameters: Mapping[str, wire.InferParameter], model: str) -> Parameters:
    """Returns what a request's parameters say; raises `InvalidInput` for one of a wrong type, and for want of an id."""
    given: dict[str, Any] = {name: _value(name, each) for name, each in parameters.items() if _known(name)}
    start, end = given.get("sequence_start", False), given.get("sequence_end", False)
    position, timeout = given.get("position"), given.get("timeout", 0)
    if position is not None and position < 0:
        raise bad("position: takes 0 or more timesteps", "position")
    if position and start:
        raise bad(f"position: a sequence starts at 0, not {position}", "position")
    sequence = _sequence(given.get("sequence_id", 0), model)
    microseconds = timeout if timeout > 0 else None
    return Parameters(
        sequence,
        start,
        end,
        None if position is None else min(position, _FARTHEST),
        None if microseconds is None else microseconds * 1e-6,
    )


def _known(name: str) -> bool:
    return name in _TYPES or name.startswith(_RESERVED)


def _value(name: str, parameter: wire.InferParameter) -> bool | int | str:
    if name not in _TYPES:
        told = f"parameter keys starting with {_RESERVED!r} are reserved; only {EMPTY_FINAL} is known, not {name!r}"
        raise bad(told, "parameters")
    given = parameter.WhichOneof("parameter_choice")
    if given not in _TYPES[name]:
        raise bad(f"invalid value type for {name!r} parameter, expected {' or '.join(_TYPES[name])}.", name)
    value: bool | int | str = getattr(parameter, given)
    return value


def _sequence(given: int | str, model: str) -> int | str:
    if not given:
        raise bad(f"inference request to model {model!r} {NO_SEQUENCE}", "sequence_id")
    if isinstance(given, int):
        return given % 2**64  # an int64 on the wire, read as an unsigned one
    if len(given.encode()) > LONGEST_STRING_ID:
        raise error(Reason.BAD_FIELD, f"string correlation ID cannot be longer than {LONGEST_STRING_ID} bytes", field="sequence_id")
    return given
