"""Sequences over the Open Inference Protocol: order, start and end, what fails and what that leaves, and who goes away."""

import asyncio
import random

import grpc
import numpy as np
import pytest

from builders.inferring import outputs, position, request, told, total
from builders.summing import BUG, FATAL, serving
from statewise.config import Limits
from statewise.inference import open_inference_pb2_grpc
from statewise.rpc.inference.sequences import IN_FLIGHT
from statewise.v1 import sequence_pb2, sequence_pb2_grpc

NOT_BEGUN = "inference request for sequence 7 to model 'sum' must specify the START flag on the first request of the sequence"


async def streamed(stub, *requests, metadata=None):
    """Returns what a stream that is half-closed at once is told, by id."""
    return [told(answer) async for answer in stub.ModelStreamInfer(iter(requests), metadata=metadata)]


async def waiting(served, count):
    """Returns once that many requests wait in lines."""
    while served.inference._sequences._waiting != count:  # noqa: ASYNC110 (nothing tells of it, and a test may turn the loop)
        await asyncio.sleep(0)


async def refused(call):
    with pytest.raises(grpc.aio.AioRpcError) as problem:
        await call
    return problem.value.code().name, problem.value.details()


async def test_a_sequence_goes_on_from_call_to_stream(stub):
    """The state is the sequence's, on whatever call or stream its requests come; id, model and version are told back."""
    first = await stub.ModelInfer(request(start=True, id="one"))
    assert (first.id, first.model_name, first.model_version, total(first), position(first)) == ("one", "sum", "3", 1, 1)
    assert await streamed(stub, request(id="two"), request(x=(5, 0), id="three")) == [("two", 2), ("three", 7)]
    assert total(await stub.ModelInfer(request(end=True))) == 8


async def test_what_is_sent_at_once_runs_in_order(served, stub):
    """More requests of one sequence than may be in flight wait for their turn, and none is refused; another overtakes them."""
    served.summing.hold()
    many = [request(id=str(number), start=number == 0) for number in range(10 * IN_FLIGHT)]
    answers = asyncio.create_task(streamed(stub, *many, request(8, id="other", start=True)))
    await served.summing.until(2)
    served.summing.release()
    heard = await answers
    assert [answer for answer in heard if answer[0] != "other"] == [(str(n), n + 1) for n in range(len(many))]
    assert ("other", 1) in heard[:-1]


async def test_a_start_begins_anew_after_what_is_pending(served, stub):
    """Requests before a START run in the sequence that was there, those behind it in the new one."""
    served.summing.hold()
    values = [(1, True), (1, None), (1, None), (5, True), (1, None), (1, None)]
    answers = asyncio.create_task(streamed(stub, *(request(x=(x, 0), start=start) for x, start in values)))
    await served.summing.until(1)
    served.summing.release()
    assert [answer for _, answer in await answers] == [1, 2, 3, 5, 6, 7]


async def test_start_and_end_in_one_request(served, stub):
    """A sequence of one request is legal, and leaves nothing behind."""
    assert await streamed(stub, request(start=True, end=True)) == [("", 1)]
    assert await refused(stub.ModelInfer(request())) == ("INVALID_ARGUMENT", f"{NOT_BEGUN}; it has ended")
    assert served.summing.sums() == {"sessions": 0, "steps": 0, "rows": 0}


async def test_an_end_closes_behind_what_is_pending(served, stub):
    """What was sent before an END is answered, then it, and what comes behind must START."""
    served.summing.hold()
    requests = [request(start=True), request(), request(), request(end=True), request(), request(x=(9, 0), start=True)]
    answers = asyncio.create_task(streamed(stub, *requests))
    await served.summing.until(1)
    served.summing.release()
    assert [answer for _, answer in await answers] == [1, 2, 3, 4, f"{NOT_BEGUN}; it has ended", 9]
    assert len(served.host.sessions) == 1


async def test_errors_of_a_stream_stay_in_band(stub):
    """The id, the reason and where the sequence stands travel with the error, and the stream goes on."""
    requests = [request(id="a"), request(id="b", start=True), request(x=(np.nan, 0), id="c"), request(id="d"), request(0, id="e")]
    answers = [answer async for answer in stub.ModelStreamInfer(iter(requests))]
    answers.sort(key=lambda answer: answer.infer_response.id)  # a refusal may overtake
    assert [answer.infer_response.id for answer in answers] == list("abcde")
    assert [bool(answer.error_message) for answer in answers] == [True, False, True, False, True]
    assert answers[0].error_message == NOT_BEGUN
    assert (answers[2].infer_response.parameters["reason"].string_param, position(answers[2].infer_response)) == (
        "NON_FINITE_INPUT",
        1,
    )
    assert total(answers[3].infer_response) == 2
    finals = [answer.infer_response.parameters["triton_final_response"].bool_param for answer in answers]
    assert finals == [False, True, False, True, False]


async def test_a_stream_may_ask_for_errors_by_status(served, stub):
    """With `triton_grpc_error: true` the first error ends the stream with its code, once what came before is answered."""
    requests = [request(start=True), request(), request(8), request()]
    call = stub.ModelStreamInfer(iter(requests), metadata=(("triton_grpc_error", "true"),))
    assert [told(await call.read())[1] for _ in range(2)] == [1, 2]
    assert await refused(call.read()) == ("INVALID_ARGUMENT", NOT_BEGUN.replace("sequence 7", "sequence 8"))
    assert served.host.find("triton/sum/int/7").position == 2


async def test_a_start_that_fails_has_begun_nothing(served, stub):
    """Nothing goes on from a state that no request has made: what follows must START."""
    for value in (FATAL, BUG, np.nan):
        answers = await streamed(stub, request(x=(value, 0), start=True), request(), request())
        assert [answer for _, answer in answers][1:] == [f"{NOT_BEGUN}; it has ended"] * 2
    assert served.summing.sums() == {"sessions": 0, "steps": 0, "rows": 0}


async def test_a_start_that_cannot_run_leaves_the_sequence_that_is_there(stub):
    """A request that is wrong in itself ends nothing."""
    assert total(await stub.ModelInfer(request(start=True))) == 1
    shapes = [{"inputs": {"x": np.zeros(shape, np.float32)}} for shape in ((1, 3), (1, 5000, 2))]
    for bad in (*shapes, {"outputs": ("nope",)}, {"version": "99"}):
        await refused(stub.ModelInfer(request(start=True, **bad)))
    assert total(await stub.ModelInfer(request())) == 2


async def test_an_end_that_fails_leaves_the_sequence_where_it_is(stub):
    """The state of the last good step is there for an END that is sent again mended."""
    assert total(await stub.ModelInfer(request(start=True))) == 1
    assert (await refused(stub.ModelInfer(request(x=(FATAL, 0), end=True))))[0] == "FAILED_PRECONDITION"
    assert total(await stub.ModelInfer(request(end=True))) == 2


REFUSALS = [
    (request(None), "INVALID_ARGUMENT", "inference request to model 'sum' must specify a non-zero or non-empty correlation ID"),
    (request(0, start=True), "INVALID_ARGUMENT", "must specify a non-zero or non-empty correlation ID"),
    (request(), "INVALID_ARGUMENT", NOT_BEGUN),
    (request("a"), "INVALID_ARGUMENT", NOT_BEGUN.replace("7", "a")),
    (request(inputs={"x": np.ones((2, 2), np.float32)}, start=True), "INVALID_ARGUMENT", "must specify batch-size 1"),
    (request(model="nope"), "NOT_FOUND", "Request for unknown model: 'nope' is not found"),
    (request(model="nope", start=True), "NOT_FOUND", "Request for unknown model: 'nope' is not found"),
    (request(version="99", start=True), "NOT_FOUND", "Request for unknown model: 'sum' version 99 is not found"),
    (request(version="x", start=True), "INVALID_ARGUMENT", "model_version: takes an integral value"),
    (request(outputs=("nope",), start=True), "INVALID_ARGUMENT", "unexpected inference output 'nope'"),
    (request(start=True, triton_mine=True), "INVALID_ARGUMENT", "reserved"),
]


async def test_refusals_have_tritons_codes_and_words(stub):
    """What Triton 2.51 answered to the same requests: its code, and its sentence as far as it tells the fact."""
    for made, code, words in REFUSALS:
        told_code, details = await refused(stub.ModelInfer(made))
        assert (told_code, words in details) == (code, True), details


async def test_only_the_outputs_that_are_wanted(stub):
    """All outputs unless some are named; scalars have the shape of one element, and time where it was sent."""
    x, clock = np.ones((1, 3, 2), np.float32), np.array([[5, 6, 7]], np.int64)
    both = outputs(await stub.ModelInfer(request(model="clocked", inputs={"x": x, "time": clock}, start=True)))
    assert {name: array.shape for name, array in both.items()} == {"total": (1, 3, 2), "clock": (1, 3, 1)}
    one = {"x": x[:, 0], "time": clock[:, :1]}
    some = outputs(await stub.ModelInfer(request(model="clocked", inputs=one, outputs=("clock",))))
    assert {name: array.tolist() for name, array in some.items()} == {"clock": [[5]]}
    tokens = {"token": np.array([[1, 2, 3]], np.int32)}
    summed = outputs(await stub.ModelInfer(request(model="tokens", inputs=tokens, start=True)))["total"]
    assert summed.tolist() == [[[1], [3], [6]]]


async def test_what_a_sequence_starts_with_comes_with_its_start(stub):
    """The values that the native Open takes are inputs of the first request, and of no other."""
    start = {"x": np.ones((1, 2), np.float32), "factor": np.array([[3]], np.float32), "state": np.array([[10, 10]], np.float32)}
    assert total(await stub.ModelInfer(request(model="given", inputs=start, start=True))) == 13
    assert total(await stub.ModelInfer(request(model="given"))) == 16
    assert "unexpected inference input 'factor'" in (await refused(stub.ModelInfer(request(model="given", inputs=start))))[1]
    assert "factor: missing" in (await refused(stub.ModelInfer(request(model="given", start=True))))[1]
    assert total(await stub.ModelInfer(request(model="given"))) == 19


async def test_ids_are_of_their_model_and_kind(served, stub):
    """7 and "7", and 7 of two models, are different sequences; a native client finds each by an id that none makes by accident."""
    for made in (request(7, start=True), request("7", x=(2, 0), start=True)):
        await stub.ModelInfer(made)
    tokens = {"token": np.array([[4]], np.int32)}
    await stub.ModelInfer(request(7, model="tokens", inputs=tokens, start=True))
    assert [total(await stub.ModelInfer(made)) for made in (request(7), request("7"))] == [2, 3]
    async with grpc.aio.insecure_channel(served.address) as channel:
        native = sequence_pb2_grpc.SequenceServiceStub(channel)
        for name, model in (("triton/sum/int/7", "sum"), ("triton/sum/str/7", "sum"), ("triton/tokens/int/7", "tokens")):
            assert (await native.GetSession(sequence_pb2.GetSessionRequest(session_id=name))).model.name == model


async def test_a_sequence_stays_on_its_version(stub):
    """A version may be named at the start; later requests may name it, or none; another has no such sequence."""
    assert (await stub.ModelInfer(request(version="4", start=True))).model_version == "4"
    assert (await stub.ModelInfer(request())).model_version == "4"
    assert total(await stub.ModelInfer(request(version="4"))) == 3
    assert await refused(stub.ModelInfer(request(version="3"))) == ("INVALID_ARGUMENT", NOT_BEGUN)


async def test_a_client_that_has_gone_leaves_its_sequence_where_it_was(served, stub):
    """What had not begun is dropped, a START on its way is not, and the next client goes on from there."""
    served.summing.hold()
    call = stub.ModelStreamInfer(iter([request(start=True), request(), request(), request(end=True)]))
    await served.summing.until(1)
    await waiting(served, 3)
    call.cancel()
    await waiting(served, 0)
    served.summing.release()
    assert total(await stub.ModelInfer(request())) == 2


async def test_steps_of_a_client_that_has_gone_do_not_run(served, stub):
    """Steps in flight that have not begun are dropped with their client, and others of the sequence are not held up."""
    await stub.ModelInfer(request(start=True))
    served.summing.hold()
    call = stub.ModelStreamInfer(iter([request() for _ in range(9)]))
    await served.summing.until(IN_FLIGHT)
    await waiting(served, 9 - IN_FLIGHT)
    call.cancel()
    behind = asyncio.create_task(_infer(stub, (100, 0)))
    await served.summing.until(2)  # the one that had begun, and the other client's
    served.summing.release()
    assert await behind == 102


async def _infer(stub, x, sequence=7):
    return total(await stub.ModelInfer(request(sequence, x)))


async def test_a_call_that_is_cancelled_does_not_run(served, stub):
    """A unary request that waits is dropped when its client gives up."""
    await stub.ModelInfer(request(start=True))
    served.summing.hold()
    first = asyncio.create_task(_infer(stub, (1, 0)))
    await served.summing.until(1)
    second = stub.ModelInfer(request(x=(50, 0)))
    await served.summing.until(2)
    second.cancel()
    await served.summing.until(1)
    served.summing.release()
    assert await first == 2
    assert await _infer(stub, (1, 0)) == 3


async def test_what_waits_is_bounded():
    """Past as many waiting requests as the server takes pending steps, requests are refused, and the sequence goes on."""
    async with serving(limits=Limits(pending_steps=5)) as served, grpc.aio.insecure_channel(served.address) as channel:
        stub = open_inference_pb2_grpc.GRPCInferenceServiceStub(channel)
        served.summing.hold()
        answers = aiter(stub.ModelStreamInfer(iter([request(id=str(n), start=n == 0) for n in range(20)])))
        first = told(await anext(answers))  # that one is refused, since nothing runs
        await served.summing.until(1)
        await waiting(served, 5)
        served.summing.release()
        heard = dict([first, *[told(answer) async for answer in answers]])
    assert [heard[str(n)] for n in range(6)] == [1, 2, 3, 4, 5, 6]
    assert any("wait for their turn" in str(answer) for answer in heard.values())


async def test_a_full_server_refuses_and_goes_on():
    """Requests that a full server refuses at once, first ones too, hold up nothing: the same sequences go on when there is room."""
    async with serving(limits=Limits(pending_steps=3)) as served, grpc.aio.insecure_channel(served.address) as channel:
        stub = open_inference_pb2_grpc.GRPCInferenceServiceStub(channel)
        for number in (1, 2, 3, 5):
            await stub.ModelInfer(request(number, start=True))
        served.summing.hold()
        pending = [asyncio.create_task(_infer(stub, (1, 0), number)) for number in (1, 2, 3)]
        await served.summing.until(3)
        for made in (request(1), request(5, end=True), request(4, start=True)):
            code, details = await refused(stub.ModelInfer(made))
            assert (code, details) == ("RESOURCE_EXHAUSTED", "3 steps are pending already")
        served.summing.release()
        assert await asyncio.gather(*pending) == [2, 2, 2]
        last = [await stub.ModelInfer(made) for made in (request(1), request(5, end=True), request(4, start=True))]
        assert [total(answer) for answer in last] == [3, 2, 1]


async def test_a_request_that_waits_for_too_long_is_not_run():
    """`timeout` is in microseconds from arrival, and counts while a request waits for others of its sequence."""
    now = 100.0
    async with serving(clock=lambda: now) as served, grpc.aio.insecure_channel(served.address) as channel:
        stub = open_inference_pb2_grpc.GRPCInferenceServiceStub(channel)
        served.summing.hold()
        requests = [request(start=True), request(), request(timeout=1_000_000), request(timeout=9_000_000)]
        answers = asyncio.create_task(streamed(stub, *requests))
        await served.summing.until(1)
        await waiting(served, 3)
        now += 2.0
        served.summing.release()
        heard = [answer for _, answer in await answers]
    assert sorted(map(str, heard)) == ["1.0", "2.0", "3.0", "the request's timeout passed before it began to run"]


@pytest.mark.parametrize("seed", range(3))
async def test_any_mix_of_sequences_gives_what_each_gives_alone(served, stub, seed):
    """Starts, ends and steps of several sequences, sent at once: as a plain loop says."""
    drawn = random.Random(seed)
    sums, requests, expected = {}, [], []
    for number in range(300):
        sequence, x = drawn.choice([1, 2, 3, "a", "b"]), drawn.randint(1, 9)
        start, end = drawn.random() < 0.15, drawn.random() < 0.15
        requests.append(request(sequence, (x, 0), id=str(number), start=start, end=end))
        if start or sequence in sums:
            sums[sequence] = x if start else sums[sequence] + x
            expected.append((str(number), sums[sequence]))
            if end:
                del sums[sequence]
        else:
            expected.append((str(number), None))
    heard = {number: answer if isinstance(answer, float) else None for number, answer in await streamed(stub, *requests)}
    assert heard == dict(expected)
