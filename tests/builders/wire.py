"""A wire between clients and a server: it passes on what both say until it is told to keep the server's answers, and can be cut.

What the server says is kept as it comes, HTTP/2 and all, and `messages` finds the gRPC messages in it: so a test sees the bytes of
an answer that its client never got, and holds those of a later one against them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

FRAME_HEADER, MESSAGE_HEADER = 9, 5
"""Bytes before the payload of a frame of HTTP/2 (RFC 9113, 4.1), and before a message of gRPC."""
DATA, PADDED = 0x0, 0x8


@dataclass(eq=False)
class Connection:
    """One client's connection.

    Attributes:
        said: everything that the server has said on it.
        passed: how many bytes of that the client was given.
    """

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    said: bytearray = field(default_factory=bytearray)
    passed: int = 0

    @property
    def given(self) -> list[bytes]:
        """The messages that the client has got."""
        return messages(self.said[: self.passed])

    @property
    def dropped(self) -> list[bytes]:
        """The messages that the client has not got."""
        return messages(self.said)[len(self.given) :]

    def cut(self) -> None:
        """Ends it both ways, at once."""
        for each in (self.client, self.server):
            each.transport.abort()


@dataclass
class Wire:
    """Leads new connections to `home`.

    Attributes:
        keeps: while it is set, clients are given nothing of what the server says.
        open: while it is not set, new connections wait.
    """

    home: str
    address: str = ""
    keeps: bool = False
    open: asyncio.Event = field(default_factory=asyncio.Event)
    connections: list[Connection] = field(default_factory=list)
    _said: asyncio.Event = field(default_factory=asyncio.Event)
    _serving: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.open.set()

    async def dropped(self) -> bytes:
        """Returns the first message that a client was not given, once the server has said it."""
        while not (lost := [message for each in self.connections for message in each.dropped]):
            self._said.clear()
            await self._said.wait()
        return lost[0]

    def cut(self) -> None:
        """Ends all connections; the next ones are given everything."""
        self.keeps = False
        for each in self.connections:
            each.cut()

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one connection."""
        self._serving.add(asyncio.current_task())
        await self.open.wait()
        host, _, port = self.home.rpartition(":")
        from_server, to_server = await asyncio.open_connection(host, int(port))
        connection = Connection(writer, to_server)
        self.connections.append(connection)
        with contextlib.suppress(OSError):
            await asyncio.gather(self._ask(reader, connection), self._answer(from_server, connection))
        connection.cut()

    async def close(self) -> None:
        """Ends all connections, those that wait as well."""
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        self.cut()

    async def _ask(self, reader: asyncio.StreamReader, connection: Connection) -> None:
        while data := await reader.read(65_536):
            connection.server.write(data)
        connection.cut()

    async def _answer(self, reader: asyncio.StreamReader, connection: Connection) -> None:
        while data := await reader.read(65_536):
            connection.said += data
            self._said.set()
            if not self.keeps:
                connection.client.write(data)
                connection.passed += len(data)
        connection.cut()


@contextlib.asynccontextmanager
async def wired(home: str) -> AsyncIterator[Wire]:
    """Lays a wire to a server, with an end on a port of its own."""
    wire = Wire(home)
    server = await asyncio.start_server(wire.connect, "127.0.0.1", 0)
    wire.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield wire
    finally:
        server.close()
        await wire.close()
        await server.wait_closed()


def messages(said: bytes | bytearray) -> list[bytes]:
    """Returns the gRPC messages that are whole in what a server has said, in the order in which they ended."""
    found, begun = [], defaultdict(bytearray)
    while len(said) >= FRAME_HEADER and len(said) >= (end := FRAME_HEADER + int.from_bytes(said[:3], "big")):
        kind, flags, stream = said[3], said[4], int.from_bytes(said[5:9], "big")
        if kind == DATA:
            assert not flags & PADDED, "a padded frame is not read here"
            begun[stream] += said[FRAME_HEADER:end]
        said = said[end:]
        rest = begun[stream]
        while len(rest) >= MESSAGE_HEADER and len(rest) >= (whole := MESSAGE_HEADER + int.from_bytes(rest[1:5], "big")):
            found.append(bytes(rest[MESSAGE_HEADER:whole]))
            del rest[:whole]
    return found
