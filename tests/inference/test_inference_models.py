"""What the Open Inference Protocol tells of server and models: readiness, metadata, configuration, statistics, the repository."""

import asyncio

import grpc
import pytest

from builders.inferring import request, total
from builders.summing import BUG, FATAL
from statewise.inference import model_config_pb2 as config
from statewise.inference import open_inference_pb2 as wire
from statewise.repository import MODEL_FILE, SERVING_FILE


async def refused(call):
    with pytest.raises(grpc.aio.AioRpcError) as problem:
        await call
    return problem.value.code().name, problem.value.details()


async def ready(stub, name, version=""):
    return (await stub.ModelReady(wire.ModelReadyRequest(name=name, version=version))).ready


async def index(stub, *, only_ready=False):
    told = await stub.RepositoryIndex(wire.RepositoryIndexRequest(ready=only_ready))
    return {(each.name, each.version): (each.state, each.reason) for each in told.models}


async def test_what_the_server_is(stub):
    """Its name, its version, and the extensions that it speaks; none that it does not."""
    told = await stub.ServerMetadata(wire.ServerMetadataRequest())
    assert told.name == "statewise"
    assert told.version
    assert set(told.extensions) == {
        "sequence",
        "sequence(string_id)",
        "parameters",
        "model_configuration",
        "statistics",
        "model_repository",
    }


async def test_a_draining_server_is_not_ready(served, stub):
    """Live and ready, and then live, not ready, and refusing."""
    assert (await stub.ServerLive(wire.ServerLiveRequest())).live
    assert (await stub.ServerReady(wire.ServerReadyRequest())).ready
    assert await ready(stub, "sum")
    await stub.ModelInfer(request(start=True))
    await served.host.drain(5)
    assert (await stub.ServerLive(wire.ServerLiveRequest())).live
    assert not (await stub.ServerReady(wire.ServerReadyRequest())).ready
    assert not await ready(stub, "sum")
    assert (await refused(stub.ModelInfer(request())))[0] == "UNAVAILABLE"
    assert (await refused(stub.ModelInfer(request(start=True))))[0] == "UNAVAILABLE"


async def test_metadata_has_the_batch_axis_first(stub):
    """Shapes are those of one timestep behind the batch; a scalar has one element."""
    told = await stub.ModelMetadata(wire.ModelMetadataRequest(name="clocked"))
    assert (told.name, list(told.versions), told.platform) == ("clocked", ["3", "4", "8"], "onnxruntime_onnx")
    assert [(t.name, t.datatype, list(t.shape)) for t in told.inputs] == [("x", "FP32", [-1, 2]), ("time", "INT64", [-1, 1])]
    assert [(t.name, t.datatype, list(t.shape)) for t in told.outputs] == [("total", "FP32", [-1, 2]), ("clock", "INT64", [-1, 1])]


async def test_configuration_says_that_sequences_are_batched(served, stub):
    """Clients find max_batch_size, dims without the batch, sequence_batching with the states, and optional values of a start."""
    told = (await stub.ModelConfig(wire.ModelConfigRequest(name="given", version="4"))).config
    assert (told.name, told.max_batch_size, told.WhichOneof("scheduling_choice")) == ("given", 256, "sequence_batching")
    assert [(i.name, i.data_type, list(i.dims), i.optional) for i in told.input] == [
        ("x", config.TYPE_FP32, [2], False),
        ("state", config.TYPE_FP32, [2], True),
        ("factor", config.TYPE_FP32, [1], True),
    ]
    batching = told.sequence_batching
    assert batching.max_sequence_idle_microseconds == 600_000_000
    assert batching.oldest.max_candidate_sequences == served.host.limits.sessions
    assert [(s.input_name, s.output_name, list(s.dims), len(s.initial_state)) for s in batching.state] == [
        ("state", "state_next", [2], 1),
        ("factor", "factor_next", [1], 0),
    ]
    assert not told.model_transaction_policy.decoupled


@pytest.mark.parametrize("call", ["ModelMetadata", "ModelConfig"])
async def test_a_model_that_is_not_there_is_unknown(stub, call):
    """NOT_FOUND in Triton's words, and nothing of the server's folders."""
    make = getattr(wire, f"{call}Request")
    assert await refused(getattr(stub, call)(make(name="nope"))) == ("NOT_FOUND", "Request for unknown model: 'nope' is not found")
    unknown = "Request for unknown model: 'sum' version 9 is not found"
    assert await refused(getattr(stub, call)(make(name="sum", version="9"))) == ("NOT_FOUND", unknown)
    assert not await ready(stub, "nope")
    assert not await ready(stub, "sum", "9")


async def test_statistics_count_what_has_run(served, stub):
    """Steps, runs by size, and failures are those that were; times add up, and a version that has done nothing tells zeros."""
    served.summing.hold()
    first = asyncio.create_task(_infer(stub, 1, (1, 0)))
    await served.summing.until(1)
    others = [asyncio.create_task(_infer(stub, number, (1, 0))) for number in range(2, 5)]
    await served.summing.until(4)
    served.summing.release()
    await asyncio.gather(first, *others)
    for bad in (FATAL, BUG):
        await refused(stub.ModelInfer(request(1, x=(bad, 0))))
    (told,) = (await stub.ModelStatistics(wire.ModelStatisticsRequest(name="sum"))).model_stats
    assert (told.name, told.version, told.inference_count, told.execution_count) == ("sum", "3", 4, 4)
    assert [(batch.batch_size, batch.compute_infer.count) for batch in told.batch_stats] == [(1, 3), (3, 1)]
    spent = told.inference_stats
    assert (spent.success.count, spent.fail.count, spent.queue.count, spent.compute_infer.count) == (4, 2, 6, 6)
    assert spent.success.ns > spent.queue.ns > 0
    assert spent.compute_infer.ns == pytest.approx(sum(b.batch_size * b.compute_infer.ns for b in told.batch_stats), abs=10)
    assert told.last_inference > 1_600_000_000_000
    everything = (await stub.ModelStatistics(wire.ModelStatisticsRequest())).model_stats
    assert {each.name: each.inference_count for each in everything} == {"sum": 4, "clocked": 0, "given": 0, "tokens": 0}
    assert (await refused(stub.ModelStatistics(wire.ModelStatisticsRequest(name="nope"))))[0] == "INVALID_ARGUMENT"


async def _infer(stub, sequence, x):
    return total(await stub.ModelInfer(request(sequence, x, start=True)))


async def test_the_index_tells_what_is_served_and_why_not(served, stub):
    """Versions in memory are READY, those that nobody has asked for have no state, and one that cannot be served says why."""
    root = served.host.models.repository.root
    (root / "sum" / SERVING_FILE).write_text("{}")
    await served.host.models.refresh()
    told = await index(stub)
    assert told["tokens", "3"] == ("READY", "")
    assert told["tokens", "4"] == ("", "")
    assert told["sum", "4"][0] == "UNAVAILABLE"
    assert "must hold" in told["sum", "4"][1]
    assert {state for state, _ in (await index(stub, only_ready=True)).values()} == {"READY"}
    assert not await ready(stub, "sum")
    assert await ready(stub, "tokens")
    assert (await stub.ServerReady(wire.ServerReadyRequest())).ready
    unknown = wire.RepositoryIndexRequest(repository_name="other")
    assert (await refused(stub.RepositoryIndex(unknown)))[0] == "INVALID_ARGUMENT"


async def test_an_unloaded_model_begins_no_sequence(served, stub):
    """Sequences that are open go on, new ones are refused until the model is loaded again, and then its last session is gone."""
    await stub.ModelInfer(request(start=True))
    await stub.RepositoryModelUnload(wire.RepositoryModelUnloadRequest(model_name="sum"))
    assert not await ready(stub, "sum")
    assert total(await stub.ModelInfer(request())) == 2
    assert (await refused(stub.ModelInfer(request(8, start=True))))[0] == "NOT_FOUND"
    await stub.ModelInfer(request(end=True))
    await served.host.models.refresh()
    assert ("sum", 3) not in served.host.models.ready
    await stub.RepositoryModelLoad(wire.RepositoryModelLoadRequest(model_name="sum"))
    assert await ready(stub, "sum")
    assert total(await stub.ModelInfer(request(start=True))) == 1


async def test_load_tries_again_what_could_not_be_loaded(served, stub):
    """What is asked for is what the repository has; another configuration is refused, and so is a model that is not there."""
    served.host.models.refused["sum", 8] = "it was broken"
    await stub.RepositoryModelLoad(wire.RepositoryModelLoadRequest(model_name="sum"))
    assert ("sum", 8) not in served.host.models.refused
    assert (served.host.models.repository.root / "sum" / "8" / MODEL_FILE).exists()
    for call in (stub.RepositoryModelLoad, stub.RepositoryModelUnload):
        make = wire.RepositoryModelLoadRequest if call is stub.RepositoryModelLoad else wire.RepositoryModelUnloadRequest
        assert (await refused(call(make(model_name="nope"))))[0] == "NOT_FOUND"
    other = wire.RepositoryModelLoadRequest(model_name="sum")
    other.parameters["config"].string_param = "{}"
    assert (await refused(stub.RepositoryModelLoad(other)))[0] == "INVALID_ARGUMENT"
