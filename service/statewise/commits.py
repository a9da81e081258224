"""What sessions become durable by: steps that are in the store before they are answered, and checkpoints that follow behind.

    ran ─→ `keep` ─→ keeper … store ─→ known to sessions and askers, or the session is lost here
    known ─→ `checkpoint_soon` ─→ `checkpoint_due` ─→ keeper … store ─→ `Durable.kept`

A step that is kept counts as running until the store has told: its row, its place in the chain and who waits for it stay. Nobody
waits for a checkpoint, so those that come due within a moment are made together: a few at a time would cost several times as much.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from statewise.columns import Part
from statewise.errors import Reason, StatewiseError, error
from statewise.keeper import BATCH, Keeper
from statewise.masks import every, some
from statewise.models import Models, Served
from statewise.sessions import RETRY_SECONDS, Failures, Kept, Sessions
from statewise.stores import Outcome

Array = NDArray[np.generic]
Indices = NDArray[np.int64]
GATHER_SECONDS = 0.1
"""How often it is looked for sessions that have come to a checkpoint."""


@dataclass(frozen=True, slots=True, eq=False)
class Ran:
    """Steps of one column that ran to their end side by side.

    Attributes:
        steps: `[steps]`.
        targets: `[steps]`, the rows of what they made of their sessions.
        outputs: `[steps, timesteps, …]` each.
    """

    part: Part
    steps: Indices
    targets: Indices
    outputs: dict[str, Array]

    @property
    def model(self) -> Served:
        """The model that they ran through."""
        return self.part.column.model

    def only(self, chosen: NDArray[np.bool_]) -> Ran:
        """Returns some of them; `chosen` is `[steps]`."""
        if every(chosen):
            return self
        seats = np.flatnonzero(chosen) if self.part.seats is None else self.part.seats[chosen]
        places = np.flatnonzero(chosen) if self.part.places is None else self.part.places[chosen]
        outputs = {name: array[chosen] for name, array in self.outputs.items()}
        return Ran(replace(self.part, seats=seats, places=places), self.steps[chosen], self.targets[chosen], outputs)


class Settling(Protocol):
    """Who runs the steps, and is told what became of them."""

    def make_known(self, ran: Ran) -> None:
        """Commits steps to their sessions and answers them."""

    def close(self, failures: Failures) -> None:
        """Answers steps that failed."""

    def pump_soon(self) -> None:
        """Runs what has become ready, when the loop comes round."""

    def guarded(self, work: Callable[..., None], *arguments: object) -> None:
        """Runs a callback of the loop."""


class Commits:
    """The durable half of a commit; of the event loop, like the sessions that it changes.

    Args:
        moved: told of a session that ends here because it is, or may be, another server's now; called before it does.
    """

    def __init__(
        self,
        keeper: Keeper,
        sessions: Sessions,
        models: Models,
        settling: Settling,
        clock: Callable[[], float],
        moved: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._keeper = keeper
        self._sessions = sessions
        self._models = models
        self._settling = settling
        self._clock = clock
        self._moved = moved
        self._timer: asyncio.TimerHandle | None = None

    def keep(self, ran: Ran) -> None:
        """Puts what steps made of their sessions into the store, and makes them known once it has told."""
        table = self._sessions
        sessions, timesteps = table.steps.session[ran.steps], table.steps.timesteps[ran.steps]
        starts, told = table.position[sessions], table.steps.digest[ran.steps]
        fresh = [
            Kept(int(starts[row]), int(timesteps[row]), int(told[row]), {name: array[row] for name, array in ran.outputs.items()})
            for row in range(len(ran.steps))
        ]
        done = functools.partial(self._settling.guarded, self._kept, ran)
        self._keeper.put(self._keeper.bundle(ran.model, sessions, ran.targets, starts + timesteps, done, fresh=fresh))

    def checkpoint_soon(self) -> None:
        """Has it looked for checkpoints in a moment; called when sessions have gone on."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GATHER_SECONDS, self._settling.guarded, self.checkpoint_due)

    def checkpoint_due(self) -> None:
        """Puts the sessions into the store that have come to a checkpoint."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        self.checkpoint(self._sessions.durable.due(self._sessions.position))

    def checkpoint(self, sessions: Indices) -> None:
        """Puts sessions that are marked `busy` into the store as they stand; they go on meanwhile."""
        models = self._sessions.model[sessions]
        for number in set(models.tolist()):
            of_model = sessions[models == number]
            for start in range(0, len(of_model), BATCH):  # after a while without a store all may be due at once
                self._checkpoint(self._models[number], of_model[start : start + BATCH])

    def _checkpoint(self, model: Served, sessions: Indices) -> None:
        table = self._sessions
        handles, positions = table.directory.handles[sessions], table.position[sessions]
        done = functools.partial(self._settling.guarded, self._checkpointed, sessions, handles, positions)
        self._keeper.put(self._keeper.bundle(model, sessions, table.row[sessions], positions, done))

    def _checkpointed(
        self, sessions: Indices, handles: NDArray[np.uint64], positions: Indices, outcomes: list[Outcome] | None
    ) -> None:
        table, now = self._sessions, self._clock()
        for place in np.flatnonzero(table.directory.handles[sessions] == handles).tolist():  # the others have ended
            session, position = int(sessions[place]), int(positions[place])
            outcome = outcomes and outcomes[place]
            if outcome in (Outcome.STORED, Outcome.AHEAD):
                table.durable.kept(session, position, now)
            elif outcome is None:
                table.durable.put_off(session, int(table.position[session]))
            else:
                self._moved(session)
                self._settling.close(table.end(session, Reason.OWNER_CHANGED, now))

    def _kept(self, ran: Ran, outcomes: list[Outcome] | None) -> None:
        """Makes what the store holds known; a session of which it is not known what the store holds lives on there alone."""
        told: list[Outcome | None] = [*outcomes] if outcomes else [None] * len(ran.steps)
        well = np.array([outcome in (Outcome.STORED, Outcome.AHEAD) for outcome in told])
        now = self._clock()
        for row in np.flatnonzero(~well).tolist():
            self._lose(int(ran.steps[row]), int(ran.targets[row]), _not_kept(told[row]), now)
        if some(well):
            ran = ran.only(well)
            sessions = self._sessions.steps.session[ran.steps]
            for session, position in zip(sessions.tolist(), self._sessions.position[sessions].tolist(), strict=True):
                self._sessions.durable.kept(session, position + ran.part.column.timesteps, now)
            self._settling.make_known(ran)
        self._settling.pump_soon()

    def _lose(self, step: int, target: int, problem: StatewiseError, now: float) -> None:
        """Fails a step and all behind it, and ends their session here."""
        session = int(self._sessions.steps.session[step])
        failed = [each for each, _ in self._sessions.fail(step, problem, target).failed]
        reason = Reason.OWNER_CHANGED if problem.reason is Reason.OWNER_CHANGED else Reason.MOVED
        self._moved(session)
        failed += [each for each, _ in self._sessions.end(session, reason, now).failed]
        self._settling.close(Failures([(each, problem) for each in failed], np.empty(0, np.int64)))


def _not_kept(outcome: Outcome | None) -> StatewiseError:
    if outcome is None:
        message = "the store has not answered; it is not known whether it holds this step: resume the session"
        return error(Reason.STORE_UNAVAILABLE, message, retry_after_seconds=RETRY_SECONDS)
    return error(Reason.OWNER_CHANGED, "another server has taken the session over, or it was closed there: resume it")
