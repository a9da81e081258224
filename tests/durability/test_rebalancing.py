"""A loaded replica hands sessions over to those that came to help, at a bounded rate, and their callers hear nothing of it."""

from __future__ import annotations

import asyncio

import pytest

from builders.astray import routed
from builders.kept import SEALER, Troubled, heard, kept
from builders.summing import serving
from statewise.client import AsyncClient
from statewise.config import Limits
from statewise.durability import Durability
from statewise.errors import Reason, Unavailable
from statewise.host import Durably
from statewise.rebalancing import LEFT_ALONE_SECONDS, TRIED, Rebalancing
from statewise.stores.memory import MemoryStore

CHECKPOINT, COMMIT, MEMORY = Durability.CHECKPOINT, Durability.COMMIT, Durability.MEMORY


def rebalancing(only, clock, above, rate):
    """Returns the rebalancing of a host as `Host` makes it, on a clock of its own."""
    return Rebalancing(only.host._ownership, only.host.sessions, above, rate, lambda: clock[0])


def ended(host, how):
    """Returns how many sessions the metrics say ended so."""
    return counted(host, "statewise_sessions_ended_total", how=how)


def counted(host, name, **labels):
    """Returns what a scrape would show."""
    return host._metrics.registry.get_sample_value(name, labels)


async def test_sessions_above_the_share_go_at_the_rate_and_no_others():
    """As many a second as the rate says, down to the share; each is in the store as it stands; sessions in memory stay.

    A few go first, to see whether somebody takes them.
    """
    clock, store = [0.0], Troubled()
    async with kept(store) as only, kept(store) as other:
        for number in range(30):
            await only.open([CHECKPOINT, COMMIT][number % 2], str(number), checkpoint_every=1000)
            await only.step(number, 0, str(number))
        await only.open(MEMORY, "m")
        made = rebalancing(only, clock, 8, 5.0)
        assert await made.look() == 0, "no time has passed"
        gone = []
        for _ in range(16):
            clock[0] += 1.0
            gone.append(await made.look())
        assert gone == [5, TRIED - 5, *[0] * 9, 5, 5, 4, 0, 0]
        assert only.host.sessions.durable.count == 8
        assert only.host.position("m") == 0
        assert ended(only.host, "moved") == 22
        assert counted(only.host, "statewise_sessions_spilled_total") == 0
        moved = [number for number in range(30) if only.host.sessions.directory.number(str(number)) is None]
        for number in moved:
            with pytest.raises(Unavailable) as told:
                only.ask(1, 1, str(number))
            assert told.value.reason is Reason.MOVED
            assert (await other.resume(str(number), told=0)).position == 1
            assert (await other.step(1, 1, str(number))).total[0, 0] == number + 1


async def test_a_long_pause_allows_no_burst():
    """What was not used of the rate is not saved up: a second's worth goes at most."""
    clock = [0.0]
    async with kept(Troubled()) as only:
        for number in range(30):
            await only.open(COMMIT, str(number))
        made = rebalancing(only, clock, 1, 4.0)
        clock[0] = 3600.0
        assert await made.look() == 4


async def test_a_session_that_comes_back_is_left_alone():
    """Its key belongs here: it is not moved to and fro for nothing, until a good while later."""
    clock = [0.0]
    async with kept(Troubled()) as only:
        for name in ("a", "b"):
            await only.open(COMMIT, name)
        made = rebalancing(only, clock, 1, 100.0)
        clock[0] += 1.0
        assert await made.look() == 1
        (gone,) = {"a", "b"} - {only.host.sessions.directory.ids[each] for each in only.host.sessions.durable.sessions}
        await only.resume(gone, server_instance=only.host.instance)
        clock[0] += 1.0
        assert await made.look() == 1, "the other one"
        other = "b" if gone == "a" else "a"
        await only.resume(other, server_instance=only.host.instance)
        clock[0] += 1.0
        assert await made.look() == 0, "both came back"
        clock[0] += LEFT_ALONE_SECONDS + 1.0
        assert await made.look() == 1


async def test_while_there_is_nobody_else_a_few_are_tried_now_and_then_and_the_rest_go_when_somebody_came():
    """All that are tried come back as long as the router has nobody else for them; one that stays away opens the door."""
    clock = [0.0]
    async with kept(Troubled()) as only:
        for number in range(100):
            await only.open(COMMIT, str(number))
        made = rebalancing(only, clock, 20, 50.0)

        async def look(back):
            """Looks a second later; returns how many went, of whom all come back, or all but one."""
            clock[0] += 1.0
            before = set(only.host.sessions.directory.ids) - {""}
            count = await made.look()
            gone = [each for each in before if only.host.sessions.directory.number(each) is None]
            for name in gone if back else gone[1:]:
                await only.resume(name, server_instance=only.host.instance)
            return count

        alone = [await look(back=True) for _ in range(90)]
        assert [(second, count) for second, count in enumerate(alone) if count] == [(0, TRIED), (40, TRIED), (80, TRIED)]
        assert only.host.sessions.durable.count == 100
        assert sum([await look(back=False) for _ in range(32)]) == TRIED
        followed = [await look(back=False) for _ in range(12)]
        assert sum(followed) == 100 - 4 * TRIED, "all that were not tried before, once each"


async def test_who_cannot_be_stored_stays():
    """With a store that does not answer nobody goes, and nobody is lost; and a share of 0 is no share at all."""
    clock, store = [0.0], Troubled()
    async with kept(store) as only:
        for name in ("a", "b"):
            await only.open(COMMIT, name)
            await only.step(1, 0, name)
        never, made = rebalancing(only, clock, 0, 10.0), rebalancing(only, clock, 1, 10.0)
        clock[0] += 1.0
        assert await never.look() == 0
        store.deaf = True
        assert await made.look() == 0
        store.deaf = False
        assert [(await only.step(1, 1, name)).total[0, 0] for name in ("a", "b")] == [2, 2]


async def test_who_waits_for_a_step_stays():
    """A session whose step is on its way to the store is no candidate, however many there are too many."""
    clock, store = [0.0], Troubled()
    async with kept(store) as only:
        for name in ("a", "b"):
            await only.open(COMMIT, name)
        made = rebalancing(only, clock, 1, 10.0)
        clock[0] += 1.0
        store.open.clear()
        asked = [only.ask(1, 0, name) for name in ("a", "b")]
        while only.host._ownership.keeper.waiting < 2:  # noqa: ASYNC110 (nothing tells of it)
            await asyncio.sleep(0)
        assert await made.look() == 0
        store.open.set()
        assert [(await heard(listener)).total[0, 0] for listener in asked] == [1, 1]


async def test_a_stale_owner_lets_go_of_what_it_would_hand_over():
    """The store says that another server has it: the session ends here as OWNER_CHANGED, and the other one is not disturbed."""
    clock, store = [0.0], Troubled()
    async with kept(store) as only, kept(store) as other:
        for name in ("a", "b"):
            await only.open(COMMIT, name)
            await other.resume(name)
        made = rebalancing(only, clock, 1, 1.0)
        clock[0] += 1.0
        assert await made.look() == 0
        assert len(only.host.sessions) == 1
        for name in ("a", "b"):
            assert (await other.step(1, 0, name)).total[0, 0] == 1


async def test_after_a_scale_out_clients_follow_and_lose_nothing():
    """The router's ring has given the client's key to a second replica; the first hands over, and steps go on there."""
    durably = Durably(MemoryStore(), SEALER, rebalance_above=2, rebalance_rate=1000.0)
    async with (
        serving(durably=durably) as first,
        serving(durably=Durably(durably.store, SEALER)) as second,
        routed(first.address) as router,
        AsyncClient(router.address) as client,
    ):
        sessions = [await client.open_session("sum", durability="commit") for _ in range(6)]
        for session in sessions:
            await session.step([1, 0])
        router.home = second.address
        first.host._rebalancing._looked -= 1.0
        assert await first.host._rebalancing.look() == 4
        for count in (2, 3):
            assert [(await session.step([1, 0]))[0] for session in sessions] == [count] * 6
        assert len(second.host.sessions) == 6


async def test_what_is_spilled_moved_and_lost_is_counted():
    """The gauge of spilled sessions falls when they are resumed; a drain moves what is durable and loses what is in memory."""
    async with kept(Troubled(), limits=Limits(sessions=8, batch=4)) as only:

        def spilled():
            return counted(only.host, "statewise_sessions", state="spilled")

        for number in range(9):
            await only.open([MEMORY, COMMIT][number % 2], str(number))
        assert spilled() == counted(only.host, "statewise_sessions_spilled_total") == ended(only.host, "moved") == 8
        await only.resume("0", server_instance=only.host.instance)
        await only.host.close("1")
        assert spilled() == 6
        await only.resume("3", server_instance=only.host.instance)
        await only.host.drain(30)
        assert (ended(only.host, "moved"), ended(only.host, "lost")) == (9, 2)
