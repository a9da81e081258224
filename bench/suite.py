"""The order of a run: rounds, and in each of them everything side by side, so that a noisy machine is as noisy for all."""

from __future__ import annotations

from pathlib import Path

from bench import ceilings, messages
from bench.models import FEATURES, fill
from bench.peer.triton import Triton
from bench.processes import Server, echo, statewise
from bench.results import Results
from bench.workloads import (
    CHUNKS,
    COALESCED,
    CONNECTIONS,
    FRAME,
    FRAMES,
    INFERENCE,
    MANY,
    ONE,
    SINGLES,
    SIXTEEN,
    SIXTY_FOUR,
    Say,
    Workload,
    run,
    words,
)

BATCHES = {"lstm-256": (1, 16, 64, 256), "lstm-1024": (1, 64, 256), "gru-256": (256,), "elman-256": (256,)}
WORKLOADS = {
    "lstm-256": (*SINGLES, CONNECTIONS, INFERENCE, CHUNKS, *FRAMES, COALESCED),
    "lstm-1024": (ONE, SIXTY_FOUR, FRAME, COALESCED),
    "gru-256": (SIXTY_FOUR, FRAME),
    "elman-256": (SIXTY_FOUR, FRAME),
}
ECHOED = (ONE, SIXTEEN, SIXTY_FOUR, MANY)
PEERED = {"lstm-256": (ONE, SIXTY_FOUR, MANY, CONNECTIONS), "lstm-1024": (ONE, SIXTY_FOUR, MANY)}


class Suite:
    """One run of everything.

    Args:
        home: where models and messages are kept.
        seconds: of each measurement.
        peer: the Python of an environment with Triton, to measure beside it; `None` leaves it out.
    """

    def __init__(self, home: Path, results: Results, seconds: float, say: Say, peer: Path | None = None) -> None:
        self._home = home
        self._results = results
        self._seconds = seconds
        self._say = say
        self._peer = peer
        self._number = 0
        self._repository = fill(home / "repository")

    def rounds(self, count: int) -> None:
        """Measures every workload `count` times."""
        with statewise(self._repository) as server, echo(messages.response_bytes(1)) as bare:
            for number in range(count):
                for model, workloads in WORKLOADS.items():
                    self._say(f"round {number + 1} of {count}, {model}")
                    for workload in workloads:
                        if model == "lstm-256" and workload in ECHOED:
                            self._measure("echo", bare, model, workload)
                        self._measure("statewise", server, model, workload)
                        if workload in (FRAME, ONE):
                            self._ceilings(model, 256 if workload is FRAME else 1)
                    for batch in set(BATCHES[model]) - {1, 256}:
                        self._ceilings(model, batch)
                self._mix(server)
                self._triton()

    def _measure(self, name: str, server: Server, model: str, workload: Workload) -> None:
        prepared = self._messages(server, model, workload, opened=name == "statewise")
        loads = [words(workload, server, model, self._seconds, prepared)] * workload.loads
        self._results.add(run(name, model, workload.name, server, loads))

    def _messages(self, server: Server, model: str, workload: Workload, *, opened: bool) -> str:
        if workload.kind != "raw":
            return ""
        self._number += 1
        file = self._home / f"messages-{self._number:02}.json"
        if workload.inference:
            return str(messages.prepare_inference(file, model, workload.each))
        return str(messages.prepare(file, server.address, model, workload.each, workload.timesteps, open_sessions=opened))

    def _mix(self, server: Server) -> None:
        """Single timesteps, long steps, frames and a coalescing client at once."""
        model, parts = "lstm-256", (SIXTY_FOUR, CHUNKS, FRAME, COALESCED)
        loads = [words(part, server, model, self._seconds, self._messages(server, model, part, opened=True)) for part in parts]
        self._results.add(run("statewise", model, "a mix of all", server, loads))

    def _ceilings(self, model: str, batch: int) -> None:
        file = self._repository / model / "1" / "model.onnx"
        for name, ceiling in ceilings.measure(file, batch, self._seconds).items():
            self._results.ceilings.setdefault((name, model, batch), []).append(ceiling)

    def _triton(self) -> None:
        if self._peer is None:
            return
        for model, workloads in PEERED.items():
            self._say(f"Triton, {model}")
            with Triton(self._peer, self._home, self._repository / model / "1" / "model.onnx", model, FEATURES[model]) as triton:
                for workload in workloads:
                    prepared = str(triton.prepare(workload.each))
                    loads = [words(workload, triton.server, model, self._seconds, prepared)]
                    self._results.add(run("triton", model, workload.name, triton.server, loads))
