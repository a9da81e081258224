"""An interceptor that counts calls, and gives each a request id that the lines of the log about it bear.

It costs a call some microseconds, and a message of a stream nothing.
"""

from __future__ import annotations

import asyncio
import inspect
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import structlog

from statewise.metrics import CallMetrics

REQUEST_ID = "x-request-id"
LONGEST_REQUEST_ID = 128
Context = grpc.aio.ServicerContext[Any, Any]
Details = grpc.HandlerCallDetails
Called = tuple[str, ...]
_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}


class CountCalls(grpc.aio.ServerInterceptor):
    """Counts the calls of methods that there are; names that clients make up are not counted, since there is no end to them."""

    def __init__(self, metrics: CallMetrics) -> None:
        self._metrics = metrics

    async def intercept_service(self, continuation: Callable[[Details], Awaitable[Any]], handler_call_details: Details) -> Any:
        """Returns the handler of a call, counted."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        called = (kind(handler.request_streaming, handler.response_streaming), *handler_call_details.method[1:].rsplit("/", 1))
        name = "_".join("stream" if streams else "unary" for streams in (handler.request_streaming, handler.response_streaming))
        behaviour = getattr(handler, name)
        counted = self._iterated(behaviour, called) if inspect.isasyncgenfunction(behaviour) else self._awaited(behaviour, called)
        made = getattr(grpc, f"{name}_rpc_method_handler")
        return made(counted, handler.request_deserializer, handler.response_serializer)

    def _awaited(self, behaviour: Callable[..., Awaitable[Any]], called: Called) -> Callable[..., Awaitable[Any]]:
        async def call(request: Any, context: Context) -> Any:
            began, code = self._begin(called, context), "UNKNOWN"
            try:
                answer = await behaviour(request, context)
                code = _code(context)
                return answer
            except asyncio.CancelledError:
                code = "CANCELLED"
                raise
            except grpc.aio.AbortError:
                code = _code(context)
                raise
            finally:
                self._end(called, code, began)

        return call

    def _iterated(self, behaviour: Callable[..., AsyncIterator[Any]], called: Called) -> Callable[..., AsyncIterator[Any]]:
        async def call(request: Any, context: Context) -> AsyncIterator[Any]:
            began, code = self._begin(called, context), "CANCELLED"
            try:
                async for answer in behaviour(request, context):
                    yield answer
                code = _code(context)
            finally:
                self._end(called, code, began)

        return call

    def _begin(self, called: Called, context: Context) -> float:
        self._metrics.started(*called).inc()
        given = next((str(value) for key, value in context.invocation_metadata() or () if key == REQUEST_ID), "")
        structlog.contextvars.bind_contextvars(request_id=given[:LONGEST_REQUEST_ID] or secrets.token_hex(8))
        return time.perf_counter()

    def _end(self, called: Called, code: str, began: float) -> None:
        self._metrics.handled(*called, code).inc()
        if called[0] == "unary":
            self._metrics.handling_seconds(*called).observe(time.perf_counter() - began)


def kind(requests_stream: bool, responses_stream: bool) -> str:
    """Returns what `grpc_type` calls a method."""
    if requests_stream:
        return "bidi_stream" if responses_stream else "client_stream"
    return "server_stream" if responses_stream else "unary"


def methods(service: Any) -> list[Called]:
    """Returns kind, service and name of each method of a service's descriptor."""
    return [(kind(method.client_streaming, method.server_streaming), service.full_name, method.name) for method in service.methods]


def _code(context: Context) -> str:
    """Returns the name of the status that a call ended with."""
    code = context.code()
    if isinstance(code, grpc.StatusCode):
        return code.name
    return _NAMES.get(code, "UNKNOWN") if code else "OK"
