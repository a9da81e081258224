"""A request of a sequence, from its message to the step that it becomes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from statewise.conversation import Answer, Array, Asker
from statewise.errors import StatewiseError
from statewise.inference import open_inference_pb2 as wire
from statewise.opening import LONGEST_ID
from statewise.rpc.inference import parameters, tensors
from statewise.rpc.inference.parameters import Parameters
from statewise.rpc.inference.problems import bad
from statewise.spec import TensorSpec

PREFIX = "triton/"
"""What the ids of sessions begin with that are sequences of this protocol."""
_VERSION = re.compile(r"[1-9][0-9]{0,17}")


class Client(Asker, Protocol):
    """Who sent requests, and hears what becomes of each."""

    def deliver(self, request: Request, answer: Answer, row: int) -> None:
        """Takes the outcome of a request: a row of an answer."""
        ...

    def fail(self, request: Request, position: int, problem: StatewiseError) -> None:
        """Takes why a request failed, and where its sequence stands."""
        ...


@dataclass(slots=True, eq=False)
class Request:
    """One request. It is compared by identity.

    Attributes:
        session_id: of the session that is its sequence.
        version: of the model, or 0 for any.
        arrays: what it brings, `[1, …]` each; given away when the step is asked for.
        outputs: the names of those that are wanted; empty: all.
        deadline: when it has waited for too long, in seconds of the steady clock, or `None`.
        served_version: the model version that the sequence is on, once known.
        returns: what that version returns.
        timed: whether its tensors have an axis of time, once known.
        opened: whether it has opened the session that it is the first request of.
        identity: what tells it from another first or last request of its sequence; empty if it tells no position.
    """

    client: Client
    request_id: str
    model: str
    version: int
    told: Parameters
    session_id: str
    arrays: Mapping[str, Array]
    outputs: tuple[str, ...]
    deadline: float | None
    served_version: str = ""
    returns: tuple[TensorSpec, ...] = ()
    timed: bool = False
    opened: bool = False
    identity: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.identity = _identity(self) if self.told.position is not None and self.alone else b""

    @property
    def alone(self) -> bool:
        """Whether nothing of its sequence may be under way beside it."""
        return self.told.start or self.told.end

    @property
    def bytes(self) -> int:
        """What it holds while it waits."""
        return sum(array.nbytes for array in self.arrays.values())


def read(message: wire.ModelInferRequest, client: Client, now: float) -> Request:
    """Returns the request that a message holds; raises `InvalidInput`."""
    told = parameters.read(message.parameters, message.model_name)
    for output in message.outputs:
        if output.parameters:
            raise bad(f"output {output.name!r}: takes no parameters ({', '.join(sorted(output.parameters))})", "outputs")
    return Request(
        client,
        message.id,
        message.model_name,
        version(message.model_version),
        told,
        session_id(message.model_name, told.sequence),
        tensors.read(message),
        tuple(dict.fromkeys(output.name for output in message.outputs)),
        None if told.timeout_seconds is None else now + told.timeout_seconds,
    )


def version(told: str) -> int:
    """Returns the number of a version, 0 for an empty one; raises `InvalidInput`."""
    if not told:
        return 0
    if not _VERSION.fullmatch(told):
        raise bad(f"model_version: takes an integral value > 0, or nothing, not {told!r}", "model_version")
    return int(told)


def session_id(model: str, sequence: int | str) -> str:
    """Returns the id of the session that is a sequence: 7 and "7" are two, as the same id of two models is."""
    kind = "int" if isinstance(sequence, int) else "str"
    name = f"{PREFIX}{model}/{kind}/{sequence}"
    return name if len(name.encode()) <= LONGEST_ID else PREFIX + hashlib.sha256(name.encode()).hexdigest()


def _identity(request: Request) -> bytes:
    """Returns what tells a repeated first or last request from another one: its id and what it brings."""
    digest = hashlib.blake2b(f"{request.session_id}\0{request.request_id}\0{request.version}".encode(), digest_size=32)
    for name in sorted(request.arrays):
        array = request.arrays[name]
        digest.update(f"\0{name}\0{array.dtype}\0{array.shape}\0".encode())
        digest.update(array.tobytes())
    return digest.digest()
