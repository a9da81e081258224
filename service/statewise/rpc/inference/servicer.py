"""The methods of `inference.GRPCInferenceService`: decode, call, encode."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import grpc

from statewise.errors import ModelUnknown
from statewise.host import Host
from statewise.inference import open_inference_pb2 as wire
from statewise.inference import open_inference_pb2_grpc
from statewise.models import Served
from statewise.repository import RepositoryError
from statewise.rpc.inference import descriptions
from statewise.rpc.inference.calls import Call
from statewise.rpc.inference.problems import bad, unknown_model
from statewise.rpc.inference.requests import version
from statewise.rpc.inference.sequences import Sequences
from statewise.rpc.inference.streams import InferStream
from statewise.rpc.servicer import unary

Context = grpc.aio.ServicerContext[Any, Any]


class InferenceServicer(open_inference_pb2_grpc.GRPCInferenceServiceServicer):
    """`GRPCInferenceService` over a host.

    Args:
        model_control: whether clients may load and unload models.
        clock: that of the host.
    """

    def __init__(self, host: Host, *, model_control: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self._host = host
        self._model_control = model_control
        self._clock = clock
        self._sequences = Sequences(host, clock)
        self._streams: set[InferStream] = set()

    async def ServerLive(self, request: wire.ServerLiveRequest, context: Context) -> wire.ServerLiveResponse:
        """Tells that the server runs."""
        return wire.ServerLiveResponse(live=True)

    async def ServerReady(self, request: wire.ServerReadyRequest, context: Context) -> wire.ServerReadyResponse:
        """Tells whether requests are taken on; a model that is not served does not stop the others."""
        return wire.ServerReadyResponse(ready=self._host.accepts)

    @unary
    async def ModelReady(self, request: wire.ModelReadyRequest, context: Context) -> wire.ModelReadyResponse:
        """Tells whether a model is served."""
        ready = self._host.accepts and self._host.models.is_ready(request.name, version(request.version))
        return wire.ModelReadyResponse(ready=ready)

    async def ServerMetadata(self, request: wire.ServerMetadataRequest, context: Context) -> wire.ServerMetadataResponse:
        """Tells what the server is."""
        return descriptions.server()

    @unary
    async def ModelMetadata(self, request: wire.ModelMetadataRequest, context: Context) -> wire.ModelMetadataResponse:
        """Tells what a model takes and returns."""
        served = await self._served(request.name, request.version)
        return descriptions.metadata(served, self._host.models.repository.versions(served.name))

    @unary
    async def ModelConfig(self, request: wire.ModelConfigRequest, context: Context) -> wire.ModelConfigResponse:
        """Tells a model's configuration."""
        served = await self._served(request.name, request.version)
        return wire.ModelConfigResponse(config=descriptions.configuration(served, self._host.limits))

    @unary
    async def ModelStatistics(self, request: wire.ModelStatisticsRequest, context: Context) -> wire.ModelStatisticsResponse:
        """Tells what versions in memory have done."""
        number = version(request.version)
        ready = self._host.models.ready
        keys = [key for key in sorted(ready) if request.name in ("", key[0]) and number in (0, key[1])]
        if request.name and not keys:
            raise bad(f"requested model {request.name!r} is not available", "name")
        return wire.ModelStatisticsResponse(model_stats=[descriptions.statistics(ready[key]) for key in keys])

    @unary
    async def ModelInfer(self, request: wire.ModelInferRequest, context: Context) -> wire.ModelInferResponse:
        """Steps a sequence."""
        return await Call(self._host, self._sequences).reply(request, self._clock())

    async def ModelStreamInfer(self, request_iterator: object, context: Context) -> None:
        """Steps sequences."""
        stream = InferStream(self._host, self._sequences, self._clock)
        self._streams.add(stream)
        try:
            await stream.serve(context)
        finally:
            self._streams.discard(stream)

    @unary
    async def RepositoryIndex(self, request: wire.RepositoryIndexRequest, context: Context) -> wire.RepositoryIndexResponse:
        """Lists the repository."""
        _check_repository(request.repository_name)
        return descriptions.index(self._host, ready_only=request.ready)

    @unary
    async def RepositoryModelLoad(
        self, request: wire.RepositoryModelLoadRequest, context: Context
    ) -> wire.RepositoryModelLoadResponse:
        """Gives new sequences a model, and tries again where it could not be loaded."""
        await self._check_control(request.repository_name, context)
        if request.parameters:
            told = ", ".join(sorted(request.parameters))
            raise bad(f"parameters: a model is loaded as the repository has it, without {told}", "parameters")
        try:
            await self._host.models.load(request.model_name)
        except ModelUnknown:
            raise unknown_model(request.model_name) from None
        return wire.RepositoryModelLoadResponse()

    @unary
    async def RepositoryModelUnload(
        self, request: wire.RepositoryModelUnloadRequest, context: Context
    ) -> wire.RepositoryModelUnloadResponse:
        """Gives new sequences a model no more; those that are open go on."""
        await self._check_control(request.repository_name, context)
        try:
            await self._host.models.withhold(request.model_name)
        except ModelUnknown:
            raise unknown_model(request.model_name) from None
        return wire.RepositoryModelUnloadResponse()

    def end_streams(self) -> None:
        """Ends every open stream once its pending requests are answered; for the drain."""
        for stream in list(self._streams):
            stream.end()

    async def _served(self, name: str, told: str) -> Served:
        """Returns a model version; raises `StatewiseError` in Triton's words."""
        number = version(told)
        try:
            return await self._host.models.find(name, number, "")
        except (ModelUnknown, RepositoryError):
            raise unknown_model(name, number) from None

    async def _check_control(self, repository: str, context: Context) -> None:
        _check_repository(repository)
        if not self._model_control:
            message = "explicit model load / unload is not allowed; `statewise serve --model-control` allows it"
            await context.abort(grpc.StatusCode.UNAVAILABLE, message)


def _check_repository(name: str) -> None:
    if name:
        raise bad(f"repository_name: there is one repository, without a name, and none {name!r}", "repository_name")
