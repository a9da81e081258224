"""Errors → gRPC statuses: the one table, and the details that travel with it."""

from __future__ import annotations

import math
from weakref import WeakKeyDictionary

import grpc
from google.protobuf import any_pb2
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from statewise.errors import Reason, StatewiseError

DOMAIN = "statewise"
LONGEST_MESSAGE = 1000
"""Bytes. A unary error travels in HTTP/2 headers, which carry 8 KiB, twice: percent-encoded, which makes three bytes of one that is
not ASCII, and in base64; and what a client sent may be echoed in it."""

CODE_OF_REASON: dict[Reason, grpc.StatusCode] = {
    Reason.AHEAD: grpc.StatusCode.OUT_OF_RANGE,
    Reason.BEHIND_FAILED: grpc.StatusCode.OUT_OF_RANGE,
    Reason.STALE: grpc.StatusCode.ALREADY_EXISTS,
    Reason.POSITION_REUSED: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.BAD_FIELD: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.NON_FINITE_INPUT: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.NON_FINITE_STATE: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.OVERLOADED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.EXPIRED_IN_QUEUE: grpc.StatusCode.DEADLINE_EXCEEDED,
    Reason.DRAINING: grpc.StatusCode.UNAVAILABLE,
    Reason.ENGINE_FAILED: grpc.StatusCode.INTERNAL,
    Reason.ALREADY_OPEN: grpc.StatusCode.ALREADY_EXISTS,
    Reason.MODEL_UNKNOWN: grpc.StatusCode.NOT_FOUND,
    Reason.NOT_HERE: grpc.StatusCode.UNAVAILABLE,
    Reason.UNKNOWN: grpc.StatusCode.NOT_FOUND,
    Reason.EXPIRED: grpc.StatusCode.NOT_FOUND,
    Reason.CLOSED: grpc.StatusCode.NOT_FOUND,
    Reason.LOST: grpc.StatusCode.NOT_FOUND,
    Reason.STORE_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    Reason.MOVED: grpc.StatusCode.UNAVAILABLE,
    Reason.MODEL_NOT_HERE: grpc.StatusCode.UNAVAILABLE,
    Reason.OWNER_CHANGED: grpc.StatusCode.ABORTED,
    Reason.ROLLED_BACK: grpc.StatusCode.DATA_LOSS,
    Reason.UNREADABLE: grpc.StatusCode.DATA_LOSS,
    Reason.UNAUTHENTICATED: grpc.StatusCode.UNAUTHENTICATED,
}

_made: WeakKeyDictionary[StatewiseError, status_pb2.Status] = WeakKeyDictionary()


def to_status(error: StatewiseError) -> status_pb2.Status:
    """Returns the status of an error, with ErrorInfo and, where there is a time to wait, RetryInfo.

    It is made once: a frame that is refused as a whole, and all that come to a full server, are told one and the same error.
    """
    status = _made.get(error)
    if status is None:
        status = _made[error] = _status(error)
    return status


def _status(error: StatewiseError) -> status_pb2.Status:
    code = CODE_OF_REASON[error.reason] if error.reason else grpc.StatusCode.UNKNOWN
    details = [_packed(error_details_pb2.ErrorInfo(reason=str(error.reason or ""), domain=DOMAIN, metadata=error.metadata))]
    if error.retry_after_seconds is not None:
        fraction, whole = math.modf(error.retry_after_seconds)
        delay = Duration(seconds=int(whole), nanos=int(fraction * 1e9))
        details.append(_packed(error_details_pb2.RetryInfo(retry_delay=delay)))
    return status_pb2.Status(code=code.value[0], message=_short(str(error)), details=details)


def _short(message: str) -> str:
    raw = message.encode()
    if len(raw) <= LONGEST_MESSAGE:
        return message
    return raw[: LONGEST_MESSAGE - len("…".encode())].decode(errors="ignore") + "…"


def _packed(message: error_details_pb2.ErrorInfo | error_details_pb2.RetryInfo) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
