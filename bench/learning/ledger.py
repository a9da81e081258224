"""Runs units in worker processes, one thread each, and keeps what they return in a file, so that a broken run can go on."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

CELLS = ("elman", "lstm", "gru")
"""The cells that are compared."""
Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Unit:
    """A piece of work: `work(*arguments)` returns a `Result`; weights do not depend on which worker runs it, or when.

    Attributes:
        name: in the ledger, `part/cell/seed`.
        told: the figure of the result that progress shows.
    """

    name: str
    work: Callable[..., Result]
    arguments: tuple[Any, ...]
    told: str


class Ledger:
    """What units have returned so far, by name; the file is written after each."""

    def __init__(self, file: Path, *, resume: bool) -> None:
        self._file = file
        self.results: dict[str, Result] = json.loads(file.read_text()) if resume and file.exists() else {}
        self._began = time.monotonic()

    def run(self, units: list[Unit], workers: int) -> Mapping[str, Result]:
        """Runs the units that are not in the ledger yet, the first ones first; returns all results."""
        waiting = [unit for unit in units if unit.name not in self.results]
        with ProcessPoolExecutor(workers, get_context("spawn"), _one_thread) as pool:
            running = {pool.submit(unit.work, *unit.arguments): unit for unit in waiting}
            for done in as_completed(running):
                self._keep(running[done], done.result())
        return self.results

    def _keep(self, unit: Unit, result: Result) -> None:
        self.results[unit.name] = result
        self._file.parent.mkdir(parents=True, exist_ok=True)
        incoming = self._file.with_suffix(".incoming")
        incoming.write_text(json.dumps(self.results, indent=1))
        incoming.replace(self._file)
        seconds = time.monotonic() - self._began
        print(f"[{seconds:4.0f} s] {unit.name}: {unit.told} {result[unit.told]:.4g}", file=sys.stderr, flush=True)


def _one_thread() -> None:
    torch.set_num_threads(1)


def workers() -> int:
    """Returns how many units run side by side."""
    return min(4, len(os.sched_getaffinity(0)))


class Quiet:
    """Watches a run and says nothing."""

    def window_done(self) -> None:
        """See `Observer`."""

    def epoch_done(self, history: object) -> None:
        """See `Observer`."""
