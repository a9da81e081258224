"""The methods of `statewise.v1`: decode, call, encode."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpc
from grpc_status import rpc_status

from statewise.errors import Reason, StatewiseError, error
from statewise.host import Host
from statewise.rpc import codec
from statewise.rpc.status import to_status
from statewise.rpc.streams import FrameStream, StepStream, Stream
from statewise.sealing import is_sealed
from statewise.tensors import encode
from statewise.v1 import model_pb2, model_pb2_grpc, sequence_pb2, sequence_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]
S = TypeVar("S")
Q = TypeVar("Q")
P = TypeVar("P")


def unary(method: Callable[[S, Q, Context], Awaitable[P]]) -> Callable[[S, Q, Context], Awaitable[P]]:
    """Makes errors of a method the status of its call."""

    @functools.wraps(method)
    async def answered(self: S, request: Q, context: Context) -> P:
        try:
            return await method(self, request, context)
        except StatewiseError as refused:
            await context.abort_with_status(rpc_status.to_status(to_status(refused)))
            raise AssertionError("abort raises") from None

    return answered


class SequenceServicer(sequence_pb2_grpc.SequenceServiceServicer):
    """`SequenceService` over a host."""

    def __init__(self, host: Host, *, snapshots: bool = False) -> None:
        self._host = host
        self._snapshots = snapshots
        self._streams: set[Stream[Any, Any]] = set()

    @unary
    async def OpenSession(self, request: sequence_pb2.OpenSessionRequest, context: Context) -> sequence_pb2.OpenSessionResponse:
        """Opens a session."""
        if request.snapshot and not (is_sealed(request.snapshot) and self._host.sealer):
            self._check_snapshots()
        return codec.open_response(await self._host.open(codec.opening(request)), self._host.instance)

    @unary
    async def GetSession(self, request: sequence_pb2.GetSessionRequest, context: Context) -> sequence_pb2.GetSessionResponse:
        """Tells where a session stands."""
        return codec.get_response(self._host.find(request.session_id))

    @unary
    async def CloseSession(self, request: sequence_pb2.CloseSessionRequest, context: Context) -> sequence_pb2.CloseSessionResponse:
        """Closes a session."""
        return codec.close_response(await self._host.close(request.session_id))

    @unary
    async def ForkSession(self, request: sequence_pb2.ForkSessionRequest, context: Context) -> sequence_pb2.ForkSessionResponse:
        """Opens a session at the state of another."""
        opened = await self._host.fork_alike(request.session_id, request.new_session_id, request.open_token)
        return sequence_pb2.ForkSessionResponse(session=codec.open_response(opened, self._host.instance))

    @unary
    async def SnapshotSession(
        self, request: sequence_pb2.SnapshotSessionRequest, context: Context
    ) -> sequence_pb2.SnapshotSessionResponse:
        """Returns a session's state."""
        sealer = self._host.sealer
        if sealer is None:
            self._check_snapshots()
        taken = await self._host.snapshot(request.session_id)
        states = [encode(name, array) for name, array in taken.states.items()] if request.states else []
        raw = sealer.seal(taken.session_id, taken.to_bytes()) if sealer else taken.to_bytes()
        return sequence_pb2.SnapshotSessionResponse(snapshot=raw, position=taken.position, states=states)

    async def Step(self, request_iterator: object, context: Context) -> None:
        """Steps sessions."""
        await self._serve(StepStream(self._host), context)

    async def StepFrame(self, request_iterator: object, context: Context) -> None:
        """Steps many sessions with each message."""
        await self._serve(FrameStream(self._host), context)

    def end_streams(self) -> None:
        """Ends every open stream once its pending steps are answered; for the drain."""
        for stream in list(self._streams):
            stream.end()

    async def _serve(self, stream: Stream[Any, Any], context: Context) -> None:
        self._streams.add(stream)
        try:
            await stream.serve(context)
        finally:
            self._streams.discard(stream)

    def _check_snapshots(self) -> None:
        if not self._snapshots:
            message = "snapshot: clients could alter it, so it is sealed (`statewise serve --seal-keys`), or --unsealed-snapshots"
            raise error(Reason.BAD_FIELD, message, field="snapshot")


class ModelServicer(model_pb2_grpc.ModelServiceServicer):
    """`ModelService` over a host."""

    def __init__(self, host: Host) -> None:
        self._host = host

    @unary
    async def ListModels(self, request: model_pb2.ListModelsRequest, context: Context) -> model_pb2.ListModelsResponse:
        """Lists the models of the repository."""
        names = self._host.models.repository.models()
        return model_pb2.ListModelsResponse(models=[codec.summary(self._host, name) for name in names])

    @unary
    async def GetModel(self, request: model_pb2.GetModelRequest, context: Context) -> model_pb2.GetModelResponse:
        """Tells all of one model."""
        served = await self._host.models.find(request.name, request.version, "")
        return model_pb2.GetModelResponse(
            model=codec.model(served),
            summary=codec.summary(self._host, request.name),
            limits=codec.limits(self._host.limits),
            series=codec.series(served.spec),
        )
