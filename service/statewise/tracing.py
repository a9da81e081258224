"""Traces of single steps, for OpenTelemetry: where one step's time went.

A sampled step is a span from its arrival to its answer, child of the trace that its stream's `traceparent` names (W3C Trace
Context), with three spans in it: queue, compute and commit. The batch that it ran in is a trace of its own, which the step links
to, since it ran other clients' steps as well. All are made when the step is over, out of times that are known by then, so nothing
is kept meanwhile; and no span is as long as a stream. Where tracing is off, a batch costs one `if` and OpenTelemetry is not
imported.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from statewise.columns import Column, Part

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

TRACEPARENT = "traceparent"
MOST_A_SECOND = 100
"""Spans of steps; a client that asks for each of its steps to be traced gets these at most."""


def parent_of(metadata: Iterable[tuple[str, Any]] | None) -> str:
    """Returns the trace context that a call's metadata bring, or nothing."""
    return next((str(value) for key, value in metadata or () if key == TRACEPARENT), "")


def exported(endpoint: str, share: float) -> StepTraces:
    """Returns traces that go to an OTLP collector, gRPC without TLS; raises `ModuleNotFoundError` without `statewise[otel]`."""
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": "statewise"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint, insecure=True)))
    return StepTraces(provider, share)


class StepTraces:
    """Makes the spans.

    Args:
        share: of the steps whose stream names no trace. Those of a stream with a sampled one are all taken, within the limit, and
            those of a stream with one that is not sampled never.
    """

    def __init__(self, provider: TracerProvider, share: float) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("statewise")
        self._share = share
        self._second = 0
        self._made = 0

    def ran(self, labels: tuple[str, str], parts: Sequence[Part], steps: int, started: float, ended: float, now: float) -> None:
        """A batch is over: of `steps` steps in `parts`, run from `started` to `ended`, answered by `now`, on the steady clock."""
        batch = None
        for part in parts:
            if part.offset + part.length < part.column.timesteps or not self._sampled(part.column):
                continue
            clock = time.time_ns() - int(time.monotonic() * 1e9)
            began, over, done = (clock + int(moment * 1e9) for moment in (started, ended, now))
            if batch is None:
                batch = self._tracer.start_span(
                    "batch", start_time=began, attributes={**_version(labels), "statewise.steps": steps}
                )
            self._step(labels, part, batch, (clock + int(part.column.arrived * 1e9), began, over, done))
            batch.end(done)

    def shutdown(self) -> None:
        """Sends what is left; may take seconds."""
        self._provider.shutdown()

    def _sampled(self, column: Column) -> bool:
        parent = _parent(column)
        if not (parent[-1] in "13579bdf" if parent else random.random() < self._share):  # noqa: S311 (no secret)
            return False
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._made = second, 0
        self._made += 1
        return self._made <= MOST_A_SECOND

    def _step(self, labels: tuple[str, str], part: Part, batch: Span, times: tuple[int, int, int, int]) -> None:
        from opentelemetry.trace import Link, SpanKind, set_span_in_context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        arrived, began, over, done = times
        rows = len(part.column.sessions) if part.places is None else len(part.places)
        told: dict[str, str | int] = {**_version(labels), "statewise.timesteps": part.column.timesteps, "statewise.rows": rows}
        parent = TraceContextTextMapPropagator().extract({TRACEPARENT: _parent(part.column)})
        links = [Link(batch.get_span_context())]
        step = self._tracer.start_span("step", parent, SpanKind.SERVER, told, links, start_time=arrived)
        inside = set_span_in_context(step)
        for name, begin, end in (("queue", arrived, began), ("compute", began, over), ("commit", over, done)):
            self._tracer.start_span(name, inside, start_time=begin).end(end)
        step.end(done)


def _parent(column: Column) -> str:
    """Returns the trace context of the first stream that waits for a column's steps."""
    return next((parent for asker in column.audience.askers if (parent := getattr(asker, "trace", ""))), "")


def _version(labels: tuple[str, str]) -> dict[str, str]:
    return {"statewise.model": labels[0], "statewise.version": labels[1]}
