"""Real servers over a real store, one of them killed; `make chaos` does the same for longer, and worse."""

from __future__ import annotations

import asyncio

from bench.chaos.callers import Crowd
from bench.chaos.model import fill
from bench.chaos.processes import keys, replicas


async def test_sessions_outlive_the_kill_of_their_server(redis_server, tmp_path):
    """Committed and checkpointed, of four clients each: every output once, in order, and what an undisturbed server answers."""
    options = ("--store", redis_server.address, "--seal-keys", str(keys(tmp_path / "keys")))
    with replicas(2, fill(tmp_path / "repository"), *options) as made:
        crowds = await started("ipv4:" + ",".join(each.address for each in made))
        made[0].kill()
        await until_all_went_on(crowds)
        await all_well(crowds, made[1].address, resumed=12)


async def test_sessions_outlive_the_kills_of_a_single_server(provider, tmp_path):
    """Over a file: what began on a GPU goes on on the CPU, and the other way round."""
    store = ("--store", f"sqlite:{tmp_path / 'sessions.db'}")
    with replicas(1, fill(tmp_path / "repository"), *store, "--provider", provider) as (only,):
        crowds = await started(only.address)
        for other in ("cpu", provider):
            only.kill()
            only.options = (*store, "--provider", other)
            await asyncio.to_thread(only.start)
            await until_all_went_on(crowds)
        await all_well(crowds, only.address, resumed=24)


async def started(address):
    """Returns callers whose sessions are committed, and some whose sessions are checkpointed, once they step."""
    modes = ({"durability": "commit"}, {"durability": "checkpoint", "checkpoint_every": 5})
    crowds = [Crowd(address, 12, 4, options=mode, pause_seconds=0.02) for mode in modes]
    for crowd in crowds:
        await crowd.start()
    await until_all_went_on(crowds)
    return crowds


async def all_well(crowds, reference, resumed):
    """Stops the callers; none may have noticed anything, and so many sessions of each crowd were resumed."""
    for crowd in crowds:
        await crowd.stop()
        judged = await crowd.judged(reference)
        assert (judged["lost or there twice"], judged["errors seen by callers"]) == (0, {})
        assert judged["off the reference by more than 1e-05"] == 0
        assert judged["resumed"] == resumed


async def until_all_went_on(crowds, more=10):
    """Returns when every caller has so many more outputs."""
    wanted = {caller: len(caller.outputs) + more for crowd in crowds for caller in crowd.callers}
    while any(len(caller.outputs) < count for caller, count in wanted.items()):  # noqa: ASYNC110 (nothing tells of it)
        await asyncio.sleep(0)
