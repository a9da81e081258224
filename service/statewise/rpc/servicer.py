"""The methods of `statewise.v1.SequenceService`: decode, call, encode.

A `Step` stream has a reader, which submits what arrives, and a writer, which sends what is answered. At most `STREAM_STEPS` steps
of a stream are unanswered or unsent at a time; past that it is not read, so a client that does not read its answers stops being
served.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, NoReturn, Protocol

import grpc
import structlog
from grpc_status import rpc_status

from statewise.conversation import Closed, Opened, Reply, Step
from statewise.errors import Reason, StatewiseError, error
from statewise.rpc import codec
from statewise.rpc.status import to_status
from statewise.v1 import sequence_pb2, sequence_pb2_grpc

STREAM_STEPS = 256
Context = grpc.aio.ServicerContext[Any, Any]
log = structlog.get_logger()


class Conversations(Protocol):
    """What the servicer needs of the batcher."""

    async def open(self, model: str, version: int, session_id: str, idle_timeout_seconds: float | None) -> Opened:
        """Opens a session."""
        ...

    async def close(self, session_id: str) -> Closed:
        """Closes a session."""
        ...

    def submit(self, step: Step) -> asyncio.Future[Reply]:
        """Admits a step."""
        ...

    def position(self, session_id: str) -> int:
        """Returns a session's position, 0 if it is not open."""
        ...

    def only_input(self, session_id: str) -> str | None:
        """Returns the name of the only input of a session's model; `None` if there are several or no such session."""
        ...


class SequenceServicer(sequence_pb2_grpc.SequenceServiceServicer):
    """The native protocol over `conversations`."""

    def __init__(self, conversations: Conversations) -> None:
        self.instance = secrets.token_hex(8)
        self._conversations = conversations
        self._streams: set[_StepStream] = set()

    async def OpenSession(self, request: sequence_pb2.OpenSessionRequest, context: Context) -> sequence_pb2.OpenSessionResponse:
        """Opens a session."""
        timeout = codec.seconds(request.idle_timeout) if request.HasField("idle_timeout") else None
        try:
            if request.version < 0:
                raise error(Reason.BAD_FIELD, "version: takes a positive integer, or 0 for the default", field="version")
            opened = await self._conversations.open(request.model, request.version, request.session_id, timeout)
        except StatewiseError as refused:
            await _abort(context, refused)
        return codec.open_response(opened, self.instance)

    async def CloseSession(self, request: sequence_pb2.CloseSessionRequest, context: Context) -> sequence_pb2.CloseSessionResponse:
        """Closes a session."""
        return codec.close_response(await self._conversations.close(request.session_id))

    async def Step(
        self, request_iterator: AsyncIterator[sequence_pb2.StepRequest], context: Context
    ) -> AsyncIterator[sequence_pb2.StepResponse]:
        """Steps sessions."""
        stream = _StepStream(self._conversations)
        self._streams.add(stream)
        try:
            async with contextlib.aclosing(stream.responses(request_iterator)) as responses:
                async for response in responses:
                    yield response
        finally:
            self._streams.discard(stream)

    def end_streams(self) -> None:
        """Ends every open stream once its pending steps are answered; for the drain."""
        for stream in self._streams:
            stream.end()


class _StepStream:
    """One client's stream. `_unanswered` and `_ended` are changed by the event loop alone."""

    def __init__(self, conversations: Conversations) -> None:
        self._conversations = conversations
        self._room = asyncio.Semaphore(STREAM_STEPS)
        self._answered: asyncio.Queue[sequence_pb2.StepResponse | None] = asyncio.Queue()
        self._unanswered: set[asyncio.Future[Reply]] = set()
        self._ended = False

    async def responses(self, requests: AsyncIterator[sequence_pb2.StepRequest]) -> AsyncGenerator[sequence_pb2.StepResponse]:
        """Yields an answer to each request, in the order in which they are ready, until the client and its steps are done."""
        reader = asyncio.create_task(self._read(requests))
        try:
            while (response := await self._answered.get()) is not None:
                yield response
                self._room.release()
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            for answer in list(self._unanswered):
                answer.cancel()

    def end(self) -> None:
        """Reads no more; the stream ends when everything read is answered."""
        self._ended = True
        self._end_if_done()

    async def _read(self, requests: AsyncIterator[sequence_pb2.StepRequest]) -> None:
        try:
            async for request in requests:
                await self._room.acquire()
                self._submit(request)
        finally:
            self.end()

    def _submit(self, request: sequence_pb2.StepRequest) -> None:
        try:
            answer = self._conversations.submit(codec.step(request, self._conversations.only_input(request.session_id)))
        except Exception as problem:  # noqa: BLE001 (a fault of ours costs one step, not the stream)
            self._answered.put_nowait(self._refusal(request, problem))
            return
        self._unanswered.add(answer)
        answer.add_done_callback(lambda done: self._answer(request, done))

    def _answer(self, request: sequence_pb2.StepRequest, answer: asyncio.Future[Reply]) -> None:
        self._unanswered.discard(answer)
        if not answer.cancelled():
            failure = answer.exception()
            response = self._refusal(request, failure) if failure else codec.step_response(request, answer.result())
            self._answered.put_nowait(response)
        self._end_if_done()

    def _refusal(self, request: sequence_pb2.StepRequest, problem: BaseException) -> sequence_pb2.StepResponse:
        if not isinstance(problem, StatewiseError):
            log.error("a step failed unexpectedly", session=request.session_id, exc_info=problem)
            problem = error(Reason.ENGINE_FAILED, "the server failed on this step; its log says why")
        return sequence_pb2.StepResponse(
            request_id=request.request_id,
            session_id=request.session_id,
            position=self._conversations.position(request.session_id),
            error=to_status(problem),
        )

    def _end_if_done(self) -> None:
        if self._ended and not self._unanswered:
            self._answered.put_nowait(None)


async def _abort(context: Context, refused: StatewiseError) -> NoReturn:
    status = rpc_status.to_status(to_status(refused))
    await context.abort_with_status(status)
    raise AssertionError("abort raises")
