"""Whatever a client sends to a real server: a clear refusal, a session that has not advanced, and a server that lives."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import numpy as np
import pytest
import torch

from builders.served import Running, start
from builders.tiny import fill
from statewise.client.failures import from_rpc, from_status
from statewise.errors import Reason
from statewise.tensors import decode, encode
from statewise.v1 import sequence_pb2, sequence_pb2_grpc, tensor_pb2
from statewise_models.config import Feature, NetworkConfig, Target
from statewise_models.export import export
from statewise_models.network import Network

LONGEST = 100
GOOD = {
    "label": {"x": np.array([[0.5, -0.25]], np.float32)},
    "demand": {"x": np.array([[101.0]], np.float32), "time": np.array([7])},
    "text": {"token": np.array([2])},
    "burst": {"x": np.array([[0.5]], np.float32)},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server of three tiny networks and of `burst`, whose state and output go to infinity where the input is large."""
    root = tmp_path_factory.mktemp("hostile")
    fill(root)
    burst = Network(
        NetworkConfig("forecast", "elman", 4, features=(Feature("x"),), targets=(Target("y"),), activation="relu")
    ).eval()
    with torch.no_grad():
        for weight in burst.parameters():
            weight.fill_(1.5)
    export(burst, repository=root, model="burst")
    running = start(root, "--max-timesteps", str(LONGEST), "--unsealed-snapshots")
    yield running
    running.stop()


@pytest.fixture(scope="module")
def stub(server: Running) -> Iterator[sequence_pb2_grpc.SequenceServiceStub]:
    """Bare stubs of it."""
    with grpc.insecure_channel(server.address) as channel:
        yield sequence_pb2_grpc.SequenceServiceStub(channel)


def opened(stub, model):
    return stub.OpenSession(sequence_pb2.OpenSessionRequest(model=model))


def tensors(inputs):
    return [encode(name, np.asarray(array)) for name, array in inputs.items()]


def x(values, dtype=np.float32):
    return {"x": np.asarray(values, dtype)}


def demand(values, time):
    return {"x": np.asarray(values, np.float32), "time": np.asarray(time)}


def step(stub, session, inputs, **fields):
    """Returns the one response to a step."""
    inputs = inputs if isinstance(inputs, list) else tensors(inputs)
    request = sequence_pb2.StepRequest(session_id=session.session_id, inputs=inputs, **fields)
    (response,) = stub.Step(iter([request]), timeout=60)
    return response


def is_as_if_nothing_had_been_sent(stub, session, model):
    """Whether the session stands at its beginning and answers as a fresh one does."""
    found = stub.GetSession(sequence_pb2.GetSessionRequest(session_id=session.session_id))
    ours, fresh = step(stub, session, GOOD[model]), step(stub, opened(stub, model), GOOD[model])
    return (found.position, found.pending) == (0, 0) and ours.outputs == fresh.outputs and ours.position == fresh.position == 1


REFUSED = {
    "NaN": ("label", x([[np.nan, 0]]), Reason.NON_FINITE_INPUT),
    "NaN in a later timestep": ("label", x([[0, 0]] * 9 + [[np.nan, 0]]), Reason.NON_FINITE_INPUT),
    "infinity": ("label", x([[np.inf, 0]]), Reason.NON_FINITE_INPUT),
    "infinity where NaN is taken": ("label", x([[0, np.inf]]), Reason.NON_FINITE_INPUT),
    "minus infinity": ("label", x([[0, -np.inf]]), Reason.NON_FINITE_INPUT),
    "a state beyond float32": ("burst", x([[3e38]]), Reason.NON_FINITE_STATE),
    "a state beyond float32, later": ("burst", x([[1], [1], [3e38], [1]]), Reason.NON_FINITE_STATE),
    "float64": ("label", x([[0, 0]], np.float64), Reason.BAD_FIELD),
    "float16": ("label", x([[0, 0]], np.float16), Reason.BAD_FIELD),
    "integers": ("label", x([[0, 0]], np.int32), Reason.BAD_FIELD),
    "truth values": ("label", x([[0, 0]], np.bool_), Reason.BAD_FIELD),
    "int32 for int64": ("text", {"token": np.array([1], np.int32)}, Reason.BAD_FIELD),
    "no time axis": ("label", x([0, 0]), Reason.BAD_FIELD),
    "a scalar": ("label", x(0), Reason.BAD_FIELD),
    "three features": ("label", x([[0, 0, 0]]), Reason.BAD_FIELD),
    "no features": ("label", x(np.zeros((1, 0))), Reason.BAD_FIELD),
    "an axis too many": ("label", x([[[0, 0]]]), Reason.BAD_FIELD),
    "no timesteps": ("label", x(np.zeros((0, 2))), Reason.BAD_FIELD),
    "too many timesteps": ("label", x(np.zeros((LONGEST + 1, 2))), Reason.BAD_FIELD),
    "unlike lengths": ("demand", demand([[1], [2]], [1]), Reason.BAD_FIELD),
    "an input missing": ("demand", x([[1]]), Reason.BAD_FIELD),
    "no inputs": ("demand", {}, Reason.BAD_FIELD),
    "an input too many": ("label", {**x([[0, 0]]), "y": np.zeros(1)}, Reason.BAD_FIELD),
    "an input twice": ("label", tensors(x([[0, 0]])) * 2, Reason.BAD_FIELD),
    "no name where there are two": ("demand", tensors({"": np.ones((1, 1), np.float32), "time": [1]}), Reason.BAD_FIELD),
    "a name of control characters": ("label", {"x\x00\n": np.zeros((1, 2), np.float32)}, Reason.BAD_FIELD),
    "a name in another script": ("label", {"𝔵": np.zeros((1, 2), np.float32)}, Reason.BAD_FIELD),
    "a name of 100,000 letters": ("label", {"é" * 100_000: np.zeros((1, 2), np.float32)}, Reason.BAD_FIELD),
    "a token below": ("text", {"token": np.array([-1])}, Reason.BAD_FIELD),
    "a token above": ("text", {"token": np.array([0, 4])}, Reason.BAD_FIELD),
    "a token far above": ("text", {"token": np.array([2**63 - 1])}, Reason.BAD_FIELD),
    "data too short": ("label", [tensor_pb2.Tensor(name="x", data_type=1, shape=[1, 2], data=bytes(7))], Reason.BAD_FIELD),
    "a shape beyond memory": ("label", [tensor_pb2.Tensor(name="x", data_type=1, shape=[2**62, 4], data=b"")], Reason.BAD_FIELD),
    "a negative shape": ("label", [tensor_pb2.Tensor(name="x", data_type=1, shape=[-1, -2], data=bytes(8))], Reason.BAD_FIELD),
    "no data type": ("label", [tensor_pb2.Tensor(name="x", shape=[1, 2], data=bytes(8))], Reason.BAD_FIELD),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_step_that_cannot_be_run_is_refused_and_nothing_has_advanced(case, stub):
    """The reason is the table's, the message says what is wrong, and the next step answers as if this one had never come."""
    model, inputs, reason = REFUSED[case]
    session = opened(stub, model)
    response = step(stub, session, inputs)
    problem = from_status(response.error)
    assert problem.reason is reason
    assert 10 < len(str(problem)) <= 1000
    assert "log" not in str(problem), "a fault of the server's, not the client's"
    assert is_as_if_nothing_had_been_sent(stub, session, model)


TAKEN = {
    "NaN where it is taken": ("label", x([[1, np.nan]])),
    "denormals": ("label", x([[1e-42, -1e-45]] * 3)),
    "the largest numbers": ("label", x([[3e38, -3e38]] * 3)),
    "a time at either end": ("demand", demand([[1], [1], [1]], [0, 2**63 - 1, -(2**63)])),
    "as many timesteps as there may be": ("label", x(np.zeros((LONGEST, 2)))),
}


@pytest.mark.parametrize("case", TAKEN)
def test_unusual_numbers_are_served(case, stub):
    """They are inputs like others: a finite answer, and the session has advanced by their timesteps."""
    model, inputs = TAKEN[case]
    response = step(stub, opened(stub, model), inputs)
    assert not response.HasField("error"), response.error.message
    assert np.isfinite(decode(response.outputs[0])).all()
    assert response.position == len(next(iter(inputs.values())))


@pytest.mark.parametrize("position", [1, 2**31, 2**63 - 1, 2**63, 2**64 - 1])
def test_a_position_beyond_the_tail_is_ahead_however_far(position, stub):
    """Unsigned on the wire, signed within: no position wraps to one that fits."""
    session = opened(stub, "label")
    for response in (
        step(stub, session, GOOD["label"], position=position).error,
        frame(stub, [session.handle], [position])[0].errors[0].error,
    ):
        problem = from_status(response)
        assert (problem.reason, problem.metadata["expected"]) == (Reason.AHEAD, "0")
    assert is_as_if_nothing_had_been_sent(stub, session, "label")


def frame(stub, handles, positions=None, inputs=None, **fields):
    """Returns the responses to a frame."""
    request = sequence_pb2.StepFrameRequest(
        handles=handles if isinstance(handles, bytes) else np.array(handles, "<u8").tobytes(),
        positions=b"" if positions is None else positions if isinstance(positions, bytes) else np.array(positions, "<u8").tobytes(),
        inputs=tensors(x(np.full((len(handles), 1, 2), 0.25)) if inputs is None else inputs),
        **fields,
    )
    return list(stub.StepFrame(iter([request]), timeout=60))


SPOILT = {
    "no handles": (b"", None, x(np.zeros((0, 1, 2)))),
    "half a handle": (bytes(12), None, None),
    "a position too few": (None, bytes(8), None),
    "half a position": (None, bytes(12), None),
    "rows too few": (None, None, x(np.zeros((1, 1, 2)))),
    "no timesteps": (None, None, x(np.zeros((2, 0, 2)))),
    "no time axis": (None, None, x(np.zeros((2, 2)))),
    "another type": (None, None, x(np.zeros((2, 1, 2)), np.float64)),
    "no inputs": (None, None, {}),
}


@pytest.mark.parametrize("case", SPOILT)
def test_a_frame_that_cannot_be_read_fails_row_by_row_and_nothing_has_advanced(case, stub):
    """Each of its rows is refused by BAD_FIELD, in one response; the stream and the sessions go on."""
    handles, positions, inputs = SPOILT[case]
    sessions = [opened(stub, "label") for _ in range(2)]
    handles = [session.handle for session in sessions] if handles is None else handles
    (response,) = frame(stub, handles, positions, inputs)
    assert {from_status(error.error).reason for error in response.errors} == {Reason.BAD_FIELD}
    assert [error.row for error in response.errors] == list(range(max(1, len(handles) // (8 if isinstance(handles, bytes) else 1))))
    assert not response.positions
    assert all(is_as_if_nothing_had_been_sent(stub, session, "label") for session in sessions)


def test_rows_that_cannot_be_run_fail_alone(stub):
    """A session twice, a handle of nobody, one of another model, NaN: their rows fail, and the others run."""
    twice, nan, well = (opened(stub, "label") for _ in range(3))
    other = opened(stub, "text")
    values = np.full((7, 1, 2), 0.25, np.float32)
    values[4] = np.nan
    handles = [well.handle, twice.handle, other.handle, twice.handle, nan.handle, 2**64 - 1, 0]
    responses = frame(stub, handles, inputs=x(values))
    reasons = {error.row: from_status(error.error).reason for response in responses for error in response.errors}
    assert reasons == {
        **dict.fromkeys((1, 2, 3), Reason.BAD_FIELD),
        4: Reason.NON_FINITE_INPUT,
        **dict.fromkeys((5, 6), Reason.NOT_HERE),
    }
    (ran,) = [response for response in responses if response.positions]
    assert np.frombuffer(ran.rows, "<u4").tolist() == [0]
    assert all(is_as_if_nothing_had_been_sent(stub, session, "label") for session in (twice, nan))


def test_a_batch_of_which_all_rows_are_dropped_never_reaches_the_runtime(stub):
    """Its recurrent ops abort the process on a batch of none: all rows of a frame are too late, and so is a step alone."""
    sessions = [opened(stub, "label") for _ in range(20)]
    for _ in range(3):
        responses = frame(stub, [session.handle for session in sessions], timeout={"seconds": -1})
        errors = [error for response in responses for error in response.errors]
        assert [from_status(error.error).reason for error in errors] == [Reason.EXPIRED_IN_QUEUE] * 20
        alone = step(stub, sessions[0], GOOD["label"], timeout={"seconds": -1})
        assert from_status(alone.error).reason is Reason.EXPIRED_IN_QUEUE
    assert all(is_as_if_nothing_had_been_sent(stub, session, "label") for session in sessions)


def test_a_frame_of_far_too_many_rows_ends_its_stream_and_holds_nobody_up(stub):
    """Half a million rows are not refused one by one; with some more than there may be, each is told."""
    (response,) = frame(stub, bytes(8 * 5000), inputs={})
    assert {from_status(error.error).reason for error in response.errors} == {Reason.BAD_FIELD}
    assert len(response.errors) == 5000
    with pytest.raises(grpc.RpcError) as refused:
        frame(stub, bytes(8 * 500_000), inputs={})
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert from_rpc(refused.value, "here").reason is Reason.BAD_FIELD


@pytest.mark.parametrize("name", ["a b", "\x00", "../..", "-", "é" * 64, "𝔖" * 32, "'; DROP TABLE sessions; --", "\u202eabc\n"])
def test_a_session_may_have_any_name(name, stub):
    """Up to 128 bytes of any characters: it is found, told apart, stepped and closed by it."""
    session = stub.OpenSession(sequence_pb2.OpenSessionRequest(model="text", session_id=name))
    assert session.session_id == name
    assert step(stub, session, GOOD["text"]).position == 1
    with pytest.raises(grpc.RpcError) as refused:
        stub.OpenSession(sequence_pb2.OpenSessionRequest(model="text", session_id=name))
    assert from_rpc(refused.value, "here").reason is Reason.ALREADY_OPEN
    assert stub.CloseSession(sequence_pb2.CloseSessionRequest(session_id=name)).closed
    problem = from_status(step(stub, session, GOOD["text"]).error)
    assert problem.reason is Reason.CLOSED


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"model": "../../etc/passwd"}, Reason.MODEL_UNKNOWN),
        ({"model": "𝔖" * 10_000}, Reason.MODEL_UNKNOWN),
        ({"model": "\n\t\x00" * 2000}, Reason.MODEL_UNKNOWN),
        ({"model": ""}, Reason.MODEL_UNKNOWN),
        ({"model": "text", "version": 2**63 - 1}, Reason.MODEL_UNKNOWN),
        ({"model": "text", "version": -1}, Reason.BAD_FIELD),
        ({"model": "text", "session_id": "é" * 65}, Reason.BAD_FIELD),
        ({"model": "text", "open_token": bytes(65)}, Reason.BAD_FIELD),
        ({"model": "text", "retained_replies": 2**32 - 1}, Reason.BAD_FIELD),
        ({"model": "text", "idle_timeout": {"seconds": 2**62}}, Reason.BAD_FIELD),
        ({"model": "text", "idle_timeout": {"seconds": -1}}, Reason.BAD_FIELD),
        ({"model": "text", "idle_timeout": {}}, Reason.BAD_FIELD),
        ({"model": "text", "mode": 77}, Reason.BAD_FIELD),
        ({"model": "text", "mode": 2}, Reason.BAD_FIELD),
        ({"session_id": "𝔗" * 32, "mode": 2}, Reason.UNKNOWN),
        ({"snapshot": b"SWS1" + bytes(100)}, Reason.BAD_FIELD),
    ],
)
def test_an_open_that_cannot_be_is_refused_by_its_reason(asked, reason, stub):
    """The status reaches the client whole, whatever of the request is told in it."""
    with pytest.raises(grpc.RpcError) as refused:
        stub.OpenSession(sequence_pb2.OpenSessionRequest(**asked), timeout=60)
    assert from_rpc(refused.value, "here").reason is reason
