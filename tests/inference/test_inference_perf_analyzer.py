"""NVIDIA's perf_analyzer drives the server as it drives Triton: `make perf-analyzer`, which downloads it first."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

HOME = Path(__file__).parents[2] / "var" / "perf"
COMMON = ("-i", "grpc", "--measurement-mode", "count_windows", "--measurement-request-count", "400", "-s", "999", "-r", "4")

pytestmark = [
    pytest.mark.perf_analyzer,
    pytest.mark.skipif("STATEWISE_PERF_ANALYZER" not in os.environ, reason="needs perf_analyzer: make perf-analyzer"),
]


@pytest.mark.parametrize("model", ["label", "demand"])
@pytest.mark.parametrize(
    "words",
    [
        ("--streaming", "--async", "--concurrency-range", "8", "--sequence-length", "20"),
        ("--streaming", "--async", "--request-rate-range", "200", "--num-of-sequences", "16", "--sequence-length-variation", "50"),
        ("--concurrency-range", "2", "--sequence-length", "10"),
    ],
    ids=["stream", "stream-at-a-rate", "calls"],
)
def test_perf_analyzer_finds_no_error(server, model, words):
    """Sequences over a stream and over calls: it ends well, and the server's own counts are those of the client."""
    command = [str(HOME / "perf_analyzer"), "-m", model, "-u", server.address, *COMMON, *words]
    done = subprocess.run(command, env={"LD_LIBRARY_PATH": str(HOME)}, capture_output=True, text=True, timeout=110)
    print(done.stdout)  # noqa: T201 (`make perf-analyzer` shows it)
    assert done.returncode == 0, done.stdout + done.stderr
    counts = {
        name: int(number) for name, number in re.findall(r"(Request count|Sequence count|Inference count): (\d+)", done.stdout)
    }
    assert counts["Request count"] >= 400
    assert counts["Sequence count"] > 0
    assert counts["Inference count"] == pytest.approx(counts["Request count"], rel=0.1)
    assert not re.search(r"error|fail", done.stdout + done.stderr, re.IGNORECASE)
