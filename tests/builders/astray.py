"""A router whose ring has changed: calls go to one server, and streams that are open stay where they were opened."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import grpc


@dataclass
class Router(grpc.GenericRpcHandler):
    """Forwards bytes to `home`, as it is when a call or a stream begins.

    Attributes:
        streams: how many streams were opened.
        split: where streams go all the same, if that is another server.
    """

    home: str
    address: str = ""
    streams: int = 0
    split: str = ""

    def service(self, details):
        """See `grpc.GenericRpcHandler`."""
        method = details.method

        async def call(request, context):
            return await self._call(method, request, context)

        async def stream(requests, _):
            async for response in self._stream(method, requests):
                yield response

        if method.endswith(("/Step", "/StepFrame")):
            return grpc.stream_stream_rpc_method_handler(stream)
        return grpc.unary_unary_rpc_method_handler(call)

    async def _call(self, method, request, context):
        async with grpc.aio.insecure_channel(self.home) as channel:
            try:
                return await channel.unary_unary(method)(request)
            except grpc.aio.AioRpcError as failed:
                context.set_trailing_metadata(failed.trailing_metadata())
                await context.abort(failed.code(), failed.details(), failed.trailing_metadata())

    async def _stream(self, method, requests):
        self.streams += 1
        async with grpc.aio.insecure_channel(self.split or self.home) as channel:
            async for response in channel.stream_stream(method)(requests):
                yield response


@contextlib.asynccontextmanager
async def routed(home: str) -> AsyncIterator[Router]:
    """Runs a router on a port of its own."""
    router = Router(home)
    server = grpc.aio.server(handlers=[router])
    router.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield router
    finally:
        await server.stop(None)
