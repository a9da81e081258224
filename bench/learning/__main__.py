"""`python -m bench.learning`: trains all that docs/evaluation.md tells of, from nothing, and writes the page and its pictures."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from bench.learning import demand, text, vowels
from bench.learning.ledger import Ledger, workers
from bench.learning.page import write

LEDGER = Path("var/evaluate/results.json")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.learning", description=__doc__)
    parser.add_argument("--resume", action="store_true", help=f"keep what {LEDGER} holds of a run that was stopped")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="where evaluation.md and images/ are written")
    options = parser.parse_args()
    began = time.monotonic()
    ledger = Ledger(LEDGER, resume=options.resume)
    results = ledger.run([*text.units(), *vowels.choosing(), *demand.units()], workers())
    results = ledger.run([*vowels.units(vowels.chosen(results)), vowels.baseline()], workers())
    minutes = None if options.resume else (time.monotonic() - began) / 60
    write(results, options.docs, minutes)
    print(f"written: {options.docs}/evaluation.md and its pictures, {LEDGER}", file=sys.stderr)


if __name__ == "__main__":
    main()
