"""The store is killed, stopped and rolled back under live sessions; and a server in the middle of writes to its file."""

from __future__ import annotations

import asyncio
import time

from bench.chaos.callers import Crowd
from bench.chaos.place import CLIENTS, COMMIT, EVERY, MODES, Place, Told
from bench.chaos.processes import replicas


async def store_killed(place: Place, mode: str) -> Told:
    """Redis (appendonly always) is killed and started again, and later stopped for 30 seconds; no server is restarted."""
    told = Told(f"the store killed and restarted, then stopped for 30 s, {mode}")
    with place.routed(f"store-{mode}", 2) as (server, made, address, behind):
        crowd = Crowd(address, place.sessions, CLIENTS, options=MODES[mode])
        await crowd.start()
        before = sum(each.rss_bytes() for each in made)
        await asyncio.sleep(4)
        server.kill()
        await asyncio.sleep(2)
        await asyncio.to_thread(server.start)
        await asyncio.sleep(4)
        server.freeze()
        most = lag = 0.0
        for _ in range(30):
            await asyncio.sleep(1)
            most = max(most, sum(each.rss_bytes() for each in made))
            lag = max(lag, *(each.metric("statewise_durability_lag_timesteps") for each in made))
        server.thaw()
        await asyncio.sleep(10)
        lag_after = max(each.metric("statewise_durability_lag_timesteps") for each in made)
        steps = crowd.steps
        await asyncio.sleep(3)
        told.hold(crowd.steps - steps >= place.sessions, "every session steps again")
        await crowd.stop()
    told.facts |= {
        "behind": behind,
        "lag while stopped, and 10 s after (timesteps)": [round(lag), round(lag_after)],
        "memory of the servers before and at most (MiB)": [round(before / 2**20), round(most / 2**20)],
    }
    told.hold(most < before + 200 * 2**20, "memory is bounded")
    told.hold(lag_after <= 2 * EVERY, "the store is caught up with")
    told.unharmed(await place.judge(crowd))
    return told


async def store_rolled_back(place: Place) -> Told:
    """Redis is started from an older file: with the owner alive nothing happens; with the owner gone it is DATA_LOSS."""
    told = Told("the store restored from an older file")
    with place.store("rolled") as (server, options), replicas(2, place.repository, *options) as made:
        crowd = Crowd("ipv4:" + ",".join(each.address for each in made), place.sessions, CLIENTS, options=COMMIT, pause_seconds=0.2)
        await crowd.start()
        await asyncio.sleep(2)
        copy = place.home / "rolled" / "older"
        server.kill()
        server.copy_files(copy)
        await asyncio.to_thread(server.start)
        await asyncio.sleep(3)
        server.kill()
        server.restore_files(copy)
        await asyncio.to_thread(server.start)
        await asyncio.sleep(3)
        problems = [caller.problem for caller in crowd.callers if caller.problem]
        told.hold(not problems, "with the owner alive no caller noticed")
        alive = crowd.steps
        server.kill()
        server.restore_files(copy)
        made[0].kill()
        await asyncio.to_thread(server.start)
        await asyncio.sleep(4)
        await crowd.stop()
        judged = await place.judge(crowd)
    told.facts |= judged | {"outputs before the owner was killed": alive}
    told.hold(not judged["lost or there twice"], "0 outputs lost or twice")
    told.hold(not any(value for name, value in judged.items() if name.startswith("off")), "0 outputs off the reference")
    told.hold(
        judged["errors seen by callers"] == {"ROLLED_BACK": place.sessions}, "every caller was told ROLLED_BACK, and none went on"
    )
    return told


async def sqlite_killed(place: Place) -> Told:
    """A single server over an SQLite file is killed in the middle of writes, again and again."""
    told = Told("SQLite: a single server killed and restarted")
    file = place.home / "sqlite" / "sessions.db"
    file.parent.mkdir(parents=True, exist_ok=True)
    with replicas(1, place.repository, "--store", f"sqlite:{file}") as (only,):
        crowds = [Crowd(only.address, place.sessions // 2, 4, options=options, pause_seconds=0.2) for options in MODES.values()]
        for crowd in crowds:
            await crowd.start()
        count, until = 0, time.monotonic() + place.seconds / 3
        while time.monotonic() < until:
            await asyncio.sleep(2)
            only.kill()
            await asyncio.to_thread(only.start)
            count += 1
        for crowd in crowds:
            await crowd.stop()
    told.facts["killed"] = count
    for mode, crowd in zip(MODES, crowds, strict=True):
        part = Told(mode)
        part.unharmed(await place.judge(crowd))
        told.facts |= {f"{mode}: {name}": value for name, value in part.facts.items()}
        told.broken += [f"{mode}: {what}" for what in part.broken]
    return told
