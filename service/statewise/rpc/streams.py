"""The two streams of steps, one for single steps and one for frames: read, ask, answer.

Each has a reader, which asks the host for what arrives, and a writer, which sends what is answered. At most `ROWS` steps of a
stream are unanswered or unsent at a time, and about `MESSAGES` answers or `BYTES` of them unsent; past that it is not read, so a
client that does not read its answers stops being served. While the server is full its streams take turns; see `Room`.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import defaultdict, deque
from typing import Any, Generic, Protocol, TypeVar

import grpc
import structlog
from grpc_status import rpc_status

from statewise.conversation import Answer, Frame, Indices, Step
from statewise.errors import Reason, StatewiseError, error
from statewise.inference import open_inference_pb2
from statewise.room import Room
from statewise.rpc import codec
from statewise.rpc.status import to_status
from statewise.tracing import parent_of
from statewise.v1 import sequence_pb2

ROWS = 4096
MESSAGES = 256
BYTES = 256 * 1024
ROWS_REFUSED = 4 * ROWS
"""The most rows of one frame that are refused one by one; a frame of more ends its stream, as a message of too many bytes does."""
log = structlog.get_logger()

Context = grpc.aio.ServicerContext
Request = TypeVar("Request", sequence_pb2.StepRequest, sequence_pb2.StepFrameRequest, open_inference_pb2.ModelInferRequest)
Response = TypeVar(
    "Response", sequence_pb2.StepResponse, sequence_pb2.StepFrameResponse, open_inference_pb2.ModelStreamInferResponse
)


class Steps(Protocol):
    """What the streams need of the host."""

    def step(self, step: Step, asker: Any, tag: object) -> None:
        """Takes a step on, or raises `StatewiseError`."""
        ...

    def frame(self, frame: Frame, asker: Any, tag: object) -> None:
        """Takes a frame on, or raises `StatewiseError`."""
        ...

    def forget(self, asker: Any) -> None:
        """Answers an asker no more."""
        ...

    @property
    def room(self) -> Room:
        """Returns where streams wait with reading while there is no place for a step."""
        ...

    def refused(self, problem: StatewiseError, **who: object) -> None:
        """Notes for the log that a step failed."""
        ...

    def position(self, session_id: str) -> int:
        """Returns a session's position, 0 if it is not open."""
        ...

    def only_input(self, session_id: str) -> str | None:
        """Returns the name of the only input of a session's model; `None` if there are several or no such session."""
        ...


class Stream(ABC, Generic[Request, Response]):
    """One client's stream: an `Asker`. Its mutable state is changed by the event loop alone."""

    def __init__(self, host: Steps) -> None:
        self.trace = ""  # W3C's context of the stream, for who traces its steps
        self._host = host
        self._responses: deque[tuple[Response, int, int]] = deque()
        self._bytes = 0  # of these
        self._something: asyncio.Future[None] | None = None  # resolved for the writer that waits
        self._room = asyncio.Event()
        self._rows = 0  # of requests read whose responses are not sent
        self._unanswered = 0  # of these, rows that wait for their answer
        self._ended = False
        self._broken: StatewiseError | None = None

    async def serve(self, context: Context[Request, Response]) -> None:
        """Reads and writes until the client and its steps are done."""
        self.trace = parent_of(context.invocation_metadata())
        reader = asyncio.create_task(self._read(context))
        try:
            await self._write(context)
            if self._broken:
                await context.abort_with_status(rpc_status.to_status(to_status(self._broken)))
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            self._host.forget(self)

    def end(self) -> None:
        """Reads no more; the stream ends when everything read is answered."""
        self._ended = True
        self._wake()

    @abstractmethod
    def ask(self, request: Request) -> None:
        """Asks the host for what a message wants."""

    @abstractmethod
    def rows(self, request: Request) -> int:
        """Returns how many steps a message asks for; raises `StatewiseError` if the stream is to end for it."""

    def send(self, response: Response, rows: int) -> None:
        """Queues a response that answers `rows` steps."""
        self._unanswered -= rows
        size = response.ByteSize()
        self._bytes += size
        self._responses.append((response, rows, size))
        self._wake()

    def drop(self, rows: int) -> None:
        """Counts steps that get no response."""
        self._unanswered -= rows
        self._rows -= rows
        self._room.set()
        self._wake()

    def end_with(self, problem: StatewiseError) -> None:
        """Ends the stream with a status, once what was read before is answered."""
        self._broken = self._broken or problem
        self.end()

    async def _read(self, context: Context[Request, Response]) -> None:
        try:
            while (request := await context.read()) is not grpc.aio.EOF:
                rows = self.rows(request)
                while self._rows and (self._rows + rows > ROWS or len(self._responses) > MESSAGES or self._bytes > BYTES):
                    self._room.clear()
                    await self._room.wait()
                self._rows += rows
                self._unanswered += rows
                if self._host.room.full():
                    await self._host.room.wait()
                self.ask(request)
        except StatewiseError as problem:
            self._broken = problem
        finally:
            self.end()

    async def _write(self, context: Context[Request, Response]) -> None:
        """Writes what is answered, in the order in which it is ready."""
        while not self._ended or self._unanswered or self._responses:
            if not self._responses:
                self._something = asyncio.get_running_loop().create_future()
                await self._something
                continue
            response, rows, size = self._responses.popleft()
            await context.write(response)
            self._rows -= rows
            self._bytes -= size
            self._room.set()

    def _wake(self) -> None:
        if self._something and not self._something.done():
            self._something.set_result(None)


class StepStream(Stream[sequence_pb2.StepRequest, sequence_pb2.StepResponse]):
    """Single steps; a request is its own tag."""

    def rows(self, _: sequence_pb2.StepRequest) -> int:
        """Returns 1."""
        return 1

    def ask(self, request: sequence_pb2.StepRequest) -> None:
        """Asks for a step."""
        try:
            self._host.step(codec.step(request, self._host.only_input), self, request)
        except Exception as problem:  # noqa: BLE001 (a fault of ours costs one step, not the stream)
            self.refuse(request, 0, self._host.position(request.session_id), told(problem))

    def answer_one(self, tag: Any, answer: Answer, row: int) -> None:
        """Sends the outcome of a step."""
        self.send(codec.step_response(tag, answer, row), 1)

    def refuse(self, tag: Any, _: int, position: int, problem: StatewiseError) -> None:
        """Sends why a step failed."""
        self._host.refused(problem, session=tag.session_id, step=tag.request_id)
        self.send(codec.step_refusal(tag, position, problem), 1)


class FrameStream(Stream[sequence_pb2.StepFrameRequest, sequence_pb2.StepFrameResponse]):
    """Frames; their tag is their request id. Rows that are refused together are told in one message."""

    def __init__(self, host: Steps) -> None:
        super().__init__(host)
        self._refused: defaultdict[int, list[tuple[int, int, StatewiseError]]] = defaultdict(list)

    def rows(self, request: sequence_pb2.StepFrameRequest) -> int:
        """Returns the number of the frame's sessions; a frame that cannot be read counts as one."""
        rows = len(request.handles) // 8 or 1
        if rows > ROWS_REFUSED:
            raise error(Reason.BAD_FIELD, f"handles: {rows} sessions in one frame", field="handles")
        return rows

    def ask(self, request: sequence_pb2.StepFrameRequest) -> None:
        """Asks for the rows of a frame."""
        try:
            self._host.frame(codec.frame(request), self, request.request_id)
        except Exception as problem:  # noqa: BLE001 (a fault of ours costs one frame, not the stream)
            why = told(problem)
            for row in range(self.rows(request)):
                self.refuse(request.request_id, row, 0, why)

    def answer(self, tag: Any, answer: Answer, rows: Indices | None) -> None:
        """Sends the outcome of rows."""
        self.send(codec.frame_response(tag, answer, rows), len(answer.positions))

    def refuse(self, tag: Any, row: int, position: int, problem: StatewiseError) -> None:
        """Sends why a row failed, together with others that fail before the loop comes round."""
        self._host.refused(problem, frame=tag, row=row)
        if not self._refused:
            asyncio.get_running_loop().call_soon(self._send_refused)
        self._refused[tag].append((row, position, problem))

    def _send_refused(self) -> None:
        refused, self._refused = self._refused, defaultdict(list)
        for request_id, rows in refused.items():
            self.send(codec.frame_refusal(request_id, rows), len(rows))


def told(problem: Exception) -> StatewiseError:
    """Returns what a client is told of a failure; what should not have happened is logged."""
    if isinstance(problem, StatewiseError):
        return problem
    log.error("a step failed unexpectedly", exc_info=problem)
    return error(Reason.ENGINE_FAILED, "the server failed on this step; its log says why")
