"""A lane: one stream of frames that carries the steps of all sessions of an `AsyncClient`.

Steps go when the loop comes round, together with those that were asked for meanwhile. Two frames may be under way, and many steps
are divided between them: while the server computes the one, the client reads and writes the other. What is asked for when both are
under way goes together when one is answered. So code written for one session at a time gets the throughput of frames, and a session
alone waits for nothing.

If the stream breaks, another is opened and what was not answered is sent again with its positions: what had run is answered with
the retained reply, what had not runs now.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import grpc

from statewise.client.access import Metadata
from statewise.client.exchange import Answered, Asked, Exchange, Recovered
from statewise.client.failures import closed, from_stream, lost, unreachable
from statewise.client.frames import Columns, Steps, UnderWay, frames_of
from statewise.client.kept import Kept
from statewise.client.recovery import Whereabouts, waits
from statewise.errors import Reason, StatewiseError, Unavailable
from statewise.v1 import sequence_pb2, sequence_pb2_grpc

FRAMES = 2
"""Frames under way before further steps wait for each other: one is computed while the other is read and written."""
UNDIVIDED = 8
"""Steps that are not divided between frames: so few are dearer in two frames than late in one."""
T = TypeVar("T")
Answer = asyncio.Future[Answered]


class Lane:
    """The stream and what is on it; of one event loop, and changed by it alone.

    Args:
        resume: finds a session again, on this server or another, and brings it to where it was.
        patience_seconds: how long a server that cannot be reached is tried again.
        metadata: travels with every stream.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        address: str,
        resume: Callable[[Exchange], Awaitable[None]],
        patience_seconds: float,
        metadata: Metadata,
    ) -> None:
        self._channel = channel
        self._stub = sequence_pb2_grpc.SequenceServiceStub(channel)  # type: ignore[no-untyped-call]
        self._address = address
        self._resume = resume
        self._patience_seconds = patience_seconds
        self._metadata = metadata
        self._whereabouts: Whereabouts[Exchange] = Whereabouts(patience_seconds)
        self._recoveries: dict[Exchange, asyncio.Task[None]] = {}
        self._recovered = Recovered()
        self.kept = Kept()
        self._waiting: list[Asked] = []
        self._answers: dict[Asked, Answer] = {}
        self._frames: dict[int, UnderWay] = {}
        self._whole: dict[UnderWay, asyncio.Future[None]] = {}
        self._number = 0
        self._flushing = False
        self._requests: asyncio.Queue[sequence_pb2.StepFrameRequest | None] = asyncio.Queue()
        self._call: Any = None
        self._runner: asyncio.Task[None] | None = None
        self._helpers: set[asyncio.Task[None]] = set()

    def send(self, asked: Asked) -> Answer:
        """Sends a step with the next frame; the future is resolved when the answer is there."""
        answer: Answer = asyncio.get_running_loop().create_future()
        self._answers[asked] = answer
        self._waiting.append(asked)
        if not self._flushing:  # those that come together need it once
            self._run_if_not()
            self._flush_soon()
        return answer

    def send_frame(self, frame: Columns) -> asyncio.Future[None]:
        """Sends a frame; the future is resolved when all its rows are answered or have failed."""
        self._whole[frame] = asyncio.get_running_loop().create_future()
        self._run_if_not()
        self._put(frame)
        return self._whole[frame]

    async def close(self) -> None:
        """Ends the stream; what is under way fails."""
        if self._runner:
            self._runner.cancel()
            for task in self._recoveries.values():
                task.cancel()
            await asyncio.gather(self._runner, *self._helpers, return_exceptions=True)
        self._fail(closed(self._address))

    def _flush_soon(self) -> None:
        if not self._flushing and self._waiting and len(self._frames) < FRAMES:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        """Sends what waits, in equal shares, so that no frame is large while the other one is small."""
        self._flushing = False
        under_way = sum(len(frame.rows) for frame in self._frames.values())
        share = max(UNDIVIDED, -(-(under_way + len(self._waiting)) // FRAMES))
        while self._waiting and len(self._frames) < FRAMES:
            together, self._waiting = self._waiting[:share], self._waiting[share:]
            for steps in frames_of(together):
                self._put(Steps(steps, self._settled))

    def _put(self, frame: UnderWay) -> None:
        self._number += 1
        self._frames[self._number] = frame
        self._requests.put_nowait(frame.request(self._number))

    def _run_if_not(self) -> None:
        if self._runner is None or self._runner.done():
            self._runner = asyncio.create_task(self._run())

    async def _run(self) -> None:
        """Keeps a stream open as long as there is something on it; fails what cannot be answered."""
        problem: StatewiseError | None = None
        pauses, give_up = waits(), self._later()
        try:
            while True:
                fruitful, problem = await self._read()
                if not isinstance(problem, Unavailable):
                    break
                if fruitful:
                    pauses, give_up = waits(), self._later()
                elif asyncio.get_running_loop().time() > give_up:
                    break
                else:
                    await asyncio.sleep(next(pauses))
                await self._reach(problem)
                self._requests = asyncio.Queue()
                self._send_again()
        except StatewiseError as gone:
            problem = gone
        self._fail(lost(self._address, problem))

    def _later(self) -> float:
        return asyncio.get_running_loop().time() + self._patience_seconds

    async def _read(self) -> tuple[bool, StatewiseError | None]:
        """Opens a stream and settles its answers until it breaks; returns whether there were any, and why it broke."""
        fruitful = False
        self._whereabouts.begin()
        self._call = self._stub.StepFrame(self._sent(), metadata=self._metadata)
        try:
            async for response in self._call:
                fruitful = True
                self._settle(response)
        except grpc.RpcError as failed:
            return fruitful, from_stream(failed, self._address)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task and task.cancelling():  # it is us, not the call, who are to end
                raise
        finally:
            self._requests.put_nowait(None)  # what feeds the stream ends with it
        return fruitful, Unavailable(f"the server on {self._address} has ended the stream")

    async def _sent(self) -> AsyncIterator[sequence_pb2.StepFrameRequest]:
        requests = self._requests
        while (request := await requests.get()) is not None:
            yield request

    def _settle(self, response: sequence_pb2.StepFrameResponse) -> None:
        frame = self._frames.get(response.request_id)
        if frame is None:  # it was asked for again meanwhile
            return
        if gone := frame.read(response, self.kept):
            self._help(self._find_again(frame, gone))
        self._end_if_done(response.request_id, frame)

    def _end_if_done(self, number: int, frame: UnderWay) -> None:
        if frame.done and number in self._frames:
            del self._frames[number]
            if whole := self._whole.pop(frame, None):
                _resolve(whole, None)
            self._flush_soon()

    def _settled(self, asked: Asked, answered: Answered) -> None:
        asked.exchange.settled()
        _resolve(self._answers.pop(asked), answered)

    def _help(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._helpers.add(task)
        task.add_done_callback(self._helpers.discard)

    async def _find_again(self, frame: UnderWay, gone: dict[int, Reason]) -> None:
        """Resumes the sessions of rows and asks for those again, or fails them."""
        call = self._call
        astray = frame.astray(gone, self._whereabouts, asyncio.get_running_loop().time())
        outcomes = await asyncio.gather(*(self._resumed(frame.exchange(row)) for row in gone), return_exceptions=True)
        for row, outcome in zip(gone, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                frame.give_up(row, outcome if isinstance(outcome, StatewiseError) else lost(self._address, None))
        for number, each in list(self._frames.items()):
            self._end_if_done(number, each)
        if astray and call is self._call:
            call.cancel()  # the next one goes where the calls go, and asks for all that is left
            return
        self._send_again()

    def _resumed(self, exchange: Exchange) -> asyncio.Task[None]:
        """Returns the one task that resumes a session, whoever needs it."""
        task = self._recoveries.get(exchange)
        if task is None:
            exchange.recovering = True  # again, if an attempt before this one has ended meanwhile
            task = self._recoveries[exchange] = asyncio.create_task(self._resume_one(exchange))
        return task

    async def _resume_one(self, exchange: Exchange) -> None:
        try:
            await self._resume(exchange)
            self._whereabouts.found(exchange, exchange.position, asyncio.get_running_loop().time())
        finally:
            del self._recoveries[exchange]
            self._recovered.add(exchange)

    def _send_again(self) -> None:
        """Asks for what is left of every frame again; the answers to the messages of before are not waited for."""
        self._recovered.end(self._recoveries)
        frames, self._frames = list(self._frames.values()), {}
        for frame in frames:
            frame.again()
            self._put(frame)

    async def _reach(self, broke: StatewiseError) -> None:
        try:
            await asyncio.wait_for(self._channel.channel_ready(), self._patience_seconds)
        except TimeoutError:
            raise unreachable(broke, self._patience_seconds) from None

    def _fail(self, problem: StatewiseError) -> None:
        self._recovered.end(self._recoveries)
        frames, self._frames = list(self._frames.values()), {}
        waiting, self._waiting = self._waiting, []
        for frame in [*frames, *(Steps(steps, self._settled) for steps in frames_of(waiting))]:
            frame.fail(problem)
            if whole := self._whole.pop(frame, None):
                _resolve(whole, None)


def _resolve(future: asyncio.Future[T], value: T) -> None:
    if not future.done():  # whoever asked may have given up
        future.set_result(value)
