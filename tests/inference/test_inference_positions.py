"""The `position` parameter gives Triton's clients steps that run exactly once, first and last requests of a sequence included."""

import asyncio

import grpc
import numpy as np
import pytest

from builders.inferring import position, request, told, total
from statewise.conversation import Answer
from statewise.rpc.inference.farewells import Farewell, Farewells


async def refused(call):
    with pytest.raises(grpc.aio.AioRpcError) as problem:
        await call
    return problem.value.code().name, problem.value.details()


async def streamed(stub, *requests):
    return [told(answer)[1] async for answer in stub.ModelStreamInfer(iter(requests))]


async def test_a_request_sent_again_gets_the_same_reply(stub):
    """The reply is the retained one, and the state has advanced once; without a position it advances twice, as in Triton."""
    await stub.ModelInfer(request(start=True, position=0))
    again = [await stub.ModelInfer(request(x=(2, 0), position=1, id=name)) for name in ("first", "again")]
    assert [(total(each), position(each), each.id) for each in again] == [(3, 2, "first"), (3, 2, "again")]
    assert [total(await stub.ModelInfer(request(x=(2, 0)))) for _ in range(2)] == [5, 7]


async def test_what_is_not_the_sequences_turn_is_refused(stub):
    """Ahead, behind, and the same position with other inputs: told with the code of the native protocol, and nothing advances."""
    await stub.ModelInfer(request(start=True))
    for number in range(1, 6):
        await stub.ModelInfer(request(position=number))
    assert await refused(stub.ModelInfer(request(position=9))) == (
        "OUT_OF_RANGE",
        "position 9 is ahead of the session, which expects 6",
    )
    assert (await refused(stub.ModelInfer(request(position=0))))[0] == "ALREADY_EXISTS"
    assert (await refused(stub.ModelInfer(request(x=(5, 5), position=5))))[0] == "INVALID_ARGUMENT"
    assert total(await stub.ModelInfer(request(position=6))) == 7


async def test_a_start_sent_again_is_the_same_start(served, stub):
    """A START with the same id and inputs finds the sequence that it began; another id, or no position, begins anew."""
    start = request(start=True, position=0, id="s")
    assert [total(await stub.ModelInfer(made)) for made in (start, start, request(x=(2, 0), position=1), start)] == [1, 1, 3, 1]
    assert position(await stub.ModelInfer(request(position=2))) == 3
    assert total(await stub.ModelInfer(request(start=True, position=0, id="t"))) == 1
    assert total(await stub.ModelInfer(request(x=(2, 0), position=1))) == 3
    assert total(await stub.ModelInfer(request(start=True))) == 1
    assert len(served.host.sessions) == 1


async def test_a_start_that_was_long_ago_is_not_begun_again(stub):
    """A START whose reply is no longer retained is refused, and the sequence stands as it was."""
    start = request(start=True, position=0, id="s")
    await stub.ModelInfer(start)
    for number in range(1, 8):
        await stub.ModelInfer(request(position=number))
    assert (await refused(stub.ModelInfer(start)))[0] == "ALREADY_EXISTS"
    assert total(await stub.ModelInfer(request(position=8))) == 9


async def test_an_end_sent_again_gets_the_last_reply(served, stub):
    """The session is gone, and the last reply is not; another request of the sequence must START."""
    await stub.ModelInfer(request(start=True, position=0))
    end = request(x=(4, 0), end=True, position=1, id="e", outputs=("total",))
    for _ in range(3):
        last = await stub.ModelInfer(end)
        assert (total(last), position(last), last.id, last.model_version) == (5, 2, "e", "3")
    assert len(served.host.sessions) == 0
    for other in (request(x=(4, 1), end=True, position=1, id="e"), request(x=(4, 0), end=True, position=1), request(position=2)):
        assert "must specify the START flag" in (await refused(stub.ModelInfer(other)))[1]
    assert await streamed(stub, request(start=True), request()) == [1, 2]
    assert (await refused(stub.ModelInfer(end)))[0] == "INVALID_ARGUMENT"  # the sequence that began since has used position 1
    assert total(await stub.ModelInfer(request())) == 3


async def test_start_and_end_in_one_request_sent_again(served, stub):
    """A sequence of one request is answered once and for all."""
    served.summing.hold()
    made = request(start=True, end=True, position=0, id="only")
    answers = asyncio.create_task(streamed(stub, made, made))
    await served.summing.until(1)
    served.summing.release()
    assert await answers == [1, 1]
    assert total(await stub.ModelInfer(made)) == 1
    assert served.summing.engines["sum"].batches == [1]


async def test_a_broken_stream_is_sent_again_whole(served, stub):
    """START and steps, some run and no answer read: on another stream all are answered, the END as well, and none runs twice.

    How many of them run is a matter of when the server hears that the first stream is gone.
    """
    requests = [request(x=(2**n, 0), id=str(n), start=n == 0, end=n == 3, position=n) for n in range(4)]
    served.summing.hold()
    broken = stub.ModelStreamInfer(iter(requests[:3]))
    await served.summing.until(1)
    broken.cancel()
    served.summing.release()
    assert await streamed(stub, *requests) == [1, 3, 7, 15]
    assert await streamed(stub, *requests[3:]) == [15]
    assert sum(served.summing.engines["sum"].batches) == 4


async def test_a_failure_takes_along_what_counted_on_it(stub):
    """Steps sent at once behind one that fails are refused if they told their position, and can be sent again."""
    assert await streamed(stub, request(start=True, position=0)) == [1]
    heard = await streamed(stub, request(x=(np.nan, 0), position=1), request(position=2))
    assert [isinstance(answer, str) for answer in heard] == [True, True]
    assert await streamed(stub, request(position=1), request(position=2)) == [2, 3]


def farewell(size, identity=b"i"):
    return Farewell(identity, Answer(np.array([1]), {"y": np.zeros((1, size), np.float32)}), "3", (), timed=False)


def test_farewells_are_bounded():
    """So many are kept, and so many bytes of them; the oldest go first, and a sequence that begins again is forgotten."""
    kept = Farewells(most=3, most_bytes=400)
    for name in "abcd":
        kept.keep(name, farewell(10))
    assert (len(kept), kept.find("a")) == (3, None)
    kept.keep("e", farewell(90))
    assert [name for name in "abcde" if kept.find(name)] == ["d", "e"]
    kept.forget("e")
    assert [name for name in "abcde" if kept.find(name)] == ["d"]
    kept.keep("f", farewell(200))
    assert len(kept) == 0
