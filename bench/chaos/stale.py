"""An owner that was stopped, and goes on when its sessions are another's."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import numpy as np

from bench.chaos.place import Place, Told
from bench.chaos.processes import replicas
from statewise.client.failures import from_status
from statewise.errors import Reason
from statewise.tensors import decode, encode
from statewise.v1 import sequence_pb2, sequence_pb2_grpc


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
