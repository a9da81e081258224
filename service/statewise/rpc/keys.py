"""Bearer keys: a call without a key of the file is refused before its first message is read. Health is told to everybody."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, TypeAlias

import grpc
from grpc_health.v1 import health
from grpc_status import rpc_status

from statewise.access import HEADER, SCHEME, read_keys
from statewise.errors import Reason, error
from statewise.rpc.status import to_status
from statewise.rpc.watched import Watched

OPEN_TO_ALL = f"/{health.SERVICE_NAME}/"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"


class BearerKeys(grpc.aio.ServerInterceptor):
    """Lets calls through that bring `authorization: Bearer KEY` with a key of a file; the file is followed.

    Raises:
        AccessError: the file cannot be read, or holds no key.
    """

    def __init__(self, file: Path) -> None:
        self._digests = Watched([file], lambda: [_digest(key) for key in read_keys(file)])

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]], handler_call_details: grpc.HandlerCallDetails
    ) -> Handler:
        """Returns the method's handler, or one that refuses."""
        details = handler_call_details
        if details.method.startswith(OPEN_TO_ALL) or self._holds(details.invocation_metadata):
            return await continuation(details)
        return REFUSES

    def _holds(self, metadata: Iterable[tuple[str, str | bytes]]) -> bool:
        given = [value for name, value in metadata if name == HEADER]
        if len(given) != 1 or not isinstance(given[0], str) or not given[0].startswith(SCHEME):
            return False
        return self.knows(given[0].removeprefix(SCHEME))

    def knows(self, key: str) -> bool:
        """Whether a key is in the file."""
        digest = _digest(key)
        # Every key is compared, each in constant time, and by digests of one length: how long it takes tells nothing.
        return sum([hmac.compare_digest(digest, known) for known in self._digests.current()]) > 0


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


async def _refuse(_: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:
    told = error(Reason.UNAUTHENTICATED, f"{HEADER}: takes '{SCHEME}KEY' with a key that this server knows")
    await context.abort_with_status(rpc_status.to_status(to_status(told)))


REFUSES: Handler = grpc.stream_stream_rpc_method_handler(_refuse)
"""A handler of streams answers calls of every kind, and without waiting for a message."""
