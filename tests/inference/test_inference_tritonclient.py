"""tritonclient, as NVIDIA publishes it and in a process of its own, against `statewise serve`."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from pathlib import Path

import grpc
import numpy as np
import pytest
import torch
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from builders.tiny import LABEL
from builders.triton import with_tritonclient
from statewise.probes import LIVE, READY, with_health
from statewise_models.export.conversation import conversation
from statewise_models.network import Network

SEQUENCES = 200
TIMESTEPS = 3
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def offline(networks: tuple[Path, dict[str, Network]], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """Where inputs `[timesteps, sequences, 2]` of `label` lie, and what torch computes of each sequence at once."""
    whole = conversation(LABEL, [(SEQUENCES, TIMESTEPS)], seed=1)[0].inputs
    network = networks[1]["label"]
    with torch.no_grad():
        inputs = {key: torch.from_numpy(value) for key, value in whole.items()}
        outputs = network.predict(inputs, network.initial(SEQUENCES))[0].numpy()
    file = tmp_path_factory.mktemp("inputs") / "x.npy"
    np.save(file, whole["x"])
    return file, outputs


CALLS = """
x = np.load(told["x"])
client = triton.InferenceServerClient(address)
drawn = np.random.default_rng(0)
left = {n: list(range(len(x))) for n in range(told["sequences"])}
outputs = {n: [] for n in left}
while left:
    n = drawn.choice(list(left))
    t = left[n].pop(0)
    flags = {"sequence_id": int(n) + 1, "sequence_start": t == 0, "sequence_end": t == len(x) - 1}
    outputs[n].append(client.infer("label", [tensor("x", x[t, n][None])], **flags).as_numpy("probability")[0].tolist())
    if not left[n]:
        del left[n]
print(json.dumps([outputs[n] for n in sorted(outputs)]))
"""

CALLS_AT_ONCE = """
x = np.load(told["x"])

async def sequence(client, n):
    outputs = []
    for t in range(len(x)):
        flags = {"sequence_id": f"aio-{n}", "sequence_start": t == 0, "sequence_end": t == len(x) - 1}
        reply = await client.infer("label", [tensor("x", x[t, n][None])], request_id=str(t), **flags)
        outputs.append(reply.as_numpy("probability")[0].tolist())
    return outputs

async def main():
    async with triton_aio.InferenceServerClient(address) as client:
        return await asyncio.gather(*(sequence(client, n) for n in range(told["sequences"])))

print(json.dumps(asyncio.run(main())))
"""

STREAMED = """
x = np.load(told["x"])
answers = queue.Queue()
outputs = {n: [None] * len(x) for n in range(told["sequences"])}
with triton.InferenceServerClient(address) as client:
    client.start_stream(lambda result, error: answers.put((result, error)))
    for t in range(len(x)):
        for n in np.random.default_rng(t).permutation(told["sequences"]).tolist():
            flags = {"sequence_id": n + 1, "sequence_start": t == 0, "sequence_end": t == len(x) - 1}
            client.async_stream_infer("label", [tensor("x", x[t, n][None])], request_id=f"{n} {t}", **flags)
    for _ in range(x.shape[0] * told["sequences"]):
        result, error = answers.get(timeout=60)
        assert error is None, error
        n, t = map(int, result.get_response().id.split())
        outputs[n][t] = result.as_numpy("probability")[0].tolist()
    client.stop_stream()
print(json.dumps([outputs[n] for n in sorted(outputs)]))
"""

STREAMED_AIO = """
x = np.load(told["x"])

async def main():
    outputs = {n: [None] * len(x) for n in range(told["sequences"])}

    async def requests():
        for t in range(len(x)):
            for n in range(told["sequences"]):
                flags = {"sequence_id": f"s{n}", "sequence_start": t == 0, "sequence_end": t == len(x) - 1}
                yield {"model_name": "label", "inputs": [tensor("x", x[t, n][None])], "request_id": f"{n} {t}", **flags}

    async with triton_aio.InferenceServerClient(address) as client:
        count = 0
        async for result, error in client.stream_infer(requests()):
            assert error is None, error
            n, t = map(int, result.get_response().id.split())
            outputs[n][t] = result.as_numpy("probability")[0].tolist()
            count += 1
            if count == x.shape[0] * told["sequences"]:
                break
    return [outputs[n] for n in sorted(outputs)]

print(json.dumps(asyncio.run(main())))
"""


@pytest.mark.parametrize("program", [CALLS, CALLS_AT_ONCE, STREAMED, STREAMED_AIO], ids=["calls", "aio", "stream", "aio-stream"])
def test_two_hundred_interleaved_sequences_equal_the_reference(server, offline, program):
    """Each of four ways in which tritonclient speaks gives every sequence what torch computes of it alone."""
    file, expected = offline
    outputs = np.array(with_tritonclient(program, server.address, x=str(file), sequences=SEQUENCES))
    assert outputs.shape == (SEQUENCES, TIMESTEPS, 2)
    assert np.abs(outputs.swapaxes(0, 1) - expected).max() <= TOLERANCE * np.abs(expected).max()


ERRORS = """
def refused(**flags):
    try:
        client.infer("label", [tensor("x", np.ones((1, 2), np.float32))], **flags)
    except InferenceServerException as problem:
        return [problem.status(), problem.message()]
    return None

client = triton.InferenceServerClient(address)
told = [refused(sequence_id=901), refused(), refused(sequence_id="nine"), refused(sequence_id=902, sequence_start=True)]
told += [refused(sequence_id=902, sequence_end=True), refused(sequence_id=902)]

answers = queue.Queue()
client.start_stream(lambda result, error: answers.put((result, error)))
client.async_stream_infer("label", [tensor("x", np.ones((1, 2), np.float32))], sequence_id=904)
told.append(answers.get(timeout=30)[1].message())
client.async_stream_infer("label", [tensor("x", np.ones((1, 2), np.float32))], sequence_id=904, sequence_start=True)
told.append(str(answers.get(timeout=30)[1]))
client.stop_stream()
print(json.dumps(told))
"""


def test_errors_are_as_triton_gives_them(server):
    """The client raises with Triton's code and words; in a stream the error is told and the stream goes on."""

    def not_begun(sequence):
        told = f"inference request for sequence {sequence} to model 'label' must specify the START flag"
        return f"{told} on the first request of the sequence"

    unknown, nothing, text, ok, end, ended, in_stream, after = with_tritonclient(ERRORS, server.address)
    code = "StatusCode.INVALID_ARGUMENT"
    assert unknown == [code, not_begun(901)]
    assert nothing == [code, "inference request to model 'label' must specify a non-zero or non-empty correlation ID"]
    assert text == [code, not_begun("nine")]
    assert (ok, end) == (None, None)
    assert ended == [code, f"{not_begun(902)}; it has ended"]
    assert in_stream == not_begun(904)
    assert after == "None"


FACTS = """
client = triton.InferenceServerClient(address)
told = {
    "live": client.is_server_live(), "ready": client.is_server_ready(), "label": client.is_model_ready("label", "1"),
    "nope": client.is_model_ready("nope"),
    "name": client.get_server_metadata(as_json=True)["name"],
    "inputs": client.get_model_metadata("demand", as_json=True)["inputs"],
    "batching": list(client.get_model_config("demand", as_json=True)["config"]["sequence_batching"]),
    "index": {each["name"]: each for each in client.get_model_repository_index(as_json=True)["models"]},
    "broken": client.is_model_ready("broken"),
}
x, time = np.ones((1, 1), np.float32), np.array([[5]], np.int64)
wanted = [triton.InferRequestedOutput("forecast")]
for position in (0, 1, 1):
    reply = client.infer(
        "demand", [tensor("x", x), tensor("time", time)], outputs=wanted, sequence_id=1, sequence_start=position == 0,
        request_id="r", parameters={"position": position}
    ).get_response()
    told.setdefault("positions", []).append(reply.parameters["position"].int64_param)
four = [tensor("x", np.ones((1, 4, 1), np.float32)), tensor("time", np.arange(4)[None, :, None])]
many = client.infer("demand", four, sequence_id=1)
told["many"] = list(many.as_numpy("forecast").shape)
told["id"] = reply.id
(stats,) = client.get_inference_statistics("demand", as_json=True)["model_stats"]
told["statistics"] = [stats["inference_count"], stats["execution_count"], stats["inference_stats"]["success"]["count"]]
client.unload_model("text")
told["unloaded"] = client.is_model_ready("text")
client.load_model("text")
told["loaded"] = client.is_model_ready("text")
try:
    client.get_trace_settings()
except InferenceServerException as problem:
    told["trace"] = problem.status()
print(json.dumps(told))
"""


def test_what_tritonclient_asks_of_server_and_models(server):
    """Readiness, metadata, configuration, statistics, load and unload; several inputs, positions and many timesteps.

    A model that is broken says why, is not ready, and keeps neither the server nor the others from being so.
    """
    told = with_tritonclient(FACTS, server.address)
    assert (told["live"], told["ready"], told["label"], told["nope"]) == (True, True, True, False)
    assert told["name"] == "statewise"
    assert [(each["name"], each["datatype"], each["shape"]) for each in told["inputs"]] == [
        ("x", "FP32", ["-1", "1"]),
        ("time", "INT64", ["-1", "1"]),
    ]
    assert {"state", "oldest", "max_sequence_idle_microseconds"} <= set(told["batching"])
    broken = told["index"].pop("broken")
    assert (told["broken"], broken["state"], "model.onnx" in broken["reason"]) == (False, "UNAVAILABLE", True)
    assert [(name, each["state"]) for name, each in told["index"].items()] == [
        (name, "READY") for name in ("demand", "label", "text")
    ]
    assert (told["positions"], told["id"], told["many"]) == ([1, 2, 2], "r", [1, 4, 1])
    assert told["statistics"] == ["3", "3", "3"]
    assert (told["unloaded"], told["loaded"], told["trace"]) == (False, True, "StatusCode.UNIMPLEMENTED")


BOTH = """
from statewise.client import Client

with Client(address) as client, client.open_session("label") as session:
    mine = session.step(np.ones((1, 2), np.float32))[0].tolist()
theirs = triton.InferenceServerClient(address).infer(
    "label", [tensor("x", np.ones((1, 2), np.float32))], sequence_id=77, sequence_start=True
)
loaded = [name for name in sys.modules if name.startswith("statewise.inference")]
print(json.dumps([mine, theirs.as_numpy("probability")[0].tolist(), loaded]))
"""


def test_both_clients_live_in_one_process(server):
    """Statewise's own client never brings the stubs of this protocol, so an application may use both while it moves."""
    mine, theirs, loaded = with_tritonclient(BOTH, server.address)
    np.testing.assert_allclose(mine, theirs, rtol=1e-5)
    assert loaded == []


def test_the_servers_stubs_cannot_share_a_process_with_tritonclient():
    """Why these tests run in processes of their own: protobuf knows each name once. When this fails, they need not any more."""
    code = "import tritonclient.grpc; import statewise.inference.open_inference_pb2"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "TypeError" in done.stderr


def test_probes_find_the_server_on_the_metrics_port(server):
    """The protocol's HTTP health paths answer there, and the metrics as before."""
    for path in (LIVE, READY):
        with urllib.request.urlopen(server.metrics.replace("/metrics", path), timeout=30) as answer:
            assert (answer.status, answer.read()) == (200, b"")
    with urllib.request.urlopen(server.metrics, timeout=30) as answer:
        assert b"statewise_steps_total" in answer.read()


def test_a_server_that_is_not_ready_is_live():
    """The probes tell "not yet, or no more" from "dead"; what is no health path goes to the application behind."""
    statuses = []
    ready = [False]
    asked = with_health(lambda environ, start_response: [b"behind"], lambda: ready[0])
    for state in (False, True):
        ready[0] = state
        assert asked({"PATH_INFO": READY}, lambda status, _: statuses.append(status)) == [b""]
    asked({"PATH_INFO": LIVE}, lambda status, _: statuses.append(status))
    assert statuses == ["503 Service Unavailable", "200 OK", "200 OK"]
    assert asked({"PATH_INFO": "/metrics"}, lambda *_: None) == [b"behind"]


def test_reflection_and_health_know_the_service(server):
    """Tools find the service by its name, and what is not served is not among its methods."""
    name = "inference.GRPCInferenceService"
    request = reflection_pb2.ServerReflectionRequest(file_containing_symbol=name)
    with grpc.insecure_channel(server.address) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=name), timeout=30)
        (response,) = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([request]))
    assert check.status == health_pb2.HealthCheckResponse.SERVING
    file = descriptor_pb2.FileDescriptorProto.FromString(response.file_descriptor_response.file_descriptor_proto[0])
    methods = {method.name for method in file.service[0].method}
    assert {"ModelInfer", "ModelStreamInfer"} <= methods
    assert not any("SharedMemory" in method for method in methods)
