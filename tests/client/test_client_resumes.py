"""Clients outlive servers: the caller's loop sees each output once and in order, whatever becomes of the server behind it."""

from __future__ import annotations

import asyncio
import contextlib
import gc

import numpy as np
import pytest

from builders.astray import routed
from builders.kept import SEALER
from builders.summing import serving, serving_apart
from statewise.client import AsyncClient, AsyncSession, Client
from statewise.client.exchange import Exchange
from statewise.client.frames import Columns, Steps
from statewise.client.kept import Kept
from statewise.client.lane import Lane
from statewise.client.opening import resume_request
from statewise.client.recovery import replay
from statewise.errors import InvalidInput, Overloaded, SessionGone, Unavailable
from statewise.host import Durably
from statewise.stores.memory import MemoryStore
from statewise.stores.sqlite import SqliteStore
from statewise.tensors import decode, encode
from statewise.v1 import sequence_pb2, tensor_pb2

MODES = [{"durability": "commit"}, {"durability": "checkpoint", "checkpoint_every": 5}]


def both(*addresses):
    """Returns the address of whichever server answers first."""
    return "ipv4:" + ",".join(addresses)


async def end(server):
    """Ends a server as a kill would: nothing is handed over."""
    await server.server.stop(None)
    await server.host.stop()


@pytest.fixture
async def pair():
    """Two servers over one store."""
    durably = Durably(MemoryStore(), SEALER)
    async with serving(durably=durably) as first, serving(durably=durably) as second:
        yield first, second


@pytest.mark.parametrize("mode", MODES, ids=["commit", "checkpoint"])
async def test_steps_of_many_sessions_go_on_when_their_server_is_gone(pair, mode):
    """Single steps under way and pipelined ones: each output is there once, in order, and is what it would have been."""
    first, second = pair
    async with AsyncClient(both(first.address, second.address)) as client:
        sessions = [await client.open_session("sum", **mode) for _ in range(20)]
        halfway = asyncio.Event()

        async def run(number, session):
            heard = []
            async for y in session.steps([number, 1] for _ in range(60)):
                heard.append(y.tolist())
                if len(heard) == 30:
                    halfway.set()
                    await asyncio.sleep(0)
            return heard

        running = [asyncio.create_task(run(number, session)) for number, session in enumerate(sessions)]
        await halfway.wait()
        await end(first)
        for number, heard in enumerate(await asyncio.gather(*running)):
            assert heard == [[number * count, count] for count in range(1, 61)]
        assert second.host.sessions.position[: len(sessions)].tolist() == [60] * 20


@pytest.mark.parametrize("mode", MODES, ids=["commit", "checkpoint"])
async def test_frames_go_on_when_their_server_is_gone(pair, mode):
    """Rows of one frame are resumed together, those of checkpoints each from its own."""
    first, second = pair
    async with AsyncClient(both(first.address, second.address)) as client:
        sessions = [await client.open_session("sum", **mode) for _ in range(30)]
        frame = client.frame(sessions)
        x = np.stack([np.arange(30), np.ones(30)], axis=1)
        for count in range(1, 14):
            if count == 9:
                await first.host._ownership.until_quiet()
                await end(first)
            assert (await frame.step(x)).tolist() == (count * x).tolist()
        assert all(session.position == 13 for session in sessions)
        assert {session.durable_position > 0 for session in sessions} == {True}


@pytest.mark.parametrize("mode", MODES, ids=["commit", "checkpoint"])
async def test_steps_of_which_the_last_output_was_asked_for_go_on_elsewhere(pair, mode):
    """Their retained replies are shorter than the steps."""
    first, second = pair
    async with AsyncClient(both(first.address, second.address)) as client:
        session = await client.open_session("sum", **mode)
        assert (await session.step([1, 1])).tolist() == [1, 1]
        assert (await session.step([[1, 1]] * 9, last=True)).tolist() == [10, 10]
        assert (await session.step([[1, 1]] * 2)).tolist() == [[11, 11], [12, 12]]
        await first.host._ownership.until_quiet()
        assert session._exchange.position == 12
        await end(first)
        assert (await session.step([1, 1])).tolist() == [13, 13]


async def test_what_is_kept_is_what_the_store_has_not(pair):
    """It grows with steps and shrinks with checkpoints; a session of another durability keeps nothing."""
    first, _ = pair
    async with AsyncClient(first.address) as client:
        kept = await client.open_session("sum", durability="checkpoint", checkpoint_every=4)
        most = 0
        for _ in range(40):
            await kept.step([[1, 1], [1, 1]])
            await first.host._ownership.until_quiet()
            most = max(most, len(client._lane.kept))
            if kept.position > kept.durable_position:
                told = client._lane.kept.since(kept._exchange, kept.durable_position, kept.position)
                assert told["x"].tolist() == [[1, 1]] * (kept.position - kept.durable_position)
        assert 2 <= most <= 8
        for durability in ("memory", "commit"):
            other = await client.open_session("sum", durability=durability)
            await other.step([1, 1])
            with pytest.raises(SessionGone, match="is not kept"):
                client._lane.kept.since(other._exchange, 0, 1)


async def test_of_sessions_that_are_closed_or_forgotten_nothing_is_kept(pair):
    """What others send sweeps it out."""
    first, _ = pair
    async with AsyncClient(first.address) as client:
        closed, forgotten, other = [
            await client.open_session("sum", durability="checkpoint", checkpoint_every=1_000_000) for _ in range(3)
        ]
        for _ in range(10):
            await asyncio.gather(*(session.step([1, 1]) for session in (closed, forgotten)))
        await closed.close()
        del forgotten
        assert len(client._lane.kept) == 20
        gc.collect()
        for _ in range(10):
            await other.step([1, 1])
        assert len(client._lane.kept) == 10


async def test_past_the_callers_bound_a_step_is_refused_until_the_store_has_caught_up(pair):
    """The error names what may be kept; nothing is sent, and nothing is lost."""
    first, _ = pair
    async with AsyncClient(first.address) as client:
        session = await client.open_session("sum", durability="checkpoint", checkpoint_every=1_000_000, kept_bytes=32)
        for _ in range(4):
            await session.step([1, 1])
        for step in (session.step([1, 1]), client.frame([session]).step([[1, 1]])):
            with pytest.raises(Overloaded, match="kept_bytes: the store holds the session at 0"):
                await step
        first.host._ownership._put(np.array([0]))
        await first.host._ownership.until_quiet()
        assert (await session.step([1, 1])).tolist() == [5, 5]


@pytest.mark.parametrize("mode", MODES, ids=["commit", "checkpoint"])
async def test_a_drain_moves_sessions_and_their_callers_hear_nothing_of_it(pair, mode):
    """Steps that come while the server stops go to the other one; and so do new sessions."""
    first, second = pair
    async with AsyncClient(both(first.address, second.address)) as client:
        session = await client.open_session("sum", **mode)
        for count in range(1, 4):
            assert (await session.step([1, 0]))[0] == count
        draining = asyncio.create_task(first.host.drain(30))
        await draining
        stopping = asyncio.create_task(first.server.stop(None))
        assert [(await session.step([1, 0]))[0] for _ in range(3)] == [4, 5, 6]
        await stopping
        assert (await (await client.open_session("sum", **mode)).step([1, 0]))[0] == 1
        assert second.host.sessions.position[:2].tolist() == [6, 1]


@pytest.mark.parametrize("mode", MODES, ids=["commit", "checkpoint"])
async def test_a_stream_follows_its_key_to_another_server(pair, mode):
    """A router sends calls elsewhere than the stream that is open: sessions that are moved go on there, and the others follow."""
    first, second = pair
    async with routed(first.address) as router, AsyncClient(router.address) as client:
        sessions = [await client.open_session("sum", **mode) for _ in range(4)]
        frame = client.frame(sessions)
        for count in range(1, 4):
            assert (await frame.step([[1, 0]] * 4))[:, 0].tolist() == [count] * 4
        router.home = second.address
        await first.host._ownership.let_go(np.array([0, 1]))
        assert (await sessions[0].step([1, 0])).tolist() == [4, 0]
        assert (await asyncio.gather(*(session.step([1, 0]) for session in sessions[1:])))[2].tolist() == [4, 0]
        assert (await frame.step([[1, 0]] * 4))[:, 0].tolist() == [5] * 4
        assert len(second.host.sessions) == 4
        # Those that were not moved may have a checkpoint, and else are replayed, on a stream of their own each.
        replays = 0 if mode["durability"] == "commit" else 2
        assert 2 <= router.streams <= 2 + replays, "it was opened anew once"


async def test_who_is_sent_to_and_fro_is_told(pair):
    """A router that sends calls to one server and streams to another is found out, within the client's patience."""
    first, second = pair
    async with routed(first.address) as router, AsyncClient(router.address, timeout_seconds=0.5) as client:
        session = await client.open_session("sum", durability="commit")
        await session.step([1, 0])
        router.home, router.split = second.address, first.address
        await first.host._ownership.let_go(np.array([0]))
        with pytest.raises(Unavailable, match="x-session-id"):
            await session.step([1, 0])


async def test_a_blocking_clients_stream_follows_its_key_too(pair):
    """The same for the other client."""
    first, second = pair
    async with routed(first.address) as router:
        with await asyncio.to_thread(Client, router.address) as client:
            session = await asyncio.to_thread(client.open_session, "sum", durability="commit")
            assert (await asyncio.to_thread(session.step, [1, 0]))[0] == 1
            router.home = second.address
            await first.host._ownership.let_go(np.array([0]))
            assert (await asyncio.to_thread(session.step, [1, 0]))[0] == 2
            assert (await asyncio.to_thread(session.step, [1, 0]))[0] == 3
            await asyncio.to_thread(client.close)


async def test_a_session_in_memory_is_lost_with_its_server_and_its_caller_is_told(pair):
    """LOST, and not a fresh start."""
    first, second = pair
    async with AsyncClient(both(first.address, second.address)) as client:
        session = await client.open_session("sum")
        await session.step([1, 1])
        await end(first)
        with pytest.raises(SessionGone, match="was lost with the server"):
            await session.step([1, 1])


async def test_without_a_store_a_client_carries_its_state_to_another_server():
    """Sealed, under its own id, with the replies that it retains; bytes that were changed are refused."""
    durably = Durably(None, SEALER)
    async with serving(durably=durably) as first, serving(durably=durably) as second:
        async with AsyncClient(first.address) as client:
            session = await client.open_session("sum", session_id="meter")
            await session.step([3, 4])
            carried = await session.snapshot()
            await end(first)
        async with AsyncClient(second.address) as client:
            with pytest.raises(InvalidInput, match=r"snapshot: .*changed"):
                await client.open_session("", snapshot=carried[:-1] + bytes([carried[-1] ^ 1]))
            session = await client.open_session("", session_id="meter", snapshot=carried)
            assert session.position == 1
            assert (await session.step([1, 1])).tolist() == [4, 5]


@pytest.mark.parametrize("mode", MODES, ids=["commit", "checkpoint"])
def test_a_blocking_client_goes_on_when_its_server_is_gone(tmp_path, mode):
    """In a pipeline and in frames."""
    durably = [Durably(SqliteStore(tmp_path / "sessions.db"), SEALER) for _ in range(2)]
    with contextlib.ExitStack() as stack:
        first, second = (stack.enter_context(serving_apart(durably=each)) for each in durably)
        for server, each in zip((first, second), durably, strict=True):
            server.call(each.store.start)
        with Client(both(first.address, second.address)) as client:
            pipelined, *framed = [client.open_session("sum", **mode) for _ in range(4)]
            frame = client.frame(framed)
            frame.step(np.ones((3, 2)))
            heard = []
            for y in pipelined.steps([1, 2] for _ in range(60)):
                heard.append(y.tolist())
                if len(heard) == 30:
                    first.call(end, first.serving)
            assert heard == [[count, 2 * count] for count in range(1, 61)]
            assert frame.step(np.ones((3, 2))).tolist() == [[2, 2]] * 3
        for server, each in zip((first, second), durably, strict=True):
            server.call(each.store.close)


async def test_a_durability_that_does_not_exist_or_takes_a_store_is_refused(served):
    """With what it takes."""
    async with AsyncClient(served.address) as client:
        with pytest.raises(InvalidInput, match="durability: takes memory, checkpoint or commit, not 'ever'"):
            await client.open_session("sum", durability="ever")
        with pytest.raises(InvalidInput, match="durability: commit takes a server with a store"):
            await client.open_session("sum", durability="commit")


def test_what_is_sent_again_is_what_was_sent_in_order():
    """Many timesteps go together, up to a limit."""
    requests = list(replay({"x": np.arange(7, 7 + 1107, dtype=np.float32)[:, None]}, 7, 99))
    sent = np.concatenate([decode(request.inputs[0])[0, :, 0] for request in requests])
    assert sent.tolist() == list(range(7, 7 + 1107))
    assert [decode(request.inputs[0]).shape[1] for request in requests] == [512, 512, 83]
    assert [int(np.frombuffer(request.positions, "<u8")[0]) for request in requests] == [7, 519, 1031]


async def test_a_session_that_stands_before_its_last_answer_is_brought_up_again(pair):
    """Its old server, which owns it no more, may answer a step once more while it is resumed elsewhere from a checkpoint."""
    first, second = pair
    async with AsyncClient(first.address) as there, AsyncClient(second.address) as here:
        session = await there.open_session("sum", durability="checkpoint", checkpoint_every=1_000_000)
        for _ in range(3):
            await session.step([1, 2])
        exchange = session._exchange
        opened = await here._stub.OpenSession(resume_request(exchange))
        assert opened.position == 0
        exchange.resumed(opened)  # as if the three answers had come only now
        here._lane.kept = there._lane.kept
        moved = AsyncSession(here, exchange)
        assert [(await moved.step([1, 2])).tolist() for _ in range(2)] == [[4, 8], [5, 10]]
        assert second.host.sessions.position[0] == 5


async def test_a_session_that_is_gone_again_is_being_resumed_again(pair):
    """Its server ended right after the first attempt: what an answer says of its place counts for nothing till it is back."""
    first, _ = pair
    resuming, done = asyncio.Event(), asyncio.Event()

    async def resume(_):
        resuming.set()
        await done.wait()

    async with AsyncClient(first.address) as client:
        exchange = (await client.open_session("sum", durability="commit"))._exchange
        lane = Lane(client._channel, first.address, resume, 1.0, ())
        done.set()
        await lane._resumed(exchange)
        done.clear()
        exchange.recovering = True  # an answer says so, and then everything is asked for again
        lane._send_again()
        attempt = lane._resumed(exchange)
        await resuming.wait()
        assert exchange.recovering
        done.set()
        await attempt
        lane._send_again()
        assert not exchange.recovering


def exchanges(count):
    """Returns what a client knows of sessions that are resumed from checkpoints, of a model that takes one number."""
    opened = sequence_pb2.OpenSessionResponse(durability=sequence_pb2.DURABILITY_CHECKPOINT)
    opened.model.spec.inputs.add(name="x", data_type=tensor_pb2.DATA_TYPE_FLOAT32, shape=[1])
    return [Exchange(opened) for _ in range(count)]


def answer(rows, outputs):
    """Returns the answer to rows of a frame, in their order, of sessions that have made one step."""
    y = encode("y", np.array(outputs, np.float32).reshape(len(rows), 1, 1))
    told = {"rows": np.array(rows, "<u4").tobytes(), "positions": np.ones(len(rows), "<u8").tobytes()}
    return sequence_pb2.StepFrameResponse(outputs=[y], **told)


@pytest.mark.parametrize("answers", [[[0, 1, 2]], [[2, 0, 1]], [[2, 1], [0]], [[1], [2, 0]]])
@pytest.mark.parametrize("together", [True, False], ids=["frame", "steps"])
def test_rows_may_be_answered_in_any_order(answers, together):
    """The server runs steps as they become ready. Each output, and what is kept of inputs, is its own session's."""
    sessions, kept, heard = exchanges(3), Kept(), {}
    x = np.array([[10], [20], [30]], np.float32)
    if together:
        frame = Columns(sessions, {"x": x[:, None]}, 1, False, None)
    else:
        asked = [session.ask(row, {}, False, None, 0) for session, row in zip(sessions, x, strict=True)]
        frame = Steps(asked, lambda asked, answered: heard.update({asked.exchange: Exchange.answer(asked, answered)}))
    for rows in answers:
        assert not frame.read(answer(rows, [x[row, 0] + 1 for row in rows]), kept)
    outputs = frame.outputs["y"][:, 0] if together else [heard[session] for session in sessions]
    assert np.array(outputs).tolist() == [[11], [21], [31]]
    assert [kept.since(session, 0, 1)["x"].tolist() for session in sessions] == [[[10]], [[20]], [[30]]]


def test_a_step_that_was_answered_cannot_fail_any_more():
    """An attempt to resume that fails late, when another has succeeded and the step has run, is of no account."""
    heard = []
    (exchange,) = exchanges(1)
    asked = exchange.ask([0.0], {}, False, None, 0)
    frame = Steps([asked], lambda _, answered: heard.append(answered.problem))
    frame.read(answer([0], [0]), Kept())
    frame.give_up(0, Unavailable("too late"))
    assert heard == [None]


async def test_who_cannot_be_reached_again_is_unavailable(pair):
    """After the client's patience, and not before: the caller is told."""
    first, second = pair
    async with AsyncClient(both(first.address, second.address), timeout_seconds=0.3) as client:
        session = await client.open_session("sum", durability="commit")
        await session.step([1, 1])
        await end(first)
        await end(second)
        with pytest.raises(Unavailable):
            await session.step([1, 1])
