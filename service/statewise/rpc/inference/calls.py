"""`ModelInfer`: one request and its reply."""

from __future__ import annotations

import asyncio

from statewise.conversation import Answer
from statewise.errors import StatewiseError
from statewise.host import Host
from statewise.inference import open_inference_pb2 as wire
from statewise.rpc.inference import replies
from statewise.rpc.inference.asking import Asking
from statewise.rpc.inference.requests import Request, read
from statewise.rpc.inference.sequences import Sequences


class Call(Asking):
    """One call."""

    def __init__(self, host: Host, sequences: Sequences) -> None:
        super().__init__(sequences)
        self._host = host
        self._reply: asyncio.Future[wire.ModelInferResponse] = asyncio.get_running_loop().create_future()

    async def reply(self, message: wire.ModelInferRequest, now: float) -> wire.ModelInferResponse:
        """Returns the reply to a request that came `now`; raises `StatewiseError`."""
        try:
            self._sequences.ask(read(message, self, now))
            return await self._reply
        except StatewiseError as problem:
            self._host.refused(problem, request=message.id)
            raise
        except asyncio.CancelledError:
            self._host.forget(self)
            self._sequences.forget(self)
            raise

    def deliver(self, request: Request, answer: Answer, row: int) -> None:
        """Notes the outcome, unless the client has gone."""
        if not self._reply.done():
            self._reply.set_result(replies.response(request, answer, row))

    def fail(self, request: Request, position: int, problem: StatewiseError) -> None:
        """Notes why the request failed."""
        if not self._reply.done():
            self._reply.set_exception(problem)
