"""What the wire says went wrong → the error that the caller sees."""

from __future__ import annotations

from typing import cast

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from statewise.errors import CLASS_OF_REASON, Reason, StatewiseError, Unavailable


def from_status(status: status_pb2.Status) -> StatewiseError:
    """Returns the error of a status: its class by the ErrorInfo's reason, with its metadata and the time to wait."""
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    delay = None
    for detail in status.details:
        detail.Unpack(info)
        if detail.Unpack(retry):
            delay = retry.retry_delay.seconds + retry.retry_delay.nanos * 1e-9
    if info.reason not in Reason.__members__:
        return StatewiseError(status.message, retry_after_seconds=delay)
    reason = Reason(info.reason)
    return CLASS_OF_REASON[reason](status.message, reason, retry_after_seconds=delay, **dict(info.metadata))


def from_rpc(error: grpc.RpcError, address: str) -> StatewiseError:
    """Returns the error of a failed call; one without details comes from below the protocol."""
    call = cast(grpc.Call, error)  # every error of a call is also the call; the stubs do not say so
    status = rpc_status.from_call(call)
    if status is not None and status.details:
        return from_status(status)
    if call.code() == grpc.StatusCode.UNAVAILABLE:
        return Unavailable(f"no Statewise server answers on {address}: {call.details()}")
    if call.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
        return Unavailable(f"the server on {address} has not answered in time")
    if call.code() == grpc.StatusCode.CANCELLED:
        return Unavailable(f"the stream to {address} has ended")
    return StatewiseError(f"{address}: {call.code().name}: {call.details()}")


def from_stream(error: grpc.RpcError, address: str) -> StatewiseError:
    """Returns the error of a broken stream; whatever broke it below the protocol, another one may be opened."""
    problem = from_rpc(error, address)
    if problem.reason is None and cast(grpc.Call, error).code() in (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL):
        return Unavailable(str(problem))
    return problem


def lost(address: str, cause: StatewiseError | None) -> StatewiseError:
    """Returns the error of a step whose answer cannot be had; `cause` names the address."""
    return Unavailable(f"the step was not answered, and may or may not have run: {cause or f'{address} cannot be reached again'}")


def unreachable(broke: StatewiseError, waited_seconds: float) -> StatewiseError:
    """Returns why nothing can be had any more from a server whose stream broke, after so long."""
    return Unavailable(f"{broke}; it has not been reached again for {waited_seconds:g} s")


def closed(address: str) -> StatewiseError:
    """Returns the error of a call on a client that was closed."""
    return Unavailable(f"this client of {address} is closed")
