"""Who asks: what a stream and a call have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from statewise.conversation import Answer, Indices
from statewise.errors import StatewiseError
from statewise.rpc.inference.requests import Request
from statewise.rpc.inference.sequences import Sequences


class Asking(ABC):
    """A `Client` that asks through `Sequences`, and tells them when a request of its own is answered."""

    def __init__(self, sequences: Sequences) -> None:
        self._sequences = sequences

    @abstractmethod
    def deliver(self, request: Request, answer: Answer, row: int) -> None:
        """Takes the outcome of a request: a row of an answer."""

    @abstractmethod
    def fail(self, request: Request, position: int, problem: StatewiseError) -> None:
        """Takes why a request failed, and where its sequence stands."""

    def answer(self, tag: Any, answer: Answer, rows: Indices | None) -> None:
        """Is never told of a frame."""
        raise AssertionError("a request is a single step")

    def answer_one(self, tag: Any, answer: Answer, row: int) -> None:
        """Takes the outcome of a request that nothing waits for but its client."""
        self.deliver(tag, answer, row)
        self._sequences.settled(tag)

    def refuse(self, tag: Any, _: int, position: int, problem: StatewiseError) -> None:
        """Takes why it failed."""
        self.fail(tag, position, self._sequences.told(tag, problem))
        self._sequences.settled(tag)
