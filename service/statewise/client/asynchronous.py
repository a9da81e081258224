"""The asyncio client: sessions, and frames of sessions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
from numpy.typing import ArrayLike

from statewise.client.access import Access
from statewise.client.casts import constants_of
from statewise.client.described import Model, read_described
from statewise.client.exchange import Asked, Exchange, Outputs, check_replayed
from statewise.client.failures import closed, from_rpc
from statewise.client.framed import Framed
from statewise.client.frames import Columns
from statewise.client.known import Known
from statewise.client.lane import Answer, Lane
from statewise.client.opening import fork_request, open_request, resume_request
from statewise.client.recovery import CALLED_AGAIN, KEPT_BYTES, may_be_tried_again, replay, waits
from statewise.errors import StatewiseError, Unavailable
from statewise.v1 import model_pb2, model_pb2_grpc, sequence_pb2, sequence_pb2_grpc

CALLS = 128
"""The most calls under way that open, close, fork or take snapshots; more would be no faster, and a server refuses too many."""

Timesteps = Iterable[ArrayLike | Mapping[str, ArrayLike]] | AsyncIterable[ArrayLike | Mapping[str, ArrayLike]]


class AsyncClient:
    """A connection to one Statewise server, for one event loop.

    Steps of its sessions that are asked for at about the same time travel together. If the connection breaks, the client opens
    another and sends again what was not answered; no step is lost and none runs twice. What it cannot reach again within
    `timeout_seconds` raises `Unavailable`.

    Args:
        address: `host:port`.
        timeout_seconds: for opening and closing sessions, and for reaching the server, or another one, again.
        tls: speak TLS, with the certificate authorities that gRPC brings.
        tls_ca: speak TLS, with the authorities of this PEM file.
        tls_certificate, tls_key: PEM files that say who the client is, where the server asks for them.
        bearer_key: a key that the server knows; sent over TLS, or on this machine.
        routing_key: what routers send this client's calls by (`x-session-id`), all to one server; `None`: a key of its own. Clients
            that share sessions share it, too.

    Raises:
        InvalidInput: these do not go together, or a file cannot be read.
    """

    def __init__(
        self,
        address: str = "127.0.0.1:8001",
        *,
        timeout_seconds: float = 30.0,
        tls: bool = False,
        tls_ca: str | Path | None = None,
        tls_certificate: str | Path | None = None,
        tls_key: str | Path | None = None,
        bearer_key: str = "",
        routing_key: str | None = None,
    ) -> None:
        access = Access(address, tls, tls_ca, tls_certificate, tls_key, bearer_key, routing_key)
        self._metadata = access.metadata()
        self.address = address
        self._timeout_seconds = timeout_seconds
        self._channel = access.channel(grpc.aio)
        self._closed = False
        self._calls = asyncio.Semaphore(CALLS)
        self._stub = sequence_pb2_grpc.SequenceServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._models = model_pb2_grpc.ModelServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._lane = Lane(self._channel, address, self._resume, timeout_seconds, self._metadata)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open_session(
        self,
        model: str,
        *,
        version: int = 0,
        session_id: str = "",
        idle_timeout_seconds: float | None = None,
        resume: bool = False,
        retained_replies: int = 0,
        snapshot: bytes = b"",
        constants: Mapping[str, ArrayLike] | None = None,
        durability: str = "",
        checkpoint_every: int = 0,
        kept_bytes: int = KEPT_BYTES,
    ) -> AsyncSession:
        """Opens a session of a model; see `Client.open_session`."""
        given = constants_of(await self.model(model, version), constants) if constants else ()
        told = (idle_timeout_seconds, resume, retained_replies, snapshot, given, durability, checkpoint_every)
        request = open_request(model, version, session_id, *told)
        return AsyncSession(self, Exchange(await self._call(self._stub.OpenSession, request), kept_bytes))

    async def model(self, name: str, version: int = 0) -> Model:
        """Returns what a model takes and returns, without opening a session; see `Client.model`."""
        return read_described(await self._call(self._models.GetModel, model_pb2.GetModelRequest(name=name, version=version)))

    def frame(self, sessions: Sequence[AsyncSession]) -> AsyncFrame:
        """Returns the sessions as one, to be stepped together: the fastest way, where their timesteps come together."""
        return AsyncFrame(self, [session._exchange for session in sessions])

    async def close(self) -> None:
        """Ends the connection. Sessions that were not closed live on in the server until they are idle for too long."""
        self._closed = True
        await self._lane.close()
        await self._channel.close()

    async def _resume(self, exchange: Exchange) -> None:
        """Finds a session again and brings it to where its caller knows it; tries for as long as the client has patience."""
        give_up = asyncio.get_running_loop().time() + self._timeout_seconds
        for pause in waits():
            try:
                opened = await self._call_once(self._stub.OpenSession, resume_request(exchange))
                if opened.position < exchange.position:
                    await self._replay(exchange, opened)
                exchange.resumed(opened)
                return
            except StatewiseError as problem:
                if not may_be_tried_again(problem) or asyncio.get_running_loop().time() > give_up:
                    raise
            await asyncio.sleep(pause)

    async def _replay(self, exchange: Exchange, opened: sequence_pb2.OpenSessionResponse) -> None:
        given = self._lane.kept.since(exchange, opened.position, exchange.position)
        call = self._stub.StepFrame(metadata=self._metadata)
        try:
            for request in replay(given, opened.position, opened.handle):
                await call.write(request)
                check_replayed(await call.read())
            await call.done_writing()
        except (grpc.RpcError, asyncio.InvalidStateError) as failed:
            raise Unavailable(f"the stream to {self.address} broke: {failed}") from None
        finally:
            call.cancel()

    async def _call(self, method: Any, request: Any) -> Any:
        """Calls; what a server refuses that is about to stop, or that has lost its store, is asked again for a while."""
        give_up = asyncio.get_running_loop().time() + self._timeout_seconds
        for pause in waits():
            try:
                return await self._call_once(method, request)
            except Unavailable as problem:
                if problem.reason not in CALLED_AGAIN or asyncio.get_running_loop().time() > give_up:
                    raise
            await asyncio.sleep(pause)
        raise AssertionError("waits without end")

    async def _call_once(self, method: Any, request: Any) -> Any:
        if self._closed:
            raise closed(self.address)
        try:
            async with self._calls:
                return await method(request, timeout=self._timeout_seconds, metadata=self._metadata)
        except grpc.RpcError as failed:
            raise from_rpc(failed, self.address) from None

    async def _hear(self, exchange: Exchange) -> None:
        """Asks how far the store is, for a session that may send nothing more before it has caught up."""
        request = sequence_pb2.GetSessionRequest(session_id=exchange.session_id)
        exchange.hear_of((await self._call(self._stub.GetSession, request)).durable_position)

    def _send(self, asked: Asked) -> Answer:
        if self._closed:
            asked.exchange.take_back(asked.position, asked.timesteps)
            raise closed(self.address)
        return self._lane.send(asked)

    def _send_frame(self, frame: Columns) -> asyncio.Future[None]:
        if self._closed:
            frame.fail(closed(self.address))
            raise closed(self.address)
        return self._lane.send_frame(frame)


class AsyncSession(Known):
    """One conversation with a model; see `statewise.client.Session`."""

    def __init__(self, client: AsyncClient, exchange: Exchange) -> None:
        super().__init__(exchange)
        self._client = client
        self._room = asyncio.Semaphore(exchange.retained_replies)
        exchange.settled = self._room.release

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

    async def step(
        self, x: ArrayLike | None = None, *, last: bool = False, timeout_seconds: float | None = None, **inputs: ArrayLike
    ) -> Outputs:
        """Sends the next timesteps and returns the outputs; see `Session.step`.

        To cancel it gives up the answer, not the step: it runs all the same, and the next one comes after it.
        """
        asked, answer = await self._ask(x, inputs, last, timeout_seconds, self._exchange.failures)
        return self._exchange.answer(asked, await answer)

    async def steps(self, timesteps: Timesteps, *, window: int = 0) -> AsyncIterator[Outputs]:
        """Steps through an iterable, plain or asynchronous, and yields each output, in order; see `Session.steps`.

        An output is yielded as soon as it is there, also while an asynchronous iterable has nothing new to give.
        """
        pipe = _Pipe(window or self._exchange.retained_replies)
        sender = asyncio.create_task(self._send_each(timesteps, pipe))
        try:
            while (under_way := await pipe.sent.get()) is not None:
                asked, answer = under_way
                yield self._exchange.answer(asked, await answer)
                pipe.unheard -= 1
                pipe.room.release()
            await sender
        except (Exception, GeneratorExit):
            await _abandon(sender)
            rest = [pipe.sent.get_nowait() for _ in range(pipe.sent.qsize())]
            # Their outcomes are waited for, so that the position is known when the caller goes on.
            await asyncio.gather(*(under_way[1] for under_way in rest if under_way), return_exceptions=True)
            raise
        finally:
            await _abandon(sender)

    async def fork(self) -> AsyncSession:
        """Opens another session at this one's state: from here on, each goes its own way."""
        response = await self._client._call(self._client._stub.ForkSession, fork_request(self._exchange))
        return AsyncSession(self._client, Exchange(response.session))

    async def snapshot(self) -> bytes:
        """Returns the session's state as bytes, for `open_session(snapshot=…)`; the server must allow it."""
        request = sequence_pb2.SnapshotSessionRequest(session_id=self.id)
        return bytes((await self._client._call(self._client._stub.SnapshotSession, request)).snapshot)

    async def close(self) -> bool:
        """Ends the session and frees its state; returns whether this call ended it. May be called again."""
        request = sequence_pb2.CloseSessionRequest(session_id=self.id)
        closed = bool((await self._client._call(self._client._stub.CloseSession, request)).closed)
        self._exchange.end()
        return closed

    async def _ask(
        self, x: ArrayLike | None, extra: Mapping[str, ArrayLike], last: bool, timeout_seconds: float | None, failures: int
    ) -> tuple[Asked, Answer]:
        """Sends a step, see `Exchange.ask`, as soon as fewer are in flight than the session retains replies."""
        await self._room.acquire()
        try:
            if self._exchange.full:
                await self._client._hear(self._exchange)
            asked = self._exchange.ask(x, extra, last, timeout_seconds, failures)
            answer = self._client._send(asked)
        except BaseException:
            self._room.release()
            raise
        return asked, answer

    async def _send_each(self, timesteps: Timesteps, pipe: _Pipe) -> None:
        failures = 0
        try:
            async for item in _each(timesteps):
                await pipe.room.acquire()
                if not pipe.unheard:
                    failures = self._exchange.failures
                x, extra = (None, item) if isinstance(item, Mapping) else (item, {})
                pipe.sent.put_nowait(await self._ask(x, extra, False, None, failures))
                pipe.unheard += 1
        finally:
            pipe.sent.put_nowait(None)


class _Pipe:
    """Between who sends the steps of an iterable and who yields their outputs.

    Attributes:
        sent: steps in the order in which they were sent, and `None` at the end.
        unheard: how many of them have been sent and not yielded.
    """

    def __init__(self, window: int) -> None:
        self.sent: asyncio.Queue[tuple[Asked, Answer] | None] = asyncio.Queue()
        self.room = asyncio.Semaphore(window)
        self.unheard = 0


class AsyncFrame(Framed):
    """Sessions of one model version that are stepped together, in one message; see `Framed`."""

    def __init__(self, client: AsyncClient, exchanges: Sequence[Exchange]) -> None:
        super().__init__(exchanges)
        self._client = client

    async def step(
        self, x: ArrayLike | None = None, *, last: bool = False, timeout_seconds: float | None = None, **inputs: ArrayLike
    ) -> Outputs:
        """Sends the next timesteps of every session and returns their outputs; see `Framed`."""
        for exchange in self.full:
            await self._client._hear(exchange)
        columns, single = self.ask(x, inputs, last, timeout_seconds)
        await self._client._send_frame(columns)
        return self.answer(columns, single)


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
