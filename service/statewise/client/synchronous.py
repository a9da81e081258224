"""The blocking client: sessions, and frames of sessions."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import wait
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
from statewise.client.known import Known
from statewise.client.opening import fork_request, open_request, resume_request
from statewise.client.recovery import CALLED_AGAIN, KEPT_BYTES, may_be_tried_again, replay, waits
from statewise.client.stream import Answer, Stream
from statewise.errors import OutOfOrder, StatewiseError, Unavailable
from statewise.v1 import model_pb2, model_pb2_grpc, sequence_pb2, sequence_pb2_grpc


class Client:
    """A connection to one Statewise server; may be used by several threads.

    If the connection breaks, the client opens another and sends again what was not answered; no step is lost and none runs twice.
    What it cannot reach again within `timeout_seconds` raises `Unavailable`.

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
        self._channel = access.channel(grpc)
        self._stub = sequence_pb2_grpc.SequenceServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._models = model_pb2_grpc.ModelServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._closed = False
        self._stream = Stream(self._channel, address, self._resume, timeout_seconds, self._metadata)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open_session(
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
    ) -> Session:
        """Opens a session of a model; use it as a context manager, or close it.

        Args:
            model: the model's name.
            version: 0 for what the server gives new sessions.
            session_id: a name of your own, unique on the server; empty, one is made.
            idle_timeout_seconds: the session ends after this long without a step; `None` is the server's default.
            resume: go on with the session of that id if it is open; the `session.position` tells where it stands.
            retained_replies: how many steps of the session may be in flight; 0 is the server's default, 4.
            snapshot: what `Session.snapshot` returned, to start from; the model and version are then the snapshot's.
            constants: the first values of states by name, such as `{"series_scale": 12.5}`; `session.model.constants` tells which
                the model takes. A session that is open keeps those that it was given.
            durability: what the session outlives: `memory` nothing, `checkpoint` and `commit` the server's process; empty is the
                server's default. With the last two the client goes on by itself when a server is gone.
            checkpoint_every: for `checkpoint`, the timesteps between two; 0 is the server's default, 64.
            kept_bytes: for `checkpoint`, the most that is kept of inputs since the last one; past it a step raises `Overloaded`.

        Raises:
            ModelUnknown, AlreadyOpen, Overloaded, InvalidInput, Unavailable: nothing was opened.
        """
        given = constants_of(self.model(model, version), constants) if constants else ()
        told = (idle_timeout_seconds, resume, retained_replies, snapshot, given, durability, checkpoint_every)
        request = open_request(model, version, session_id, *told)
        return Session(self, Exchange(self._call(self._stub.OpenSession, request), kept_bytes))

    def model(self, name: str, version: int = 0) -> Model:
        """Returns what a model takes and returns, without opening a session.

        Its `series` holds what the sessions of the series that it was trained on are to be given as `constants`.

        Raises:
            ModelUnknown, EngineFailed, Unavailable: it cannot be told.
        """
        return read_described(self._call(self._models.GetModel, model_pb2.GetModelRequest(name=name, version=version)))

    def frame(self, sessions: Sequence[Session]) -> Frame:
        """Returns the sessions as one, to be stepped together: the fastest way, where their timesteps come together."""
        return Frame(self, [session._exchange for session in sessions])

    def close(self) -> None:
        """Ends the connection. Sessions that were not closed live on in the server until they are idle for too long."""
        self._closed = True
        self._stream.close()
        self._channel.close()

    def _resume(self, exchange: Exchange) -> None:
        """Finds a session again and brings it to where its caller knows it; tries for as long as the client has patience."""
        give_up = time.monotonic() + self._timeout_seconds
        for pause in waits():
            try:
                opened = self._call_once(self._stub.OpenSession, resume_request(exchange))
                if opened.position < exchange.position:
                    self._replay(exchange, opened)
                exchange.resumed(opened)
                return
            except StatewiseError as problem:
                if not may_be_tried_again(problem) or self._closed or time.monotonic() > give_up:
                    raise
            time.sleep(pause)

    def _replay(self, exchange: Exchange, opened: sequence_pb2.OpenSessionResponse) -> None:
        given = self._stream.kept.since(exchange, opened.position, exchange.position)
        try:
            for request in replay(given, opened.position, opened.handle):
                for response in self._stub.StepFrame(iter([request]), metadata=self._metadata):
                    check_replayed(response)
        except grpc.RpcError as failed:
            raise Unavailable(f"the stream to {self.address} broke: {failed}") from None

    def _call(self, method: Any, request: Any) -> Any:
        """Calls; what a server refuses that is about to stop, or that has lost its store, is asked again for a while."""
        give_up = time.monotonic() + self._timeout_seconds
        for pause in waits():
            try:
                return self._call_once(method, request)
            except Unavailable as problem:
                if problem.reason not in CALLED_AGAIN or time.monotonic() > give_up:
                    raise
            time.sleep(pause)
        raise AssertionError("waits without end")

    def _call_once(self, method: Any, request: Any) -> Any:
        if self._closed:
            raise closed(self.address)
        try:
            return method(request, timeout=self._timeout_seconds, metadata=self._metadata)
        except grpc.RpcError as failed:
            raise from_rpc(failed, self.address) from None

    def _hear(self, exchange: Exchange) -> None:
        """Asks how far the store is, for a session that may send nothing more before it has caught up."""
        request = sequence_pb2.GetSessionRequest(session_id=exchange.session_id)
        exchange.hear_of(self._call(self._stub.GetSession, request).durable_position)


class Session(Known):
    """One conversation with a model. The state is on the server; what is sent here is only what comes next."""

    def __init__(self, client: Client, exchange: Exchange) -> None:
        super().__init__(exchange)
        self._client = client
        self._room = threading.Semaphore(exchange.retained_replies)
        exchange.settled = self._room.release

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        try:
            self.close()
        except StatewiseError:
            if error is None:
                raise

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
            Unavailable: the server could not be reached again; whether the step ran is not known.
        """
        asked, answer = self._ask(x, inputs, last, timeout_seconds, self._exchange.failures)
        return self._exchange.answer(asked, answer.result())

    def steps(self, timesteps: Iterable[ArrayLike | Mapping[str, ArrayLike]], *, window: int = 0) -> Iterator[Outputs]:
        """Steps through an iterable and yields each output, in order, with up to `window` steps under way at a time.

        0 is as many as the session retains replies, the most that it can have.

        Args:
            timesteps: what `step` takes as `x`, or mappings of input name → value where the model has several inputs.
            window: 1 for values that come as they happen: each output is then yielded before the next value is asked for.

        Raises:
            StatewiseError: as `step`; the steps sent behind the one that failed have not run.
        """
        window = min(window or self._exchange.retained_replies, self._exchange.retained_replies)
        under_way: deque[tuple[Asked, Answer]] = deque()
        failures, behind = 0, None
        try:
            for item in timesteps:
                if not under_way:
                    failures = self._exchange.failures
                x, extra = (None, item) if isinstance(item, Mapping) else (item, {})
                try:
                    under_way.append(self._ask(x, extra, False, None, failures))
                except OutOfOrder as problem:  # one of those under way has failed, and says of what
                    behind = problem
                    break
                while under_way and (len(under_way) >= window or under_way[0][1].done()):
                    yield self._answered(under_way)
            while under_way:
                yield self._answered(under_way)
            if behind:
                raise behind
        finally:
            wait([answer for _, answer in under_way])  # so that the position is known when the caller goes on

    def _answered(self, under_way: deque[tuple[Asked, Answer]]) -> Outputs:
        asked, answer = under_way.popleft()
        return self._exchange.answer(asked, answer.result())

    def fork(self) -> Session:
        """Opens another session at this one's state: from here on, each goes its own way."""
        response = self._client._call(self._client._stub.ForkSession, fork_request(self._exchange))
        return Session(self._client, Exchange(response.session))

    def snapshot(self) -> bytes:
        """Returns the session's state as bytes, for `open_session(snapshot=…)`; the server must allow it."""
        request = sequence_pb2.SnapshotSessionRequest(session_id=self.id)
        return bytes(self._client._call(self._client._stub.SnapshotSession, request).snapshot)

    def close(self) -> bool:
        """Ends the session and frees its state; returns whether this call ended it. May be called again."""
        request = sequence_pb2.CloseSessionRequest(session_id=self.id)
        closed = bool(self._client._call(self._client._stub.CloseSession, request).closed)
        self._exchange.end()
        return closed

    def _ask(
        self, x: ArrayLike | None, extra: Mapping[str, ArrayLike], last: bool, timeout_seconds: float | None, failures: int
    ) -> tuple[Asked, Answer]:
        """Sends a step, see `Exchange.ask`, as soon as fewer are in flight than the session retains replies."""
        self._room.acquire()
        try:
            if self._exchange.full:
                self._client._hear(self._exchange)
            return self._client._stream.send(self._exchange, x, extra, last, timeout_seconds, failures)
        except BaseException:
            self._room.release()
            raise


class Frame(Framed):
    """Sessions of one model version that are stepped together, in one message; see `Framed`."""

    def __init__(self, client: Client, exchanges: Sequence[Exchange]) -> None:
        super().__init__(exchanges)
        self._client = client

    def step(
        self, x: ArrayLike | None = None, *, last: bool = False, timeout_seconds: float | None = None, **inputs: ArrayLike
    ) -> Outputs:
        """Sends the next timesteps of every session and returns their outputs; see `Framed`."""
        for exchange in self.full:
            self._client._hear(exchange)
        columns, single = self._client._stream.send_frame(self, x, inputs, last, timeout_seconds)
        return self.answer(columns, single)
