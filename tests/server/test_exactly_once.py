"""P1: whatever fails, is lost or comes late, a step runs once, and who asks again is answered."""

from __future__ import annotations

import asyncio

import grpc
import numpy as np
import pytest
import pytest_asyncio

from builders.asking import Listener
from builders.real import kinds, real
from builders.summing import BUG, FATAL, serving, summing
from statewise.client.failures import from_status
from statewise.config import Limits
from statewise.conversation import Frame, Step
from statewise.errors import AlreadyOpen, Reason, SessionGone
from statewise.opening import Mode, Open
from statewise.tensors import decode, encode
from statewise.v1 import sequence_pb2, sequence_pb2_grpc


@pytest_asyncio.fixture
async def served():
    """A running sum behind the real servicer."""
    async with serving() as server:
        yield server


@pytest_asyncio.fixture
async def stub(served):
    """Bare stubs, with a session `a`."""
    async with grpc.aio.insecure_channel(served.address) as channel:
        stub = sequence_pb2_grpc.SequenceServiceStub(channel)
        await stub.OpenSession(sequence_pb2.OpenSessionRequest(model="sum", session_id="a", retained_replies=4))
        yield stub


def step(position, first=1.0, number=None, **fields):
    inputs = [encode("x", np.array([[first, 0]], np.float32))]
    return sequence_pb2.StepRequest(
        request_id=position if number is None else number, session_id="a", position=position, inputs=inputs
    )


def frame(handles, positions=None):
    positions = b"" if positions is None else np.array(positions, "<u8").tobytes()
    inputs = [encode("x", np.ones((len(handles), 1, 2), np.float32))]
    return sequence_pb2.StepFrameRequest(handles=np.array(handles, "<u8").tobytes(), positions=positions, inputs=inputs)


async def answers(call):
    """Returns request id → reason, or the total."""
    return {
        response.request_id: from_status(response.error).reason if response.HasField("error") else decode(response.outputs[0])[0, 0]
        async for response in call
    }


async def test_after_a_run_that_failed_between_two_scatters_all_retry_to_the_reference(tmp_path, provider):
    """An LSTM whose cell states were written over while the hidden states were new: nothing of it is ever seen."""
    oracles = kinds(tmp_path)
    oracle = oracles["forecast-lstm-1"]
    async with real(tmp_path, oracles, provider) as made:
        sessions = [await made.host.open(Open(oracle.model)) for _ in range(20)]
        histories, outputs = [[] for _ in sessions], [[] for _ in sessions]
        for turn in range(6):
            inputs = [oracle.draw(2, 100 * turn + place) for place in range(len(sessions))]
            for broken in (True, False):
                made.engines[oracle.model].fails = lambda _, broken=broken: broken
                listener = Listener()
                for place, session in enumerate(sessions):
                    made.host.step(Step(session.session_id, inputs[place], 2 * turn), listener, place)
                await asyncio.sleep(0)
                await made.host.batcher.until_quiet()
                reasons = {told.problem and told.problem.reason for told in listener.heard}
                assert reasons == ({Reason.ENGINE_FAILED} if broken else {None})
            for told in listener.heard:
                histories[told.tag].append(inputs[told.tag])
                outputs[told.tag].append(told.total)
        assert max(made.engines[oracle.model].sizes) == len(sessions)
        for history, output in zip(histories, outputs, strict=True):
            oracle.check(history, output)


@pytest.mark.parametrize(("doom", "reason"), [(FATAL, Reason.NON_FINITE_STATE), (BUG, Reason.ENGINE_FAILED)])
async def test_when_a_step_fails_those_behind_it_fail_and_so_do_those_that_come_later(served, stub, doom, reason):
    """P fails with three pending behind it: BEHIND_FAILED; the same three sent again: AHEAD; all four mended: each runs once."""
    served.summing.hold()
    call = stub.Step(iter([step(0, doom), *map(step, range(1, 4))]))
    await served.summing.until(4)
    served.summing.release()
    assert await answers(call) == {0: reason, **dict.fromkeys((1, 2, 3), Reason.BEHIND_FAILED)}
    assert await answers(stub.Step(iter(map(step, range(1, 4))))) == dict.fromkeys((1, 2, 3), Reason.AHEAD)
    assert await answers(stub.Step(iter(map(step, range(4))))) == {0: 1, 1: 2, 2: 3, 3: 4}


async def test_the_first_waiter_gives_up_and_the_one_that_joined_is_answered(served, stub):
    """A step that is running, and one that is pending behind it, are asked for twice; the stream that asked first is killed."""
    served.summing.hold()
    first, second = stub.Step(), stub.Step()
    for position in (0, 1):
        await first.write(step(position))
        await served.summing.until(position + 1)
    for position in (0, 1):
        await second.write(step(position))
    await second.write(step(2))
    await served.summing.until(3)
    first.cancel()
    while len(served.servicer._streams) > 1:  # noqa: ASYNC110 (nothing tells of it)
        await asyncio.sleep(0)
    served.summing.release()
    await second.done_writing()
    assert await answers(second) == {0: 1, 1: 2, 2: 3}
    assert served.host.position("a") == 3


async def test_who_joined_a_step_without_a_position_never_gets_the_answer_to_another_position():
    """The step before it fails and it moves up: who asked for its old position is told, and who asked without one is answered."""
    async with summing() as made:
        opened = await made.host.open(Open("sum"))
        made.hold()
        plain, told = Listener(), Listener()
        for first, position, listener in ((FATAL, 0, told), (5.0, None, plain), (5.0, 1, told)):
            made.host.step(Step(opened.session_id, {"x": np.array([[first, 0]], np.float32)}, position), listener, position)
            await asyncio.sleep(0)
        made.release()
        await made.until(0)
        assert [(heard.position, heard.total[0, 0]) for heard in plain.heard] == [(1, 5)]
        assert [heard.problem.reason for heard in told.heard] == [Reason.NON_FINITE_STATE, Reason.BEHIND_FAILED]
        assert told.heard[1].problem.metadata["expected"] == "1"


async def test_a_fork_and_a_snapshot_during_a_run_see_what_is_committed():
    """While a long step is between two cuts and another waits, copies are of the last committed state, and stay so."""
    async with summing() as made:
        opened = await made.host.open(Open("sum"))
        listener, one = Listener(), {"x": np.ones((1, 2), np.float32)}
        made.host.step(Step(opened.session_id, one), listener, 0)
        await asyncio.sleep(0)
        await made.until(0)
        made.hold()
        made.host.step(Step(opened.session_id, {"x": np.ones((100, 2), np.float32)}), listener, 1)
        made.host.step(Step(opened.session_id, one), listener, 2)
        await made.until(2)
        fork = made.host.fork(opened.session_id, "", b"")
        taking = asyncio.create_task(made.host.snapshot(opened.session_id))
        await asyncio.sleep(0)
        made.release()
        snapshot = await taking
        await made.until(0)
        assert (fork.position, snapshot.position, snapshot.states["state"].tolist()) == (1, 1, [1, 1])
        made.host.step(Step(fork.session_id, one), listener, 3)
        await asyncio.sleep(0)
        await made.until(0)
        assert {heard.tag: heard.total[-1].tolist() for heard in listener.heard} == {
            0: [1, 1],
            1: [101, 101],
            2: [102, 102],
            3: [2, 2],
        }


async def test_an_open_a_fork_and_a_close_whose_replies_were_lost_are_repeated_without_harm(stub):
    """The same token gives the same session, also after it was stepped, and another token another; a second close is no error."""
    asked = sequence_pb2.OpenSessionRequest(model="sum", open_token=b"once")
    first = await stub.OpenSession(asked)
    inputs = [encode("x", np.ones((1, 2), np.float32))]
    [_ async for _ in stub.Step(iter([sequence_pb2.StepRequest(session_id=first.session_id, inputs=inputs)]))]
    again = await stub.OpenSession(asked)
    assert (again.session_id, again.handle, again.position, again.resumed) == (first.session_id, first.handle, 1, True)
    fork = sequence_pb2.ForkSessionRequest(session_id=first.session_id, open_token=b"twice")
    copies = [(await stub.ForkSession(fork)).session for _ in range(2)]
    assert copies[0].handle == copies[1].handle != first.handle
    for closed in (True, False, False):
        assert (await stub.CloseSession(sequence_pb2.CloseSessionRequest(session_id=first.session_id))).closed is closed
    assert (await stub.ForkSession(fork)).session.handle == copies[0].handle, "the fork lives on, and is found after its parent"


@pytest.mark.parametrize("mode", [Mode.CREATE, Mode.RESTART])
@pytest.mark.parametrize("restored", [False, True])
async def test_an_open_that_is_repeated_before_the_first_is_done_gives_one_session(mode, restored):
    """Both calls wait for the engine's thread or the loader; one session comes of it, whichever comes first."""
    async with summing() as made:
        host = made.host
        first = await host.open(Open("sum", session_id="name"))
        raw = (await host.snapshot("name")).to_bytes() if restored else b""
        if mode is Mode.CREATE:
            await host.close("name")
        asked = Open("sum", 0 if restored else 4, session_id="name", token=b"t", mode=mode, snapshot=raw)
        opened = await asyncio.gather(*(host.open(asked) for _ in range(3)))
        assert len({each.handle for each in opened}) == 1
        assert first.handle != opened[0].handle
        assert sorted(each.resumed for each in opened) == [False, True, True]
        assert made.sums()["sessions"] == 1
        await host.close("name")
        assert made.sums() == {"sessions": 0, "steps": 0, "rows": 0}


async def test_one_id_opened_by_two_while_its_model_loads_is_one_session_and_one_refusal():
    """Neither waits for the other in vain, and none gets the other's session."""
    async with summing() as made:
        asked = [Open("sum", 8, session_id="name", token=bytes([number])) for number in range(2)]
        opened = await asyncio.gather(*map(made.host.open, asked), return_exceptions=True)
        assert sorted(type(each).__name__ for each in opened) == ["AlreadyOpen", "Opened"]
        assert len(made.host.sessions) == 1


async def test_a_restore_that_finds_its_name_taken_gives_its_row_back():
    """The id is opened by another call while the snapshot is being written."""
    async with summing() as made:
        await made.host.open(Open("sum", session_id="source"))
        raw = (await made.host.snapshot("source")).to_bytes()
        restoring = asyncio.create_task(made.host.open(Open(session_id="name", snapshot=raw)))
        await asyncio.sleep(0)
        await made.host.open(Open("sum", session_id="name"))
        with pytest.raises(AlreadyOpen):
            await restoring
        await made.host.close("name")
        await made.host.close("source")
        assert made.sums()["rows"] == 0


async def test_a_cancelled_restore_gives_its_row_back_only_when_nobody_writes_it_any_more():
    """The engine's thread is busy; the call is cancelled; the row is free when the thread has come to it, and not before."""
    async with summing() as made:
        opened = await made.host.open(Open("sum"))
        raw = (await made.host.snapshot(opened.session_id)).to_bytes()
        made.hold()
        made.host.step(Step(opened.session_id, {"x": np.ones((1, 2), np.float32)}), Listener(), 0)
        await made.until(1)
        before = made.sums()["rows"]
        restoring = [asyncio.create_task(made.host.open(Open(snapshot=raw))) for _ in range(5)]
        await asyncio.sleep(0)
        assert made.sums()["rows"] == before + 5
        for each in restoring:
            each.cancel()
        await asyncio.gather(*restoring, return_exceptions=True)
        assert made.sums()["rows"] == before + 5, "a row that is to be written was given away"
        made.release()
        while made.sums()["rows"] != 1:  # noqa: ASYNC110 (nothing tells of it)
            await asyncio.sleep(0)


async def test_snapshots_and_restores_never_take_the_rows_that_steps_need():
    """Any number of them at once: they wait for each other, and every session steps on meanwhile."""
    limits = Limits(sessions=3, batch=1)
    async with summing(limits=limits) as made:
        sessions = [await made.host.open(Open("sum")) for _ in range(2)]
        raw = (await made.host.snapshot(sessions[0].session_id)).to_bytes()
        made.hold()
        listener, one = Listener(), {"x": np.ones((1, 2), np.float32)}
        made.host.step(Step(sessions[0].session_id, one), listener, 0)
        await made.until(1)
        copies = [asyncio.create_task(made.host.open(Open(snapshot=raw))) for _ in range(30)]
        copies += [asyncio.create_task(made.host.snapshot(sessions[1].session_id)) for _ in range(30)]
        await asyncio.sleep(0)
        for session in sessions:
            for _ in range(3):
                made.host.step(Step(session.session_id, one), listener, 0)
        made.release()
        outcomes = await asyncio.gather(*copies, return_exceptions=True)
        await made.until(0)
        assert not made.host.failed.is_set()
        assert [heard.problem for heard in listener.heard] == [None] * 7
        assert [type(each).__name__ for each in outcomes] == ["Opened"] + ["Overloaded"] * 29 + ["Snapshot"] * 30


async def test_handles_of_the_closed_of_another_run_and_of_nobody_find_nothing(served, stub):
    """CLOSED while the number is not given away, and else NOT_HERE: never another session."""
    opened = [await stub.OpenSession(sequence_pb2.OpenSessionRequest(model="sum")) for _ in range(3)]
    mine, theirs, gone = (each.handle for each in opened)
    await stub.CloseSession(sequence_pb2.CloseSessionRequest(session_id=opened[2].session_id))
    async with serving() as other, grpc.aio.insecure_channel(other.address) as channel:
        elsewhere = sequence_pb2_grpc.SequenceServiceStub(channel)
        foreign = (await elsewhere.OpenSession(sequence_pb2.OpenSessionRequest(model="sum"))).handle
    forged = [theirs ^ 1 << bit for bit in (0, 5, 24, 40, 63)] + [0, 1, 2**24 - 1, 2**63, 2**64 - 1]
    (response, refusal) = sorted(
        [each async for each in stub.StepFrame(iter([frame([mine, gone, foreign, *forged])]))], key=lambda each: len(each.errors)
    )
    assert np.frombuffer(response.rows, "<u4").tolist() == [0]
    reasons = {error.row: from_status(error.error).reason for error in refusal.errors}
    assert reasons == {1: Reason.CLOSED, **dict.fromkeys(range(2, 3 + len(forged)), Reason.NOT_HERE)}
    successor = await stub.OpenSession(sequence_pb2.OpenSessionRequest(model="sum"))
    (response,) = [each async for each in stub.StepFrame(iter([frame([gone])]))]
    assert from_status(response.errors[0].error).reason is Reason.NOT_HERE
    assert served.host.position(successor.session_id) == served.host.position(opened[1].session_id) == 0


async def test_after_a_restart_ids_are_unknown_and_a_resume_is_told_that_they_are_lost():
    """P3: another run of the server never takes an id for a session of its own."""
    async with summing() as first:
        opened = await first.host.open(Open("sum", session_id="meter"))
        instance = first.host.instance
    async with summing() as second:
        with pytest.raises(SessionGone) as gone:
            second.host.step(Step("meter", {}), Listener(), 0)
        assert gone.value.reason is Reason.UNKNOWN
        listener = Listener()
        inputs = {"x": np.ones((1, 1, 2), np.float32)}
        second.host.frame(Frame(np.array([opened.handle], np.uint64), inputs), listener, 0)
        assert listener.heard[0].problem.reason is Reason.NOT_HERE
        for told, reason in ((instance, Reason.LOST), ("", Reason.UNKNOWN)):
            with pytest.raises(SessionGone) as gone:
                await second.host.open(Open(session_id="meter", mode=Mode.RESUME, server_instance=told))
            assert gone.value.reason is reason


async def test_a_step_that_arrives_while_its_number_changes_hands_never_steps_the_successor():
    """Its session is closed and the number given away before the loop comes round: it is told to resume, which says CLOSED."""
    async with summing(limits=Limits(sessions=1)) as made:
        await made.host.open(Open("sum", session_id="first"))
        listener = Listener()
        made.host.step(Step("first", {"x": np.ones((1, 2), np.float32)}), listener, 0)
        await made.host.close("first")
        await made.host.open(Open("sum", session_id="second"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert [heard.problem.reason for heard in listener.heard] == [Reason.NOT_HERE]
        assert made.host.position("second") == 0
        with pytest.raises(SessionGone) as gone:
            made.host.find("first")
        assert gone.value.reason is Reason.CLOSED
