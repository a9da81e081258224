"""Values given at Open: states whose first value the client chooses; checked by name, and carried wherever the state goes."""

from __future__ import annotations

import asyncio

import grpc
import numpy as np
import pytest

from builders.summing import GIVEN, Serving, serving, serving_apart
from statewise.client import AsyncClient, Client
from statewise.client.failures import from_rpc
from statewise.errors import InvalidInput, Reason
from statewise.tensors import encode
from statewise.v1 import sequence_pb2, sequence_pb2_grpc

ONE = np.ones(2, np.float32)
FACTOR = {"factor": np.float32(2)}


@pytest.fixture
async def served():
    """A running sum that is multiplied by a factor given at Open, and may be begun elsewhere than at zero."""
    async with serving() as server:
        yield server


@pytest.fixture
async def stub(served):
    """Bare stubs."""
    async with grpc.aio.insecure_channel(served.address) as channel:
        yield sequence_pb2_grpc.SequenceServiceStub(channel)


def request(constants, model="given", **fields):
    tensors = [encode(name, np.asarray(value)) for name, value in constants.items()]
    return sequence_pb2.OpenSessionRequest(model=model, constants=tensors, **fields)


async def test_each_session_has_its_own(served: Serving) -> None:
    """Interleaved and batched sessions each keep the factor and the beginning that they were given."""
    async with AsyncClient(served.address) as client:
        given = [{"factor": 0.5 + number, "state": [number, -number]} for number in range(20)]
        sessions = [await client.open_session("given", constants=each) for each in given]
        for step in range(1, 4):
            totals = await asyncio.gather(*(session.step(ONE) for session in sessions))
            for total, each in zip(totals, given, strict=True):
                np.testing.assert_allclose(total, np.array(each["state"]) + step * each["factor"] * ONE)


async def test_what_may_be_given_has_its_initial_value_where_it_is_not(served: Serving) -> None:
    """A state that may be given begins at the model's own initial value."""
    async with AsyncClient(served.address) as client, await client.open_session("given", constants={"factor": 3}) as session:
        np.testing.assert_allclose(await session.step(ONE), 3 * ONE)


async def test_forks_snapshots_and_restores_keep_them(served: Serving) -> None:
    """Whatever carries a session's state carries what it was given."""
    async with AsyncClient(served.address) as client:
        session = await client.open_session("given", constants={"factor": 4})
        await session.step(ONE)
        fork, snapshot = await session.fork(), await session.snapshot()
        await session.close()
        restored = await client.open_session("given", snapshot=snapshot)
        for each in (fork, restored):
            np.testing.assert_allclose(await each.step(ONE), 8 * ONE)


def test_the_blocking_client_gives_them_too() -> None:
    """The same argument, the same errors; `model` tells what is taken without opening anything."""
    with serving_apart() as apart, Client(apart.address) as client:
        assert client.model("given").constants == tuple(state.constant for state in GIVEN)
        with client.open_session("given", constants={"factor": 2}) as session:
            assert session.model.constants == client.model("given").constants
            np.testing.assert_allclose(session.step(ONE), 2 * ONE)
        with pytest.raises(InvalidInput, match="factor: missing"):
            client.open_session("given")
        with pytest.raises(InvalidInput, match="scale: unknown; the sessions of 'given' are given state, factor"):
            client.open_session("given", constants={"scale": 2})
        with pytest.raises(InvalidInput, match=r"state: takes \[2\], not \[3\]"):
            client.open_session("given", constants={"factor": 1, "state": [1, 2, 3]})


@pytest.mark.parametrize(
    ("model", "constants", "field", "told"),
    [
        ("given", {}, "factor", "missing; the model's sessions are given state, factor"),
        ("given", {"state": ONE}, "factor", "missing"),
        ("given", FACTOR | {"scale": ONE}, "scale", "unknown; the model's sessions are given state, factor"),
        ("given", {"factor": np.float64(2)}, "factor", "takes float32, not float64"),
        ("given", {"factor": ONE}, "factor", r"takes shape \[\], not \[2\]"),
        ("given", FACTOR | {"state": np.float32(1)}, "state", r"takes shape \[2\], not \[\]"),
        ("given", {"factor": np.float32("nan")}, "factor", "takes finite numbers, not nan"),
        ("given", FACTOR | {"state": np.array([1, np.inf], np.float32)}, "state", "takes finite numbers"),
        ("given", {"factor": np.float32(0)}, "factor", "takes numbers above 0, not 0.0"),
        ("given", {"factor": np.float32(-1)}, "factor", "takes numbers above 0"),
        ("sum", FACTOR, "factor", "unknown; the model's sessions are given nothing"),
    ],
)
async def test_what_does_not_fit_is_refused_by_name(served: Serving, stub, model, constants, field, told) -> None:
    """BAD_FIELD names the value and what it takes; nothing is opened, and no row is lost."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.OpenSession(request(constants, model))
    problem = from_rpc(refused.value, served.address)
    assert (problem.reason, problem.metadata["field"]) == (Reason.BAD_FIELD, field)
    with pytest.raises(InvalidInput, match=f"{field}: {told}"):
        raise problem
    assert served.summing.sums() == {"sessions": 0, "steps": 0, "rows": 0}


async def test_twice_or_beside_a_snapshot_is_refused(served: Serving, stub) -> None:
    """A value has one name, and a snapshot holds all that its session was given."""
    twice = request(FACTOR)
    twice.constants.append(twice.constants[0])
    await stub.OpenSession(request(FACTOR, session_id="a"))
    snapshot = (await stub.SnapshotSession(sequence_pb2.SnapshotSessionRequest(session_id="a"))).snapshot
    for asked, told in ((twice, "is there twice"), (request(FACTOR, snapshot=snapshot), "a snapshot holds what")):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.OpenSession(asked)
        assert told in refused.value.details()
        assert from_rpc(refused.value, "").metadata["field"] == "constants"


async def test_an_open_that_is_repeated_gives_the_same_session(served: Serving, stub) -> None:
    """One after the other or both at once, with the same token: one session, one row, and the values of the first."""
    again = [request(FACTOR, session_id="a", open_token=b"one") for _ in range(4)]
    opened = [await stub.OpenSession(again[0]), *await asyncio.gather(*map(stub.OpenSession, again[1:]))]
    together = [request(FACTOR, session_id="b", open_token=b"two") for _ in range(8)]
    opened += await asyncio.gather(*map(stub.OpenSession, together))
    assert len({each.handle for each in opened}) == 2
    assert sorted(each.resumed for each in opened).count(False) == 2
    await asyncio.sleep(0)
    assert served.summing.sums() == {"sessions": 2, "steps": 0, "rows": 2}


async def test_a_session_that_is_found_keeps_what_it_was_given(served: Serving) -> None:
    """To resume with other values changes nothing: the session goes on as it was opened."""
    async with AsyncClient(served.address) as client:
        first = await client.open_session("given", session_id="a", constants={"factor": 2})
        await first.step(ONE)
        second = await client.open_session("given", session_id="a", resume=True, constants={"factor": 100})
        np.testing.assert_allclose(await second.step(ONE), 4 * ONE)
        assert second.position == 2


async def test_a_restart_that_is_refused_leaves_the_session_as_it_is(served: Serving, stub) -> None:
    """The old session ends only when the new one begins."""
    await stub.OpenSession(request(FACTOR, session_id="a"))
    restart = sequence_pb2.OPEN_MODE_RESTART
    with pytest.raises(grpc.aio.AioRpcError):
        await stub.OpenSession(request({}, session_id="a", mode=restart))
    assert served.host.position("a") == 0
    assert len(served.host.sessions) == 1
    assert not (await stub.OpenSession(request(FACTOR, session_id="a", mode=restart))).resumed
    assert len(served.host.sessions) == 1


async def test_an_open_that_is_given_up_returns_its_row(served: Serving, stub) -> None:
    """A client that cancels while its values are being written leaves neither a session nor a row behind."""
    await stub.OpenSession(request(FACTOR, session_id="first"))
    calls = [stub.OpenSession(request(FACTOR, session_id=f"s{number}")) for number in range(50)]
    await asyncio.sleep(0)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    await stub.OpenSession(request(FACTOR, session_id="last"))
    sums = served.summing.sums()
    assert sums["rows"] == sums["sessions"]
