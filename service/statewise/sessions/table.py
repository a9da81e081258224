"""The table of sessions, and every transition of a session, a step or a row.

The theory. A session has a committed `row` at `position` timesteps. Its admitted steps form a chain; `tail` is the position at
which the next one is admitted. A step of position p is *admitted* at p = tail, *joined* if it is in the chain, *replayed* if its
reply is retained, and otherwise refused: AHEAD beyond the tail, STALE before it. Only the first of a chain runs:

    admit → (wait) → dispatch ─→ park ─→ dispatch …   a cut of a long step: its row is its own, not yet the session's
                        ├──────→ commit                the fresh row, the new position and the reply become the session's
                        └──────→ fail                  the fresh row is dropped; the tail goes back, and those behind fail

Steps that are new, and before which there is none, may take a shorter way if they run while nothing else can happen; nobody then
sees them pending, and they need no place in a chain:

    unhindered → depart ─┬─→ advance                   what a commit does
                         └─→ turn_back                 the fresh rows are dropped, and nothing has happened

Rows are immutable once written, so nothing needs rolling back. All of this is columns: one call moves one session or a thousand.
Nothing here awaits, reads a clock or does I/O: `now` is an argument, in seconds of any steady clock, and what the caller must do
next is returned.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from statewise.errors import Reason, StatewiseError, error
from statewise.masks import Mask, every, same, some
from statewise.sessions.chains import Chains
from statewise.sessions.digest import Digests
from statewise.sessions.directory import Directory
from statewise.sessions.durable import Durable
from statewise.sessions.replies import Kept, Replies
from statewise.sessions.rows import INITIAL_ROW, Indices, Rows
from statewise.sessions.steps import NONE, Steps

RETRY_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Opening:
    """What a session begins as.

    Attributes:
        model: the number of the model version that it is pinned to.
        pool: the number of the rows that hold its state.
        idle_timeout_seconds: it ends after this long without a step.
        retained: how many replies it retains, and how many of its steps may be in flight.
        token: random bytes that make a repeated open give the same session, or empty.
        number: what the model's input for a correlation id is told; 0 for one that no other open session has.
    """

    model: int
    pool: int
    idle_timeout_seconds: float
    retained: int = 4
    token: bytes = b""
    number: int = 0


@dataclass(frozen=True, slots=True)
class Admission:
    """What became of each step of a column.

    Attributes:
        steps: `[steps]`, the number of each new step, `NONE` where there is none.
        ready: those of them that may run at once.
        joined: place in the column and the step in flight that it asks for again.
        replayed: place in the column and the place of the retained reply in its session's ring.
        refused: place in the column and why.
    """

    steps: Indices
    ready: Indices
    joined: list[tuple[int, int]] = field(default_factory=list)
    replayed: list[tuple[int, int]] = field(default_factory=list)
    refused: list[tuple[int, StatewiseError]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Failures:
    """Steps that are over without having advanced their session, each with why, and those that are ready in their place."""

    failed: list[tuple[int, StatewiseError]]
    ready: Indices


class Sessions:
    """All sessions of a server: columns `[capacity]`, a session being a number; the only place that changes them.

    Attributes:
        steps: the admitted steps.
        chains: of each session's steps.
        replies: the retained replies.
        directory: ids, handles and open tokens of sessions, and how those that are gone ended.
        durable: which sessions a store holds, and how far.
    """

    def __init__(self, capacity: int, pending: int, *, widest: int = 16, reply_bytes: int = 1 << 28) -> None:
        self.capacity = capacity
        self.widest = widest
        self.steps = Steps(pending)
        self.chains = Chains(capacity, self.steps)
        self.replies = Replies(widest, capacity, reply_bytes)
        self.directory = Directory(capacity)
        self.durable = Durable(capacity)
        self.model = np.zeros(capacity, np.int64)
        self.pool = np.zeros(capacity, np.int64)
        self.row = np.zeros(capacity, np.int64)
        self.position = np.zeros(capacity, np.int64)
        self.retained = np.zeros(capacity, np.int64)
        self.idle_timeout = np.zeros(capacity, np.float64)
        self.last_used = np.zeros(capacity, np.float64)
        self.number = np.zeros(capacity, np.int64)
        self.opened = np.zeros(capacity, np.float64)
        self.live = np.zeros(capacity, np.bool_)
        self._pools: dict[int, Rows] = {}
        self._next_pool = 0
        self._sessions_of_model: dict[int, int] = {}
        self._ending = 0  # sessions that have ended and are not reclaimed

    def __len__(self) -> int:
        return len(self.directory)

    def __repr__(self) -> str:
        return f"<Sessions {len(self)} of {self.capacity}, {len(self.steps)} steps>"

    def add_pool(self, rows: Rows) -> int:
        """Returns the number by which sessions name these rows."""
        number = self._next_pool
        self._next_pool += 1
        self._pools[number] = rows
        return number

    def remove_pool(self, number: int) -> None:
        """Lets go of rows that no session holds any more."""
        del self._pools[number]

    def rows_of(self, session: int) -> Rows:
        """Returns the rows that hold a session's state."""
        return self._pools[int(self.pool[session])]

    def count(self, model: int) -> int:
        """Returns how many sessions, open or with a step still running, are pinned to a model."""
        return self._sessions_of_model.get(model, 0)

    def open(self, session_id: str, opening: Opening, now: float, row: int = INITIAL_ROW, position: int = 0) -> int:
        """Starts a session and returns its number; raises `AlreadyOpen` or `Overloaded`.

        Args:
            row: the state that it starts from, and which becomes its own: the initial one, or one that was written for it.
            position: how many timesteps that state has consumed.
        """
        session = self.directory.add(session_id, opening.token)
        self.model[session], self.pool[session] = opening.model, opening.pool
        self.row[session], self.position[session] = row, position
        self.chains.begin(session, position)
        self.retained[session] = min(opening.retained, self.widest)
        self.idle_timeout[session], self.last_used[session] = opening.idle_timeout_seconds, now
        self.number[session] = opening.number or self.directory.short_handle(session)
        self.opened[session] = now
        self.live[session] = True
        self.replies.forget(session)
        self._sessions_of_model[opening.model] = self.count(opening.model) + 1
        return session

    def retain(self, session: int, replies: Iterable[Kept]) -> None:
        """Gives a session that has just begun the replies that it retained elsewhere, the oldest first."""
        here = np.array([session])
        for reply in replies:
            told = (np.array([reply.start]), np.array([reply.timesteps]), np.array([reply.digest], np.uint64))
            places = self.replies.retain(here, *told, self.retained[here])
            outputs = {name: array[None] for name, array in reply.outputs.items()}
            self.replies.store(int(self.model[session]), here, places, outputs)

    def fork(self, parent: int, session_id: str, opening: Opening, now: float) -> int:
        """Starts a session from the committed state of another, whose row it shares; see `open`."""
        row = int(self.row[parent])
        child = self.open(session_id, opening, now, row, int(self.position[parent]))
        self._pools[opening.pool].hold(np.array([row]))
        return child

    def admit(self, sessions: Indices, positions: Indices, timesteps: int, digests: Digests, now: float) -> Admission:
        """Takes on a column of steps, one each of distinct live sessions.

        Args:
            positions: `[steps]`, as the client told them, `NONE` for those of no position.
            timesteps: of each of the steps.
        """
        self.last_used[sessions] = now
        fits = self.chains.length[sessions] < self.retained[sessions]
        tails = self.chains.tail[sessions]
        if len(sessions) <= self.steps.room and same(positions, tails) and every(fits):  # nearly always
            return Admission(*self.chains.append(sessions, positions, timesteps, digests))
        fresh = fits & _are_next(positions, tails)
        places = fresh.nonzero()[0][: self.steps.room]
        numbers = np.full(len(sessions), NONE, np.int64)
        numbers[places], ready = self.chains.append(sessions[places], positions[places], timesteps, digests[places])
        admission = Admission(numbers, ready)
        for place in (numbers == NONE).nonzero()[0].tolist():
            self._explain(admission, place, int(sessions[place]), int(positions[place]), int(digests[place]))
        return admission

    def touch(self, session: int, now: float) -> None:
        """Notes that a session is in use, though its step was refused before it could be admitted: it is not idle."""
        self.last_used[session] = now

    def dispatch(self, steps: Indices) -> tuple[Indices, Indices]:
        """Sends steps into a run, the point of no return; returns the rows to read, and fresh ones to write."""
        sessions = self.steps.session[steps]
        self.steps.running[steps] = True
        source, targets = self.depart(sessions)
        begun = self.steps.done[steps] > 0
        if some(begun):
            source[begun] = self.steps.row[steps[begun]]
        return source, targets

    def unhindered(self, sessions: Indices, positions: Indices) -> bool:
        """Whether steps of these positions would all be new, and the first of their sessions' chains; see `admit`."""
        tails = self.chains.tail[sessions]
        in_order = same(positions, tails) or every(_are_next(positions, tails))
        return in_order and not some(self.chains.length[sessions] != 0)

    def depart(self, sessions: Indices) -> tuple[Indices, Indices]:
        """Returns the rows that hold what sessions have committed, and fresh ones to write, for a run of their next steps."""
        return self.row[sessions], self._rows(sessions).take(len(sessions))

    def turn_back(self, sessions: Indices, targets: Indices) -> None:
        """Drops the fresh rows of such a run; the sessions stand where they did."""
        self._rows(sessions).drop(targets)

    def advance(self, sessions: Indices, targets: Indices, timesteps: int, digests: Digests, now: float) -> tuple[Indices, Indices]:
        """Makes the fresh rows of such a run their sessions' own, as `commit` does.

        Returns:
            the places of the replies in the rings, and the positions after the steps.
        """
        places, positions = self._go_on(sessions, targets, timesteps, digests, now)
        self.chains.tail[sessions] = positions
        return places, positions

    def park(self, steps: Indices, targets: Indices, timesteps: int) -> Indices:
        """Keeps the rows of cuts that ran; returns the steps that are to run on. The rest belonged to sessions that have ended."""
        rows = self._rows(self.steps.session[steps])
        self._drop_cuts(rows, steps)
        self.steps.row[steps] = targets
        self.steps.done[steps] += timesteps
        self.steps.running[steps] = False
        return steps[self.live[self.steps.session[steps]]]

    def commit(self, steps: Indices, targets: Indices, now: float) -> tuple[Indices, Indices, Indices]:
        """Makes fresh rows and positions their sessions' own, and retains the places for the replies.

        Returns:
            the places of the replies in the rings, the positions after the steps, and the steps that are ready now.
        """
        sessions = self.steps.session[steps]
        self._drop_cuts(self._rows(sessions), steps)
        places, positions = self._go_on(sessions, targets, self.steps.timesteps[steps], self.steps.digest[steps], now)
        ready = self.chains.drop_first(steps, sessions)
        self._reclaim(sessions)
        return places, positions, ready

    def fail(self, step: int, problem: StatewiseError, target: int = NONE) -> Failures:
        """Ends a step without advancing its session; `target` is the row that its run was to write, if it was in one.

        The steps behind it that told their position counted on it, and fail too.
        """
        session = int(self.steps.session[step])
        if target != NONE:
            self.rows_of(session).drop(np.array([target]))
        expected = int(self.position[session])
        counted = [other for other in self.chains.behind(step) if self.steps.start[other] != NONE]
        behind = [(other, error(Reason.BEHIND_FAILED, "a step before this one failed", expected=expected)) for other in counted]
        return self._withdraw(session, [(step, problem), *behind])

    def close(self, session_id: str, now: float) -> tuple[int, Failures] | None:
        """Ends a session; returns its number and its steps that will not run, or `None` if it is not open."""
        session = self.directory.number(session_id)
        if session is None:
            return None
        return session, self._end(session, Reason.CLOSED, now)

    def end(self, session: int, reason: Reason, now: float) -> Failures:
        """Ends a session here that lives on elsewhere; its steps that have not begun fail with the reason."""
        if not self.live[session]:
            return Failures([], np.empty(0, np.int64))
        return self._end(session, reason, now)

    def expire(self, now: float) -> Indices:
        """Ends the sessions that have nothing pending and were idle for longer than their timeout, and returns them."""
        expired = self.due(now)
        for session in expired.tolist():
            self._end(session, Reason.EXPIRED, now)
        return expired

    def due(self, now: float) -> Indices:
        """Returns the sessions that `expire` would end."""
        return np.flatnonzero(self.live & (self.chains.length == 0) & (now - self.last_used > self.idle_timeout))

    def _rows(self, sessions: Indices) -> Rows:
        return self._pools[int(self.pool[sessions[0]])]

    def _go_on(
        self, sessions: Indices, targets: Indices, timesteps: Indices | int, digests: Digests, now: float
    ) -> tuple[Indices, Indices]:
        """Gives sessions new rows and positions; returns the places of the replies in the rings, and the positions."""
        self._rows(sessions).drop(self.row[sessions])
        self.row[sessions] = targets
        starts = self.position[sessions]
        positions = starts + timesteps
        self.position[sessions] = positions
        self.last_used[sessions] = now
        return self.replies.retain(sessions, starts, timesteps, digests, self.retained[sessions]), positions

    def _drop_cuts(self, rows: Rows, steps: Indices) -> None:
        """Drops the rows that earlier cuts of these steps wrote."""
        begun = self.steps.done[steps] > 0
        if some(begun):
            rows.drop(self.steps.row[steps[begun]])

    def _withdraw(self, session: int, failed: list[tuple[int, StatewiseError]]) -> Failures:
        """Takes steps of one session out of its chain, and the tail back."""
        for step, _ in failed:
            if self.steps.done[step]:
                self.rows_of(session).drop(self.steps.row[[step]])
        ready = self.chains.take_out(session, {step for step, _ in failed})
        self._reclaim(np.array([session]))
        return Failures(failed, ready)

    def _explain(self, admission: Admission, place: int, session: int, position: int, digest: int) -> None:
        """Enters what becomes of a step that is not new, or is too much."""
        tail = int(self.chains.tail[session])
        try:
            if position in (NONE, tail):
                raise self._too_much(session)
            if position > tail:
                raise _out_of_order(Reason.AHEAD, position, tail)
            step = self.chains.find(session, position, int(self.position[session]))
            if step != NONE:
                _check_digest(digest, int(self.steps.digest[step]), position)
                self.steps.waiters[step] += 1
                admission.joined.append((place, step))
                return
            ring = self.replies.find(session, position)
            if ring == NONE:
                raise _out_of_order(Reason.STALE, position, tail)
            _check_digest(digest, int(self.replies.digest[ring, session]), position)
            admission.replayed.append((place, ring))
        except StatewiseError as problem:
            admission.refused.append((place, problem))

    def _too_much(self, session: int) -> StatewiseError:
        if self.chains.length[session] >= self.retained[session]:
            message = f"{self.chains.length[session]} steps of the session are in flight already, as many as it retains replies"
        else:
            message = f"{len(self.steps)} steps are pending already"
        return error(Reason.OVERLOADED, message, retry_after_seconds=RETRY_SECONDS)

    def _end(self, session: int, reason: Reason, now: float) -> Failures:
        self.live[session] = False
        self._ending += 1
        self.directory.end(session, reason, now)
        chain = self.chains.of(session)
        told = self.directory.told(session, reason)
        waiting = [(step, told) for step in chain if not self.steps.running[step]]
        failures = self._withdraw(session, waiting) if waiting else Failures([], np.empty(0, np.int64))
        if not chain:
            self._reclaim(np.array([session]))
        return failures

    def _reclaim(self, sessions: Indices) -> None:
        """Frees what sessions held that have ended, once no run can read it any more."""
        if not self._ending:
            return
        over = sessions[~self.live[sessions] & (self.chains.length[sessions] == 0)]
        self._ending -= len(over)
        for session in over.tolist():
            self.rows_of(session).drop(self.row[[session]])
            self.replies.forget(session)
            self.durable.end(session)
            self.directory.release(session)
            self._forget_model_of(session)

    def _forget_model_of(self, session: int) -> None:
        """Counts a session of its model less."""
        model = int(self.model[session])
        self._sessions_of_model[model] -= 1
        if not self._sessions_of_model[model]:
            del self._sessions_of_model[model]


def _are_next(positions: Indices, tails: Indices) -> Mask:
    """Which steps come next in their sessions, by what their clients told."""
    following: Mask = (positions == tails) | (positions == NONE)
    return following


def _out_of_order(reason: Reason, position: int, tail: int) -> StatewiseError:
    told = "is behind" if reason is Reason.STALE else "is ahead of"
    return error(reason, f"position {position} {told} the session, which expects {tail}", expected=tail)


def _check_digest(digest: int, kept: int, position: int) -> None:
    if digest != kept:
        message = f"position {position} was used by a step with other inputs; the session has not advanced by this one"
        raise error(Reason.POSITION_REUSED, message)
