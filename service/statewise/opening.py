"""What opening a session means: what clients ask for, what they get, and what is refused before anything is done for it. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

import numpy as np

from statewise.config import Limits
from statewise.conversation import Array
from statewise.durability import Durability, Keeping
from statewise.errors import Reason, error
from statewise.inputs import check_constants
from statewise.models import Served
from statewise.pool import initial
from statewise.sessions import Retained
from statewise.snapshot import Snapshot, Terms

LONGEST_ID = 128
LONGEST_TOKEN = 64
LONGEST_CHECKPOINT = 1_000_000
RETAINED_REPLIES = 4


class Mode(Enum):
    """What an open does if the session id is taken, or is not."""

    CREATE = auto()
    RESUME = auto()
    CREATE_OR_RESUME = auto()
    RESTART = auto()


@dataclass(frozen=True, slots=True)
class Open:
    """What a client asks to open; 0, `None` and empty mean the default.

    `number` is what a model's input for a correlation id is told of the session; by default one that no other open session has.
    """

    model: str = ""
    version: int = 0
    session_id: str = ""
    idle_timeout_seconds: float | None = None
    mode: Mode = Mode.CREATE
    retained_replies: int = 0
    token: bytes = b""
    snapshot: bytes = b""
    server_instance: str = ""
    constants: Mapping[str, Array] = field(default_factory=dict)
    number: int = 0
    durability: Durability | None = None
    checkpoint_every: int = 0
    durable_position: int = 0


@dataclass(frozen=True, slots=True)
class Opened:
    """An open session."""

    session_id: str
    handle: int
    model: Served
    position: int
    idle_timeout_seconds: float
    retained_replies: int
    resumed: bool = False
    keeping: Keeping = field(default_factory=Keeping)
    durable_position: int = 0


def check_lengths(session_id: str, token: bytes) -> None:
    """Refuses ids and tokens that are too long."""
    if len(session_id.encode()) > LONGEST_ID:
        raise error(Reason.BAD_FIELD, f"session_id: takes at most {LONGEST_ID} bytes", field="session_id")
    if len(token) > LONGEST_TOKEN:
        raise error(Reason.BAD_FIELD, f"open_token: takes at most {LONGEST_TOKEN} bytes", field="open_token")


def terms_of(asked: Open, limits: Limits, default: Keeping, *, storable: bool) -> Terms:
    """Returns the terms that an open asks for, an idle timeout of 0 where it names none; raises `InvalidInput`."""
    timeout = _timeout(asked.idle_timeout_seconds, limits)
    return Terms(timeout, _retained(asked, limits), _keeping(asked, default, storable), asked.token, asked.number)


def given(served: Served, constants: Mapping[str, Array]) -> dict[str, Array]:
    """Returns the states that a session with these constants starts from; none where it is the model's own initial state."""
    check_constants(served.spec, constants)
    if not constants:
        return {}
    states = served.spec.states
    return {each.input: constants[each.input] if each.input in constants else initial(each) for each in states}


def restored(snapshot: Snapshot, served: Served, constants: Mapping[str, Array]) -> Mapping[str, Array]:
    """Returns the states of a snapshot if they are a session's of this model file."""
    if constants:
        message = f"constants: a snapshot holds what its session was given, so none can be given with it ({', '.join(constants)})"
        raise error(Reason.BAD_FIELD, message, field="constants")
    if snapshot.digest != served.loaded.digest:
        raise error(
            Reason.BAD_FIELD, f"snapshot: it is of another model file than {served.name}@{served.version}", field="snapshot"
        )
    if snapshot.spec_digest and snapshot.spec_digest != served.spec_digest:
        raise error(Reason.BAD_FIELD, f"snapshot: it is of another spec than {served.name}@{served.version}", field="snapshot")
    return fitting(snapshot, served)


def fitting(snapshot: Snapshot, served: Served) -> Mapping[str, Array]:
    """Returns the states of a snapshot if they are such as the model has."""
    wanted = {state.input: (state.shape, state.dtype) for state in served.spec.states}
    if {name: (array.shape, array.dtype.name) for name, array in snapshot.states.items()} != wanted:
        raise error(Reason.BAD_FIELD, "snapshot: its states are not those of the model", field="snapshot")
    for state in served.spec.states:
        if state.finite and not np.isfinite(snapshot.states[state.input]).all():
            raise error(Reason.BAD_FIELD, f"snapshot: its state {state.input!r} is not finite", field="snapshot")
    return snapshot.states


def begun(session_id: str, served: Served, states: Mapping[str, Array], terms: Terms, snapshot: Snapshot | None) -> Snapshot:
    """Returns a session as it begins: from the model's initial state, or from states that were given, or from a snapshot."""
    first = states or {each.input: initial(each) for each in served.spec.states}
    about = (served.name, served.version, served.loaded.digest, snapshot.position if snapshot else 0, first, served.spec_digest)
    replies = snapshot.replies if snapshot and snapshot.session_id == session_id else Retained()
    return Snapshot(*about, session_id, None, replies, terms)


def _retained(asked: Open, limits: Limits) -> int:
    if asked.retained_replies > limits.retained_replies:
        message = f"retained_replies: takes 1 to {limits.retained_replies}, or 0 for {RETAINED_REPLIES}"
        raise error(Reason.BAD_FIELD, message, field="retained_replies")
    return asked.retained_replies or RETAINED_REPLIES


def _keeping(asked: Open, default: Keeping, storable: bool) -> Keeping:
    """Returns how durable a session is to be; raises `InvalidInput` where there is no store for it."""
    keeping = Keeping(asked.durability or default.durability, asked.checkpoint_every or default.every)
    if keeping.every > LONGEST_CHECKPOINT:
        message = f"checkpoint_every: takes 1 to {LONGEST_CHECKPOINT} timesteps, or 0 for {default.every}"
        raise error(Reason.BAD_FIELD, message, field="checkpoint_every")
    if keeping.durability is not Durability.MEMORY and not storable:
        message = f"durability: {keeping.durability.name.lower()} takes a server with a store (statewise serve --store)"
        raise error(Reason.BAD_FIELD, message, field="durability")
    return keeping


def _timeout(asked: float | None, limits: Limits) -> float:
    if asked is None:
        return 0.0
    if not 0 < asked <= limits.longest_idle_timeout_seconds:
        message = f"idle_timeout: takes more than 0 and at most {limits.longest_idle_timeout_seconds:g} seconds"
        raise error(Reason.BAD_FIELD, message, field="idle_timeout")
    return asked
