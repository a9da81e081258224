"""`AsyncClient` against a real server on the same loop: the same promises as the blocking client, with `await`."""

import asyncio
import logging

import numpy as np
import pytest

from builders.summing import FATAL
from statewise.client import AsyncClient
from statewise.errors import InvalidInput, ModelUnknown, NonFiniteState, OutOfOrder, SessionGone, Unavailable


@pytest.fixture(autouse=True)
def nothing_is_logged(caplog):
    """Asyncio logs futures whose failure nobody saw and tasks destroyed while pending; there are none."""
    yield
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_steps_of_one_and_of_many_timesteps(served):
    """X [features] gives [outputs]; x [timesteps, features] gives [timesteps, outputs]."""
    async with AsyncClient(served.address) as client, await client.open_session("sum") as session:
        assert (await session.step([1, 2])).tolist() == [1, 2]
        assert (await session.step([[1, 0], [1, 0]])).tolist() == [[2, 2], [3, 2]]
        assert session.position == 3
        assert repr(session).endswith("of sum@3 at 3>")


async def test_many_sessions_at_once_do_not_mix(served):
    """100 sessions stepped concurrently over one stream each sum what is their own."""
    async with AsyncClient(served.address) as client:

        async def run(number):
            async with await client.open_session("sum") as session:
                return [(await session.step([number, 1])).tolist() for _ in range(5)][-1]

        assert await asyncio.gather(*map(run, range(100))) == [[5 * number, 5] for number in range(100)]


async def test_steps_of_one_session_started_at_once_run_in_order(served):
    """gather() over one session's steps is a pipeline: positions are given in the order of the calls."""
    async with AsyncClient(served.address) as client, await client.open_session("sum") as session:
        outputs = await asyncio.gather(*(session.step([1, 0]) for _ in range(50)))
        assert [y[0] for y in outputs] == list(range(1, 51))


@pytest.mark.parametrize("window", [1, 16])
async def test_steps_takes_plain_and_asynchronous_iterables(served, window):
    """Both give every output in order."""

    async def numbers():
        for number in range(40):
            yield [1, number]

    async with AsyncClient(served.address) as client, await client.open_session("sum") as session:
        plain = [y[0] async for y in session.steps(([1, number] for number in range(40)), window=window)]
        live = [y[0] async for y in session.steps(numbers(), window=window)]
        assert plain + live == list(range(1, 81))


async def test_a_live_source_hears_each_output_before_it_gives_the_next_value(served):
    """Outputs do not wait until the window is full."""
    heard = asyncio.Queue()

    async def sensor():
        for number in range(5):
            yield [1, 0]
            assert await asyncio.wait_for(heard.get(), 30) == number + 1

    async with AsyncClient(served.address) as client, await client.open_session("sum") as session:
        async for y in session.steps(sensor()):
            heard.put_nowait(y[0])


@pytest.mark.parametrize("bad", [[float("nan"), 0], [FATAL, 0]])
async def test_what_comes_behind_a_failed_step_is_not_sent_in_its_place(served, bad):
    """A source that gives its next value when the failure is answered, and before anybody has heard of it: it does not run."""
    async with AsyncClient(served.address) as client, await client.open_session("sum") as session:

        async def source():
            for number in range(8):
                while number == 6 and session._exchange.tail != 5:  # noqa: ASYNC110 (nothing tells of it)
                    await asyncio.sleep(0)
                yield bad if number == 5 else [1, 0]

        heard = []

        async def listen():
            async for y in session.steps(source()):
                heard.append(y)  # noqa: PERF401 (it breaks off)

        with pytest.raises((InvalidInput, NonFiniteState)):
            await listen()
        assert len(heard) == session.position == 5
        assert (await session.step([1, 0])).tolist() == [6, 0]


@pytest.mark.parametrize("bad", [[float("nan"), 0], [FATAL, 0]])
async def test_steps_started_at_once_fail_behind_one_that_fails(served, bad):
    """Those that waited for room when it failed were asked for behind it as well: none of them runs in its place."""
    async with AsyncClient(served.address) as client, await client.open_session("sum") as session:
        steps = [session.step(bad if number == 1 else [1, 0]) for number in range(40)]
        first, failed, *behind = await asyncio.gather(*steps, return_exceptions=True)
        assert first.tolist() == [1, 0]
        assert isinstance(failed, InvalidInput | NonFiniteState)
        assert {type(each) for each in behind} == {OutOfOrder}
        assert session.position == 1
        assert {each.metadata["expected"] for each in behind} == {"1"}
        assert (await session.step([1, 0])).tolist() == [2, 0]


@pytest.mark.parametrize("bad", [[float("nan"), 0], [FATAL, 0]])
async def test_a_failed_step_inside_a_pipeline_leaves_a_session_that_goes_on(served, bad):
    """The steps behind the failed one did not run, and the session steps on from there."""
    async with AsyncClient(served.address) as client, await client.open_session("sum") as session:
        heard = []

        async def listen():
            async for y in session.steps([1, 0] if number != 5 else bad for number in range(30)):
                heard.append(y)  # noqa: PERF401 (what was heard before the failure counts)

        with pytest.raises((InvalidInput, NonFiniteState)):
            await listen()
        assert len(heard) == session.position == 5
        assert (await session.step([1, 0])).tolist() == [6, 0]


async def test_a_cancelled_wait_gives_up_the_answer_and_not_the_session(served):
    """The cancelled step runs all the same; the next one comes after it."""
    async with AsyncClient(served.address) as client, await client.open_session("sum") as session:
        served.summing.hold()
        waiting = asyncio.create_task(session.step([1, 1]))
        await served.summing.until(1)
        waiting.cancel()
        following = asyncio.create_task(session.step([1, 1]))
        served.summing.release()
        assert (await following).tolist() == [2, 2]
        assert waiting.cancelled()
        assert session.position == 2


async def test_a_broken_stream_is_opened_again_and_no_step_runs_twice(served):
    """What was under way is sent again with its position: the caller hears nothing of the break."""
    async with AsyncClient(served.address) as client, await client.open_session("sum") as session:
        await session.step([1, 1])
        served.summing.hold()
        waiting = asyncio.create_task(session.step([1, 1]))
        await served.summing.until(1)
        client._lane._call.cancel()
        served.summing.release()
        assert (await waiting).tolist() == [2, 2]
        assert (await session.step([1, 1])).tolist() == [3, 3]


async def test_steps_of_many_sessions_travel_together(served):
    """Steps asked for while a frame is under way go in the next one: 64 sessions of 20 steps take a few frames more than 20."""
    async with AsyncClient(served.address) as client:
        sessions = [await client.open_session("sum") for _ in range(64)]

        async def run(session):
            return [(await session.step([1, 0]))[0] for _ in range(20)]

        assert await asyncio.gather(*map(run, sessions)) == [list(range(1, 21))] * 64
        assert client._lane._number < 64


async def test_a_step_that_lacks_an_input_fails_alone(served):
    """Steps that are asked for together need not be alike: each gets its own answer, and the one at fault its own error."""
    async with AsyncClient(served.address) as client:
        sessions = [await client.open_session("clocked") for _ in range(4)]
        asked = [
            sessions[0].step(np.array([1, 0], np.float32)),
            sessions[1].step([1, 0], time=5),
            sessions[2].step([[1, 0], [1, 0]], time=[5, 6]),
            sessions[3].step([[1, 0], [1, 0]], time=[5, 6, 7]),
        ]
        lacking, one, two, uneven = await asyncio.gather(*asked, return_exceptions=True)
        assert isinstance(lacking, InvalidInput)
        assert isinstance(uneven, InvalidInput)
        assert (one["total"].tolist(), two["total"].tolist()) == ([1, 0], [[1, 0], [2, 0]])


async def test_no_more_steps_of_a_session_are_under_way_than_it_retains_replies(served):
    """A step that was cancelled counts until it is answered: so its successors are retained, too, if they are to be sent again."""
    async with AsyncClient(served.address) as client, await client.open_session("sum", retained_replies=2) as session:
        served.summing.hold()
        asked = [asyncio.create_task(session.step([1, 0])) for _ in range(5)]
        await served.summing.until(2)
        asked[0].cancel()
        await asyncio.wait(asked[:1])
        for _ in range(20):
            await asyncio.sleep(0)  # whoever could send would have sent by now
        assert session._exchange.tail == 2
        served.summing.release()
        assert [y[0] for y in await asyncio.gather(*asked[1:])] == [2, 3, 4, 5]


async def test_two_frames_of_equal_shares_are_under_way_and_no_more(served):
    """Many steps are divided, so that one frame is computed while the other is read; what comes then waits, and goes together."""
    async with AsyncClient(served.address) as client:
        sessions = [await client.open_session("sum") for _ in range(74)]
        served.summing.hold()
        asked = [asyncio.create_task(session.step([1, 0])) for session in sessions[:64]]
        await served.summing.until(64)
        asked += [asyncio.create_task(session.step([2, 0])) for session in sessions[64:]]
        await asyncio.wait(asked, timeout=0)
        assert [len(frame.rows) for frame in client._lane._frames.values()] == [32, 32]
        served.summing.release()
        assert [y[0] for y in await asyncio.gather(*asked)] == [1] * 64 + [2] * 10
        assert client._lane._number == 3


async def test_few_steps_are_not_divided(served):
    """Eight travel in one frame, and one alone goes at once, though others are under way."""
    async with AsyncClient(served.address) as client:
        sessions = [await client.open_session("sum") for _ in range(9)]
        served.summing.hold()
        asked = [asyncio.create_task(session.step([1, 0])) for session in sessions[:8]]
        await served.summing.until(8)
        asked.append(asyncio.create_task(sessions[8].step([1, 0])))
        await served.summing.until(9)
        assert [len(frame.rows) for frame in client._lane._frames.values()] == [8, 1]
        served.summing.release()
        assert [y[0] for y in await asyncio.gather(*asked)] == [1] * 9


async def test_a_frame_steps_its_sessions_together(served):
    """One message and one batch for all of them."""
    async with AsyncClient(served.address) as client:
        frame = client.frame([await client.open_session("sum") for _ in range(100)])
        for _ in range(3):
            totals = await frame.step(np.ones((100, 2)))
        assert totals.tolist() == [[3, 3]] * 100
        assert served.summing.engines["sum"].batches == [100] * 3


async def test_errors_have_their_classes(served):
    """Unary calls and steps raise the same classes as the blocking client."""
    async with AsyncClient(served.address) as client:
        with pytest.raises(ModelUnknown):
            await client.open_session("nope")
        session = await client.open_session("sum")
        assert await session.close() is True
        assert await session.close() is False
        with pytest.raises(SessionGone):
            await session.step([1, 1])


async def test_no_server_is_told_with_its_address():
    """Connection refused is `Unavailable` and names where."""
    async with AsyncClient("127.0.0.1:1") as client:
        with pytest.raises(Unavailable, match=r"no Statewise server answers on 127\.0\.0\.1:1"):
            await client.open_session("sum")


async def test_a_closed_client_says_so_and_fails_what_was_under_way(served):
    """Nobody waits for ever for an answer that cannot come."""
    client = AsyncClient(served.address)
    session = await client.open_session("sum")
    served.summing.hold()
    waiting = asyncio.create_task(session.step([1, 1]))
    await served.summing.until(1)
    await client.close()
    with pytest.raises(Unavailable):
        await waiting
    with pytest.raises(Unavailable, match="closed"):
        await session.step([1, 1])
    await client.close()


async def test_a_closed_client_leaves_no_task(served):
    """Its reader and its senders are gone when close returns."""
    before = asyncio.all_tasks()
    async with AsyncClient(served.address) as client, await client.open_session("sum") as session:
        async for _ in session.steps([[1, 1]] * 30, window=4):
            break
    left = {task for task in asyncio.all_tasks() - before if "client" in str(task.get_coro())}
    assert not left
