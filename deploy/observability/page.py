"""docs/metrics.md: a table of all metrics, from the class that makes them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from statewise.metrics import Described, Exposed, ServerMetrics

HEAD = """# Metrics

<!-- Made by `make board` from service/statewise/metrics; change it there. -->

`statewise serve` shows its metrics at `http://127.0.0.1:8002/metrics` (`--metrics-listen`). None has a label for a session, a
client or a tenant: of those there is no end. Times are in seconds. Counters and histograms are updated for each batch, gauges are
read when they are scraped; what can be counted from the start is there as zero from the start. Beside these there are `process_*`
and `python_*` of prometheus-client.

The service level is told by two of them, since errors travel inside the stream and a stream's own duration says nothing:
`statewise_steps_total` by `code` and `statewise_step_seconds`. [runbook.md](runbook.md) says what to do when an alert calls.

| metric | kind | labels | what it tells |
|---|---|---|---|
"""


def text() -> str:
    """Returns the page."""
    registry = CollectorRegistry()
    made = Exposed(registry)
    ServerMetrics(registry, made)
    return HEAD + "".join(_row(each) for each in made.described)


def _row(metric: Described) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"| `{metric.name}` | {metric.kind} | {labels} | {metric.documentation} |\n"
