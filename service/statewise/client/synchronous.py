"""The blocking client. One stream carries the steps of all its sessions; one thread reads the answers."""

from __future__ import annotations

import itertools
import queue
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, wait
from types import TracebackType
from typing import Self

import grpc
from numpy.typing import ArrayLike

from statewise.client.exchange import CHANNEL_OPTIONS, Asked, Exchange, Model, Outputs, closed, lost, open_request
from statewise.client.failures import from_rpc
from statewise.errors import StatewiseError
from statewise.v1 import sequence_pb2, sequence_pb2_grpc

WINDOW = 16
"""Steps that `Session.steps` keeps under way."""

Answer = Future[sequence_pb2.StepResponse]


class Client:
    """A connection to one Statewise server; may be used by several threads.

    If the stream breaks, steps under way raise `Unavailable` and it is not known whether they ran; the next step opens a new
    stream. Sessions live on in the server, and since every step carries its position, none runs twice: if the lost one did run,
    every later one raises `OutOfOrder` with the position expected, and the caller has to open another session. To resume exactly
    where the stream broke is not possible yet.

    Args:
        address: `host:port`.
        timeout_seconds: for opening and closing sessions.
    """

    def __init__(self, address: str = "127.0.0.1:8001", *, timeout_seconds: float = 30.0) -> None:
        self.address = address
        self._timeout_seconds = timeout_seconds
        self._channel = grpc.insecure_channel(address, options=CHANNEL_OPTIONS)
        self._closed = False
        self._stub = sequence_pb2_grpc.SequenceServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._stream: _Stream | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open_session(
        self, model: str, *, version: int = 0, session_id: str = "", idle_timeout_seconds: float | None = None
    ) -> Session:
        """Opens a session of a model; use it as a context manager, or close it.

        Args:
            model: the model's name.
            version: 0 for what the server gives new sessions.
            session_id: a name of your own, unique on the server; empty, the server makes one.
            idle_timeout_seconds: the session ends after this long without a step; `None` is the server's default.

        Raises:
            ModelUnknown, AlreadyOpen, Overloaded, InvalidInput, Unavailable: nothing was opened.
        """
        request = open_request(model, version, session_id, idle_timeout_seconds)
        self._refuse_closed()
        try:
            opened = self._stub.OpenSession(request, timeout=self._timeout_seconds)
        except grpc.RpcError as failed:
            raise from_rpc(failed, self.address) from None
        return Session(self, Exchange(opened))

    def close(self) -> None:
        """Ends the connection. Sessions that were not closed live on in the server until they are idle for too long."""
        with self._lock:
            self._closed = True
            stream, self._stream = self._stream, None
        if stream:
            stream.close()
        self._channel.close()

    def _close_session(self, session_id: str) -> bool:
        self._refuse_closed()
        request = sequence_pb2.CloseSessionRequest(session_id=session_id)
        try:
            return bool(self._stub.CloseSession(request, timeout=self._timeout_seconds).closed)
        except grpc.RpcError as failed:
            raise from_rpc(failed, self.address) from None

    def _send(
        self, exchange: Exchange, x: ArrayLike | None, extra: Mapping[str, ArrayLike], last: bool, timeout_seconds: float | None
    ) -> tuple[Asked, Answer]:
        with self._lock:  # the order of positions must be the order on the stream
            self._refuse_closed()
            if self._stream is None or self._stream.ended:
                self._stream = _Stream(self._stub, self.address)
            with self._stream.lock:
                request, asked = exchange.ask(next(self._numbers), x, extra, last, timeout_seconds)
                return asked, self._stream.send(request, asked)

    def _refuse_closed(self) -> None:
        if self._closed:
            raise closed(self.address)


class Session:
    """One conversation with a model. The state is on the server; what is sent here is only what comes next."""

    def __init__(self, client: Client, exchange: Exchange) -> None:
        self._client = client
        self._exchange = exchange

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        try:
            self.close()
        except StatewiseError:
            if error is None:
                raise

    def __repr__(self) -> str:
        return f"<Session {self.id} of {self.model.name}@{self.model.version} at {self.position}>"

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

    def step(
        self, x: ArrayLike | None = None, *, last: bool = False, timeout_seconds: float | None = None, **inputs: ArrayLike
    ) -> Outputs:
        """Sends the next timesteps and returns the outputs.

        Args:
            x: the model's first input: one timestep, `[features]` (a number for a scalar input), or several, `[timesteps, …]`.
            last: return the output of the last timestep only, without a time axis.
            timeout_seconds: give up if the step has not begun to run by then.
            inputs: the model's other inputs by name, such as `time=…`.

        Returns:
            The output, `[outputs]` of one timestep or `[timesteps, outputs]` of several; a dict by name where there are several.

        Raises:
            InvalidInput: the inputs do not fit the model, or hold NaN or infinity; the session has not advanced.
            SessionGone: the session was closed, or idle for too long.
            OutOfOrder, NonFiniteState, Overloaded, StepExpired, EngineFailed: the session has not advanced.
            Unavailable: the stream broke; whether the step ran is not known.
        """
        asked, answer = self._client._send(self._exchange, x, inputs, last, timeout_seconds)
        return self._exchange.answer(asked, answer.result())

    def steps(self, timesteps: Iterable[ArrayLike | Mapping[str, ArrayLike]], *, window: int = WINDOW) -> Iterator[Outputs]:
        """Steps through an iterable and yields each output, in order, with up to `window` steps under way at a time.

        Args:
            timesteps: what `step` takes as `x`, or mappings of input name → value where the model has several inputs.
            window: 1 for values that come as they happen: each output is then yielded before the next value is asked for.

        Raises:
            StatewiseError: as `step`; the steps sent behind the one that failed have not run.
        """
        under_way: deque[tuple[Asked, Answer]] = deque()
        try:
            for item in timesteps:
                x, extra = (None, item) if isinstance(item, Mapping) else (item, {})
                under_way.append(self._client._send(self._exchange, x, extra, False, None))
                while under_way and (len(under_way) >= window or under_way[0][1].done()):
                    yield self._answered(under_way)
            while under_way:
                yield self._answered(under_way)
        finally:
            wait([answer for _, answer in under_way])  # so that the position is known when the caller goes on

    def _answered(self, under_way: deque[tuple[Asked, Answer]]) -> Outputs:
        asked, answer = under_way.popleft()
        return self._exchange.answer(asked, answer.result())

    def close(self) -> bool:
        """Ends the session and frees its state; returns whether this call ended it. May be called again."""
        return self._client._close_session(self.id)


class _Stream:
    """A bidirectional call: a queue of requests, and a thread that settles each response and hands it to who waits.

    `lock` guards `ended`, the steps under way and their sessions' positions.
    """

    def __init__(self, stub: sequence_pb2_grpc.SequenceServiceStub, address: str) -> None:
        self.ended = False
        self._address = address
        self._requests: queue.SimpleQueue[sequence_pb2.StepRequest | None] = queue.SimpleQueue()
        self._under_way: dict[int, tuple[Asked, Answer]] = {}
        self.lock = threading.Lock()
        self._call = stub.Step(iter(self._requests.get, None))
        self._reader = threading.Thread(target=self._read, name="statewise-stream", daemon=True)
        self._reader.start()

    def send(self, request: sequence_pb2.StepRequest, asked: Asked) -> Answer:
        """Sends a step; the caller holds `lock`."""
        answer: Answer = Future()
        if self.ended:
            asked.exchange.settle(asked, None)
            answer.set_exception(lost(self._address, None))
        else:
            self._under_way[request.request_id] = asked, answer
            self._requests.put(request)
        return answer

    def close(self) -> None:
        self._requests.put(None)
        self._call.cancel()
        self._reader.join()

    def _read(self) -> None:
        cause = None
        try:
            for response in self._call:
                with self.lock:
                    asked, answer = self._under_way.pop(response.request_id)
                    asked.exchange.settle(asked, response)
                answer.set_result(response)
        except grpc.RpcError as failed:
            cause = from_rpc(failed, self._address)
        finally:
            self._end(lost(self._address, cause))

    def _end(self, problem: StatewiseError) -> None:
        with self.lock:
            left = list(self._under_way.values())
            for asked, _ in left:
                asked.exchange.settle(asked, None)
            self.ended = True  # last: whoever sees it finds the positions settled
        self._requests.put(None)
        for _, answer in left:
            answer.set_exception(problem)
