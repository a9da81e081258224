"""`python -m deploy.observability generate` writes what is made from code; `check` ends with a message if files differ from it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from deploy.observability import board, page, rules

MADE: dict[Path, Callable[[], str]] = {
    Path("deploy/grafana/statewise.json"): board.text,
    Path("deploy/prometheus/rules.yml"): rules.plain,
    Path("deploy/prometheus/rules-test.yml"): rules.tests,
    Path("deploy/prometheus/prometheusrule.yaml"): rules.resource,
    Path("docs/metrics.md"): page.text,
}


def main() -> None:
    if sys.argv[1:] == ["generate"]:
        for path, make in MADE.items():
            path.write_text(make())
    elif sys.argv[1:] == ["check"]:
        stale = [str(path) for path, make in MADE.items() if not path.exists() or path.read_text() != make()]
        if stale:
            sys.exit(f"these are not what the code says, run `make board`: {', '.join(stale)}")
        print("observability: page of metrics, rules and board are what the code says")
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
