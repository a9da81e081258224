"""Traces of steps: one step's four parts, in the trace that its client began, and nothing that is as long as a stream."""

import asyncio

import grpc
import numpy as np
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from builders.summing import ALL, serving
from statewise.tensors import encode
from statewise.tracing import MOST_A_SECOND, StepTraces
from statewise.v1 import sequence_pb2, sequence_pb2_grpc

TRACE = "0af7651916cd43dd8448eb211c80319c"
SAMPLED = (("traceparent", f"00-{TRACE}-b7ad6b7169203331-01"),)
NOT_SAMPLED = (("traceparent", f"00-{TRACE}-b7ad6b7169203331-00"),)


def traced(share=0.0):
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return exporter, StepTraces(provider, share)


async def stepped(served, metadata=None, steps=1):
    """Steps a session of its own over a stream with these metadata, one step after the other."""
    async with grpc.aio.insecure_channel(served.address) as channel:
        stub = sequence_pb2_grpc.SequenceServiceStub(channel)
        opened = await stub.OpenSession(sequence_pb2.OpenSessionRequest(model="sum"))
        stream = stub.Step(metadata=metadata)
        for number in range(steps):
            x = encode("x", np.ones((1, 2), np.float32))
            await stream.write(sequence_pb2.StepRequest(request_id=number, session_id=opened.session_id, inputs=[x]))
            assert not (await stream.read()).HasField("error")
        await stream.done_writing()


@pytest.mark.parametrize("on_loop", [0, ALL])
async def test_a_sampled_step_has_its_four_parts(on_loop):
    """Queue, compute and commit lie end to end in the step's span, which is the client's child and links to the batch."""
    async with serving(on_loop=on_loop) as served:
        exporter, served.host.batcher.answering.traces = traced()
        await stepped(served, SAMPLED)
    spans = {span.name: span for span in exporter.get_finished_spans()}
    assert sorted(span.name for span in exporter.get_finished_spans()) == ["batch", "commit", "compute", "queue", "step"]
    step, batch = spans["step"], spans["batch"]
    assert f"{step.context.trace_id:032x}" == TRACE
    assert f"{step.parent.span_id:016x}" == "b7ad6b7169203331"
    assert [link.context.span_id for link in step.links] == [batch.context.span_id]
    assert batch.context.trace_id != step.context.trace_id
    parts = [spans[name] for name in ("queue", "compute", "commit")]
    assert {part.parent.span_id for part in parts} == {step.context.span_id}
    edges = [step.start_time, *(part.end_time for part in parts)]
    assert [part.start_time for part in parts] == edges[:-1]
    assert edges == sorted(edges)
    assert step.end_time == edges[-1]
    told = {"statewise.model": "sum", "statewise.version": "3", "statewise.timesteps": 1, "statewise.rows": 1}
    assert dict(step.attributes) == told


async def test_a_stream_is_never_a_span():
    """Each step of a sampled stream is a span of its own."""
    async with serving(on_loop=ALL) as served:
        exporter, served.host.batcher.answering.traces = traced()
        await stepped(served, SAMPLED, steps=3)
    assert [span.name for span in exporter.get_finished_spans()].count("step") == 3


async def test_who_is_traced():
    """A stream that says no is never traced, however large the share; one that says nothing is by the share."""
    async with serving(on_loop=ALL) as served:
        exporter, served.host.batcher.answering.traces = traced(share=1.0)
        await stepped(served, NOT_SAMPLED)
        assert exporter.get_finished_spans() == ()
        await stepped(served)
        assert len(exporter.get_finished_spans()) == 5
        exporter, served.host.batcher.answering.traces = traced(share=0.0)
        await stepped(served)
        assert exporter.get_finished_spans() == ()


async def test_traces_are_bounded():
    """A client that wants every step traced gets so many a second."""
    async with serving(on_loop=ALL) as served:
        exporter, traces = traced()
        served.host.batcher.answering.traces = traces
        started = asyncio.get_running_loop().time()
        await stepped(served, SAMPLED, steps=2 * MOST_A_SECOND)
        seconds = int(asyncio.get_running_loop().time()) - int(started) + 1
    steps = [span.name for span in exporter.get_finished_spans()].count("step")
    assert steps <= seconds * MOST_A_SECOND
    assert steps >= MOST_A_SECOND


async def test_a_trace_context_that_is_none_harms_nothing():
    """What a client sends as its trace may be anything."""
    async with serving(on_loop=ALL) as served:
        exporter, served.host.batcher.answering.traces = traced()
        await stepped(served, (("traceparent", "-1"),))
    (step,) = [span for span in exporter.get_finished_spans() if span.name == "step"]
    assert step.parent is None
