"""Callers who send their values in pipelines of both clients, leave out those that are refused, and check every answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import numpy as np

from builders.summing import FATAL
from statewise.client import AsyncSession, Session
from statewise.errors import InvalidInput, NonFiniteState, OutOfOrder

VALUES = 120
BAD = {"input": float("nan"), "state": FATAL}


class Caller:
    """One who has values to be summed, leaves out those that are refused, and goes on behind them."""

    def __init__(self, number: int) -> None:
        self.random = np.random.default_rng(number)
        drawn = self.random.integers(1, 9, VALUES).astype(float)
        for kind, value in BAD.items():
            drawn[self.random.random(VALUES) < (0.04 if kind == "input" else 0.03)] = value
        self.left = drawn.tolist()
        self.total = 0.0
        self.ran = 0

    def chunk(self) -> list[list[float]]:
        """Returns the next values, as steps take them."""
        return [[value, 0.0] for value in self.left[: int(self.random.integers(1, 25))]]

    def hear(self, y: np.ndarray) -> None:
        """Takes the answer to the next value: the sum of all that ran until then."""
        self.total += self.left.pop(0)
        self.ran += 1
        assert y.tolist() == [self.total, 0.0]

    def refused(self, problem: Exception) -> None:
        """Takes that the next value was refused."""
        value = self.left.pop(0)
        assert isinstance(problem, InvalidInput if np.isnan(value) else NonFiniteState)

    def hear_all(self, outcomes: list[np.ndarray | BaseException]) -> None:
        """Takes the outcomes of steps that were started at once: behind the one that failed all do, NaN for what it is."""
        for place, outcome in enumerate(outcomes):
            if isinstance(outcome, np.ndarray):
                self.hear(outcome)
                continue
            self.refused(outcome)
            assert {type(each) for each in outcomes[place + 1 :]} <= {OutOfOrder, InvalidInput}
            return


async def run(session: AsyncSession, caller: Caller) -> None:
    """Sends all values, in ways that change."""
    while caller.left:
        values, way = caller.chunk(), int(caller.random.integers(3))
        if way == 0:
            caller.hear_all(await asyncio.gather(*map(session.step, values), return_exceptions=True))
        else:
            try:
                async for y in session.steps(slowly(values) if way == 1 else values, window=int(caller.random.integers(0, 5))):
                    caller.hear(y)
            except (InvalidInput, NonFiniteState) as problem:
                caller.refused(problem)
        assert session.position == caller.ran


def run_blocking(session: Session, caller: Caller) -> None:
    """The same."""
    while caller.left:
        try:
            for y in session.steps(caller.chunk(), window=int(caller.random.integers(0, 5))):
                caller.hear(y)
        except (InvalidInput, NonFiniteState) as problem:
            caller.refused(problem)
        assert session.position == caller.ran


async def slowly(values: list[list[float]]) -> AsyncIterator[list[float]]:
    """Gives values with turns of the loop between them."""
    for value in values:
        await asyncio.sleep(0)
        yield value
