"""`python -m bench`: measures everything in one run, and prints it with the goals. `--peer` adds Triton."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from bench import idle, report
from bench.models import fill
from bench.results import Results
from bench.suite import Suite

HOME = Path("var/bench")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often everything is measured; the medians are told")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--peer", type=Path, help="the Python of an environment with nvidia-pytriton")
    parser.add_argument("--no-idle", action="store_true", help="leave out the 200,000 idle sessions")
    options = parser.parse_args()
    began = time.monotonic()

    def say(what: str) -> None:
        print(f"[{time.monotonic() - began:4.0f} s] {what}", file=sys.stderr, flush=True)

    HOME.mkdir(parents=True, exist_ok=True)
    results = Results(report.machine())
    Suite(HOME, results, options.seconds, say, options.peer).rounds(options.rounds)
    if not options.no_idle:
        idle.measure(fill(HOME / "repository"), results, options.seconds, say)
    report.write(results, HOME)


if __name__ == "__main__":
    main()
