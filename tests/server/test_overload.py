"""P6: past a limit steps are refused with a time to wait, and whoever does not read is not read."""

import asyncio

import grpc
import numpy as np
import pytest

from builders.summing import serving, summing
from statewise.client import AsyncClient
from statewise.client.failures import from_status
from statewise.config import Limits
from statewise.conversation import Step
from statewise.engine import EngineError
from statewise.errors import Reason
from statewise.host import Open
from statewise.rpc.streams import ROWS
from statewise.tensors import encode
from statewise.v1 import sequence_pb2, sequence_pb2_grpc

INPUT = [encode("x", np.ones((1, 2), np.float32))]


async def test_a_flood_is_refused_with_a_time_to_wait_and_what_was_taken_on_is_answered():
    """Ten times as many steps as may be pending: each is answered or refused by OVERLOADED with RetryInfo, and none is lost."""
    async with serving(limits=Limits(pending_steps=100)) as served, AsyncClient(served.address) as client:
        sessions = [await client.open_session("sum") for _ in range(1000)]
        stub = sequence_pb2_grpc.SequenceServiceStub(client._channel)
        served.summing.hold()
        requests = [
            sequence_pb2.StepRequest(request_id=number, session_id=session.id, position=0, inputs=INPUT)
            for number, session in enumerate(sessions)
        ]
        responses = aiter(stub.Step(iter(requests)))
        refused = [await anext(responses) for _ in range(900)]
        told = [from_status(response.error) for response in refused]
        assert {problem.reason for problem in told} == {Reason.OVERLOADED}
        assert all(problem.retry_after_seconds > 0 for problem in told)
        served.summing.release()
        assert len([response async for response in responses if not response.HasField("error")]) == 100
        again = [requests[response.request_id] for response in refused][:100]
        assert all([not response.HasField("error") async for response in stub.Step(iter(again))])


async def test_streams_that_do_not_read_are_not_read_and_hold_nobody_up():
    """20 streams write and never read; the server takes on no more of each than its limit, and another client steps on."""
    async with serving(inline=True) as served, AsyncClient(served.address) as client:
        session = await client.open_session("sum")
        stub = sequence_pb2_grpc.SequenceServiceStub(client._channel)
        calls = []
        for number in range(20):
            await stub.OpenSession(sequence_pb2.OpenSessionRequest(model="sum", session_id=f"slow-{number}"))
            calls.append(stub.Step())
            for _ in range(300):
                request = sequence_pb2.StepRequest(session_id=f"slow-{number}", inputs=INPUT)
                await asyncio.wait_for(calls[-1].write(request), 30)
        for total in range(1, 50):
            assert (await session.step([1, 0]))[0] == total
        assert all(stream._rows <= ROWS for stream in served.servicer._streams)
        for call in calls:
            call.cancel()


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
