"""The asyncio client: the same as the blocking one, with `await`. One stream carries the steps of all its sessions."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from types import TracebackType
from typing import Self

import grpc
from numpy.typing import ArrayLike

from statewise.client.exchange import CHANNEL_OPTIONS, Asked, Exchange, Model, Outputs, closed, lost, open_request
from statewise.client.failures import from_rpc
from statewise.client.synchronous import WINDOW
from statewise.errors import StatewiseError
from statewise.v1 import sequence_pb2, sequence_pb2_grpc

Answer = asyncio.Future[sequence_pb2.StepResponse]
Timesteps = Iterable[ArrayLike | Mapping[str, ArrayLike]] | AsyncIterable[ArrayLike | Mapping[str, ArrayLike]]


class AsyncClient:
    """A connection to one Statewise server, for one event loop. See `statewise.client.Client` for what holds of both."""

    def __init__(self, address: str = "127.0.0.1:8001", *, timeout_seconds: float = 30.0) -> None:
        self.address = address
        self._timeout_seconds = timeout_seconds
        self._channel = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
        self._closed = False
        self._stub = sequence_pb2_grpc.SequenceServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._numbers = itertools.count(1)
        self._stream: _Stream | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open_session(
        self, model: str, *, version: int = 0, session_id: str = "", idle_timeout_seconds: float | None = None
    ) -> AsyncSession:
        """Opens a session of a model; see `Client.open_session`."""
        request = open_request(model, version, session_id, idle_timeout_seconds)
        self._refuse_closed()
        try:
            opened = await self._stub.OpenSession(request, timeout=self._timeout_seconds)
        except grpc.RpcError as failed:
            raise from_rpc(failed, self.address) from None
        return AsyncSession(self, Exchange(opened))

    async def close(self) -> None:
        """Ends the connection. Sessions that were not closed live on in the server until they are idle for too long."""
        self._closed = True
        if self._stream:
            await self._stream.close()
            self._stream = None
        await self._channel.close()

    async def _close_session(self, session_id: str) -> bool:
        self._refuse_closed()
        request = sequence_pb2.CloseSessionRequest(session_id=session_id)
        try:
            return bool((await self._stub.CloseSession(request, timeout=self._timeout_seconds)).closed)
        except grpc.RpcError as failed:
            raise from_rpc(failed, self.address) from None

    def _send(
        self, exchange: Exchange, x: ArrayLike | None, extra: Mapping[str, ArrayLike], last: bool, timeout_seconds: float | None
    ) -> tuple[Asked, Answer]:
        self._refuse_closed()
        request, asked = exchange.ask(next(self._numbers), x, extra, last, timeout_seconds)
        if self._stream is None or self._stream.ended:
            self._stream = _Stream(self._stub, self.address)
        return asked, self._stream.send(request, asked)

    def _refuse_closed(self) -> None:
        if self._closed:
            raise closed(self.address)


class AsyncSession:
    """One conversation with a model; see `statewise.client.Session`."""

    def __init__(self, client: AsyncClient, exchange: Exchange) -> None:
        self._client = client
        self._exchange = exchange

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self.close()
        except StatewiseError:
            if error is None:
                raise

    def __repr__(self) -> str:
        return f"<AsyncSession {self.id} of {self.model.name}@{self.model.version} at {self.position}>"

    @property
    def id(self) -> str:
        """The name by which the server knows the session."""
        return self._exchange.session_id

    @property
    def model(self) -> Model:
        """The model version that the session is pinned to, with its inputs and outputs."""
        return self._exchange.model

    @property
    def position(self) -> int:
        """How many timesteps the session has consumed, as far as answers tell."""
        return self._exchange.position

    async def step(
        self, x: ArrayLike | None = None, *, last: bool = False, timeout_seconds: float | None = None, **inputs: ArrayLike
    ) -> Outputs:
        """Sends the next timesteps and returns the outputs; see `Session.step`.

        To cancel it gives up the answer, not the step: it runs all the same, and the next one comes after it.
        """
        asked, answer = self._client._send(self._exchange, x, inputs, last, timeout_seconds)
        return self._exchange.answer(asked, await answer)

    async def steps(self, timesteps: Timesteps, *, window: int = WINDOW) -> AsyncIterator[Outputs]:
        """Steps through an iterable, plain or asynchronous, and yields each output, in order; see `Session.steps`.

        An output is yielded as soon as it is there, also while an asynchronous iterable has nothing new to give.
        """
        sent: asyncio.Queue[tuple[Asked, Answer] | None] = asyncio.Queue()
        room = asyncio.Semaphore(window)
        sender = asyncio.create_task(self._send_each(timesteps, sent, room))
        try:
            while (under_way := await sent.get()) is not None:
                asked, answer = under_way
                yield self._exchange.answer(asked, await answer)
                room.release()
            await sender
        except (Exception, GeneratorExit):
            await _abandon(sender)
            rest = [sent.get_nowait() for _ in range(sent.qsize())]
            # Their outcomes are waited for, so that the position is known when the caller goes on.
            await asyncio.gather(*(under_way[1] for under_way in rest if under_way), return_exceptions=True)
            raise
        finally:
            await _abandon(sender)

    async def _send_each(
        self, timesteps: Timesteps, sent: asyncio.Queue[tuple[Asked, Answer] | None], room: asyncio.Semaphore
    ) -> None:
        try:
            async for item in _each(timesteps):
                await room.acquire()
                x, extra = (None, item) if isinstance(item, Mapping) else (item, {})
                sent.put_nowait(self._client._send(self._exchange, x, extra, False, None))
        finally:
            sent.put_nowait(None)

    async def close(self) -> bool:
        """Ends the session and frees its state; returns whether this call ended it. May be called again."""
        return await self._client._close_session(self.id)


class _Stream:
    """A bidirectional call: a queue of requests, and a task that settles each response and hands it to who waits."""

    def __init__(self, stub: sequence_pb2_grpc.SequenceServiceStub, address: str) -> None:
        self.ended = False
        self._address = address
        self._requests: asyncio.Queue[sequence_pb2.StepRequest | None] = asyncio.Queue()
        self._under_way: dict[int, tuple[Asked, Answer]] = {}
        self._call = stub.Step(self._sent())
        self._reader = asyncio.create_task(self._read())

    def send(self, request: sequence_pb2.StepRequest, asked: Asked) -> Answer:
        answer: Answer = asyncio.get_running_loop().create_future()
        answer.add_done_callback(_seen)
        self._under_way[request.request_id] = asked, answer
        self._requests.put_nowait(request)
        return answer

    async def close(self) -> None:
        self._requests.put_nowait(None)
        self._call.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)

    async def _sent(self) -> AsyncIterator[sequence_pb2.StepRequest]:
        while (request := await self._requests.get()) is not None:
            yield request

    async def _read(self) -> None:
        cause = None
        try:
            async for response in self._call:
                asked, answer = self._under_way.pop(response.request_id)
                asked.exchange.settle(asked, response)
                if not answer.done():
                    answer.set_result(response)
        except grpc.RpcError as failed:
            cause = from_rpc(failed, self._address)
        finally:
            self.ended = True
            self._requests.put_nowait(None)
            for asked, answer in self._under_way.values():
                asked.exchange.settle(asked, None)
                if not answer.done():
                    answer.set_exception(lost(self._address, cause))
            self._under_way.clear()


def _seen(answer: Answer) -> None:
    """Marks a failure as seen: whoever gave up waiting for an answer need not hear that it failed."""
    if not answer.cancelled():
        answer.exception()


async def _abandon(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


async def _each(timesteps: Timesteps) -> AsyncIterator[ArrayLike | Mapping[str, ArrayLike]]:
    if isinstance(timesteps, AsyncIterable):
        async for item in timesteps:
            yield item
    else:
        for item in timesteps:
            yield item
