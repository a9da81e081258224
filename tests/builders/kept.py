"""A store whose answers can be withheld, lost or delayed, and hosts that share one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from builders.asking import Listener, Told
from builders.summing import Summing, summing
from statewise.conversation import Step
from statewise.durability import Durability, Keeping
from statewise.host import Durably
from statewise.opening import Mode, Open, Opened
from statewise.sealing import Sealer
from statewise.stores import Outcome, Put, Record, StoreError
from statewise.stores.memory import MemoryStore

SEALER = Sealer({"1": bytes(range(32))})


@dataclass
class Troubled:
    """A store in memory, and what goes wrong on the way to it and back.

    Attributes:
        open: while it is not set, no put is answered.
        deaf: nothing that is asked arrives.
        mute: what is put lands, and nobody is told.
        late: what is put lands when `land` is called, and nobody is told.
    """

    store: MemoryStore = field(default_factory=MemoryStore)
    open: asyncio.Event = field(default_factory=asyncio.Event)
    deaf: bool = False
    mute: bool = False
    late: bool = False
    puts: list[Put] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.open.set()

    async def start(self) -> None:
        """There is nothing to start."""

    async def close(self) -> None:
        """Lives on: another host may go on with it."""

    async def put_many(self, puts: Sequence[Put]) -> list[Outcome]:
        """See `Store`."""
        await self.open.wait()
        self._listen()
        self.puts += puts
        if self.late:
            raise StoreError("on its way")
        outcomes = await self.store.put_many(puts)
        if self.mute:
            raise StoreError("the answer was lost")
        return outcomes

    async def get(self, key: str) -> Record | None:
        """See `Store`."""
        self._listen()
        return await self.store.get(key)

    async def take_over(self, key: str, random: int, expires_seconds: float) -> Record | None:
        """See `Store`."""
        self._listen()
        return await self.store.take_over(key, random, expires_seconds)

    async def delete(self, key, epoch=None) -> bool:
        """See `Store`."""
        self._listen()
        return await self.store.delete(key, epoch)

    async def land(self) -> list[Outcome]:
        """Puts once more what was put so far: late, or twice."""
        return [(await self.store.put_many([put]))[0] for put in self.puts]

    def _listen(self) -> None:
        if self.deaf:
            raise StoreError("nobody is there")


@dataclass
class Kept:
    """A host, and how it is asked."""

    made: Summing
    store: Troubled

    @property
    def host(self):
        """The host."""
        return self.made.host

    async def open(self, durability: Durability = Durability.COMMIT, session_id: str = "a", **asked: object) -> Opened:
        """Opens a session of the summing model."""
        return await self.host.open(Open("sum", session_id=session_id, durability=durability, **asked))

    async def resume(self, session_id: str = "a", told: int = 0, **asked: object) -> Opened:
        """Resumes a session whose client was told that `told` is durable."""
        wanted = {"server_instance": "another", **asked}
        return await self.host.open(Open(session_id=session_id, mode=Mode.RESUME, durable_position=told, **wanted))

    def ask(self, first: float, position: int | None, session_id: str = "a", timesteps: int = 1) -> Listener:
        """Asks for a step; the listener hears of it."""
        listener = Listener()
        inputs = {"x": np.full((timesteps, 2), [first, 1], np.float32)}
        self.host.step(Step(session_id, inputs, position), listener, position)
        return listener

    async def step(self, first: float, position: int | None, session_id: str = "a", timesteps: int = 1) -> Told:
        """Returns what becomes of a step."""
        return await heard(self.ask(first, position, session_id, timesteps))

    async def quiet(self) -> None:
        """Returns when all that was to be stored is."""
        await self.host.batcher.until_quiet()
        await self.host._ownership.until_quiet()


async def heard(listener: Listener) -> Told:
    """Returns the first thing that a listener hears."""
    while not listener.heard:  # noqa: ASYNC110 (nothing tells of it)
        await asyncio.sleep(0)
    return listener.heard[0]


@contextlib.asynccontextmanager
async def kept(
    store: Troubled, *, default: Keeping | None = None, sealer: Sealer = SEALER, **options: object
) -> AsyncIterator[Kept]:
    """Runs a host over a store. Its patience with the store is none: a put is tried once, and once more."""
    durably = Durably(store, sealer, default or Keeping(), 0.0)
    async with summing(durably=durably, **options) as made:
        yield Kept(made, store)
