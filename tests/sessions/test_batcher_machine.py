"""Host and batcher on a real loop, with an engine that sums in its own thread, against a model in plain Python.

What the machine does is what clients do: single steps, pipelines and frames of three streams, again, too early or too late; streams
that go away, sessions that are opened, copied, restored, closed and forgotten; and an engine that is slow, fails on a step, or
fails on a batch after having written over some of its rows. Every answer is held against the model, each request is answered
exactly once, and after every rule every row, step and column is accounted for.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from builders.asking import Listener, Told
from builders.invariants import check_batcher, check_nothing_is_left
from builders.predicted import Conversation, Pending, Reply, Twin
from builders.summing import BUG, FATAL, SummingEngine, summing
from builders.walking import pick, walk
from statewise.config import Limits
from statewise.conversation import Frame, Step
from statewise.engine import Batch, Outcome
from statewise.errors import AlreadyOpen, Overloaded, Reason
from statewise.opening import Mode, Open, Opened
from statewise.pool import StatePool
from statewise.runtime import EngineError
from statewise.scheduler import CUT
from statewise.sessions import NONE
from statewise.snapshot import Snapshot

LIMITS = Limits(sessions=5, pending_steps=9, batch=3, retained_replies=4, reply_bytes=1 << 20)
LENGTHS = (1, 1, 2, CUT + 1, 2 * CUT + 6)
LATE = -3
"""A value that makes a step fail in its second cut."""
DOOMED = {int(FATAL): Reason.NON_FINITE_STATE, int(BUG): Reason.ENGINE_FAILED, LATE: Reason.NON_FINITE_STATE}
IDS = [f"session {letter}" for letter in "abcdefg"]
PIPELINED = (0, 1, 2, 3, 4, 10, 11, 12)
PICK = st.integers(0, 1 << 16)


class Gate:
    """Where batches wait for a permit; `shut` tells that the engine's thread stands before it, with all before that done."""

    def __init__(self) -> None:
        self.permits = threading.Semaphore(0)
        self.shut = False

    def wait(self) -> None:
        """Returns when there is a permit."""
        self.shut = True
        self.permits.acquire()
        self.shut = False


class GatedEngine(SummingEngine):
    """Lets a batch run for each permit; one that is run again step by step needs no other, nor does one that runs on the loop."""

    def __init__(self, gate: Gate, spec) -> None:
        super().__init__(spec)
        self.gate = gate
        self._again = 0

    def run(self, batch: Batch, pool: StatePool) -> Outcome:
        """See `Engine`."""
        if threading.current_thread() is threading.main_thread():
            return super().run(batch, pool)
        if self._again:
            self._again -= 1
        else:
            self.gate.wait()
        try:
            return super().run(batch, pool)
        except EngineError:
            self._again = len(batch.source) if len(batch.source) > 1 else self._again
            raise


@dataclass(eq=False)
class Held:
    """A session of the host beside its model. `waiting` is who waits for which of its steps."""

    opened: Opened
    talk: Conversation
    timeout: float
    used: float
    token: bytes
    waiting: dict[Pending, list[Asked]] = field(default_factory=dict)
    outcome: dict[Pending, Reply | Reason] = field(default_factory=dict)


@dataclass(eq=False)
class Asked:
    """A request that is not answered yet, and what is known of its answer."""

    held: Held
    listener: Listener
    position: int | None
    expected: Pending | Reply | Reason
    until: float | None = None


@dataclass(eq=False)
class Copying:
    """A snapshot or a restore that waits for the engine's thread, and the row that it holds meanwhile."""

    task: asyncio.Task
    pool: int
    row: int
    done: Callable[[], None]


class BatcherMachine(RuleBasedStateMachine):
    """See the module. Batches of up to `ON_LOOP` steps run on the loop."""

    ON_LOOP = 0

    def __init__(self) -> None:
        super().__init__()
        self.now, self.number = 0.0, 0
        self.loop = asyncio.new_event_loop()
        self.gate = Gate()
        self.stack = contextlib.AsyncExitStack()
        engine = partial(GatedEngine, self.gate)
        host = summing(on_loop=self.ON_LOOP, limits=LIMITS, clock=lambda: self.now, make=engine, alone=True)
        self.made = self.loop.run_until_complete(self.stack.enter_async_context(host))
        self.host, self.batcher, self.sessions = self.made.host, self.made.host.batcher, self.made.host.sessions
        self.heard: list[Told] = []
        self.listeners = [Listener(self.heard) for _ in range(3)]
        self.held: dict[str, Held] = {}
        self.asked: dict[tuple[object, int], Asked] = {}
        self.copying: list[Copying] = []
        self.snapshots: list[Snapshot] = []

    # Sessions come and go.

    @rule(pick=PICK, version=st.sampled_from([3, 4]), retained=st.integers(1, 4))
    def open(self, pick: int, version: int, retained: int) -> None:
        """A session of its own, with a token or without."""
        name, timeout, token = IDS[pick % len(IDS)], 1.0 + pick % 3, b"token %d" % pick if pick % 2 else b""
        asked = Open("sum", version, name, timeout, retained_replies=retained, token=token)
        self._enter(name, Conversation(retained), timeout, token, lambda: self._run(self.host.open(asked)))

    @precondition(lambda self: self.held)
    @rule(pick=PICK)
    def open_again(self, pick: int) -> None:
        """The reply to an open was lost: the same token, or to resume by the id, gives the same session."""
        held = self._one(pick)
        name = held.opened.session_id
        asked = Open("sum", token=held.token) if held.token else Open(session_id=name, mode=Mode.RESUME)
        again = self._run(self.host.open(asked))
        assert (again.session_id, again.handle, again.position) == (name, held.opened.handle, held.talk.position)
        assert again.resumed

    @precondition(lambda self: self.held)
    @rule(pick=PICK)
    def fork(self, pick: int) -> None:
        """A session at the committed state of another; the reply lost, and asked for once more."""
        parent, name, token = self._one(pick), IDS[pick % len(IDS)], b"fork %d" % pick
        child = parent.talk.fork(parent.talk.retained)
        if self._enter(
            name, child, parent.timeout, token, lambda: self._call(self.host.fork, parent.opened.session_id, name, token)
        ):
            again = self._call(self.host.fork, parent.opened.session_id, "another name", token)
            assert again.handle == self.held[name].opened.handle

    @rule(pick=PICK)
    def close(self, pick: int) -> None:
        """A session ends: what waits is told CLOSED, what runs is answered."""
        name = IDS[pick % len(IDS)]
        known = name in self.held
        closed = self._run(self.host.close(name))
        self._collect()  # a session may have been restored just before
        assert closed.closed or not known
        if closed.closed:
            held = self.held.pop(name)
            assert closed.position == held.talk.position
            self._drop(held, [step for place, step in enumerate(held.talk.chain) if place or not self._runs(held)], Reason.CLOSED)
        if not self.copying:  # a session may be restored under this name
            assert not self._run(self.host.close(name)).closed
        self._listen()

    @rule(seconds=st.sampled_from([0.0, 1.0, 2.5]))
    def expire(self, seconds: float) -> None:
        """Time passes, and idle sessions end."""
        self.now += seconds
        idle = [name for name, held in self.held.items() if not held.talk.chain and self.now - held.used > held.timeout]
        assert len(self.sessions.expire(self.now)) == len(idle)
        for name in idle:
            del self.held[name]

    @precondition(lambda self: self.held and len(self.copying) < 4)
    @rule(pick=PICK)
    def snapshot(self, pick: int) -> None:
        """A snapshot is of what is committed now, however long the engine is busy and whatever runs meanwhile."""
        held = self._one(pick)
        position, total = held.talk.position, held.talk.total
        number = self.sessions.directory.find(held.opened.session_id)
        pool, row = int(self.sessions.pool[number]), int(self.sessions.row[number])

        def taken() -> None:
            snapshot = task.result()
            assert (snapshot.position, snapshot.states["state"].tolist()) == (position, [total, 0])
            self.snapshots.append(snapshot)

        task = self.loop.create_task(self.host.snapshot(held.opened.session_id))
        self.copying.append(Copying(task, pool, row, taken))
        self._turn()

    @precondition(lambda self: self.snapshots and len(self.copying) < 4)
    @rule(pick=PICK)
    def restore(self, pick: int) -> None:
        """A session is opened from a snapshot; it is there when the engine's thread has come to write it."""
        snapshot, name, token = self.snapshots[pick % len(self.snapshots)], IDS[pick % len(IDS)], b"restore %d" % pick
        served = self.host.models.ready["sum", snapshot.version]
        talk = Conversation(4, snapshot.position, int(snapshot.states["state"][0]))

        async def opened() -> Opened:
            try:
                return await self.host.open(asked)
            except Overloaded:  # by the time that it is collected another may have ended
                assert len(self.sessions) + self.sessions._ending == LIMITS.sessions
                raise

        def restored() -> None:
            self._enter(name, talk, 600.0, token, task.result, checked=True)

        asked = Open(session_id=name, token=token, snapshot=snapshot.to_bytes())
        row = int(served.pool.rows._stack[served.pool.rows.free - 1])
        if self.sessions.directory.opened_by(token) is None:
            task = self.loop.create_task(opened())
            self.copying.append(Copying(task, served.pool.number, row, restored))
            self._turn()

    # Steps.

    @precondition(lambda self: self.held)
    @rule(pick=PICK, kind=st.integers(0, 12), length=st.sampled_from(LENGTHS), timeout=st.sampled_from([None, None, 0.5]))
    def step(self, pick: int, kind: int, length: int, timeout: float | None) -> None:
        """A single step."""
        self._ask([self._asked(self._one(pick), kind, length, pick, timeout)])
        self._listen()

    @precondition(lambda self: self.held)
    @rule(pick=PICK, kinds=st.lists(st.sampled_from(PIPELINED), min_size=2, max_size=5))
    def pipeline(self, pick: int, kinds: list[int]) -> None:
        """Steps of one session, sent without waiting; one of them may fail."""
        self._ask([self._asked(self._one(pick), kind, 1 + pick % 2, pick, None) for kind in kinds])
        self._listen()

    @precondition(lambda self: self.held)
    @rule(pick=PICK, kinds=st.lists(st.integers(0, 12), min_size=1, max_size=5), length=st.sampled_from(LENGTHS))
    def frame(self, pick: int, kinds: list[int], length: int) -> None:
        """A frame of sessions of one version, each row in a state of its own."""
        version = self._one(pick).opened.model
        rows = [held for held in self.held.values() if held.opened.model is version][: len(kinds)]
        asked = [self._position(held, kind, pick) for held, kind in zip(rows, kinds, strict=False)]
        twins = [self._twin(held, position, length, kind) for held, position, kind in zip(rows, asked, kinds, strict=False)]
        positions = None if None in asked else np.array(asked, np.int64)
        if positions is None:
            asked = [None] * len(rows)
        self.number += 1
        listener = self.listeners[pick % 3]
        for row, (held, position, twin) in enumerate(zip(rows, asked, twins, strict=True)):
            self._expect(self.number, row, held, listener, position, twin, None)
        handles = np.array([held.opened.handle for held in rows], np.uint64)
        inputs = {"x": np.stack([_values(twin) for twin in twins])}
        self._call(self.host.frame, Frame(handles, inputs, positions), listener, self.number)
        self._listen()

    @precondition(lambda self: self.held)
    @rule(pick=PICK)
    def spoilt_frame(self, pick: int) -> None:
        """A session twice, a handle of nobody, and NaN: each of these rows fails, and the other runs."""
        held, others = self._one(pick), list(self.held.values())
        twice, nan = others[pick % len(others)], others[(pick + 1) % len(others)]
        if len({id(held), id(twice), id(nan)}) < 3 or len({each.opened.model for each in (held, twice, nan)}) > 1:
            return
        self.number += 1
        listener, twin = self.listeners[pick % 3], Twin(1, 1)
        for row, reason in ((0, Reason.BAD_FIELD), (1, Reason.NOT_HERE), (2, Reason.BAD_FIELD), (3, Reason.NON_FINITE_INPUT)):
            self.asked[self.number, row] = Asked(nan, listener, None, reason)
        self._expect(self.number, 4, held, listener, None, twin, None)
        handles = [twice.opened.handle, twice.opened.handle ^ 1 << 50, twice.opened.handle, nan.opened.handle, held.opened.handle]
        values = np.stack([_values(twin)] * 5)
        values[3] = np.nan
        self._call(self.host.frame, Frame(np.array(handles, np.uint64), {"x": values}), listener, self.number)
        self._listen()

    @rule(pick=PICK)
    def leave(self, pick: int) -> None:
        """A stream goes away: what nobody else waits for and has not begun is dropped, and nobody of it is answered."""
        gone = self.listeners[pick % 3]
        self.listeners[pick % 3] = Listener(self.heard)
        self.asked = {key: asked for key, asked in self.asked.items() if asked.listener is not gone}
        self._call(self.host.forget, gone)
        for held in {id(asked): asked for asked in [*self.held.values(), *self._ending()]}.values():
            for step, waiting in held.waiting.items():
                held.waiting[step] = [asked for asked in waiting if asked.listener is not gone]
            alone = [step for step in held.talk.chain if not held.waiting[step]]
            begun = held.talk.chain[:1] if self._begun(held) else []
            for step in alone:
                if step in held.talk.chain and step not in begun:
                    for behind in held.talk.fail(step):
                        held.outcome[behind] = Reason.BEHIND_FAILED
        self._listen()

    @precondition(lambda self: self.batcher._under_way)
    @rule(torn=st.booleans())
    def finish(self, torn: bool) -> None:
        """The oldest run ends, perhaps after a failure half-way."""
        run = self.batcher._under_way[0]
        self.made.engines["sum"].torn = torn and len(run.steps) > 1  # a step alone would fail
        self.gate.permits.release()
        self._until(lambda: run not in self.batcher._under_way)
        self._listen()

    # What is compared.

    @invariant()
    def everything_is_accounted_for(self) -> None:
        """Host and model agree, and every row, step and column is in one place."""
        self._collect()
        assert not self.host.failed.is_set()
        pinned = defaultdict(list)
        for copying in self.copying:
            pinned[copying.pool].append(copying.row)
        check_batcher(self.batcher, pinned)
        for name, held in self.held.items():
            found = self.host.find(name)
            assert (found.position, found.tail, found.pending) == (held.talk.position, held.talk.tail, len(held.talk.chain))
        assert [asked for asked in self.asked.values() if not isinstance(asked.expected, Pending)] == [], "not answered"

    def teardown(self) -> None:
        """All ends, each request is answered, and nothing is left."""
        try:
            self.gate.permits.release(1000)
            self._until(lambda: not len(self.sessions.steps) and all(copying.task.done() for copying in self.copying))
            self._listen()
            assert self.asked == {}, "some were never answered"
            for name in IDS:
                self._run(self.host.close(name))
            check_nothing_is_left(self.batcher)
        finally:
            self.loop.run_until_complete(self.stack.aclose())
            self.loop.close()

    def _run(self, work):
        return self.loop.run_until_complete(work)

    def _call(self, function, *arguments):
        async def called():
            return function(*arguments)

        return self._run(called())

    def _turn(self) -> None:
        """Lets loop and thread go on until both wait for what comes next, so that what follows does not hang on their speed."""
        self._until(self._still)
        self._until(self._still)

    def _still(self) -> bool:
        batcher = self.batcher
        if len(batcher._arrivals) or batcher._arrivals._ticking or batcher._pumping:
            return False
        return self.gate.shut if batcher._under_way else all(copying.task.done() for copying in self.copying)

    def _until(self, settled: Callable[[], bool]) -> None:
        async def turns() -> None:
            for _ in range(3):
                await asyncio.sleep(0)
            while not settled():  # noqa: ASYNC110 (nothing tells of it)
                await asyncio.sleep(0)

        self._run(turns())

    def _one(self, pick: int) -> Held:
        return self.held[sorted(self.held)[pick % len(self.held)]]

    def _ending(self) -> Iterable[Held]:
        """Returns the sessions that have ended and of which a step still runs, as far as somebody waits for it."""
        return [asked.held for asked in self.asked.values() if asked.held.opened.session_id not in self.held]

    def _forgotten(self) -> int:
        """Returns how many steps still run whose session has ended and whose asker has gone: each takes a place."""
        over = np.flatnonzero(~self.sessions.live & (self.sessions.chains.first != NONE)).tolist()
        return len({*over} - {held.opened.handle & 0xFFFFFF for held in self._ending()})

    def _runs(self, held: Held) -> bool:
        """Whether the first step of a session that has just ended is in a run: it has not been answered."""
        number = held.opened.handle & 0xFFFFFF
        return (
            bool(held.talk.chain)
            and self.sessions.directory.ids[number] == held.opened.session_id
            and (not self.sessions.live[number] and int(self.sessions.chains.first[number]) != NONE)
        )

    def _begun(self, held: Held) -> bool:
        """Whether the first step of a session has begun: it goes on, whoever waits for it."""
        number = held.opened.handle & 0xFFFFFF
        first = int(self.sessions.chains.first[number])
        return first != NONE and bool(self.sessions.steps.running[first] or self.sessions.steps.done[first])

    def _enter(self, name, talk, timeout, token, enter, *, checked: bool = False) -> bool:
        try:
            opened = enter()
        except AlreadyOpen:
            self._collect()
            assert name in self.held
            return False
        except Overloaded:
            self._collect()
            assert checked or len(self.held) + self.sessions._ending == LIMITS.sessions
            return False
        if opened.resumed:
            assert token
            assert any(held.token == token for held in self.held.values())
            return False
        assert name not in self.held
        assert opened.position == talk.position
        self.held[name] = Held(opened, talk, timeout, self.now, token)
        return True

    def _ask(self, steps: list[tuple[Step, Listener, int]]) -> None:
        """Sends steps at one go: if the loop came round between them, others might be dropped for being late, and make room."""

        def each() -> None:
            for step in steps:
                self.host.step(*step)

        self._call(each)

    def _asked(self, held: Held, kind: int, length: int, pick: int, timeout: float | None) -> tuple[Step, Listener, int]:
        """Returns a step that is to be sent, of which it is noted what is expected."""
        position = self._position(held, kind, pick)
        twin = self._twin(held, position, length, kind)
        self.number += 1
        listener = self.listeners[pick % 3]
        self._expect(self.number, 0, held, listener, position, twin, timeout)
        return Step(held.opened.session_id, {"x": _values(twin)}, position, timeout), listener, self.number

    def _expect(self, tag, row, held, listener, position, twin, timeout) -> None:
        held.used = self.now
        taken = sum(len(each.talk.chain) for each in {*self.held.values(), *self._ending()}) + self._forgotten()
        expected = held.talk.ask(position, twin, LIMITS.pending_steps - taken)
        until = None if timeout is None else self.now + timeout
        self.asked[tag, row] = Asked(held, listener, position, expected, until)
        if isinstance(expected, Pending):
            held.waiting.setdefault(expected, []).append(self.asked[tag, row])

    def _position(self, held: Held, kind: int, pick: int) -> int | None:
        talk = held.talk
        again = [talk.start_of(step) for step in talk.chain] + [reply.start for reply in talk.replies]
        if kind == 4:
            return None
        if kind in (5, 6, 7) and again:
            return again[pick % len(again)]
        if kind == 8:
            return talk.tail + 1 + pick % 3
        return max(0, talk.tail - 1 - pick % 3) if kind == 9 else talk.tail

    def _twin(self, held: Held, position: int | None, length: int, kind: int) -> Twin:
        talk = held.talk
        at = {talk.start_of(step): step.twin for step in talk.chain} | {reply.start: reply.twin for reply in talk.replies}
        twin = at.get(position) if kind in (5, 6) else None
        if twin and twin.timesteps == length:
            return twin
        value = {10: int(FATAL), 11: int(BUG), 12: LATE if length > CUT else 2, 7: 9}.get(kind, 1 + (kind + len(at)) % 5)
        return Twin(value, length)

    def _drop(self, held: Held, steps: list[Pending], reason: Reason) -> None:
        for step in steps:
            held.talk.chain.remove(step)
            held.outcome[step] = reason

    def _listen(self) -> None:
        """Holds what was heard against the model, in the order in which it was heard."""
        self._turn()
        self._collect()
        heard, self.heard[:] = list(self.heard), []
        for told in heard:
            asked = self.asked.pop((told.tag, told.row), None)
            assert asked, f"nobody asked for {told}, or it was answered before"
            if isinstance(asked.expected, Pending):
                self._settle(asked, asked.expected, told)
            elif isinstance(asked.expected, Reason):
                assert told.problem
                assert told.problem.reason is asked.expected
            else:
                _check(told, asked.expected)
        for held in {*self.held.values(), *self._ending()}:
            self._catch_up(held)

    def _collect(self) -> None:
        """Enters the snapshots and the restored sessions that have come to be."""
        while ready := [each for each in self.copying if each.task.done()]:
            self.copying.remove(ready[0])
            ready[0].done()

    def _settle(self, asked: Asked, step: Pending, told: Told) -> None:
        held = asked.held
        if step in held.talk.chain:
            self._unheard(held, step)
        if step in held.talk.chain:
            self._decide(held, step, told, asked)
        outcome = held.outcome[step]
        if isinstance(outcome, Reply) and asked.position not in (None, outcome.start):
            outcome = Reason.BEHIND_FAILED  # it joined a step that came to run earlier
        if isinstance(outcome, Reply):
            _check(told, outcome)
        else:
            assert told.problem, f"it was to fail with {outcome}"
            assert told.problem.reason is outcome

    def _decide(self, held: Held, step: Pending, told: Told, asked: Asked) -> None:
        """Advances the model by the step that somebody hears of first."""
        assert held.talk.chain[0] is step or (told.problem and told.problem.reason is Reason.EXPIRED_IN_QUEUE), "out of turn"
        doom = DOOMED.get(step.twin.value)
        if told.problem and told.problem.reason is Reason.EXPIRED_IN_QUEUE:
            assert all(each.until is not None and each.until < self.now for each in [asked, *held.waiting[step]])
            doom = Reason.EXPIRED_IN_QUEUE
        if told.problem and told.problem.reason is Reason.CLOSED:
            assert held not in self.held.values(), "it was not closed"
            assert step.twin.timesteps > CUT, "it had begun, and there was no other cut to come"
            doom = Reason.CLOSED
        self._end(held, step, doom)

    def _end(self, held: Held, step: Pending, doom: Reason | None) -> None:
        if doom is None:
            held.outcome[step] = held.talk.commit()
            held.used = self.now
            return
        held.outcome[step] = doom
        for behind in held.talk.fail(step):
            held.outcome[behind] = Reason.BEHIND_FAILED

    def _unheard(self, held: Held, step: Pending) -> None:
        """Ends the steps before this one that nobody waits for."""
        while step in held.talk.chain and held.talk.chain[0] is not step and not held.waiting[held.talk.chain[0]]:
            self._end(held, held.talk.chain[0], DOOMED.get(held.talk.chain[0].twin.value))

    def _catch_up(self, held: Held) -> None:
        """Ends the steps that have ended without anybody to hear of it."""
        number = held.opened.handle & 0xFFFFFF
        alive = self.sessions.directory.ids[number] == held.opened.session_id
        pending = int(self.sessions.chains.length[number]) if alive else 0
        while len(held.talk.chain) > pending and not held.waiting[held.talk.chain[0]]:
            self._end(held, held.talk.chain[0], DOOMED.get(held.talk.chain[0].twin.value))


def _values(twin: Twin) -> np.ndarray:
    """Returns the inputs `[timesteps, 2]` of a step."""
    values = np.zeros((twin.timesteps, 2), np.float32)
    values[:, 0] = 1 if twin.value == LATE else twin.value
    if twin.value == LATE:
        values[CUT, 0] = FATAL
    return values


def _check(told: Told, reply: Reply) -> None:
    assert told.problem is None, told.problem
    assert told.position == reply.start + reply.twin.timesteps
    assert told.total[:, 0].tolist() == reply.totals


class MixedMachine(BatcherMachine):
    """A step that is alone runs at once if the engine is free; those that come together, or long, are held in its thread."""

    ON_LOOP = 1


TestBatcher = BatcherMachine.TestCase
TestMixed = MixedMachine.TestCase
TestBatcher.settings = TestMixed.settings = settings(max_examples=max(1, settings().max_examples // 4), stateful_step_count=30)

DRAWS = {
    "open": (2, lambda drawn: {"pick": pick(drawn), "version": drawn.choice([3, 4]), "retained": drawn.randint(1, 4)}),
    **{name: (1, lambda drawn: {"pick": pick(drawn)}) for name in ("open_again", "fork", "close", "snapshot", "restore")},
    **{name: (1, lambda drawn: {"pick": pick(drawn)}) for name in ("spoilt_frame", "leave")},
    "expire": (1, lambda drawn: {"seconds": drawn.choice([0.0, 1.0, 2.5])}),
    "step": (
        4,
        lambda drawn: {
            "pick": pick(drawn),
            "kind": drawn.randint(0, 12),
            "length": drawn.choice(LENGTHS),
            "timeout": drawn.choice([None, None, 0.5]),
        },
    ),
    "pipeline": (1, lambda drawn: {"pick": pick(drawn), "kinds": drawn.choices(PIPELINED, k=drawn.randint(2, 5))}),
    "frame": (
        2,
        lambda drawn: {
            "pick": pick(drawn),
            "kinds": drawn.choices(range(13), k=drawn.randint(1, 5)),
            "length": drawn.choice(LENGTHS),
        },
    ),
    "finish": (4, lambda drawn: {"torn": drawn.random() < 0.3}),
}


@pytest.mark.parametrize("machine", [BatcherMachine, MixedMachine])
@settings(max_examples=max(1, 2 * settings().max_examples // 5))
@given(seed=st.integers(0, 2**32))
def test_walks(machine, seed):
    """P1 to P6: whatever clients send and the engine does, each request is answered once and as predicted, and nothing is left."""
    walk(machine(), DRAWS, seed, 40)
