"""P6: past a limit steps are refused with a time to wait, and whoever does not read is not read."""

import asyncio

import grpc
import numpy as np
import pytest

from builders.asking import Listener
from builders.summing import ALL, serving, summing
from statewise.client import AsyncClient
from statewise.client.failures import from_status
from statewise.config import Limits
from statewise.conversation import Frame, Step
from statewise.errors import Overloaded, Reason
from statewise.opening import Open
from statewise.rpc.streams import BYTES, ROWS, StepStream
from statewise.runtime import EngineError
from statewise.tensors import encode
from statewise.v1 import sequence_pb2, sequence_pb2_grpc

INPUT = [encode("x", np.ones((1, 2), np.float32))]
SLOW = 12
ANSWER_BYTES = 33_000


async def test_a_flood_is_refused_with_a_time_to_wait_and_what_was_taken_on_is_answered():
    """Ten times as many steps as may be pending: each is answered or refused by OVERLOADED with RetryInfo, and none is lost."""
    async with serving(limits=Limits(pending_steps=2)) as served, AsyncClient(served.address) as client:
        sessions = [await client.open_session("sum") for _ in range(20)]
        stub = sequence_pb2_grpc.SequenceServiceStub(client._channel)
        served.summing.hold()
        requests = [
            sequence_pb2.StepRequest(request_id=number, session_id=session.id, position=0, inputs=INPUT)
            for number, session in enumerate(sessions)
        ]
        responses = aiter(stub.Step(iter(requests)))
        refused = [await anext(responses) for _ in range(18)]
        told = [from_status(response.error) for response in refused]
        assert {problem.reason for problem in told} == {Reason.OVERLOADED}
        assert all(problem.retry_after_seconds > 0 for problem in told)
        served.summing.release()
        assert len([response async for response in responses if not response.HasField("error")]) == 2
        again = [requests[response.request_id] for response in refused][:2]
        assert all([not response.HasField("error") async for response in stub.Step(iter(again))])


class Written:
    """A client that has written steps of sessions, one each, as a stream finds it; it counts those that were read."""

    def __init__(self, sessions):
        self.sessions = list(sessions)
        self.read_so_far = 0
        self.answered = []

    async def read(self):
        """Returns its next step."""
        await asyncio.sleep(0)
        if self.read_so_far == len(self.sessions):
            return grpc.aio.EOF
        self.read_so_far += 1
        return sequence_pb2.StepRequest(session_id=self.sessions[self.read_so_far - 1], inputs=INPUT)

    async def write(self, response):
        """Is answered."""
        self.answered.append(response)

    def invocation_metadata(self):
        """Returns nothing."""
        return ()


async def test_while_a_server_is_full_its_streams_are_hardly_read():
    """What is sent too much waits where it was sent, and costs the server nothing; a place that is given back wakes the stream."""
    async with summing(limits=Limits(pending_steps=10)) as made:
        client = Written([(await made.host.open(Open("sum"))).session_id for _ in range(400)])
        made.hold()
        serving_it = asyncio.create_task(StepStream(made.host).serve(client))
        await made.until(10)
        for _ in range(2000):
            await asyncio.sleep(0)
        assert client.read_so_far < 100, "it was read on"
        made.release()
        await serving_it
        assert len(client.answered) == 400
        assert sum(not response.HasField("error") for response in client.answered) > 300


@pytest.mark.parametrize("framed", [True, False])
async def test_pending_inputs_have_a_limit_in_bytes_as_well(framed):
    """Few large steps are as much as many small ones: past the limit they are refused, and all bytes are given back."""
    async with summing(limits=Limits(pending_bytes=80_000)) as made:
        sessions = [await made.host.open(Open("sum")) for _ in range(30)]
        for turn in (1, 2):
            made.hold()
            listener = Listener()
            if framed:
                handles = np.array([session.handle for session in sessions], np.uint64)
                made.host.frame(Frame(handles, {"x": np.ones((30, 1000, 2), np.float32)}), listener, 0)
            for session in sessions if not framed else ():
                made.host.step(Step(session.session_id, {"x": np.ones((1000, 2), np.float32)}), listener, 0)
            await made.until(10)
            made.release()
            await made.until(0)
            refused = [told.problem for told in listener.heard if told.problem]
            assert [(type(problem), problem.retry_after_seconds) for problem in refused] == [(Overloaded, 0.1)] * 20
            assert [told.total[-1].tolist() for told in listener.heard if not told.problem] == [[1000 * turn] * 2] * 10
            assert made.host.batcher._pending.bytes == 0


async def test_a_full_server_refuses_new_steps_unread_and_still_answers_repeated_ones():
    """Overload must not cost what it lacks: a new step is refused before its inputs are looked at; a repeated one needs no room."""
    async with summing(limits=Limits(pending_steps=2)) as made:
        again, *others = [(await made.host.open(Open("sum"))).session_id for _ in range(3)]
        listener, x = Listener(), {"x": np.ones((1, 2), np.float32)}
        made.host.step(Step(again, x, position=0), listener, 0)
        await made.until(1)
        await made.until(0)
        made.hold()
        for session_id in others:
            made.host.step(Step(session_id, x, position=0), listener, 1)
        await made.until(2)
        made.host.step(Step(again, {}, position=1), listener, 2)
        assert [told.problem.reason for told in listener.heard if told.problem] == [Reason.OVERLOADED]
        made.host.step(Step(again, x, position=0), listener, 3)
        made.release()
        await made.until(0)
        assert [told.tag for told in listener.heard if told.problem] == [2]
        assert [(told.total.tolist(), told.position) for told in listener.heard if not told.problem] == [([[1, 1]], 1)] * 4


@pytest.mark.parametrize(("other", "expires"), [(None, False), (9.0, False), (0.5, True)])
async def test_a_step_waits_as_long_as_any_of_those_who_ask_for_it_would(other, expires):
    """One asks with a timeout, another joins with a longer one or none: what the first would give up the second is answered."""
    clock = [0.0]
    async with summing(clock=lambda: clock[0], alone=True) as made:
        busy, asked = [await made.host.open(Open("sum")) for _ in range(2)]
        listener, x = Listener(), {"x": np.ones((1, 2), np.float32)}
        made.hold()
        made.host.step(Step(busy.session_id, x), listener, 0)
        await made.until(1)
        for tag, timeout in ((1, 1.0), (2, other)):
            made.host.step(Step(asked.session_id, x, 0, timeout), listener, tag)
            await asyncio.sleep(0)
        await made.until(2)
        clock[0] = 5.0
        made.release()
        await made.host.batcher.until_quiet()
        told = {told.tag: told.problem and told.problem.reason for told in listener.heard}
        assert told == {0: None} | dict.fromkeys((1, 2), Reason.EXPIRED_IN_QUEUE if expires else None)


async def test_a_session_whose_steps_are_refused_is_not_idle():
    """A client that comes again and again to a full server is not told in the end that its session has expired."""
    clock = [0.0]
    async with summing(limits=Limits(pending_steps=1), clock=lambda: clock[0], alone=True) as made:
        busy, patient, idle = [await made.host.open(Open("sum", idle_timeout_seconds=10)) for _ in range(3)]
        listener, x = Listener(), {"x": np.ones((1, 2), np.float32)}
        made.hold()
        made.host.step(Step(busy.session_id, x), listener, 0)
        await made.until(1)
        clock[0] = 8.0
        made.host.step(Step(patient.session_id, x), listener, 1)
        assert [told.problem.reason for told in listener.heard] == [Reason.OVERLOADED]
        clock[0] = 16.0
        expired = made.host.sessions.expire(clock[0]).tolist()
        assert expired == [idle.handle & 0xFFFFFF]


async def test_streams_that_do_not_read_are_not_read_and_hold_nobody_up():
    """They write and never read: the server holds no more of each than its limits (`make soak`: 300), and others step on."""
    narrow = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65_536)]
    async with serving(on_loop=ALL) as served, AsyncClient(served.address) as client:
        session = await client.open_session("sum")
        async with grpc.aio.insecure_channel(served.address, options=narrow) as channel:
            stub = sequence_pb2_grpc.SequenceServiceStub(channel)
            calls, writing = [], []
            for number in range(SLOW):
                await stub.OpenSession(sequence_pb2.OpenSessionRequest(model="sum", session_id=f"slow-{number}"))
                calls.append(stub.Step())
                writing.append(asyncio.create_task(_write_without_end(calls[-1], f"slow-{number}")))
            streams = served.servicer._streams
            for total in range(1, 100_000):
                assert (await session.step([1, 0]))[0] == total
                slow = [stream for stream in streams if isinstance(stream, StepStream)]
                if len(slow) == SLOW and all(stream._bytes > BYTES for stream in slow):
                    break
            assert len(slow) == SLOW
            assert all(stream._rows <= ROWS for stream in slow)
            assert all(stream._bytes <= BYTES + 5 * ANSWER_BYTES for stream in slow), "as many more as its session has in flight"
            for task in writing:
                task.cancel()
            await asyncio.gather(*writing, return_exceptions=True)
            for call in calls:
                call.cancel()


async def _write_without_end(call, session):
    inputs = [encode("x", np.ones((4096, 2), np.float32))]
    while True:
        await call.write(sequence_pb2.StepRequest(session_id=session, inputs=inputs))


async def test_a_run_that_hangs_is_noticed():
    """The watchdog sees a run that has been under way for too long, and no other."""
    clock = [0.0]
    async with serving(clock=lambda: clock[0]) as served, AsyncClient(served.address) as client:
        session = await client.open_session("sum")
        served.summing.hold()
        stepping = asyncio.create_task(session.step([1, 1]))
        await served.summing.until(1)
        assert not served.host.batcher.hangs(60)
        clock[0] = 61.0
        assert served.host.batcher.hangs(60)
        served.summing.release()
        await stepping
        assert not served.host.batcher.hangs(60)


async def test_after_an_error_of_the_device_nothing_runs_any_more():
    """A fatal engine error is never retried step by step: the host says that it has failed, and the server ends with 70."""
    async with summing() as made:
        opened = await made.host.open(Open("sum"))

        def broken(batch, pool):
            raise EngineError("CUDA failure 700: an illegal memory access", fatal=True)

        made.engines["sum"].run = broken
        made.host.step(Step(opened.session_id, {"x": np.ones((1, 2), np.float32)}), object(), None)
        await asyncio.wait_for(made.host.failed.wait(), 30)


@pytest.mark.parametrize("field", ["inputs", "handles"])
async def test_a_message_that_is_too_large_ends_its_stream_alone(field):
    """Its size is refused by gRPC; other streams and the sessions go on."""
    async with serving() as served, AsyncClient(served.address) as client:
        session = await client.open_session("sum")
        await session.step([1, 1])
        stub = sequence_pb2_grpc.SequenceServiceStub(client._channel)
        huge = encode("x", np.zeros((1, 3_000_000), np.float32)) if field == "inputs" else None
        request = sequence_pb2.StepFrameRequest(inputs=[huge] if huge else [], handles=b"" if huge else bytes(8_000_000))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            [_ async for _ in stub.StepFrame(iter([request]))]
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (await session.step([1, 1])).tolist() == [2, 2]
