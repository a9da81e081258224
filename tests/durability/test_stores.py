"""One contract for all stores: who owns a record may put it, forwards; nobody else may, and what is gone is not made again."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import replace

import pytest

from bench.chaos.store import free_port, redis
from statewise.durability import Epoch
from statewise.stores import Outcome, Put, StoreError
from statewise.stores.address import StoreSettingError, check
from statewise.stores.memory import MemoryStore
from statewise.stores.opening import open_store
from statewise.stores.sqlite import SqliteStore


@pytest.fixture
def put():
    """The first put of a session that no other test has."""
    return Put(secrets.token_hex(8), Epoch.fresh(), 0, b"zero", 60.0, create=True)


def later(put, position, data=b"later"):
    return replace(put, position=position, data=data, create=False)


async def test_what_is_put_comes_back_and_goes_forwards(store, put):
    """Epoch, position and bytes survive; a put of the owner takes the place of the one before, also one sent twice."""
    assert await store.get(put.key) is None
    assert await store.put_many([put]) == [Outcome.STORED]
    far = later(put, (1 << 62) + 1, bytes(range(256)))
    for _ in range(2):
        assert await store.put_many([far]) == [Outcome.STORED]
    record = await store.get(put.key)
    assert (record.epoch, record.position, record.data) == (put.epoch, far.position, far.data)


async def test_an_owner_that_was_taken_over_puts_nothing_more(store, put):
    """Not at a later position, and not by creating; the new owner does."""
    await store.put_many([put])
    taken = await store.take_over(put.key, 77, 60.0)
    assert (taken.epoch, taken.position, taken.data) == (Epoch(put.epoch.counter + 1, 77), 0, b"zero")
    assert await store.put_many([later(put, 9)]) == [Outcome.OTHER_EPOCH]
    assert await store.put_many([put]) == [Outcome.TAKEN]
    assert (await store.get(put.key)).data == b"zero"
    assert await store.put_many([replace(later(put, 3), epoch=taken.epoch)]) == [Outcome.STORED]
    assert (await store.take_over(put.key, 78, 60.0)).epoch.counter == taken.epoch.counter + 1


async def test_of_many_that_take_a_session_over_at_once_one_owns_it_in_the_end(store, put):
    """Each is told an epoch of its own, and only the last of them may put."""
    await store.put_many([put])
    taken = await asyncio.gather(*(store.take_over(put.key, random, 60.0) for random in range(20)))
    assert sorted(each.epoch.counter - put.epoch.counter for each in taken) == list(range(1, 21))
    outcomes = [(await store.put_many([replace(later(put, 1), epoch=each.epoch)]))[0] for each in taken]
    assert sorted(outcomes, key=str) == [Outcome.OTHER_EPOCH] * 19 + [Outcome.STORED]
    assert taken[outcomes.index(Outcome.STORED)].epoch.counter == put.epoch.counter + 20


@pytest.mark.parametrize(("held", "late"), [(9, 10), (99, 100), (9, 1 << 62), ((1 << 53) + 1, (1 << 53) + 2)])
async def test_a_put_that_lands_late_takes_nothing_back(store, put, held, late):
    """Neither a put of an earlier position nor the one that created the record, sent again; positions are compared exactly."""
    await store.put_many([put])
    await store.put_many([later(put, late, b"new")])
    assert await store.put_many([later(put, held)]) == [Outcome.AHEAD]
    assert await store.put_many([put]) == [Outcome.AHEAD]
    assert (await store.get(put.key)).data == b"new"


async def test_a_store_that_was_rolled_back_is_brought_up_again_by_the_owner(store, put):
    """An older record of the same epoch is no obstacle: nobody else has owned the session since."""
    await store.put_many([put])
    await store.put_many([later(put, 5)])
    await store.delete(put.key)
    await store.put_many([put])  # as if an older file had been put back
    assert await store.put_many([later(put, 6)]) == [Outcome.STORED]


async def test_what_is_not_there_is_not_made_again(store, put):
    """Neither by a put nor by taking over; deleting says whether there was something, and spares another owner's."""
    assert await store.put_many([later(put, 5)]) == [Outcome.MISSING]
    assert await store.take_over(put.key, 1, 60.0) is None
    assert await store.delete(put.key) is False
    await store.put_many([put])
    assert await store.delete(put.key, Epoch.fresh(put.epoch)) is False
    assert await store.delete(put.key, put.epoch) is True
    assert await store.get(put.key) is None
    assert await store.put_many([later(put, 5)]) == [Outcome.MISSING]


async def test_a_batch_has_an_outcome_for_each_and_no_put_spoils_another(store, put):
    """Created, refused, missing and stored stand side by side, in the order of the puts."""
    other, gone, fresh = (replace(put, key=secrets.token_hex(8)) for _ in range(3))
    await store.put_many([put, other])
    await store.take_over(other.key, 1, 60.0)
    outcomes = await store.put_many([later(put, 1), later(other, 1), later(gone, 1), fresh])
    assert outcomes == [Outcome.STORED, Outcome.OTHER_EPOCH, Outcome.MISSING, Outcome.STORED]
    assert await store.put_many([]) == []


async def test_a_record_expires_and_is_then_as_if_it_had_never_been(store, put):
    """The owner cannot bring it back, and another session of that name can begin."""
    await store.put_many([replace(put, expires_seconds=0.0)])
    for _ in range(10_000):
        if await store.get(put.key) is None:
            break
    assert await store.put_many([later(put, 1)]) == [Outcome.MISSING]
    assert await store.put_many([replace(put, epoch=Epoch.fresh(put.epoch))]) == [Outcome.STORED]


@pytest.mark.parametrize("kind", [MemoryStore, SqliteStore])
async def test_a_record_lives_as_long_as_it_is_put_again(kind, tmp_path, put):
    """Each put, and each taking over, counts from then."""
    now = [1000.0]
    path = () if kind is MemoryStore else (tmp_path / "s.db",)
    store = kind(*path, clock=lambda: now[0])
    await store.start()
    await store.put_many([put])
    for _ in range(5):
        now[0] += 50
        assert await store.put_many([later(put, 1)]) == [Outcome.STORED]
        now[0] += 50
        put = replace(put, epoch=(await store.take_over(put.key, 5, 60.0)).epoch)
    now[0] += 61
    assert await store.get(put.key) is None
    await store.put_many([replace(put, key="another")])
    assert put.key not in (store._records if kind is MemoryStore else [row[0] for row in rows(store)])
    await store.close()


def rows(store):
    return store._thread.submit(lambda: store._database.execute("select key from sessions").fetchall()).result()


async def test_what_sqlite_has_said_is_there_after_the_file_is_opened_again(tmp_path, put):
    """By another process's store over the same file, too, while the first is still open."""
    first, second = (SqliteStore(tmp_path / "sessions.db") for _ in range(2))
    await first.start()
    await first.put_many([put])
    await second.start()
    assert (await second.take_over(put.key, 4, 60.0)).data == b"zero"
    assert await first.put_many([later(put, 1)]) == [Outcome.OTHER_EPOCH]
    await first.close()
    await second.close()


async def test_redis_that_has_forgotten_its_scripts_is_told_them_again(redis_server, put):
    """As after its restart: the batch is stored, whatever part of it had been stored before."""
    store = open_store(redis_server.address, None, 5.0)
    await store.start()
    await store._redis.script_flush()
    assert await store.put_many([put]) == [Outcome.STORED]
    await store._redis.script_flush()
    assert (await store.take_over(put.key, 1, 60.0)).position == 0
    await store.close()


@pytest.mark.parametrize("count", [1, 31, 32, 33, 100])
async def test_each_of_many_puts_is_told_its_own_outcome(store, put, count):
    """In their order, however many go together: some are stored, some another's, some gone, some behind, some there already."""
    puts = [replace(put, key=f"{put.key} {number}") for number in range(count)]
    there, taken, behind = puts[::2], puts[::4], puts[2::4]
    assert set(await store.put_many(there)) == {Outcome.STORED}
    await asyncio.gather(*(store.take_over(each.key, 5, 60.0) for each in taken))
    if behind:
        await store.put_many([later(each, 9) for each in behind])
    told = await store.put_many([later(each, 7) for each in puts])
    expected = [Outcome.OTHER_EPOCH, Outcome.MISSING, Outcome.AHEAD, Outcome.MISSING]
    assert told == [expected[number % 4] for number in range(count)]
    created = [Outcome.TAKEN, Outcome.STORED, Outcome.AHEAD, Outcome.STORED]
    assert await store.put_many(puts) == [created[number % 4] for number in range(count)]


async def test_a_node_of_a_cluster_takes_puts_of_many_slots(tmp_path, needs_tool, put):
    """One script may not have keys of several slots there, so each session gets its own; the batch stays one pipeline."""
    cluster = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    with redis(tmp_path, *cluster, program=needs_tool("redis-server")) as server:
        store = open_store(server.address, None, 5.0)
        await store.start()
        await store._redis.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
        while (await store._redis.execute_command("CLUSTER INFO"))["cluster_state"] != "ok":  # noqa: ASYNC110 (nothing tells of it)
            await asyncio.sleep(0.05)
        puts = [replace(put, key=f"{put.key} {number}") for number in range(40)]
        for _ in range(2):
            assert await store.put_many(puts) == [Outcome.STORED] * 40
        assert (await store.get(puts[39].key)).data == b"zero"
        await store.close()


async def test_a_store_that_is_not_there_says_so(tmp_path):
    """No connection, or no folder for the file: an error that names it."""
    for address in ("redis://127.0.0.1:1/0", f"sqlite:{tmp_path}/none/sessions.db"):
        store = open_store(address, None, 5.0)
        with pytest.raises(StoreError):
            await store.start()
        await store.close()


@pytest.mark.parametrize("address", ["", "redis", "sqlite:", "redis://", "http://x", "redis://x:99999", "redis://:word@x/0"])
def test_an_address_of_no_store_is_refused(address):
    """With what the setting takes; a password does not belong there."""
    with pytest.raises(StoreSettingError, match="takes"):
        check(address)
