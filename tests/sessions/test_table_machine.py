"""Sessions and scheduler against a model in plain Python: any order of transitions, every reply predicted, every row accounted for.

The machine is the batcher's part without an event loop: it admits columns, dispatches what the scheduler chooses over pools of
running sums, and ends the runs in every way in which a run may end.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from builders.invariants import check_line, check_table
from builders.predicted import Conversation, Pending, Reply, Twin
from builders.walking import pick, walk
from statewise.errors import AlreadyOpen, Overloaded, Reason, SessionGone, error
from statewise.scheduler import CUT, Scheduler, length_class
from statewise.sessions import INITIAL_ROW, NONE, Failures, Opening, Rows, Sessions
from statewise.spec import TensorSpec

CAPACITY, STEPS, BATCH, WIDEST = 5, 9, 3, 4
ROWS = 2 + 2 * CAPACITY + 4 * BATCH
POOL_OF_MODEL = {1: 0, 2: 0, 3: 1}
LENGTHS = (1, 1, 2, CUT, CUT + 1, 2 * CUT + 6)
IDS = [f"session {letter}" for letter in "abcdefg"]
PICK = st.integers(0, 1 << 16)


@dataclass(eq=False)
class Run:
    """A batch that has been dispatched; `lengths` is what each step runs of its timesteps."""

    steps: list[int]
    source: np.ndarray
    targets: np.ndarray
    lengths: list[int]


@dataclass(eq=False)
class Held:
    """A session of the table beside its model."""

    number: int
    handle: int
    model: int
    timeout: float
    talk: Conversation
    used: float
    token: bytes = b""
    outputs: dict[Pending, list[float]] = field(default_factory=dict)


class TableMachine(RuleBasedStateMachine):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.sessions = Sessions(CAPACITY, STEPS, widest=WIDEST, reply_bytes=4 * 8 * 2 * CUT)
        self.scheduler = Scheduler(STEPS, BATCH)
        self.rows = [Rows(ROWS), Rows(ROWS)]
        self.states = [np.full(ROWS, np.nan), np.full(ROWS, np.nan)]
        for rows, states in zip(self.rows, self.states, strict=True):
            self.sessions.add_pool(rows)
            states[INITIAL_ROW] = 0
        for model in POOL_OF_MODEL:
            self.sessions.replies.reserve(model, (TensorSpec("total", "float64", ()),))
        self.held: dict[str, Held] = {}
        self.ending: list[Held] = []  # closed, with a step that is still running
        self.gone: dict[int, Reason] = {}  # by handle
        self.ended: dict[str, Reason] = {}
        self.steps: dict[int, tuple[Held, Pending]] = {}
        self.runs: list[Run] = []
        self.pins: list[tuple[int, int, float]] = []
        self.long: list[tuple[Held, Reply]] = []  # retained replies of several timesteps, oldest first
        self.clients = 0

    # What clients do.

    @rule(pick=PICK, model=st.sampled_from([1, 2, 3]), retained=st.integers(1, WIDEST))
    def open(self, pick: int, model: int, retained: int) -> None:
        """A session of its own."""
        name, timeout, token = IDS[pick % len(IDS)], 1.0 + pick % 3, b"" if pick % 5 else bytes([pick % 256])
        if self.sessions.directory.opened_by(token) is not None:
            return  # the host would return that session
        opening = Opening(model, POOL_OF_MODEL[model], timeout, retained, token)
        self._enter(name, opening, Conversation(retained), lambda: self.sessions.open(name, opening, self.now))

    @precondition(lambda self: self.held)
    @rule(pick=PICK)
    def fork(self, pick: int) -> None:
        """A session that shares the committed row of another."""
        parent, name = self._one(pick), IDS[pick % len(IDS)]
        opening = Opening(parent.model, POOL_OF_MODEL[parent.model], parent.timeout, parent.talk.retained)
        child = parent.talk.fork(parent.talk.retained)
        self._enter(name, opening, child, lambda: self.sessions.fork(parent.number, name, opening, self.now))

    @rule(pick=PICK, model=st.sampled_from([1, 2, 3]), total=st.integers(-50, 50))
    def restore(self, pick: int, model: int, total: int) -> None:
        """A session at a state that was written to a fresh row."""
        name, position, pool = IDS[pick % len(IDS)], pick, POOL_OF_MODEL[model]
        row = self.rows[pool].take(1)
        self.states[pool][row] = total
        opening = Opening(model, pool, 2.0, 2)
        talk = Conversation(2, position, total)
        if not self._enter(name, opening, talk, lambda: self.sessions.open(name, opening, self.now, int(row[0]), position)):
            self.rows[pool].drop(row)

    @precondition(lambda self: self.held)
    @rule(pick=PICK, length=st.sampled_from(LENGTHS), kinds=st.lists(st.integers(0, 9), min_size=1, max_size=CAPACITY))
    def step(self, pick: int, length: int, kinds: list[int]) -> None:
        """A column: one step each of sessions of one model, each new, again, too early, too late or something else."""
        model, column, asked, twins = self._column(pick, length, kinds)
        admission = self.sessions.admit(
            np.array([held.number for held in column]),
            np.array([NONE if position is None else position for position in asked]),
            length,
            np.array([_digest(twin) for twin in twins], np.uint64),
            self.now,
        )
        joined, replayed, refused = dict(admission.joined), dict(admission.replayed), dict(admission.refused)
        ready = []
        for place, (held, position, twin) in enumerate(zip(column, asked, twins, strict=True)):
            held.used, before = self.now, len(held.talk.chain)
            expected = held.talk.ask(position, twin, STEPS - len(self.steps))
            step = int(admission.steps[place])
            if isinstance(expected, Reason):
                assert refused.pop(place).reason is expected
            elif isinstance(expected, Reply):
                self._replayed(held, replayed.pop(place), expected)
            elif len(held.talk.chain) == before:
                assert self.steps[joined.pop(place)] == (held, expected)
            else:
                self.steps[step] = held, expected
                held.outputs[expected] = []
                ready += [step] * (before == 0)
        assert not joined
        assert not replayed
        assert not refused
        assert admission.ready.tolist() == ready
        self.clients += 1
        self.scheduler.add(admission.ready, model, length, self.clients % 3)

    @precondition(lambda self: self.held)
    @rule(
        pick=PICK,
        length=st.sampled_from(LENGTHS),
        kinds=st.lists(st.integers(0, 9), min_size=1, max_size=BATCH),
        well=st.booleans(),
    )
    def at_once(self, pick: int, length: int, kinds: list[int], well: bool) -> None:
        """A column that is read, run and committed in one go, or whose run fails, if each of its steps is new and next."""
        model, column, asked, twins = self._column(pick, length, kinds)
        numbers = np.array([held.number for held in column])
        told = np.array([NONE if position is None else position for position in asked])
        new = all(not held.talk.chain and at in (None, held.talk.tail) for held, at in zip(column, asked, strict=True))
        assert self.sessions.unhindered(numbers, told) == new
        if not new:
            return
        source, targets = self.sessions.depart(numbers)
        pool = self.states[POOL_OF_MODEL[model]]
        assert pool[source].tolist() == [held.talk.total for held in column], "a step read another state than its session's"
        pool[targets] = [held.talk.total + twin.value * length if well else -1e9 for held, twin in zip(column, twins, strict=True)]
        if not well:
            self.sessions.turn_back(numbers, targets)
            return
        digests = np.array([_digest(twin) for twin in twins], np.uint64)
        rings, positions = self.sessions.advance(numbers, targets, length, digests, self.now)
        replies = []
        for held, position, twin in zip(column, asked, twins, strict=True):
            held.talk.ask(position, twin, 1)
            replies.append(held.talk.commit())
            held.used = self.now
        assert positions.tolist() == [held.talk.position for held in column]
        self.sessions.replies.store(model, numbers, rings, {"total": np.array([reply.totals for reply in replies])})
        for held, reply in zip(column, replies, strict=True):
            self._remember_long(held, reply)

    @precondition(lambda self: self.steps)
    @rule(pick=PICK)
    def cancel(self, pick: int) -> None:
        """A step that has not begun is given up."""
        step = sorted(self.steps)[pick % len(self.steps)]
        if not (self.sessions.steps.running[step] or self.sessions.steps.done[step]):
            self._fail(step, Reason.EXPIRED_IN_QUEUE)

    @rule(pick=PICK)
    def close(self, pick: int) -> None:
        """A session ends; a step of it that runs may end later."""
        name = IDS[pick % len(IDS)]
        ended = self.sessions.close(name, self.now)
        if name not in self.held:
            assert ended is None
            return
        held = self.held[name]
        assert ended is not None
        number, failures = ended
        assert number == held.number
        waiting = [step for step, (owner, _) in self.steps.items() if owner is held and not self.sessions.steps.running[step]]
        assert sorted(step for step, _ in failures.failed) == sorted(waiting)
        assert {problem.reason for _, problem in failures.failed} <= {Reason.CLOSED}
        self._over(name, Reason.CLOSED, failures)

    @rule(seconds=st.sampled_from([0.0, 1.0, 2.5]))
    def expire(self, seconds: float) -> None:
        """Time passes, and idle sessions end."""
        self.now += seconds
        idle = {name: held for name, held in self.held.items() if not held.talk.chain and self.now - held.used > held.timeout}
        assert set(self.sessions.expire(self.now).tolist()) == {held.number for held in idle.values()}
        for name in idle:
            self._over(name, Reason.EXPIRED, Failures([], np.empty(0, np.int64)))

    @precondition(lambda self: self.held and len(self.pins) < 2 * BATCH)
    @rule(pick=PICK)
    def pin(self, pick: int) -> None:
        """A snapshot begins: it is to see this state, whatever comes."""
        held = self._one(pick)
        pool, row = POOL_OF_MODEL[held.model], int(self.sessions.row[held.number])
        self.rows[pool].hold(np.array([row]))
        self.pins.append((pool, row, float(held.talk.total)))

    @precondition(lambda self: self.pins)
    @rule(pick=PICK)
    def unpin(self, pick: int) -> None:
        """The snapshot has been read."""
        pool, row, total = self.pins.pop(pick % len(self.pins))
        assert self.states[pool][row] == total, "a snapshot saw what was not committed"
        self.rows[pool].drop(np.array([row]))

    # What the engine does.

    @precondition(lambda self: len(self.runs) < 2 and len(self.scheduler))
    @rule()
    def dispatch(self) -> None:
        """The scheduler chooses a batch."""
        steps = self.scheduler.next()
        assert 0 < len(steps) <= BATCH
        owners = [self.steps[step][0] for step in steps.tolist()]
        left = self.sessions.steps.timesteps[steps] - self.sessions.steps.done[steps]
        assert len({owner.number for owner in owners}) == len(owners), "a session is twice in a batch"
        assert len({owner.model for owner in owners}) == 1, "a batch of two models"
        assert len({length_class(min(int(each), CUT)) for each in left}) == 1, "steps of unlike length pad each other"
        source, targets = self.sessions.dispatch(steps)
        self.runs.append(Run(steps.tolist(), source, targets, np.minimum(left, CUT).tolist()))

    @precondition(lambda self: self.runs)
    @rule(how=st.sampled_from(["well", "well", "one", "all"]), pick=PICK)
    def finish(self, how: str, pick: int) -> None:
        """The oldest run comes back: all of it well, one step failed, or everything failed and every target was written over."""
        run = self.runs.pop(0)
        pool = self.states[POOL_OF_MODEL[self.steps[run.steps[0]][0].model]]
        failed = set(range(len(run.steps))) if how == "all" else {pick % len(run.steps)} if how == "one" else set()
        before = pool[run.source].copy()
        for seat, step in enumerate(run.steps):
            owner, pending = self.steps[step]
            expected = owner.talk.total + pending.twin.value * int(self.sessions.steps.done[step])
            assert before[seat] == expected, "a step read another state than its session's"
            pool[run.targets[seat]] = -1e9 if seat in failed else before[seat] + pending.twin.value * run.lengths[seat]
        for seat in sorted(failed):
            self._fail(run.steps[seat], Reason.ENGINE_FAILED, int(run.targets[seat]))
        for seat, step in enumerate(run.steps):
            if seat not in failed:
                self._settle(step, run.targets[seat : seat + 1], run.lengths[seat], before[seat])

    # What is compared.

    @invariant()
    def everything_is_accounted_for(self) -> None:
        """Table and model agree, and every row, step and name is in one place."""
        in_flight, pinned = defaultdict(list), defaultdict(list)
        for run in self.runs:
            in_flight[POOL_OF_MODEL[self.steps[run.steps[0]][0].model]] += run.targets.tolist()
        for pool, row, _ in self.pins:
            pinned[pool].append(row)
        check_table(self.sessions, dict(enumerate(self.rows)), in_flight, pinned)
        check_line(self.sessions, self.scheduler)
        for name, held in self.held.items():
            number = self.sessions.directory.find(name)
            assert number == held.number
            assert (self.sessions.position[number], self.sessions.chains.tail[number]) == (held.talk.position, held.talk.tail)
            assert self.states[POOL_OF_MODEL[held.model]][self.sessions.row[number]] == held.talk.total
        handles = [held.handle for held in self.held.values()]
        assert self.sessions.directory.find_handles(np.array(handles, np.uint64)).tolist() == [
            held.number for held in self.held.values()
        ]
        assert (self.sessions.directory.find_handles(np.array(list(self.gone), np.uint64)) == NONE).all()
        for name, reason in self.ended.items():
            with pytest.raises(SessionGone) as told:
                self.sessions.directory.find(name)
            assert told.value.reason is reason

    def teardown(self) -> None:
        """All ends, and nothing is left."""
        while self.runs:
            self.finish("well", 0)
        for name in list(self.held):
            self.close(IDS.index(name))
        while self.pins:
            self.unpin(0)
        self.everything_is_accounted_for()
        assert [rows.used for rows in self.rows] == [0, 0]
        assert (len(self.sessions), len(self.sessions.steps), self.sessions.replies._long_bytes) == (0, 0, 0)
        assert not self.scheduler._lines or not len(self.scheduler)

    def _one(self, pick: int) -> Held:
        return self.held[sorted(self.held)[pick % len(self.held)]]

    def _enter(self, name, opening, talk, enter) -> bool:
        """Opens, forks or restores, as predicted; returns whether there is a new session."""
        if name in self.held:
            with pytest.raises(AlreadyOpen):
                enter()
            return False
        if len(self.held) + len(self.ending) == CAPACITY:
            with pytest.raises(Overloaded):
                enter()
            return False
        number = enter()
        handle = int(self.sessions.directory.handles[number])
        self.held[name] = Held(number, handle, opening.model, opening.idle_timeout_seconds, talk, self.now, opening.token)
        assert self.sessions.directory.opened_by(opening.token) == (number if opening.token else None)
        self.ended.pop(name, None)
        return True

    def _column(self, pick: int, length: int, kinds: list[int]) -> tuple[int, list[Held], list[int | None], list[Twin]]:
        """Returns a model, sessions of it, and for each the position and the values of a step."""
        model = self._one(pick).model
        column = [held for held in self.held.values() if held.model == model][: len(kinds)]
        asked = [self._position(held, kind, pick) for held, kind in zip(column, kinds, strict=False)]
        twins = [self._twin(held, position, length, kind) for held, position, kind in zip(column, asked, kinds, strict=False)]
        return model, column, asked, twins

    def _position(self, held: Held, kind: int, pick: int) -> int | None:
        talk = held.talk
        again = [talk.start_of(step) for step in talk.chain] + [reply.start for reply in talk.replies]
        if kind < 4 or (kind in (5, 6, 7) and not again):
            return talk.tail
        if kind == 4:
            return None
        if kind in (5, 6, 7):
            return again[pick % len(again)]
        return talk.tail + 1 + pick % 3 if kind == 8 else max(0, talk.tail - 1 - pick % 3)

    def _twin(self, held: Held, position: int | None, length: int, kind: int) -> Twin:
        """Returns values: those of a step that is asked for again, others of its length, or new ones."""
        talk = held.talk
        at = {talk.start_of(step): step.twin for step in talk.chain} | {reply.start: reply.twin for reply in talk.replies}
        twin = at.get(position) if kind in (5, 6) else None
        return twin if twin and twin.timesteps == length else Twin(1 + (kind + len(at)) % 5 if kind != 7 else 9, length)

    def _replayed(self, held: Held, ring: int, expected: Reply) -> None:
        replies = self.sessions.replies
        assert replies.start[ring, held.number] == expected.start
        assert replies.outputs(held.model, held.number, ring)["total"].tolist() == expected.totals

    def _settle(self, step: int, target: np.ndarray, length: int, before: float) -> None:
        owner, pending = self.steps[step]
        owner.outputs[pending] += [before + pending.twin.value * (now + 1) for now in range(length)]
        one = np.array([step])
        if len(owner.outputs[pending]) < pending.twin.timesteps:
            going = self.sessions.park(one, target, length)
            assert len(going) == (owner not in self.ending)
            self._line_up(going)
            if not len(going):
                self._fail(step, Reason.CLOSED)
            return
        rings, positions, ready = self.sessions.commit(one, target, self.now)
        outputs = np.array([owner.outputs.pop(pending)])
        self.sessions.replies.store(owner.model, np.array([owner.number]), rings, {"total": outputs})
        assert owner.talk.chain[0] is pending
        reply = owner.talk.commit()
        owner.used = self.now
        assert outputs[0].tolist() == reply.totals
        assert positions.tolist() == [owner.talk.position]
        del self.steps[step]
        self._remember_long(owner, reply)
        self._settled(owner)
        self._line_up(ready)

    def _remember_long(self, owner: Held, reply: Reply) -> None:
        """Keeps the model's replies within the budget of bytes as well."""
        self.long = [(held, kept) for held, kept in self.long if kept in held.talk.replies and held not in self.ending]
        if reply.twin.timesteps > 1 and owner not in self.ending:
            self.long.append((owner, reply))
        while sum(8 * kept.twin.timesteps for _, kept in self.long) > self.sessions.replies._budget_bytes:
            held, kept = self.long.pop(0)
            held.talk.replies.remove(kept)

    def _fail(self, step: int, reason: Reason, target: int = NONE) -> None:
        owner, pending = self.steps[step]
        failures = self.sessions.fail(step, error(reason, "it failed"), target)
        expected = {pending: reason, **dict.fromkeys(owner.talk.fail(pending), Reason.BEHIND_FAILED)}
        assert {self.steps[each][1]: problem.reason for each, problem in failures.failed} == expected
        for each, problem in failures.failed:
            assert problem.reason is not Reason.BEHIND_FAILED or problem.metadata["expected"] == str(owner.talk.position)
            del self.steps[each]
            self.scheduler.remove(np.array([each]))
        self._settled(owner)
        self._line_up(failures.ready)

    def _over(self, name: str, reason: Reason, failures: Failures) -> None:
        """Notes that a session has ended."""
        held = self.held.pop(name)
        for step, _ in failures.failed:
            held.talk.chain.remove(self.steps.pop(step)[1])
            self.scheduler.remove(np.array([step]))
        self.ended[name], self.gone[held.handle] = reason, reason
        assert self.sessions.directory.why_not(held.handle).reason is reason
        self.long = [(owner, kept) for owner, kept in self.long if owner is not held]
        self.ending += [held] * bool(held.talk.chain)
        self._line_up(failures.ready)

    def _settled(self, owner: Held) -> None:
        if owner in self.ending and not owner.talk.chain:
            self.ending.remove(owner)

    def _line_up(self, ready: np.ndarray) -> None:
        for step in ready.tolist():
            left = int(self.sessions.steps.timesteps[step] - self.sessions.steps.done[step])
            self.clients += 1
            self.scheduler.add(np.array([step]), self.steps[step][0].model, left, self.clients % 3)


def _digest(twin: Twin) -> int:
    return twin.value << 32 | twin.timesteps


TestTable = TableMachine.TestCase
TestTable.settings = settings(stateful_step_count=30)

DRAWS = {
    "open": (1, lambda drawn: {"pick": pick(drawn), "model": drawn.randint(1, 3), "retained": drawn.randint(1, WIDEST)}),
    "fork": (1, lambda drawn: {"pick": pick(drawn)}),
    "restore": (1, lambda drawn: {"pick": pick(drawn), "model": drawn.randint(1, 3), "total": drawn.randint(-50, 50)}),
    "step": (
        4,
        lambda drawn: {"pick": pick(drawn), "length": drawn.choice(LENGTHS), "kinds": drawn.choices(range(10), k=CAPACITY)},
    ),
    "at_once": (
        2,
        lambda drawn: {
            "pick": pick(drawn),
            "length": drawn.choice(LENGTHS),
            "kinds": drawn.choices(range(10), k=drawn.randint(1, BATCH)),
            "well": drawn.random() < 0.8,
        },
    ),
    "cancel": (1, lambda drawn: {"pick": pick(drawn)}),
    "close": (1, lambda drawn: {"pick": pick(drawn)}),
    "expire": (1, lambda drawn: {"seconds": drawn.choice([0.0, 1.0, 2.5])}),
    "pin": (1, lambda drawn: {"pick": pick(drawn)}),
    "unpin": (1, lambda drawn: {"pick": pick(drawn)}),
    "dispatch": (2, lambda _: {}),
    "finish": (2, lambda drawn: {"how": drawn.choice(["well", "well", "one", "all"]), "pick": pick(drawn)}),
}


@settings(max_examples=5 * settings().max_examples)
@given(st.integers(0, 2**32))
def test_walks(seed):
    """P1, P2, P4: whatever comes in whatever order, table and model agree at every transition."""
    walk(TableMachine(), DRAWS, seed, 40)
