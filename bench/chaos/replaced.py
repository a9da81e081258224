"""Replicas come and go under live sessions: killed, drained, and more or fewer of them."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise

from bench.chaos.callers import Crowd
from bench.chaos.place import CLIENTS, MODES, Place, Told
from bench.chaos.processes import Replica

SETTLE_SECONDS = 8.0
"""How long sessions step undisturbed before something else is done to them."""
SPREAD_SECONDS = 75.0
"""Until those that came have their share: some are tried every half a minute, and the others ten seconds later."""
SESSIONS, ENDED = "statewise_sessions", "statewise_sessions_ended_total"


async def kills(place: Place, mode: str) -> Told:
    """Three replicas, and every five seconds one of them is killed and started again."""
    told = Told(f"a replica killed every 5 s, {mode}")
    with place.routed(f"kills-{mode}", 3) as (_, made, address, behind):
        crowd = Crowd(address, place.sessions, CLIENTS, options=MODES[mode])
        times = [time.monotonic()]
        await crowd.start()
        times.append(time.monotonic())
        count = await _kill_in_turn(made, place.seconds)
        times.append(time.monotonic())
        await crowd.stop()
        times.append(time.monotonic())
        restored = sum(each.metric("statewise_sessions_restored_total") for each in made)
    told.facts |= {"behind": behind, "killed": count, "restored by the last three": round(restored)}
    told.unharmed(await place.judge(crowd))
    times.append(time.monotonic())
    told.facts["opening, kills, last steps, judging (s)"] = [round(after - before, 1) for before, after in pairwise(times)]
    told.hold(count > 0 and bool(told.facts["resumed"]), "sessions were resumed")
    return told


async def _kill_in_turn(made: list[Replica], seconds: float) -> int:
    """Every five seconds kills the replica that has been ready for longest, and starts it again; returns how often."""
    ready = list(made)
    starting: set[asyncio.Task[None]] = set()

    async def start(victim: Replica) -> None:
        await asyncio.to_thread(victim.start)
        ready.append(victim)

    count, began = 0, time.monotonic()
    while (now := time.monotonic()) < began + seconds:
        await asyncio.sleep(max(0.0, began + 5 * (count + 1) - now))
        while len(ready) < 2:  # noqa: ASYNC110 (two at the least are to be left for a kill)
            await asyncio.sleep(0.05)
        victim = ready.pop(0)
        victim.kill()
        starting.add(asyncio.create_task(start(victim)))
        count += 1
    await asyncio.gather(*starting)
    return count


async def drains(place: Place, mode: str) -> Told:
    """Replicas are drained one after another, twenty in all; then two of four are stopped for good, and come back."""
    told = Told(f"20 rolling drains, and 4 → 2 → 4 replicas, {mode}")
    pause = ("--drain-pause-seconds", "1.5")
    with place.routed(f"drains-{mode}", 4, *pause) as (_, made, address, behind):
        crowd = Crowd(address, place.sessions, CLIENTS, options=MODES[mode])
        await crowd.start()
        statuses = []
        for number in range(20):
            statuses.append(await asyncio.to_thread(made[number % 4].end))
            await asyncio.to_thread(made[number % 4].start)
        statuses += [await asyncio.to_thread(victim.end) for victim in made[:2]]
        await asyncio.sleep(3)
        for victim in made[:2]:
            await asyncio.to_thread(victim.start)
        await asyncio.sleep(3)
        await crowd.stop()
    told.facts |= {"behind": behind, "drains": len(statuses)}
    told.hold(not any(statuses), "every replica ended in good order")
    told.unharmed(await place.judge(crowd))
    return told


async def scale(place: Place, mode: str) -> Told:
    """Two replicas become four, which are handed their share by rebalancing; then the two that were there first are drained."""
    told = Told(f"2 → 4 → 2 replicas, {mode}")
    rebalancing = ("--rebalance-above", str(place.sessions // 4), "--rebalance-rate", "20", "--drain-pause-seconds", "1.5")
    with place.routed(f"scale-{mode}", 4, *rebalancing, running=2) as (_, made, address, behind):
        crowd = Crowd(address, place.sessions, 3 * CLIENTS, options=MODES[mode])  # so that the ring gives some to each
        await crowd.start()
        await asyncio.sleep(SETTLE_SECONDS)
        two = await _held(made[:2])
        for newcomer in made[2:]:
            await asyncio.to_thread(newcomer.start)
        await asyncio.sleep(SPREAD_SECONDS)
        four = await _held(made)
        handed_over = sum([await asyncio.to_thread(each.metric, ENDED, how="moved") for each in made[:2]])
        steps = crowd.steps
        statuses = [await asyncio.to_thread(each.end) for each in made[:2]]
        await asyncio.sleep(SETTLE_SECONDS)
        after = await _held(made[2:])
        last = crowd.steps
        await crowd.stop()
    told.facts |= {
        "behind": behind,
        "sessions on the two, on the four, on the last two": [two, four, after],
        "moved by the first two before their drain": round(handed_over),
    }
    told.hold(not any(statuses), "every replica ended in good order")
    told.hold(sum(four[2:]) > 0 and handed_over > 0, "sessions went to those that came")
    told.hold(sum(after) >= place.sessions, "the last two hold all sessions")
    told.hold(last - steps >= place.sessions, "every session steps on the last two")
    told.unharmed(await place.judge(crowd))
    return told


async def _held(made: list[Replica]) -> list[int]:
    """Returns how many sessions each replica holds."""
    states = ("active", "idle")
    return [round(sum([await asyncio.to_thread(each.metric, SESSIONS, state=state) for state in states])) for each in made]
