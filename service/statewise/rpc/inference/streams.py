"""`ModelStreamInfer`: requests of any number of sequences, each answered once; an error is told in band and ends nothing.

A client that sends the metadata `triton_grpc_error: true` is told of its first error by the status of the call instead, once the
requests before it are answered.
"""

from __future__ import annotations

from collections.abc import Callable

from statewise.conversation import Answer
from statewise.errors import StatewiseError
from statewise.host import Host
from statewise.inference import open_inference_pb2 as wire
from statewise.rpc.inference import replies
from statewise.rpc.inference.asking import Asking
from statewise.rpc.inference.requests import Request, read
from statewise.rpc.inference.sequences import Sequences
from statewise.rpc.streams import Context, Stream, told

ENDS_WITH_STATUS = ("triton_grpc_error", "true")


class InferStream(Asking, Stream[wire.ModelInferRequest, wire.ModelStreamInferResponse]):
    """One stream of requests."""

    def __init__(self, host: Host, sequences: Sequences, clock: Callable[[], float]) -> None:
        Asking.__init__(self, sequences)
        Stream.__init__(self, host)
        self._clock = clock
        self._ends_with_status = False

    async def serve(self, context: Context[wire.ModelInferRequest, wire.ModelStreamInferResponse]) -> None:
        """Reads and writes until the client and its requests are done."""
        self._ends_with_status = any(pair == ENDS_WITH_STATUS for pair in map(tuple, context.invocation_metadata() or ()))
        try:
            await super().serve(context)
        finally:
            if self._unanswered:
                self._sequences.forget(self)

    def rows(self, _: wire.ModelInferRequest) -> int:
        """Returns 1."""
        return 1

    def ask(self, request: wire.ModelInferRequest) -> None:
        """Puts a request in line."""
        if self._broken:
            self.drop(1)  # what comes behind an error that ends the stream is not looked at
            return
        try:
            self._sequences.ask(read(request, self, self._clock()))
        except Exception as problem:  # noqa: BLE001 (a fault of ours costs one request, not the stream)
            self._refuse(request.id, 0, told(problem))

    def deliver(self, request: Request, answer: Answer, row: int) -> None:
        """Sends the outcome of a request."""
        self.send(replies.streamed(request, answer, row), 1)

    def fail(self, request: Request, position: int, problem: StatewiseError) -> None:
        """Sends why a request failed."""
        self._refuse(request.request_id, position, problem)

    def _refuse(self, request_id: str, position: int, problem: StatewiseError) -> None:
        self._host.refused(problem, request=request_id)
        if self._ends_with_status:
            self.end_with(problem)
            self.drop(1)
        else:
            self.send(replies.refusal(request_id, position, problem), 1)
