"""Steps that find nothing before them: read, run and answered in one go of the loop, and the usual way where that does not do."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from builders.asking import Listener
from builders.invariants import check_batcher, check_nothing_is_left
from builders.summing import ALL, BUG, FATAL, summing
from statewise.config import Limits
from statewise.conversation import Frame, Step
from statewise.errors import Reason
from statewise.opening import Open
from statewise.runtime import EngineError


def x(value: float) -> dict[str, np.ndarray]:
    return {"x": np.full((1, 2), value, np.float32)}


async def opened(made, count: int):
    return [await made.host.open(Open("sum")) for _ in range(count)]


async def asked(made, *steps: Step) -> list:
    """Sends steps at one go, and returns the totals, or the reasons, in the order of sending."""
    listener = Listener()
    for tag, step in enumerate(steps):
        made.host.step(step, listener, tag)
    await made.host.batcher.until_quiet()
    check_batcher(made.host.batcher, {})
    heard = sorted(listener.heard)
    return [told.problem.reason if told.problem else told.total[-1, 0] for told in heard]


async def test_a_step_that_is_alone_is_answered_before_the_loop_comes_round_again():
    """It is never pending, and the next time it is sent it gets the retained reply."""
    async with summing(on_loop=ALL, alone=True) as made:
        (session,) = await opened(made, 1)
        listener = Listener()
        made.host.step(Step(session.session_id, x(3), 0), listener, None)
        await asyncio.sleep(0)
        assert [(told.position, told.total[0, 0]) for told in listener.heard] == [(1, 3)]
        assert await asked(made, Step(session.session_id, x(3), 0)) == [3]
        assert made.engines["sum"].batches == [1]
        assert await asked(made, Step(session.session_id, x(4), 0)) == [Reason.POSITION_REUSED]
        assert await asked(made, Step(session.session_id, x(4), 2)) == [Reason.AHEAD]


async def test_steps_that_run_at_once_need_no_place_among_the_pending():
    """A server of one place answers a frame of three; one whose steps must wait refuses two of them."""
    for on_loop, refused in ((ALL, 0), (0, 2)):
        async with summing(on_loop=on_loop, limits=Limits(pending_steps=1), alone=True) as made:
            handles = np.array([session.handle for session in await opened(made, 3)], np.uint64)
            listener = Listener()
            made.host.frame(Frame(handles, {"x": np.ones((3, 1, 2), np.float32)}), listener, None)
            await made.host.batcher.until_quiet()
            assert [told.problem.reason for told in listener.heard if told.problem] == [Reason.OVERLOADED] * refused
            assert len(listener.heard) == 3


async def test_a_column_of_which_one_step_is_not_next_takes_the_usual_way():
    """Its other steps run all the same."""
    async with summing(on_loop=ALL, alone=True) as made:
        one, other = [session.session_id for session in await opened(made, 2)]
        assert await asked(made, Step(one, x(1), 0), Step(other, x(2), 7)) == [1, Reason.AHEAD]
        assert await asked(made, Step(one, x(1), 1), Step(other, x(2))) == [2, 2]


@pytest.mark.parametrize(("doom", "reason"), [(FATAL, Reason.NON_FINITE_STATE), (BUG, Reason.ENGINE_FAILED)])
async def test_a_step_that_fails_takes_no_other_along(doom, reason):
    """P4: the others of its column are answered, and its session keeps its last good state."""
    async with summing(on_loop=ALL, alone=True) as made:
        ids = [session.session_id for session in await opened(made, 3)]
        assert await asked(made, *(Step(each, x(1), 0) for each in ids)) == [1, 1, 1]
        assert await asked(made, *(Step(each, x(value), 1) for each, value in zip(ids, (2, doom, 2), strict=True))) == [
            3,
            reason,
            3,
        ]
        assert await asked(made, Step(ids[1], x(5), 1)) == [6]
        for each in ids:
            await made.host.close(each)
        check_nothing_is_left(made.host.batcher)


async def test_a_run_that_failed_half_way_is_run_again():
    """What it wrote belongs to nobody: the second run reads what the first one read."""
    async with summing(on_loop=ALL, alone=True) as made:
        sessions = await opened(made, 2)
        handles = np.array([session.handle for session in sessions], np.uint64)
        made.engines["sum"].torn = True
        listener = Listener()
        made.host.frame(Frame(handles, {"x": np.ones((2, 1, 2), np.float32)}), listener, None)
        await made.host.batcher.until_quiet()
        assert [told.total.tolist() for told in listener.heard] == [[[1, 1]]] * 2


async def test_a_step_whose_timeout_has_passed_does_not_run():
    """The clock went on between its arrival and its turn."""
    clock = [0.0]
    async with summing(on_loop=ALL, clock=lambda: clock[0], alone=True) as made:
        sessions = await opened(made, 2)
        handles = np.array([session.handle for session in sessions], np.uint64)
        listener = Listener()
        frame = Frame(handles, {"x": np.ones((2, 1, 2), np.float32)}, timeout_seconds=1.0)
        made.host.frame(frame, listener, 0)
        clock[0] = 2.0
        await made.host.batcher.until_quiet()
        assert [told.problem.reason for told in listener.heard] == [Reason.EXPIRED_IN_QUEUE] * 2
        made.host.frame(frame, listener, 1)
        await made.host.batcher.until_quiet()
        assert [told.position for told in listener.heard[2:]] == [1, 1]
        assert made.engines["sum"].batches == [2]


async def test_a_session_that_ended_between_arrival_and_turn_is_told_so():
    """Its number may be another's by then."""
    async with summing(on_loop=ALL, alone=True) as made:
        (session,) = await opened(made, 1)
        listener = Listener()
        made.host.step(Step(session.session_id, x(1), 0), listener, None)
        made.host.sessions.close(session.session_id, 0.0)
        await made.host.batcher.until_quiet()
        assert [told.problem.reason for told in listener.heard] == [Reason.CLOSED]
        assert made.engines["sum"].batches == []


async def test_a_device_that_is_lost_is_not_asked_again():
    """The batcher has died, and says so."""
    async with summing(on_loop=ALL, alone=True) as made:
        (session,) = await opened(made, 1)

        def lost(_: object) -> bool:
            raise EngineError("CUDA failure 700: an illegal memory access", fatal=True)

        made.engines["sum"].fails = lost
        made.host.step(Step(session.session_id, x(1), 0), Listener(), None)
        await asyncio.sleep(0)
        assert made.host.failed.is_set()
        assert made.engines["sum"].batches == [1]
