"""`python -m bench.counting`: what the metrics cost: CPU a step with them, and with some that count nothing, in turns."""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from bench import messages
from bench.models import fill
from bench.processes import Server, statewise
from bench.workloads import FRAME, SIXTEEN, SIXTY_FOUR, Workload, run, words
from statewise.cli.serve import log_to_stderr
from statewise.config import ServeSettings
from statewise.metrics import ServerMetrics, Silent
from statewise.server import Server as Served
from statewise.server import serve

HOME = Path("var/bench")
MODEL = "lstm-256"
WORKLOADS = (SIXTEEN, SIXTY_FOUR, FRAME)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.counting", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--silent", type=Path, help=argparse.SUPPRESS)  # serves this repository without metrics
    options = parser.parse_args()
    if options.silent:
        sys.exit(asyncio.run(_serve_silent(options.silent)))
    HOME.mkdir(parents=True, exist_ok=True)
    repository = fill(HOME / "repository")
    used: dict[tuple[str, bool], list[float]] = {}
    silent = Server.start([sys.executable, "-m", "bench.counting", "--silent", str(repository)])
    with statewise(repository) as counting, silent:
        counting.metrics = ""  # it is not scraped meanwhile: two scrapes in a second or two are more than anybody makes
        for number in range(options.rounds):
            for workload in WORKLOADS:
                for server in (counting, silent) if number % 2 else (silent, counting):
                    used.setdefault((workload.name, server is counting), []).append(_measure(server, workload, options.seconds))
    for workload in WORKLOADS:
        on, off = (statistics.median(used[workload.name, counts]) for counts in (True, False))
        print(f"{workload.name}: {on:.2f} µs of CPU a step with metrics, {off:.2f} without: {on / off - 1:+.1%}", flush=True)


def _measure(server: Server, workload: Workload, seconds: float) -> float:
    prepared = ""
    if workload.kind == "raw":
        prepared = str(messages.prepare(HOME / "counting.json", server.address, MODEL, workload.each, 1, open_sessions=True))
    loads = [words(workload, server, MODEL, seconds, prepared)] * workload.loads
    return run("statewise", MODEL, workload.name, server, loads).cpu_us_per_step


async def _serve_silent(repository: Path) -> int:
    asked: dict[str, Any] = {"repository": repository, "listen": "127.0.0.1:0", "metrics_listen": "127.0.0.1:0"}
    settings = ServeSettings(**asked)
    log_to_stderr("warning", "json")
    server = Served(settings, ServerMetrics(CollectorRegistry(), Silent()))
    return await serve(settings, lambda ready: print(f"ready on {ready.address}", flush=True), server)


if __name__ == "__main__":
    main()
