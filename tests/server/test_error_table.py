"""Every line of the error table through a real server: the code, the reason and the class that a client raises."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import tempfile
from pathlib import Path

import grpc
import numpy as np
import pytest

from builders.kept import SEALER, Troubled
from builders.summing import BUG, FATAL, Serving, serving
from statewise.client import AsyncClient
from statewise.client.failures import from_rpc, from_status
from statewise.errors import CLASS_OF_REASON, Reason, SessionGone, StatewiseError
from statewise.host import Durably
from statewise.rpc.keys import BearerKeys
from statewise.rpc.status import CODE_OF_REASON
from statewise.snapshot import Snapshot
from statewise.tensors import encode
from statewise.v1 import sequence_pb2, sequence_pb2_grpc


class Table:
    """A server whose clock is turned by hand, a bare stub, and an open session `a`."""

    def __init__(self, served: Serving, channel: grpc.aio.Channel, clock: list[float]) -> None:
        self.served = served
        self.stub = sequence_pb2_grpc.SequenceServiceStub(channel)
        self.clock = clock

    async def open(self, **asked):
        """Opens a session of the summing model."""
        return await self.stub.OpenSession(sequence_pb2.OpenSessionRequest(**{"model": "sum", **asked}))

    async def steps(self, *requests):
        """Returns the responses to requests on one stream."""
        return [response async for response in self.stub.Step(iter(requests))]

    async def frame(self, handle):
        """Returns the responses to a frame of one row."""
        request = sequence_pb2.StepFrameRequest(
            handles=np.array([handle], "<u8").tobytes(), inputs=[encode("x", np.ones((1, 1, 2), np.float32))]
        )
        return [response async for response in self.stub.StepFrame(iter([request]))]


@pytest.fixture
async def table():
    """See `Table`."""
    clock = [0.0]
    async with serving(clock=lambda: clock[0]) as served, grpc.aio.insecure_channel(served.address) as channel:
        made = Table(served, channel, clock)
        await made.open(session_id="a")
        yield made


def step(position=None, first=1.0, **fields):
    return sequence_pb2.StepRequest(
        session_id="a", position=position, inputs=[encode("x", np.array([[first, 0]], np.float32))], **fields
    )


async def ahead(table):
    return (await table.steps(step(9)))[0].error


async def behind_failed(table):
    table.served.summing.hold()
    call = table.stub.Step(iter([step(0, FATAL), step(1)]))
    await table.served.summing.until(2)
    table.served.summing.release()
    return [response async for response in call][1].error


async def stale(table):
    await table.steps(*map(step, range(4)))
    await table.steps(*map(step, range(4, 6)))
    return (await table.steps(step(0)))[0].error


async def position_reused(table):
    await table.steps(step(0))
    return (await table.steps(step(0, 2.0)))[0].error


async def bad_field(table):
    return (await table.steps(sequence_pb2.StepRequest(session_id="a")))[0].error


async def non_finite_input(table):
    return (await table.steps(step(0, np.nan)))[0].error


async def non_finite_state(table):
    return (await table.steps(step(0, FATAL)))[0].error


async def overloaded(table):
    table.served.summing.hold()
    responses = aiter(table.stub.Step(iter([step() for _ in range(5)])))
    refused = await anext(responses)
    table.served.summing.release()
    assert len([response async for response in responses]) == 4, "the four that the session may have in flight are answered"
    return refused.error


async def expired_in_queue(table):
    table.served.summing.hold()
    call = table.stub.Step(iter([step(0), step(1, timeout={"nanos": 1000})]))
    await table.served.summing.until(2)
    table.clock[0] = 1.0
    table.served.summing.release()
    return [response async for response in call][1].error


async def draining(table):
    await table.served.host.drain(0)
    return (await table.steps(step(0)))[0].error


async def engine_failed(table):
    return (await table.steps(step(0, BUG)))[0].error


async def already_open(table):
    return await _refused(table.open(session_id="a"))


async def model_unknown(table):
    return await _refused(table.open(model="nope"))


async def not_here(table):
    return (await table.frame(0x1234_5678_9ABC_DEF0))[0].errors[0].error


async def unknown(table):
    return await _refused(table.stub.GetSession(sequence_pb2.GetSessionRequest(session_id="nobody")))


async def expired(table):
    table.clock[0] = 601.0
    table.served.host.sessions.expire(601.0)
    return (await table.steps(step(0)))[0].error


async def closed(table):
    await table.stub.CloseSession(sequence_pb2.CloseSessionRequest(session_id="a"))
    return (await table.steps(step(0)))[0].error


async def lost(table):
    return await _refused(table.open(session_id="b", mode=sequence_pb2.OPEN_MODE_RESUME, server_instance="another"))


@contextlib.asynccontextmanager
async def durably(store):
    """A server over a store that can be troubled, with the durable session `a`, which it takes over if it is there."""
    settings = Durably(store, SEALER, patience_seconds=0.0)
    async with serving(durably=settings) as served, grpc.aio.insecure_channel(served.address) as channel:
        yield Table(served, channel, [])


COMMIT = {"session_id": "a", "durability": sequence_pb2.DURABILITY_COMMIT}
RESUME = {"session_id": "a", "mode": sequence_pb2.OPEN_MODE_RESUME}


async def store_unavailable(_):
    store = Troubled(deaf=True)
    async with durably(store) as table:
        return await _refused(table.open(**COMMIT))


async def moved(_):
    async with durably(Troubled()) as table:
        await table.open(**COMMIT)
        await table.served.host.drain(30)
        return (await table.steps(step(0)))[0].error


async def owner_changed(_):
    store = Troubled()
    async with durably(store) as table:
        await table.open(**COMMIT)
        await store.take_over("a", 1, 60.0)
        return (await table.steps(step(0)))[0].error


async def _resumed_elsewhere(change, **asked):
    store = Troubled()
    async with durably(store) as table, durably(store) as other:
        await table.open(**COMMIT)
        record, until = store.store._records["a"]
        store.store._records["a"] = dataclasses.replace(record, data=change(record.data)), until
        return await _refused(other.open(**RESUME, **asked))


async def model_not_here(_):
    def of_another_file(data):
        snapshot = dataclasses.replace(Snapshot.from_bytes(SEALER.open(data)), digest="another")
        return SEALER.seal("a", snapshot.to_bytes())

    return await _resumed_elsewhere(of_another_file)


async def rolled_back(_):
    return await _resumed_elsewhere(lambda data: data, durable_position=1)


async def unreadable(_):
    return await _resumed_elsewhere(lambda data: data[:-1])


async def unauthenticated(table):
    with tempfile.NamedTemporaryFile("w") as keys:
        keys.write("a key that is not shown".replace(" ", "-"))
        keys.flush()
        interceptors = [BearerKeys(Path(keys.name))]
        async with serving(interceptors=interceptors) as served, grpc.aio.insecure_channel(served.address) as channel:
            return await _refused(Table(served, channel, []).open())


async def _refused(call):
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    problem = from_rpc(refused.value, "here")
    assert refused.value.code() is CODE_OF_REASON[problem.reason]
    return problem


LINES = {
    Reason(provoke.__name__.upper()): provoke
    for provoke in (
        *(ahead, behind_failed, stale, position_reused, bad_field, non_finite_input, non_finite_state, overloaded),
        *(expired_in_queue, draining, engine_failed, already_open, model_unknown, not_here, unknown, expired, closed, lost),
        *(store_unavailable, moved, model_not_here, owner_changed, rolled_back, unreadable),
        unauthenticated,
    )
}


def test_every_reason_has_its_test():
    """A line of the table that nobody provokes would be a promise that nobody keeps."""
    assert set(LINES) == set(Reason)


@pytest.mark.parametrize("reason", Reason)
async def test_a_line_of_the_table(reason, table):
    """The status has the code and the reason, the client's class is the table's, and waiting is told where it helps."""
    provoked = await LINES[reason](table)
    if not isinstance(provoked, StatewiseError):
        assert provoked.code == CODE_OF_REASON[reason].value[0]
        provoked = from_status(provoked)
    assert (provoked.reason, type(provoked)) == (reason, CLASS_OF_REASON[reason])
    assert (provoked.retry_after_seconds is not None) == (
        reason in (Reason.OVERLOADED, Reason.STORE_UNAVAILABLE, Reason.MODEL_NOT_HERE)
    )
    assert ("expected" in provoked.metadata) == (CLASS_OF_REASON[reason].__name__ == "OutOfOrder")


async def test_a_client_whose_handle_is_unknown_finds_its_session_by_its_id():
    """NOT_HERE is for the client to mend: it resumes by the id and sends the same step again."""
    async with serving() as served, AsyncClient(served.address) as client:
        session = await client.open_session("sum")
        await session.step([1, 1])
        session._exchange.handle ^= 1 << 60
        assert (await session.step([1, 1])).tolist() == [2, 2]


async def test_a_client_whose_server_was_replaced_is_told_that_the_session_is_lost():
    """P3: nothing restarts from zero unless the client opens it anew."""
    async with serving() as served, AsyncClient(served.address) as client:
        session = await client.open_session("sum")
        await session.step([1, 1])
        await session.close()
        session._exchange.handle ^= 1 << 60
        session._exchange.server_instance = "the one before"
        with pytest.raises(SessionGone) as gone:
            await asyncio.wait_for(session.step([1, 1]), 30)
        assert gone.value.reason is Reason.LOST
