"""The stream of a `Client`: it carries the steps of all sessions, each as it is asked for; one thread reads the answers.

If the stream breaks, another is opened and what was not answered is sent again with its positions: what had run is answered with
the retained reply, what had not runs now.
"""

from __future__ import annotations

import functools
import queue
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from copy import copy
from typing import Any

import grpc
from numpy.typing import ArrayLike

from statewise.client.access import Metadata
from statewise.client.exchange import Answered, Asked, Exchange, Recovered
from statewise.client.failures import closed, from_stream, lost, unreachable
from statewise.client.framed import Framed
from statewise.client.frames import Columns, Steps, UnderWay
from statewise.client.kept import Kept
from statewise.client.recovery import Whereabouts, waits
from statewise.errors import Reason, StatewiseError, Unavailable
from statewise.v1 import sequence_pb2, sequence_pb2_grpc

Answer = Future[Answered]
RECOVERIES = 16
"""Sessions that are resumed at a time."""


class Stream:
    """The stream and what is on it. `_lock` guards all that changes, and the positions of the sessions."""

    def __init__(
        self,
        channel: grpc.Channel,
        address: str,
        resume: Callable[[Exchange], None],
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
        self._recoveries: dict[Exchange, Future[None]] = {}
        self._recovered = Recovered()
        self.kept = Kept()
        self._helpers = ThreadPoolExecutor(RECOVERIES, thread_name_prefix="statewise-resume")
        self._lock = threading.RLock()
        self._frames: dict[int, UnderWay] = {}
        self._answers: dict[Asked, Answer] = {}
        self._whole: dict[UnderWay, threading.Event] = {}
        self._number = 0
        self._requests: queue.SimpleQueue[sequence_pb2.StepFrameRequest | None] = queue.SimpleQueue()
        self._call: Any = None
        self._reader: threading.Thread | None = None
        self._closed = threading.Event()

    def send(
        self,
        exchange: Exchange,
        x: ArrayLike | None,
        extra: Mapping[str, ArrayLike],
        last: bool,
        timeout_seconds: float | None,
        failures: int,
    ) -> tuple[Asked, Answer]:
        """Sends a step of one session, see `Exchange.ask`; the future is resolved when the answer is there."""
        with self._lock:  # the order of positions must be the order on the stream
            self._refuse_closed()
            asked = exchange.ask(x, extra, last, timeout_seconds, failures)
            answer = self._answers[asked] = Future()
            self._put(Steps([asked], self._settled))
            return asked, answer

    def send_frame(
        self, framed: Framed, x: ArrayLike | None, extra: Mapping[str, ArrayLike], last: bool, timeout_seconds: float | None
    ) -> tuple[Columns, bool]:
        """Sends a frame and returns it when all its rows are answered or have failed."""
        with self._lock:
            self._refuse_closed()
            columns, single = framed.ask(x, extra, last, timeout_seconds)
            answered = self._whole[columns] = threading.Event()
            self._put(columns)
        answered.wait()
        return columns, single

    def close(self) -> None:
        """Ends the stream; what is under way fails."""
        with self._lock:
            self._closed.set()
            reader, call = self._reader, self._call
        self._requests.put(None)
        if call:
            call.cancel()
        if reader and reader is not threading.current_thread():
            reader.join()
        self._helpers.shutdown(wait=False, cancel_futures=True)

    def _put(self, frame: UnderWay) -> None:
        self._number += 1
        self._frames[self._number] = frame
        self._requests.put(frame.request(self._number))
        if self._reader is None:
            self._reader = threading.Thread(target=self._run, name="statewise-stream", daemon=True)
            self._reader.start()

    def _run(self) -> None:
        """Keeps a stream open as long as there is something on it; fails what cannot be answered."""
        pauses, give_up = waits(), self._later()
        while True:
            fruitful, problem = self._read()
            if self._closed.is_set() or not isinstance(problem, Unavailable):
                break
            if self._nothing_left():
                return
            if fruitful:
                pauses, give_up = waits(), self._later()
            elif time.monotonic() > give_up or self._closed.wait(next(pauses)):
                break
            try:
                grpc.channel_ready_future(self._channel).result(self._patience_seconds)
            except grpc.FutureTimeoutError:
                problem = unreachable(problem, self._patience_seconds)
                break
            self._send_again()
        self._fail(closed(self._address) if self._closed.is_set() else lost(self._address, problem))

    def _later(self) -> float:
        return time.monotonic() + self._patience_seconds

    def _read(self) -> tuple[bool, StatewiseError | None]:
        """Opens a stream and settles its answers until it breaks; returns whether there were any, and why it broke."""
        fruitful = False
        with self._lock:
            self._whereabouts.begin()
        self._call = self._stub.StepFrame(iter(self._requests.get, None), metadata=self._metadata)
        try:
            for response in self._call:
                fruitful = True
                self._settle(response)
        except grpc.RpcError as failed:
            if failed.code() is not grpc.StatusCode.CANCELLED:
                return fruitful, from_stream(failed, self._address)
        return fruitful, Unavailable(f"the server on {self._address} has ended the stream")

    def _settle(self, response: sequence_pb2.StepFrameResponse) -> None:
        with self._lock:
            frame = self._frames.get(response.request_id)
            gone = frame.read(response, self.kept) if frame else {}
        if frame is None:  # it was asked for again meanwhile
            return
        if gone:
            self._find_again(frame, gone)
        self._end_if_done()

    def _end_if_done(self) -> None:
        with self._lock:
            for number, frame in list(self._frames.items()):
                if frame.done:
                    del self._frames[number]
                    if whole := self._whole.pop(frame, None):
                        whole.set()

    def _find_again(self, frame: UnderWay, gone: dict[int, Reason]) -> None:
        """Resumes the sessions of rows, in other threads, and asks for those again, or fails them."""
        call, astray = self._call, self._astray(frame, gone)
        left = len(gone)

        def settled(row: int, recovery: Future[None]) -> None:
            nonlocal left
            problem = closed(self._address) if recovery.cancelled() else recovery.exception()
            with self._lock:
                if problem:
                    frame.give_up(row, copy(problem) if isinstance(problem, StatewiseError) else lost(self._address, None))
                left -= 1
                if left:
                    return
            self._end_if_done()
            if astray and call is self._call:
                call.cancel()  # the next one goes where the calls go, and asks for all that is left
            else:
                self._ask_again()

        for row in list(gone):
            self._resumed(frame.exchange(row)).add_done_callback(functools.partial(settled, row))

    def _astray(self, frame: UnderWay, gone: dict[int, Reason]) -> bool:
        """Whether the stream is to be opened anew; fails the rows that have been resumed in vain for too long."""
        with self._lock:
            return frame.astray(gone, self._whereabouts, time.monotonic())

    def _resumed(self, exchange: Exchange) -> Future[None]:
        """Returns the one attempt to resume a session, whoever needs it."""
        with self._lock:
            recovery = self._recoveries.get(exchange)
            if recovery is None:
                exchange.recovering = True  # again, if an attempt before this one has ended meanwhile
                recovery = self._recoveries[exchange] = self._helpers.submit(self._resume_one, exchange)
            return recovery

    def _resume_one(self, exchange: Exchange) -> None:
        try:
            self._resume(exchange)
            with self._lock:
                self._whereabouts.found(exchange, exchange.position, time.monotonic())
        finally:
            with self._lock:
                del self._recoveries[exchange]
                self._recovered.add(exchange)

    def _ask_again(self) -> None:
        """Asks for what is left of every frame again on the same stream; answers to what was sent before are not waited for."""
        with self._lock:
            self._recovered.end(self._recoveries)
            frames, self._frames = list(self._frames.values()), {}
            for frame in frames:
                frame.again()
                self._put(frame)

    def _settled(self, asked: Asked, answered: Answered) -> None:
        asked.exchange.settled()
        self._answers.pop(asked).set_result(answered)

    def _nothing_left(self) -> bool:
        """Ends the reader if nothing waits for an answer; the next step begins another."""
        with self._lock:
            if self._frames:
                return False
            self._reader = None
            self._requests = queue.SimpleQueue()
            return True

    def _send_again(self) -> None:
        """Asks for what is left of every frame again, on a new stream."""
        with self._lock:
            self._requests.put(None)
            self._requests = queue.SimpleQueue()
            self._ask_again()

    def _fail(self, problem: StatewiseError) -> None:
        with self._lock:
            self._reader = None
            self._requests.put(None)
            self._requests = queue.SimpleQueue()
            self._recovered.end(self._recoveries)
            frames, self._frames = list(self._frames.values()), {}
            for frame in frames:
                frame.fail(problem)
                if whole := self._whole.pop(frame, None):
                    whole.set()

    def _refuse_closed(self) -> None:
        if self._closed.is_set():
            raise closed(self._address)
