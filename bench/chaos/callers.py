"""Live sessions: each steps through a series of its own at its own pace and keeps every output, to be held against a reference run.

What a caller must never see: an output that is missing, there twice, or off what an undisturbed server answers.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from statewise.client import AsyncClient
from statewise.client.asynchronous import AsyncSession
from statewise.errors import StatewiseError

Array = NDArray[Any]
FEATURES = 4
TOLERANCE = 1e-5


def series(number: int, start: int, count: int) -> Array:
    """Returns the inputs of a session from a timestep on: `[timesteps, FEATURES]`."""
    times = np.arange(start, start + count)[:, None] + 17 * number
    waves: Array = np.sin(times * np.array([0.1, 0.23, 0.37, 0.71])).astype(np.float32)
    return waves


@dataclass(eq=False)
class Caller:
    """One session and what became of it.

    Attributes:
        outputs: one for each timestep, in the order in which they were yielded.
        moved_seconds: how long the steps took after which the session was on another run of a server.
        problem: why it gave up, if it did.
    """

    number: int
    outputs: list[Array] = field(default_factory=list)
    moved_seconds: list[float] = field(default_factory=list)
    out_of_place: int = 0
    problem: StatewiseError | None = None

    async def run(self, session: AsyncSession, until: asyncio.Event, pause_seconds: float) -> None:
        """Steps until it is told to stop, or a step fails."""
        await asyncio.sleep(pause_seconds * (self.number % 97) / 97)
        while not until.is_set():
            position, instance = len(self.outputs), session._exchange.server_instance  # noqa: SLF001 (told to nobody else)
            began = time.monotonic()
            try:
                y = await session.step(series(self.number, position, 1)[0])
            except StatewiseError as problem:
                self.problem = problem
                return
            took = time.monotonic() - began
            self.outputs.append(np.asarray(y))
            self.out_of_place += session.position != position + 1
            if session._exchange.server_instance != instance:  # noqa: SLF001
                self.moved_seconds.append(took)
            await asyncio.sleep(max(0.0, pause_seconds - took))


@dataclass
class Crowd:
    """Callers over some clients, a router key each."""

    address: str
    count: int
    clients: int
    model: str = "small"
    pause_seconds: float = 0.5
    patience_seconds: float = 60.0
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.callers = [Caller(number) for number in range(self.count)]
        self._stop = asyncio.Event()
        self._running: list[asyncio.Task[None]] = []
        self._clients: list[AsyncClient] = []

    async def start(self) -> None:
        """Opens the sessions and lets them step."""
        self._clients = [AsyncClient(self.address, timeout_seconds=self.patience_seconds) for _ in range(self.clients)]
        for caller in self.callers:
            session = await self._clients[caller.number % self.clients].open_session(self.model, **self.options)
            self._running.append(asyncio.create_task(caller.run(session, self._stop, self.pause_seconds)))

    async def stop(self) -> None:
        """Lets them stop, each after the step that it waits for."""
        self._stop.set()
        await asyncio.gather(*self._running)
        for client in self._clients:
            await client.close()

    @property
    def steps(self) -> int:
        """How many outputs the callers have."""
        return sum(len(caller.outputs) for caller in self.callers)

    async def judged(self, reference: str) -> dict[str, Any]:
        """Returns what became of all, held against a server that nobody disturbs."""
        wrong = missing = 0
        worst = 0.0
        async with AsyncClient(reference, timeout_seconds=120) as client:
            for caller in self.callers:
                expected: list[Array] = []
                async with await client.open_session(self.model) as session:
                    if caller.outputs:
                        expected = list(await session.step(series(caller.number, 0, len(caller.outputs))))
                for mine, theirs in zip(caller.outputs, expected, strict=True):
                    off = float(np.abs(mine - theirs).max() / max(1.0, float(np.abs(theirs).max())))
                    worst = max(worst, off)
                    wrong += off > TOLERANCE
                missing += caller.out_of_place
        moved = sorted(seconds for caller in self.callers for seconds in caller.moved_seconds)
        problems = Counter(str(caller.problem.reason or type(caller.problem).__name__) for caller in self.callers if caller.problem)
        return {
            "sessions": len(self.callers),
            "outputs": self.steps,
            "lost or there twice": missing,
            f"off the reference by more than {TOLERANCE:g}": wrong,
            "worst": worst,
            "errors seen by callers": dict(problems),
            "resumed": len(moved),
            "resume p50, p99, most (s)": [round(moved[int(len(moved) * q)], 3) for q in (0.5, 0.99)] + [round(moved[-1], 3)]
            if moved
            else [],
        }
