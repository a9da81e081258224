"""Wherever a step is when its server ends or the engine fails: its session is as before, or as after it, never in between."""

from __future__ import annotations

import asyncio
import itertools
import signal

import numpy as np
import pytest

from bench.chaos.callers import series
from bench.chaos.model import MODEL, fill
from bench.chaos.processes import keys, replicas
from builders.failpoints import AT, SESSIONS, failing
from builders.kept import Troubled, heard, kept
from builders.summing import SummingEngine
from builders.wire import wired
from statewise.client import AsyncClient
from statewise.durability import Durability
from statewise.errors import Reason
from statewise.runtime import EngineError
from statewise.sealing import Sealer
from statewise.snapshot import Snapshot
from statewise.stores.redis import RedisStore

OPTIONS = {"memory": {}, "checkpoint": {"durability": "checkpoint", "checkpoint_every": 2}, "commit": {"durability": "commit"}}
COMMITS = {
    "before the compute": False,
    "after the compute": False,
    "before the commit": False,
    "after the commit": True,
    "before the reply": True,
    "after the reply": True,
}
"""Whether the store holds the step of the committed session."""
CHECKPOINTS = {"before the checkpoint": False, "after the checkpoint": True}
"""Whether the store holds the checkpoint of the other one."""
STEPS = AT + 5
REPEATED = "statewise_steps_repeated_total"
BEFORE, AFTER = -7.0, -8.0


@pytest.fixture(scope="module")
def survivor(redis_server, tmp_path_factory):
    """A server that nobody ends, and what it shares with those that end: repository and keys."""
    folder = tmp_path_factory.mktemp("failpoints")
    repository, secret = fill(folder / "repository"), keys(folder / "keys")
    with replicas(1, repository, "--store", redis_server.address, "--seal-keys", str(secret)) as (only,):
        yield only, repository, secret


@pytest.mark.parametrize("point", [*COMMITS, *CHECKPOINTS])
async def test_a_server_that_ends_at_any_point_costs_no_output(point, survivor, redis_server):
    """Of durable sessions each output is there once, in order, and what it would have been; one in memory is LOST.

    What is in the store is answered with the reply that lies there; what is not runs, and has not run before.
    """
    only, repository, secret = survivor
    repeated = only.metric(REPEATED)
    with failing(repository, redis_server.address, secret, point) as (address, process):
        async with wired(address) as wire, AsyncClient(wire.address) as client:
            sessions = [await client.open_session(MODEL, session_id=name, **OPTIONS[name]) for name in SESSIONS]
            wire.open.clear()
            wire.home = only.address
            living = asyncio.create_task(live(sessions, process))
            assert await asyncio.to_thread(process.wait, 60) == -signal.SIGKILL
            held = {name: await stored(redis_server.address, secret, name) for name in OPTIONS if OPTIONS[name]}
            wire.open.set()
            memory, *durable = await living
            for session in sessions[1:]:
                await session.close()
    assert memory[-1].reason is Reason.LOST
    async with AsyncClient(only.address) as client:
        undisturbed = await (await client.open_session(MODEL)).step(series(0, 0, len(durable[0])))
    for outputs in durable:
        assert np.abs(np.stack(outputs) - undisturbed).max() <= 1e-5 * np.abs(undisturbed).max()
    if point in CHECKPOINTS:
        assert (held["checkpoint"].position > AT) == CHECKPOINTS[point]
        return  # meanwhile the others may be anywhere
    assert len(memory) - 1 in (AT, AT + 1)
    assert held["commit"].position == AT + COMMITS[point]
    assert only.metric(REPEATED) - repeated >= (COMMITS[point] and point != "after the reply")
    if COMMITS[point]:
        (reply,) = [*held["commit"].replies][-1].outputs.values()
        assert reply.tobytes() == durable[-1][AT].tobytes()


async def live(sessions, process):
    """Steps sessions side by side, until they fail or their server has ended and they have gone on; returns what each was told."""
    told = [[] for _ in sessions]
    ended = False
    for position in itertools.count():
        if ended and position >= STEPS:
            break
        ended = process.poll() is not None
        x = series(0, position, 1)[0]
        going = [row for row in range(len(sessions)) if not told[row] or isinstance(told[row][-1], np.ndarray)]
        outcomes = await asyncio.gather(*(sessions[row].step(x) for row in going), return_exceptions=True)
        for row, outcome in zip(going, outcomes, strict=True):
            told[row].append(outcome)
    return told


async def stored(address, secret, session_id):
    """Returns the snapshot that the store holds of a session."""
    store = RedisStore(address, None, 5.0)
    await store.start()
    record = await store.get(session_id)
    await store.close()
    return Snapshot.from_bytes(Sealer.of_files(secret).open(record.data))


class FailingEngine(SummingEngine):
    """Sums, and fails on a value: before it has written anything, or after it has written what it should."""

    def run(self, batch, pool):
        """See `Engine`."""
        values = batch.inputs["x"][0, :, 0]
        if (values == BEFORE).any():
            raise EngineError("before it has scattered")
        outcome = super().run(batch, pool)
        if (values == AFTER).any():
            raise EngineError("after it has scattered")
        return outcome


@pytest.mark.parametrize("value", [BEFORE, AFTER], ids=["before", "after"])
@pytest.mark.parametrize("durability", Durability)
async def test_a_run_that_fails_leaves_a_session_as_it_was(durability, value):
    """Here and in the store, whether or not the new state was written; another step may take the place of the one that failed."""
    store = Troubled()
    async with kept(store, make=FailingEngine) as first, kept(store) as second:
        await first.open(durability, checkpoint_every=1)
        await first.step(1, 0)
        await first.quiet()
        puts = len(store.puts)
        asked = [first.ask(value, 1), first.ask(5, 2)]
        failed, behind = [(await heard(listener)).problem.reason for listener in asked]
        await first.quiet()
        assert (failed, behind) == (Reason.ENGINE_FAILED, Reason.BEHIND_FAILED)
        assert (first.host.position("a"), len(store.puts)) == (1, puts)
        assert (await first.step(value, 1)).problem.reason is Reason.ENGINE_FAILED
        assert (await first.step(2, 1)).total.tolist() == [[3, 2]]
        assert (await first.step(2, 1)).total.tolist() == [[3, 2]], "the reply is retained"
        await first.quiet()
        if durability is not Durability.MEMORY:
            assert (await second.resume(told=2)).position == 2
            assert (await second.step(3, 2)).total.tolist() == [[6, 3]]
