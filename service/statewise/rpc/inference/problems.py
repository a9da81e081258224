"""Errors in Triton's words and with its codes, where it has some; others stay as they are."""

from __future__ import annotations

from statewise.errors import Reason, SessionGone, StatewiseError, error

NO_SEQUENCE = "must specify a non-zero or non-empty correlation ID"
_ENDED = {
    Reason.EXPIRED: "; it was idle for too long and has ended",
    Reason.CLOSED: "; it has ended",
    Reason.LOST: "; it was lost with the server that held it",
}


def bad(message: str, field: str) -> StatewiseError:
    """Returns INVALID_ARGUMENT."""
    return error(Reason.BAD_FIELD, message, field=field)


def not_begun(model: str, sequence: int | str, why: Reason | None = None) -> StatewiseError:
    """Returns what a request is told whose sequence is not open; why, if it was."""
    message = f"inference request for sequence {sequence} to model {model!r} must specify the START flag on the first request"
    return error(Reason.BAD_FIELD, f"{message} of the sequence{_ENDED.get(why, '') if why else ''}", field="sequence_start")


def unknown_model(model: str, version: int = 0) -> StatewiseError:
    """Returns what a request is told whose model the repository does not have."""
    told = f"{model!r} version {version}" if version else repr(model)
    return error(Reason.MODEL_UNKNOWN, f"Request for unknown model: {told} is not found")


def in_tritons_words(problem: StatewiseError, model: str, sequence: int | str) -> StatewiseError:
    """Returns what the client of a sequence is told of a problem: to Triton's clients a session that has ended never began."""
    if isinstance(problem, SessionGone):
        return not_begun(model, sequence, problem.reason)
    return problem
