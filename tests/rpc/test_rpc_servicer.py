"""The `Step` stream by its bare messages: order, half-close, limits, and what a client that goes away leaves behind."""

import grpc
import numpy as np
import pytest
import pytest_asyncio

from builders.summing import BUG, FATAL, serving
from statewise.client.failures import from_status
from statewise.errors import Reason
from statewise.rpc.streams import ROWS
from statewise.tensors import decode, encode
from statewise.v1 import sequence_pb2, sequence_pb2_grpc


@pytest_asyncio.fixture
async def served():
    """A running sum behind the real servicer."""
    async with serving() as server:
        yield server


@pytest_asyncio.fixture
async def stub(served):
    """Bare stubs, with a session `a` and a session `b`."""
    async with grpc.aio.insecure_channel(served.address) as channel:
        stub = sequence_pb2_grpc.SequenceServiceStub(channel)
        for name in "ab":
            await stub.OpenSession(sequence_pb2.OpenSessionRequest(model="sum", session_id=name, retained_replies=16))
        yield stub


def step(number, session="a", first=1.0, **fields):
    tensor = encode("", np.array([[first, 0]], np.float32))
    return sequence_pb2.StepRequest(request_id=number, session_id=session, inputs=[tensor], **fields)


def reason(response):
    return from_status(response.error).reason


async def test_open_and_close_answer_what_they_did(served, stub):
    """Open tells id, version, position and timeout; close tells whether it ended the session, and where it stood."""
    opened = await stub.OpenSession(sequence_pb2.OpenSessionRequest(model="sum", version=4, idle_timeout={"seconds": 9}))
    assert (opened.model.version, opened.position, opened.idle_timeout.seconds) == (4, 0, 9)
    assert opened.server_instance == served.host.instance
    stream = stub.Step(iter([step(1, opened.session_id)]))
    assert [response.position async for response in stream] == [1]
    closed = await stub.CloseSession(sequence_pb2.CloseSessionRequest(session_id=opened.session_id))
    assert (closed.closed, closed.position) == (True, 1)
    assert not (await stub.CloseSession(sequence_pb2.CloseSessionRequest(session_id=opened.session_id))).closed


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"model": "nope"}, grpc.StatusCode.NOT_FOUND),
        ({"model": "sum", "session_id": "a"}, grpc.StatusCode.ALREADY_EXISTS),
        ({"model": "sum", "version": -1}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"model": "x" * 50_000}, grpc.StatusCode.NOT_FOUND),
    ],
)
async def test_a_refused_open_has_its_code(stub, request_, code):
    """Unary errors carry the table's code, also where the message would not fit into a header."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.OpenSession(sequence_pb2.OpenSessionRequest(**request_))
    assert refused.value.code() is code


async def test_a_half_closed_stream_is_answered_to_its_end(served, stub):
    """Pending steps of a stream that the client has finished writing run, are answered in order, and the stream ends OK."""
    served.summing.hold()
    call = stub.Step(iter([step(number) for number in range(1, 17)]))
    await served.summing.until(16)
    served.summing.release()
    responses = [response async for response in call]
    assert [response.request_id for response in responses] == list(range(1, 17))
    assert [decode(response.outputs[0])[0, 0] for response in responses] == list(range(1, 17))
    assert await call.code() is grpc.StatusCode.OK


async def test_errors_travel_in_band_with_the_position_and_the_stream_goes_on(stub):
    """Every request has one response, with its id and where its session stands; other steps are not disturbed."""
    requests = [
        step(1),
        step(2, first=float("nan")),
        step(3, first=FATAL),
        step(4, first=BUG),
        step(5, session="nobody"),
        step(6, position=9),
        sequence_pb2.StepRequest(request_id=7, session_id="a"),
        step(8, session="b"),
    ]
    responses = {response.request_id: response async for response in stub.Step(iter(requests))}
    responses |= {response.request_id: response async for response in stub.Step(iter([step(9, position=1)]))}
    assert {number: reason(response) for number, response in responses.items() if response.HasField("error")} == {
        2: Reason.NON_FINITE_INPUT,
        3: Reason.NON_FINITE_STATE,
        4: Reason.ENGINE_FAILED,
        5: Reason.UNKNOWN,
        6: Reason.AHEAD,
        7: Reason.BAD_FIELD,
    }
    early = {responses.pop(number).position for number in (2, 6, 7)}  # refused on arrival, whether or not the first had run
    assert early <= {0, 1}
    assert {number: response.position for number, response in responses.items()} == {
        **dict.fromkeys((1, 3, 4), 1),
        5: 0,
        8: 1,
        9: 2,
    }
    assert all(response.session_id for response in responses.values())


async def test_a_float64_tensor_for_a_float32_input_is_refused_clearly(stub):
    """The server never converts: it says what it takes and what it got."""
    request = sequence_pb2.StepRequest(request_id=1, session_id="a", inputs=[encode("x", np.zeros((1, 2)))])
    (response,) = [response async for response in stub.Step(iter([request]))]
    assert response.error.message == "x: takes float32, not float64"


async def test_a_session_moves_from_stream_to_stream(stub):
    """The end of a stream ends no session."""
    totals = []
    for number in range(3):
        totals += [decode(response.outputs[0])[0, 0] async for response in stub.Step(iter([step(number)]))]
    assert totals == [1, 2, 3]


async def test_a_stream_is_not_read_past_its_limit(served, stub):
    """With as many steps unanswered as a stream may have, the next is read only when one is answered."""
    served.summing.hold()
    sessions = [f"s{number}" for number in range(ROWS // 16 + 4)]
    for name in sessions:
        await stub.OpenSession(sequence_pb2.OpenSessionRequest(model="sum", session_id=name, retained_replies=16))
    call = stub.Step()
    for number in range(ROWS + 50):
        await call.write(step(number, sessions[number // 16]))
    await served.summing.until(ROWS)
    # A step of another stream is admitted meanwhile: had the first been read on, its 50 would have come before.
    other = stub.Step(iter([step(1, "b")]))
    await served.summing.until(ROWS + 1)
    served.summing.release()
    await call.done_writing()
    assert len([response async for response in call]) == ROWS + 50
    assert len([response async for response in other]) == 1


async def test_a_killed_stream_gives_up_its_steps(served, stub):
    """What was pending for a client that has gone is cancelled, and nothing of the stream remains."""
    served.summing.hold()
    call = stub.Step()
    await call.write(step(1))
    await served.summing.until(1)
    await call.write(step(2))
    await served.summing.until(2)
    call.cancel()
    await served.summing.until(1)  # the first is running: it will commit
    served.summing.release()
    await served.summing.until(0)
    assert served.host.position("a") == 1
    assert not served.servicer._streams


async def test_end_streams_ends_idle_streams_and_answers_busy_ones(served, stub):
    """At a drain an idle stream ends OK by itself, and one with pending steps ends when these are answered."""
    served.summing.hold()
    idle, busy = stub.Step(), stub.Step()
    await idle.write(step(1, "nobody"))
    assert reason(await idle.read()) is Reason.UNKNOWN
    await busy.write(step(2))
    await served.summing.until(1)
    served.servicer.end_streams()
    assert await idle.read() is grpc.aio.EOF
    served.summing.release()
    assert (await busy.read()).request_id == 2
    assert await busy.read() is grpc.aio.EOF
    assert await busy.code() is grpc.StatusCode.OK
