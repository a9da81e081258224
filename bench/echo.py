"""The bare echo: a `grpc.aio` server that answers each streamed message with as many bytes as Statewise would, and does nothing.

It is the least that a Python server can spend on a message. It takes and gives bytes, so it does not even parse.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc

METHODS = ("Step", "StepFrame")


async def main(response_bytes: int) -> None:
    reply = bytes(response_bytes)

    async def answered(requests: AsyncIterator[bytes], _: object) -> AsyncIterator[bytes]:
        async for _request in requests:
            yield reply

    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    handlers: dict[str, Any] = {name: grpc.stream_stream_rpc_method_handler(answered) for name in METHODS}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("statewise.v1.SequenceService", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"ready on 127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
