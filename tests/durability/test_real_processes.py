"""Real servers over a real redis-server, one of them killed; `make chaos` does the same for longer, and worse."""

from __future__ import annotations

import asyncio

from bench.chaos.callers import Crowd
from bench.chaos.model import fill
from bench.chaos.processes import keys, replicas


async def test_sessions_outlive_the_kill_of_their_server(redis_server, tmp_path):
    """Committed and checkpointed, of four clients each: every output once, in order, and what an undisturbed server answers."""
    options = ("--store", redis_server.address, "--seal-keys", str(keys(tmp_path / "keys")))
    with replicas(2, fill(tmp_path / "repository"), *options) as made:
        address = "ipv4:" + ",".join(each.address for each in made)
        modes = ({"durability": "commit"}, {"durability": "checkpoint", "checkpoint_every": 5})
        crowds = [Crowd(address, 12, 4, options=mode, pause_seconds=0.02) for mode in modes]
        for crowd in crowds:
            await crowd.start()
        await until(crowds, more=240)
        made[0].kill()
        await until(crowds, more=240)
        for crowd in crowds:
            await crowd.stop()
            judged = await crowd.judged(made[1].address)
            assert (judged["lost or there twice"], judged["errors seen by callers"]) == (0, {})
            assert judged["off the reference by more than 1e-05"] == 0
            assert judged["resumed"] == 12


async def until(crowds, more):
    """Returns when callers have so many more outputs."""
    wanted = sum(crowd.steps for crowd in crowds) + more
    while sum(crowd.steps for crowd in crowds) < wanted:  # noqa: ASYNC110 (nothing tells of it)
        await asyncio.sleep(0)
