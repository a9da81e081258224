"""The whole core over ONNX Runtime, against the cells in NumPy: whatever sessions do to each other, each answers as if alone."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from builders.asking import Listener
from builders.invariants import check_batcher, check_nothing_is_left
from builders.real import Inputs, Kind, Real, real
from statewise.config import Limits
from statewise.conversation import Frame, Step
from statewise.errors import Reason
from statewise.opening import Open, Opened
from statewise.scheduler import CUT

LIMITS = Limits(sessions=12, batch=4)
LENGTHS = (1, 1, 1, 2, 5, CUT, CUT + 3)
PICK = st.integers(0, 1 << 16)


@dataclass(eq=False)
class Life:
    """A session, and all that it has been through."""

    opened: Opened
    kind: Kind
    history: list[Inputs] = field(default_factory=list)
    outputs: list[np.ndarray] = field(default_factory=list)
    sent: int = 0

    @property
    def position(self) -> int:
        """How many timesteps it has consumed."""
        return sum(len(outputs) for outputs in self.outputs)


class EngineMachine(RuleBasedStateMachine):
    """Sessions of three models that are stepped in chunks, copied, snapshotted and restored, while runs fail half-way."""

    def __init__(self, made: Real, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.made, self.host, self.loop = made, made.host, loop
        self.lives: list[Life] = []
        self.snapshots: list[tuple[bytes, Life]] = []
        self.listener = Listener()
        self.asked: dict[tuple[object, int], tuple[Life, Inputs]] = {}
        self.number = 0

    @initialize()
    def begin(self) -> None:
        """Two sessions of each model, which are stepped together: whatever is drawn after that, every model was batched."""
        self._fail("none")
        for pick in range(len(self.made.kinds)):
            self.open(pick)
            self.open(pick)
            self._frame(2 * pick)
            self._run(self._answered())
        self._take_answers("none")

    @precondition(lambda self: len(self.lives) < LIMITS.sessions)
    @rule(pick=PICK)
    def open(self, pick: int) -> None:
        """A session at the beginning."""
        model = sorted(self.made.kinds)[pick % len(self.made.kinds)]
        self.lives.append(Life(self._run(self.host.open(Open(model))), self.made.kinds[model]))

    @precondition(lambda self: 0 < len(self.lives) < LIMITS.sessions)
    @rule(pick=PICK)
    def fork(self, pick: int) -> None:
        """A session that has been through what another has."""
        parent = self._one(pick)
        opened = self._run(_call(self.host.fork, parent.opened.session_id, "", b""))
        assert opened.position == parent.position
        self.lives.append(Life(opened, parent.kind, list(parent.history), list(parent.outputs)))

    @precondition(lambda self: self.lives)
    @rule(pick=PICK)
    def snapshot(self, pick: int) -> None:
        """What a session has been through, as bytes."""
        life = self._one(pick)
        taken = self._run(self.host.snapshot(life.opened.session_id))
        assert taken.position == life.position
        self.snapshots.append((taken.to_bytes(), Life(life.opened, life.kind, list(life.history), list(life.outputs))))

    @precondition(lambda self: self.snapshots and len(self.lives) < LIMITS.sessions)
    @rule(pick=PICK)
    def restore(self, pick: int) -> None:
        """A session that goes on from such bytes."""
        raw, life = self.snapshots[pick % len(self.snapshots)]
        opened = self._run(self.host.open(Open(snapshot=raw)))
        assert opened.position == life.position
        self.lives.append(Life(opened, life.kind, list(life.history), list(life.outputs)))

    @precondition(lambda self: self.lives)
    @rule(
        picks=st.lists(st.tuples(PICK, st.sampled_from(LENGTHS)), min_size=1, max_size=10),
        fails=st.sampled_from(["none", "none", "batches", "one"]),
        framed=st.booleans(),
    )
    def step(self, picks: list[tuple[int, int]], fails: str, framed: bool) -> None:
        """Steps of many sessions at once: pipelines, chunks and a frame; batches may fail half-way, and one step for good."""
        self._fail(fails)
        for pick, length in picks:
            life = self._one(pick)
            if life.sent < 4:
                self._ask(life, length, pick)
        if framed:
            self._frame(picks[0][0])
        self._run(self._answered())
        self._take_answers(fails)

    def _take_answers(self, fails: str) -> None:
        for told in self.listener.heard:
            life, inputs = self.asked.pop((told.tag, told.row))
            life.sent -= 1
            if told.problem:
                assert told.problem.reason in (Reason.ENGINE_FAILED, Reason.BEHIND_FAILED)
                assert fails == "one"
                continue
            life.history.append(inputs)
            life.outputs.append(told.total)
            assert told.position == life.position
        self.listener.heard.clear()
        assert self.asked == {}

    @precondition(lambda self: self.lives)
    @rule(pick=PICK)
    def close(self, pick: int) -> None:
        """A session ends, and all that it ever answered is what the reference answers to it alone."""
        life = self._one(pick)
        self.lives.remove(life)
        assert self._run(self.host.close(life.opened.session_id)).position == life.position
        life.kind.check(life.history, life.outputs)

    @invariant()
    def everything_is_accounted_for(self) -> None:
        """Every row, step and column is in one place."""
        assert not self.host.failed.is_set()
        check_batcher(self.host.batcher, defaultdict(list))

    def teardown(self) -> None:
        """All sessions are held against the reference, and nothing of them is left."""
        while self.lives:
            self.close(0)
        check_nothing_is_left(self.host.batcher)

    def _run(self, work):
        return self.loop.run_until_complete(work)

    async def _answered(self) -> None:
        await asyncio.sleep(0)
        await self.host.batcher.until_quiet()

    def _one(self, pick: int) -> Life:
        return self.lives[pick % len(self.lives)]

    def _fail(self, fails: str) -> None:
        for engine in self.made.engines.values():
            first = iter([True])
            engine.fails = {
                "none": lambda _: False,
                "batches": lambda batch: len(batch.source) > 1,
                "one": lambda batch, first=first: len(batch.source) > 1 or next(first, False),
            }[fails]

    def _ask(self, life: Life, length: int, seed: int) -> None:
        self.number += 1
        inputs = life.kind.draw(length, seed)
        self.asked[self.number, 0] = life, inputs
        life.sent += 1
        self._run(_call(self.host.step, Step(life.opened.session_id, inputs), self.listener, self.number))

    def _frame(self, pick: int) -> None:
        lives = [life for life in self.lives if life.kind is self._one(pick).kind and life.sent < 4]
        if not lives:
            return
        self.number += 1
        rows = [life.kind.draw(1 + pick % 3, pick + row) for row, life in enumerate(lives)]
        for row, life in enumerate(lives):
            self.asked[self.number, row] = life, rows[row]
            life.sent += 1
        handles = np.array([life.opened.handle for life in lives], np.uint64)
        inputs = {key: np.stack([each[key] for each in rows]) for key in rows[0]}
        self._run(_call(self.host.frame, Frame(handles, inputs), self.listener, self.number))


async def _call(function, *arguments):
    return function(*arguments)


def test_every_session_answers_as_if_alone(exported, provider):
    """P1, P2, P4: outputs within 1e-5 of scale of the textbooks' equations, positions exact, rows all given back."""
    loop = asyncio.new_event_loop()
    with contextlib.closing(loop):
        stack = contextlib.AsyncExitStack()
        made = loop.run_until_complete(stack.enter_async_context(real(*exported, provider, LIMITS)))
        examples = max(1, settings().max_examples // 6)
        run_state_machine_as_test(
            lambda: EngineMachine(made, loop), settings=settings(max_examples=examples, stateful_step_count=20)
        )
        assert all(max(engine.sizes) > 1 for engine in made.engines.values()), "nothing was ever batched"
        loop.run_until_complete(stack.aclose())
