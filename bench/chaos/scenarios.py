"""The scenarios: each does its harm while sessions are live, and returns what became of them, and what must hold of that."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from bench.chaos.callers import Crowd
from bench.chaos.processes import Replica, keys, replicas, routed
from bench.chaos.store import SYNCHRONOUS, Redis, redis
from statewise.client.failures import from_status
from statewise.errors import Reason
from statewise.tensors import decode, encode
from statewise.v1 import sequence_pb2, sequence_pb2_grpc

EVERY = 16
CHECKPOINT = {"durability": "checkpoint", "checkpoint_every": EVERY}
COMMIT = {"durability": "commit"}
MODES: dict[str, dict[str, Any]] = {"commit": COMMIT, "checkpoint": CHECKPOINT}
CLIENTS = 12


@dataclass
class Told:
    """What a scenario prints: facts by name, and what did not hold."""

    name: str
    facts: dict[str, Any] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)

    def hold(self, holds: bool, what: str) -> None:
        """Notes what did not hold."""
        if not holds:
            self.broken.append(what)

    def unharmed(self, judged: dict[str, Any]) -> None:
        """Takes what became of callers, none of whom may have noticed anything."""
        self.facts |= judged
        self.hold(judged["outputs"] > 0, "there were outputs")
        self.hold(not judged["lost or there twice"], "0 outputs lost, 0 twice")
        self.hold(not any(value for name, value in judged.items() if name.startswith("off")), "0 outputs off the reference")
        self.hold(not judged["errors seen by callers"], "0 errors seen by callers")


@dataclass
class Place:
    """Where chaos happens.

    Attributes:
        seconds: how long sessions are under fire.
        sessions: how many are live.
    """

    home: Path
    repository: Path
    seconds: float
    sessions: int

    @contextmanager
    def store(self, name: str, *options: str) -> Iterator[tuple[Redis, tuple[str, ...]]]:
        """Runs a redis-server of its own, and yields it and what servers are told of it."""
        with redis(self.home / name / "redis", *(options or SYNCHRONOUS)) as server:
            yield server, ("--store", server.address, "--seal-keys", str(keys(self.home / name / "keys")))

    @contextmanager
    def reference(self) -> Iterator[str]:
        """Runs a server that nobody disturbs, and yields its address."""
        with replicas(1, self.repository) as (only,):
            yield only.address

    async def judge(self, crowd: Crowd) -> dict[str, Any]:
        """Returns what became of callers."""
        with self.reference() as address:
            return await crowd.judged(address)


async def kills(place: Place, mode: str) -> Told:
    """Three replicas, and every five seconds one of them is killed and started again."""
    told = Told(f"a replica killed every 5 s, {mode}")
    name = f"kills-{mode}"
    with (
        place.store(name) as (_, options),
        replicas(3, place.repository, *options) as made,
        routed(made, place.home / name / "envoy") as (address, behind),
    ):
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
    name = f"drains-{mode}"
    pause = ("--drain-pause-seconds", "1.5")
    with (
        place.store(name) as (_, options),
        replicas(4, place.repository, *options, *pause) as made,
        routed(made, place.home / name / "envoy") as (address, behind),
    ):
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


async def stale(place: Place) -> Told:
    """An owner is stopped, its sessions are taken over and stepped elsewhere, and then it goes on: with steps that it had read."""
    told = Told("a replica stopped past its sessions' takeover, and continued")
    with place.store("stale") as (_, options), replicas(2, place.repository, *options) as (old, new):
        accepted, reasons = 0, []
        async with grpc.aio.insecure_channel(old.address) as one, grpc.aio.insecure_channel(new.address) as other:
            first, second = (sequence_pb2_grpc.SequenceServiceStub(each) for each in (one, other))  # type: ignore[no-untyped-call]
            opened = []
            for number in range(place.sessions):
                durability = sequence_pb2.DURABILITY_COMMIT if number % 2 else sequence_pb2.DURABILITY_CHECKPOINT
                asked: dict[str, Any] = {
                    "model": "small",
                    "session_id": f"stale-{number}",
                    "durability": durability,
                    "checkpoint_every": 1,
                }
                opened.append(await first.OpenSession(sequence_pb2.OpenSessionRequest(**asked)))
            await _all(first, opened, 0, 1.0)
            await asyncio.sleep(1)  # what is checkpointed is in the store
            old.freeze()
            pending = asyncio.create_task(_all(first, opened, 1, -5.0))  # other inputs than the new owner gets
            taken = []
            for each in opened:
                asked = {"session_id": each.session_id, "mode": sequence_pb2.OPEN_MODE_RESUME, "durable_position": 1}
                taken.append(await second.OpenSession(sequence_pb2.OpenSessionRequest(**asked)))
            answers = await _all(second, taken, 1, 2.0)
            old.thaw()
            reasons = [each for each in (await pending).values() if isinstance(each, Reason)]
            await asyncio.sleep(2)
            again = await _all(first, opened, 2, -5.0)
            last = await _all(second, taken, 2, 3.0)
        with replicas(1, place.repository) as (only,):
            async with grpc.aio.insecure_channel(only.address) as channel:
                stub = sequence_pb2_grpc.SequenceServiceStub(channel)  # type: ignore[no-untyped-call]
                undisturbed = await stub.OpenSession(sequence_pb2.OpenSessionRequest(model="small"))
                wanted = [(await _all(stub, [undisturbed], p, v))[0] for p, v in ((0, 1.0), (1, 2.0), (2, 3.0))]
    for found, expected in ((answers, wanted[1]), (last, wanted[2])):
        accepted += sum(isinstance(each, Reason) or float(np.abs(each - expected).max()) > 1e-5 for each in found.values())
    told.facts |= {
        "sessions": len(opened),
        "steps refused to the stale owner, of commit": reasons.count(Reason.OWNER_CHANGED),
        "sessions that it still had afterwards": sum(not isinstance(each, Reason) for each in again.values()),
        "stale commits accepted": accepted,
    }
    told.hold(accepted == 0, "0 stale commits accepted")
    told.hold(reasons.count(Reason.OWNER_CHANGED) == len(opened) // 2, "each stale commit was refused")
    told.hold(not told.facts["sessions that it still had afterwards"], "the stale owner let go of all sessions")
    return told


async def _all(stub: Any, opened: list[Any], position: int, value: float) -> dict[int, Any]:
    """Steps sessions with one value each; returns outputs, or reasons."""
    told: dict[int, Any] = {}
    call = stub.Step()
    for number, each in enumerate(opened):
        x = encode("x", np.full((1, 4), value, np.float32))
        await call.write(sequence_pb2.StepRequest(request_id=number, session_id=each.session_id, position=position, inputs=[x]))
        answer = await call.read()
        told[number] = from_status(answer.error).reason if answer.HasField("error") else decode(answer.outputs[0])
    await call.done_writing()
    return told


async def store_killed(place: Place, mode: str) -> Told:
    """Redis (appendonly always) is killed and started again, and later stopped for 30 seconds; no server is restarted."""
    told = Told(f"the store killed and restarted, then stopped for 30 s, {mode}")
    name = f"store-{mode}"
    with (
        place.store(name) as (server, options),
        replicas(2, place.repository, *options) as made,
        routed(made, place.home / name / "envoy") as (address, behind),
    ):
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


Scenario = Callable[[Place], Awaitable[Told]]


def _of(scenario: Callable[[Place, str], Awaitable[Told]], mode: str) -> Scenario:
    return lambda place: scenario(place, mode)


SCENARIOS: dict[str, Scenario] = {
    "kills-commit": _of(kills, "commit"),
    "kills-checkpoint": _of(kills, "checkpoint"),
    "drains-commit": _of(drains, "commit"),
    "drains-checkpoint": _of(drains, "checkpoint"),
    "stale": stale,
    "store-commit": _of(store_killed, "commit"),
    "store-checkpoint": _of(store_killed, "checkpoint"),
    "rolled-back": store_rolled_back,
    "sqlite": sqlite_killed,
}
