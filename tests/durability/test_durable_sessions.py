"""P7: what a session outlives, who owns it, and that nothing is ever silently older than its client was told."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import grpc
import numpy as np
import pytest

from builders.kept import SEALER, Troubled, heard, kept
from builders.summing import FATAL, serving, summing
from statewise import commits, keeper
from statewise.config import Limits
from statewise.durability import Durability, Keeping
from statewise.errors import DataLost, InvalidInput, Reason, SessionGone, StatewiseError, Unavailable
from statewise.host import Durably
from statewise.opening import Open
from statewise.scheduler import CUT
from statewise.sealing import Sealer
from statewise.snapshot import Snapshot
from statewise.tensors import encode
from statewise.v1 import sequence_pb2, sequence_pb2_grpc

CHECKPOINT, COMMIT, MEMORY = Durability.CHECKPOINT, Durability.COMMIT, Durability.MEMORY


@pytest.fixture
async def two():
    """Two hosts over one store; they know nothing of each other."""
    store = Troubled()
    async with kept(store) as first, kept(store) as second:
        yield first, second


async def test_a_committed_session_goes_on_elsewhere_as_if_nothing_had_been(two):
    """State, position and replies are there; a step that was answered is answered again and does not run."""
    first, second = two
    await first.open(retained_replies=3)
    for position in range(5):
        assert (await first.step(position, position)).total.tolist() == [[sum(range(position + 1)), position + 1]]
    opened = await second.resume(told=5)
    assert (opened.position, opened.resumed, opened.keeping, opened.retained_replies) == (5, True, Keeping(COMMIT), 3)
    assert [(await second.step(position, position)).total[0, 0] for position in (2, 3, 4)] == [3, 6, 10]
    assert second.made.engines["sum"].batches == []
    assert (await second.step(1, 1)).problem.reason is Reason.STALE
    assert (await second.step(4.5, 4)).problem.reason is Reason.POSITION_REUSED
    assert (await second.step(5, 5)).total.tolist() == [[15, 6]]


async def test_no_answer_is_given_before_the_store_has_it_and_the_next_step_waits(two):
    """Nor to who asks for the same step again; other sessions do not wait."""
    first, _ = two
    await first.open()
    await first.open(MEMORY, "b")
    first.store.open.clear()
    asked = [first.ask(1, 0), first.ask(1, 0), first.ask(1, 1)]
    for position in range(20):
        assert (await first.step(1, position, "b")).position == position + 1
    assert [listener.heard for listener in asked] == [[], [], []]
    assert sum(first.made.engines["sum"].batches) == 21
    assert first.host.position("a") == 0
    first.store.open.set()
    assert [(await heard(listener)).position for listener in asked] == [1, 1, 2]
    assert [(await heard(listener)).total[0, 0] for listener in asked] == [1, 1, 2]


async def test_a_checkpoint_is_taken_every_so_often_and_answers_tell_how_far(two):
    """The session goes on meanwhile; what is durable is the end of a step, and a resume starts there."""
    first, second = two
    opened = await first.open(CHECKPOINT, checkpoint_every=4)
    assert (opened.keeping, opened.durable_position) == (Keeping(CHECKPOINT, 4), 0)
    durable = []
    for position in range(0, 60, 2):
        await first.step(1, position, timesteps=2)
        await first.quiet()
        durable.append(int(first.host.sessions.durable.stored[0]))
    assert all(
        0 <= position + 2 - stored < 6 and stored % 2 == 0 for position, stored in zip(range(0, 60, 2), durable, strict=True)
    )
    told = durable[-1]
    opened = await second.resume(told=told)
    assert (opened.position, opened.durable_position, opened.keeping) == (told, told, Keeping(CHECKPOINT, 4))
    assert (await second.step(1, told)).total[0, 0] == told + 1


async def test_sessions_opened_together_are_not_checkpointed_together():
    """Their first checkpoints are spread over the interval."""
    async with kept(Troubled(), default=Keeping(CHECKPOINT, 32)) as only:
        for number in range(64):
            await only.host.open(Open("sum", session_id=str(number)))
        before = len(only.store.puts)
        counts = []
        for position in range(32):
            await asyncio.gather(*(only.step(1, position, str(number)) for number in range(64)))
            await only.quiet()
            counts.append(len(only.store.puts) - before - sum(counts))
        assert sum(counts) == 64
        assert max(counts) < 16


async def test_a_stale_owner_stores_nothing_and_is_told(two):
    """Its step fails with OWNER_CHANGED, so do those behind it, and the session ends there; the new owner goes on."""
    first, second = two
    await first.open()
    await first.step(1, 0)
    await second.resume(told=1)
    asked = [first.ask(1, 1), first.ask(1, 2)]
    assert [(await heard(listener)).problem.reason for listener in asked] == [Reason.OWNER_CHANGED] * 2
    with pytest.raises(StatewiseError) as told:
        first.ask(1, 1)
    assert told.value.reason is Reason.OWNER_CHANGED
    assert (await second.step(5, 1)).total[0, 0] == 6
    assert first.made.sums() == {"sessions": 0, "steps": 0, "rows": 0}


async def test_a_stale_owner_of_checkpoints_ends_at_the_next_one(two):
    """What it did since is not in the store; the new owner's history is the only one."""
    first, second = two
    await first.open(CHECKPOINT, checkpoint_every=1)
    await first.step(1, 0)
    await first.quiet()
    await second.resume(told=1)
    await first.step(7, 1)
    await first.quiet()
    assert len(first.host.sessions) == 0
    assert (await second.step(5, 1)).total[0, 0] == 6
    await second.quiet()
    assert (await first.resume(told=2)).position == 2
    assert (await first.step(0, 2)).total[0, 0] == 6


async def test_a_resume_at_a_stale_owner_takes_over_and_does_not_go_on_there(two):
    """A session that is open here is asked for in the store first."""
    first, second = two
    await first.open()
    await first.step(1, 0)
    await second.resume(told=1)
    await second.step(5, 1)
    assert (await first.resume(told=2)).position == 2
    assert (await first.step(0, 2)).total[0, 0] == 6
    assert (await second.step(0, 2)).problem.reason is Reason.OWNER_CHANGED


@pytest.mark.parametrize("trouble", ["deaf", "mute", "late"])
async def test_a_put_of_which_nothing_is_known_ends_the_session_here_and_a_resume_tells(two, trouble):
    """It did not land, or landed, or lands later: the step is sent again and has run once in the end."""
    first, second = two
    await first.open()
    await first.step(1, 0)
    setattr(first.store, trouble, True)
    assert (await first.step(2, 1)).problem.reason is Reason.STORE_UNAVAILABLE
    setattr(first.store, trouble, False)
    assert first.made.sums() == {"sessions": 0, "steps": 0, "rows": 0}
    with pytest.raises(Unavailable) as moved:
        first.ask(2, 1)
    assert moved.value.reason is Reason.MOVED
    opened = await second.resume(told=1)
    assert opened.position == {"deaf": 1, "mute": 2, "late": 1}[trouble]
    await first.store.land()
    assert (await second.step(2, 1)).total.tolist() == [[3, 2]]
    assert (await second.step(4, 2)).total.tolist() == [[7, 3]]
    assert (await second.resume(told=3)).position == 3


async def test_while_the_store_is_dead_checkpoints_wait_and_sessions_go_on(two):
    """The lag grows, nothing piles up, and when the store is there again it is caught up with."""
    first, _ = two
    await first.open(CHECKPOINT, checkpoint_every=2)
    first.store.deaf = True
    for position in range(20):
        assert (await first.step(1, position)).position == position + 1
        await first.quiet()
    registry = first.host._metrics.registry
    assert registry.get_sample_value("statewise_durability_lag_timesteps") == 20
    assert registry.get_sample_value("statewise_store_errors_total", {"operation": "write"}) > 5
    assert first.host._ownership.keeper.waiting == 0
    first.store.deaf = False
    for position in range(20, 23):
        await first.step(1, position)
        await first.quiet()
    assert registry.get_sample_value("statewise_durability_lag_timesteps") < 3


async def test_nothing_is_opened_or_resumed_durably_while_the_store_is_dead(two):
    """STORE_UNAVAILABLE, to be tried again; sessions in memory open all the same."""
    first, _ = two
    await first.open()
    first.store.deaf = True
    for call in (first.open(COMMIT, "b"), first.resume(), first.host.close("a")):
        with pytest.raises(Unavailable) as refused:
            await call
        assert refused.value.reason is Reason.STORE_UNAVAILABLE
        assert refused.value.retry_after_seconds
    await first.open(MEMORY, "c")
    first.store.deaf = False
    assert (await first.host.close("a")).closed


async def test_a_store_that_is_older_than_the_client_was_told_is_no_store_to_go_on_from(two):
    """ROLLED_BACK, and nothing is taken over; the owner that is alive goes on and brings the store up again."""
    first, second = two
    await first.open()
    old = None
    for position in range(3):
        await first.step(1, position)
        old = old or await first.store.get("a")
    first.store.store._records["a"] = old, np.inf
    with pytest.raises(DataLost) as lost:
        await second.resume(told=3)
    assert lost.value.reason is Reason.ROLLED_BACK
    assert (await first.step(1, 3)).total[0, 0] == 4
    assert (await second.resume(told=4)).position == 4


async def test_what_the_store_no_longer_has_is_lost_and_not_made_again(two):
    """Neither the owner nor a resume makes it anew."""
    first, second = two
    await first.open()
    await first.store.delete("a")
    assert (await first.step(1, 0)).problem.reason is Reason.OWNER_CHANGED
    for host in (first, second):
        with pytest.raises(SessionGone) as gone:
            await host.resume(told=1)
        assert gone.value.reason is Reason.LOST
    assert await first.store.get("a") is None


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda s: replace(s, version=99), Reason.MODEL_NOT_HERE),
        (lambda s: replace(s, model="none"), Reason.MODEL_NOT_HERE),
        (lambda s: replace(s, digest="another"), Reason.MODEL_NOT_HERE),
        (lambda s: replace(s, spec_digest="another"), Reason.MODEL_NOT_HERE),
        (lambda s: replace(s, position=9), Reason.UNREADABLE),
        (lambda s: replace(s, session_id="b"), Reason.UNREADABLE),
        (lambda s: s.to_bytes(), Reason.UNREADABLE),
        (lambda s: SEALER.seal("b", s.to_bytes()), Reason.UNREADABLE),
        (lambda s: SEALER.seal("a", b"SWS1" + s.to_bytes()[4:]), Reason.UNREADABLE),
        (lambda s: SEALER.seal("a", s.to_bytes()[:-1]), Reason.UNREADABLE),
        (lambda s: SEALER.seal("a", s.to_bytes())[:-1], Reason.UNREADABLE),
        (lambda s: Sealer({"1": bytes(32)}).seal("a", s.to_bytes()), Reason.UNREADABLE),
        (lambda s: Sealer({"2": bytes(32)}).seal("a", s.to_bytes()), Reason.UNREADABLE),
    ],
)
async def test_what_cannot_be_gone_on_from_is_refused_with_the_reason_and_not_taken_over(two, spoil, reason):
    """Another file or spec of the model, unsealed, another session's, an older format, cut, or under another key."""
    first, second = two
    await first.open()
    await first.step(1, 0)
    record, until = first.store.store._records["a"]
    spoiled = spoil(Snapshot.from_bytes(SEALER.open(record.data)))
    data = spoiled if isinstance(spoiled, bytes) else SEALER.seal("a", spoiled.to_bytes())
    first.store.store._records["a"] = replace(record, data=data), until
    with pytest.raises(StatewiseError) as refused:
        await second.resume(told=1)
    assert refused.value.reason is reason
    assert (await first.step(1, 1)).problem is None, "the owner has lost nothing"


async def test_sessions_past_the_memory_are_spilled_and_come_back():
    """In memory or durable, as they were, with their replies; who asks for one that is spilled is told to resume it."""
    store = Troubled()
    async with kept(store, limits=Limits(sessions=8, batch=4)) as only:
        for number in range(24):
            await only.open([MEMORY, COMMIT][number % 2], str(number))
            await only.step(number, 0, str(number))
        assert len(only.host.sessions) <= 8
        with pytest.raises(Unavailable) as moved:
            only.ask(1, 1, "0")
        assert moved.value.reason is Reason.MOVED
        for number in range(24):
            opened = await only.resume(str(number), server_instance=only.host.instance)
            assert (opened.position, opened.keeping.durability) == (1, [MEMORY, COMMIT][number % 2])
            assert (await only.step(number, 0, str(number))).total[0, 0] == number
            assert (await only.step(1, 1, str(number))).total[0, 0] == number + 1
        here = [number for number in range(0, 24, 2) if only.host.sessions.directory.number(str(number)) is not None]
        assert here
        assert [await store.get(str(number)) for number in here] == [None] * len(here), "a session in memory is not in the store"


async def test_without_a_store_that_answers_newcomers_are_refused_and_nobody_is_lost():
    """The sessions that were to make room are all still there."""
    store = Troubled()
    async with kept(store, limits=Limits(sessions=4, batch=4)) as only:
        for number in range(4):
            await only.open(MEMORY, str(number))
            await only.step(number, 0, str(number))
        store.deaf = True
        with pytest.raises(StatewiseError) as full:
            await only.open(MEMORY, "4")
        assert full.value.reason is Reason.OVERLOADED
        assert [(await only.step(1, 1, str(number))).total[0, 0] for number in range(4)] == [1, 2, 3, 4]


async def test_close_and_expiry_delete_what_the_store_holds():
    """Also a close at a server that has not the session; the owner is told then."""
    store, clock = Troubled(), [0.0]
    async with kept(store, clock=lambda: clock[0]) as first, kept(store) as second:
        for name in ("a", "b", "c"):
            await first.open(COMMIT, name, idle_timeout_seconds=5.0)
        assert (await first.host.close("a")).closed
        assert (await second.host.close("b")).closed
        assert not (await second.host.close("b")).closed
        assert (await first.step(1, 0, "b")).problem.reason is Reason.OWNER_CHANGED
        clock[0] = 6.0
        first.host._expire(clock[0])
        await asyncio.gather(*first.host._ownership._deleting)
        assert store.store._records == {}


async def test_what_is_used_is_not_forgotten_by_the_store():
    """A session whose checkpoints are far apart is put again before its record expires; an idle one is not."""
    store, clock = Troubled(), [0.0]
    async with kept(store, clock=lambda: clock[0]) as only:
        for name in ("used", "idle"):
            await only.open(CHECKPOINT, name, idle_timeout_seconds=100.0, checkpoint_every=1_000_000)
        before = len(store.puts)
        clock[0] = 60.0
        await only.step(1, 0, "used")
        only.host._expire(clock[0])
        await only.quiet()
        assert [put.key for put in store.puts[before:]] == ["used"]


async def test_drain_hands_over_what_is_durable(two):
    """Everything up to the last answer is in the store; later steps are told to move; a session in memory is lost with it."""
    first, second = two
    await first.open(CHECKPOINT, "a", checkpoint_every=1000)
    await first.open(MEMORY, "m")
    for position in range(7):
        await first.step(1, position)
    await first.host.drain(30)
    for name in ("a", "m"):
        with pytest.raises(Unavailable) as moved:
            first.ask(1, 7, name)
        assert moved.value.reason is Reason.MOVED
    assert (await second.resume("a", told=0)).position == 7
    with pytest.raises(SessionGone) as lost:
        await second.resume("m")
    assert lost.value.reason is Reason.LOST


async def test_a_checkpoint_follows_by_itself():
    """In a moment after the step that it is due with, not only when it is looked for what was missed; nobody waits for it."""
    store = Troubled()
    async with kept(store) as only:
        await only.open(CHECKPOINT, checkpoint_every=1)
        await only.step(1, 0)
        assert only.host.batcher.answering.commits._timer
        while store.puts[-1].position < 1:  # noqa: ASYNC110 (nothing tells of it)
            await asyncio.sleep(0)


async def test_however_many_are_due_at_once_they_go_in_batches(monkeypatch):
    """Those that are due within a moment together, up to a batch; what a drain finds goes the same way, and nobody is left out."""
    for module in (commits, keeper):
        monkeypatch.setattr(module, "BATCH", 8)
    monkeypatch.setattr(commits, "GATHER_SECONDS", 3600)  # it is this test that says when the moment is over
    store = Troubled()
    sizes, put_many = [], store.put_many

    async def counted(puts):
        sizes.append(len(puts))
        return await put_many(puts)

    async with kept(store) as only, kept(store) as other:
        for number in range(20):
            await only.open(CHECKPOINT, str(number), checkpoint_every=1)
        await only.quiet()
        monkeypatch.setattr(store, "put_many", counted)
        for number in range(20):
            await only.step(number, 0, str(number))
        only.host.batcher.answering.commits.checkpoint_due()
        await only.quiet()
        assert sizes == [8, 8, 4]
        assert not only.host.sessions.durable.busy.any()
        for number in range(20):
            await only.step(number, 1, str(number))
        await only.host.drain(30)
        for number in range(20):
            assert (await other.resume(str(number), told=1)).position == 2


async def test_a_fork_of_a_durable_session_is_durable_by_itself(two):
    """Both go on elsewhere, each its own way."""
    first, second = two
    await first.open()
    await first.step(1, 0)
    fork = await first.host.fork_alike("a", "b", b"token")
    assert (fork.position, fork.keeping.durability) == (1, COMMIT)
    await first.step(10, 1, "a")
    await first.step(20, 1, "b")
    await second.resume("a", told=2)
    await second.resume("b", told=2)
    assert [(await second.step(0, 2, name)).total[0, 0] for name in ("a", "b")] == [11, 21]


async def test_an_open_whose_answer_was_lost_is_found_again_on_another_server(two):
    """By its token; without it the id is taken."""
    first, second = two
    await first.open(token=b"once")
    await first.step(1, 0)
    opened = await second.open(token=b"once")
    assert (opened.position, opened.resumed) == (1, True)
    for token in (b"", b"twice"):
        with pytest.raises(StatewiseError) as taken:
            await first.open(token=token)
        assert taken.value.reason is Reason.ALREADY_OPEN


async def test_opens_of_one_id_at_once_give_one_session(two):
    """Of two servers, and of one; the others are told, and nothing is left behind of them."""
    first, second = two
    opens = [host.open(COMMIT, "a", token=bytes([number])) for number, host in enumerate([first, first, second, second])]
    outcomes = await asyncio.gather(*opens, return_exceptions=True)
    assert sorted(type(each).__name__ for each in outcomes) == ["AlreadyOpen"] * 3 + ["Opened"]
    assert len(first.host.sessions) + len(second.host.sessions) == 1
    for host in (first, second):
        with contextlib.suppress(StatewiseError):
            await host.host.close("a")
    assert (first.made.sums()["rows"], second.made.sums()["rows"]) == (0, 0)
    assert first.host._ownership._doors == {}


async def test_a_failed_step_of_a_committed_session_fails_alone(two):
    """What is not finite never reaches the store, and the session steps on."""
    first, second = two
    await first.open()
    await first.step(1, 0)
    assert (await first.step(FATAL, 1)).problem.reason is Reason.NON_FINITE_STATE
    assert (await first.step(2, 1)).total[0, 0] == 3
    assert (await second.resume(told=2)).position == 2


async def test_a_step_that_was_read_before_its_session_moved_is_told_that_and_not_that_it_was_closed(two):
    """Also one of which a part has run: its client resumes the session, and it goes on elsewhere."""
    first, second = two
    await first.open()
    await first.step(1, 0)
    await second.resume(told=1)
    asked = first.ask(1, 1)
    first.host._ownership.lose(0)
    assert (await heard(asked)).problem.reason is Reason.OWNER_CHANGED
    await first.resume(told=1)
    first.made.hold()
    asked = first.ask(1, 1, timesteps=CUT + 1)
    while not first.host.sessions.steps.running.any():  # noqa: ASYNC110 (nothing tells of it)
        await asyncio.sleep(0)
    first.host._ownership.lose(first.host.sessions.directory.number("a"))
    first.made.release()
    assert (await heard(asked)).problem.reason is Reason.OWNER_CHANGED
    assert first.made.sums() == {"sessions": 0, "steps": 0, "rows": 0}
    assert (await second.resume(told=1)).position == 1


async def test_what_takes_a_store_is_refused_without_one():
    """With the setting that brings one."""
    async with summing(durably=Durably()) as made:
        for durability in (CHECKPOINT, COMMIT):
            with pytest.raises(InvalidInput, match="takes a server with a store"):
                await made.host.open(Open("sum", durability=durability))


async def test_a_step_whose_answer_was_lost_gets_the_identical_bytes_wherever_it_is_sent_again():
    """The connection breaks after the commit and before the answer is read; the same server, and another one, answer again."""
    settings = Durably(Troubled(), SEALER)
    async with (
        serving(durably=settings) as first,
        serving(durably=settings) as second,
        channel(first.address) as stub,
        channel(second.address) as elsewhere,
    ):
        opened = await stub.OpenSession(sequence_pb2.OpenSessionRequest(model="sum", **COMMITTED))
        request = raw(opened.handle, 0)
        call = stub.StepFrame()
        await call.write(request)
        while not first.host.sessions.durable.stored[0]:  # noqa: ASYNC110 (nothing tells of it)
            await asyncio.sleep(0)
        call.cancel()
        again = await answer(stub, request)
        resume = {"mode": sequence_pb2.OPEN_MODE_RESUME, "durable_position": 1, "server_instance": opened.server_instance}
        resumed = await elsewhere.OpenSession(sequence_pb2.OpenSessionRequest(session_id="a", **resume))
        assert await answer(elsewhere, raw(resumed.handle, 0)) == again
        assert sum(first.summing.engines["sum"].batches) == 1
        assert not second.summing.engines["sum"].batches


COMMITTED = {"session_id": "a", "durability": sequence_pb2.DURABILITY_COMMIT}


@contextlib.asynccontextmanager
async def channel(address):
    """Bare stubs."""
    async with grpc.aio.insecure_channel(address) as opened:
        yield sequence_pb2_grpc.SequenceServiceStub(opened)


def raw(handle, position):
    """Returns the frame of one row that steps a session."""
    x = encode("x", np.full((1, 1, 2), 0.1, np.float32))
    handles, positions = (np.array([each], "<u8").tobytes() for each in (handle, position))
    return sequence_pb2.StepFrameRequest(request_id=7, handles=handles, positions=positions, inputs=[x])


async def answer(stub, request):
    """Returns an answer's bytes."""
    (response,) = [each async for each in stub.StepFrame(iter([request]))]
    assert not response.errors, response.errors
    return response.SerializeToString(deterministic=True)
