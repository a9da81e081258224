"""`statewise serve` as a process of its own, with real models, real sockets and real signals."""

import re
import resource
import signal
import subprocess
import sys
import urllib.request

import grpc
import numpy as np
import pytest
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from builders.served import start
from statewise.client import Client
from statewise.client.failures import from_status
from statewise.config import ServeSettings
from statewise.errors import AlreadyOpen, InvalidInput, ModelUnknown, Reason, SessionGone
from statewise.server import EXIT_ENGINE_DIED, SERVICES, serve
from statewise.tensors import encode
from statewise.v1 import sequence_pb2, sequence_pb2_grpc

STATUS = health_pb2.HealthCheckResponse


def scraped(running, name):
    with urllib.request.urlopen(running.metrics, timeout=30) as page:
        return re.findall(rf"^{name}(?:{{.*}})? (.*)$", page.read().decode(), re.MULTILINE)


def label_step(number, session, values, **fields):
    tensor = encode("x", np.asarray(values, np.float32))
    return sequence_pb2.StepRequest(request_id=number, session_id=session, inputs=[tensor], **fields)


def test_open_step_close(tiny_server):
    """A session steps, tells its position, and is gone after close."""
    with Client(tiny_server.address) as client:
        session = client.open_session("demand")
        assert session.step([100.0], time=1).shape == (1,)
        assert session.step([[101.0], [102.0]], time=[2, 3]).shape == (2, 1)
        assert session.position == 3
        assert session.close()
        with pytest.raises(SessionGone) as gone:
            session.step([1.0], time=4)
        assert gone.value.reason is Reason.CLOSED


def test_two_clients_get_what_each_gets_alone(tiny_server):
    """Two interleaved sessions of two clients equal one session stepped at once: nothing leaks from one to the other."""
    x = np.random.default_rng(0).normal(size=(2, 20, 2)).astype(np.float32)
    with Client(tiny_server.address) as one, Client(tiny_server.address) as two:
        alone = [one.open_session("label").step(series) for series in x]
        sessions = [client.open_session("label") for client in (one, two)]
        together = [[session.step(x[who, now]) for who, session in enumerate(sessions)] for now in range(20)]
    np.testing.assert_allclose(np.swapaxes(together, 0, 1), alone, rtol=1e-5, atol=1e-6)


def test_a_session_moves_between_streams(tiny_server):
    """A session opened by one client and stepped by others goes on where it stood."""
    x = np.random.default_rng(1).normal(size=(3, 2)).astype(np.float32)
    with Client(tiny_server.address) as client:
        expected = client.open_session("label").step(x)
        name = client.open_session("label").id
    outputs = []
    for now in range(3):
        with grpc.insecure_channel(tiny_server.address) as channel:
            stub = sequence_pb2_grpc.SequenceServiceStub(channel)
            (response,) = stub.Step(iter([label_step(1, name, x[now : now + 1], position=now)]))
            outputs.append(np.frombuffer(response.outputs[0].data, "<f4"))
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)


def test_bad_input_is_answered_in_band_and_the_stream_survives(tiny_server):
    """NaN, infinity, a wrong shape, a wrong position and an unknown session each fail their own step, and no other."""
    with grpc.insecure_channel(tiny_server.address) as channel:
        stub = sequence_pb2_grpc.SequenceServiceStub(channel)
        name = stub.OpenSession(sequence_pb2.OpenSessionRequest(model="label")).session_id
        requests = [
            label_step(1, name, [[1, 2]]),
            label_step(2, name, [[float("nan"), 2]]),
            label_step(3, name, [[1, float("inf")]]),
            label_step(4, name, [[1, 2, 3]]),
            label_step(5, name, np.zeros((0, 2))),
            label_step(6, "nobody", [[1, 2]]),
            label_step(7, name, [[1, 2]], position=2**64 - 1),
            label_step(8, name, [[1, float("nan")]]),
        ]
        responses = {response.request_id: response for response in stub.Step(iter(requests))}
    assert {number: from_status(response.error).reason for number, response in responses.items() if response.HasField("error")} == {
        2: Reason.NON_FINITE_INPUT,
        3: Reason.NON_FINITE_INPUT,
        4: Reason.BAD_FIELD,
        5: Reason.BAD_FIELD,
        6: Reason.UNKNOWN,
        7: Reason.AHEAD,
    }
    assert responses[8].position == 2


def test_a_refused_step_does_not_advance_its_session(tiny_server):
    """The outputs after a refused step are those of a session that never saw it."""
    with Client(tiny_server.address) as client:
        plain, tried = client.open_session("text"), client.open_session("text")
        plain.step([0, 1])
        tried.step([0, 1])
        with pytest.raises(InvalidInput, match="0 to 3"):
            tried.step([2, 4])
        np.testing.assert_allclose(tried.step([2]), plain.step([2]), rtol=1e-5, atol=1e-6)


def test_unknown_models_and_taken_ids_are_told(tiny_server):
    """Open says which models and versions there are, and whose id is taken."""
    with Client(tiny_server.address) as client, client.open_session("text", session_id="taken"):
        with pytest.raises(ModelUnknown, match="demand, label, text"):
            client.open_session("nope")
        with pytest.raises(ModelUnknown, match="it has: 1"):
            client.open_session("text", version=7)
        with pytest.raises(AlreadyOpen):
            client.open_session("text", session_id="taken")


@pytest.mark.parametrize("service", ["", SERVICES[0]])
def test_health_is_told_by_both_names(tiny_server, service):
    """The server and its service are SERVING by their names of grpc.health.v1."""
    with grpc.insecure_channel(tiny_server.address) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service), timeout=30)
    assert check.status == STATUS.SERVING


def _reflected(address):
    request = reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICES[0])
    with grpc.insecure_channel(address) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        (response,) = stub.ServerReflectionInfo(iter([request]))
    return descriptor_pb2.FileDescriptorProto.FromString(response.file_descriptor_response.file_descriptor_proto[0])


def test_reflection_is_there_only_where_it_is_asked_for(tiny_server, tmp_path):
    """With --reflection the service describes itself; without, the call is not implemented. An empty repository can be served."""
    assert _reflected(tiny_server.address).service[0].name == "SequenceService"
    without = start(tmp_path)
    with pytest.raises(grpc.RpcError) as refused:
        _reflected(without.address)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
    without.stop()


def test_metrics_count_what_happened(tiny_server):
    """The scrape tells sessions, timesteps and refusals."""
    with Client(tiny_server.address) as client:
        before = sum(map(float, scraped(tiny_server, "statewise_sessions")))
        rejected = sum(map(float, scraped(tiny_server, "statewise_steps_rejected_total")))
        with client.open_session("text") as session:
            session.step([0, 1, 2])
            with pytest.raises(InvalidInput):
                session.step([9])
            assert sum(map(float, scraped(tiny_server, "statewise_sessions"))) == before + 1
        assert sum(map(float, scraped(tiny_server, "statewise_sessions"))) == before
        assert sum(map(float, scraped(tiny_server, "statewise_steps_rejected_total"))) == rejected + 1
        assert sum(map(float, scraped(tiny_server, "statewise_timesteps_total"))) >= 3


def test_a_killed_client_leaves_its_session_and_a_healthy_server(tiny_server):
    """The end of a stream is not the end of a session: after kill -9 it is still there, for others to step and close."""
    script = """if True:
        import sys
        from statewise.client import Client
        session = Client(sys.argv[1]).open_session("text", session_id="orphan")
        while True:
            session.step([0])
            print(session.position, flush=True)
    """
    client = subprocess.Popen([sys.executable, "-c", script, tiny_server.address], stdout=subprocess.PIPE, text=True)
    with client.stdout:
        assert client.stdout.readline() == "1\n"
        client.kill()
        client.wait()
    with grpc.insecure_channel(tiny_server.address) as channel:
        stub = sequence_pb2_grpc.SequenceServiceStub(channel)
        request = sequence_pb2.StepRequest(session_id="orphan", inputs=[encode("token", np.array([0]))])
        (response,) = stub.Step(iter([request]))
        assert response.position >= 2
        assert stub.CloseSession(sequence_pb2.CloseSessionRequest(session_id="orphan")).closed


def test_sigterm_while_streaming_answers_what_was_taken_and_ends_with_0(tiny_repository):
    """What was admitted is answered and what was not is refused as DRAINING; health says NOT_SERVING; the exit status is 0."""
    running = start(tiny_repository)
    sessions, each = [f"s{number}" for number in range(8)], 16
    with grpc.insecure_channel(running.address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == STATUS.SERVING
        stub = sequence_pb2_grpc.SequenceServiceStub(channel)
        for session in sessions:
            stub.OpenSession(sequence_pb2.OpenSessionRequest(model="label", session_id=session, retained_replies=16))
        long = np.zeros((2000, 2), np.float32)
        requests = [label_step(now * 8 + who, name, long) for now in range(each) for who, name in enumerate(sessions)]
        call, responses = stub.Step(iter(requests)), []
        responses.append(next(call))
        running.process.send_signal(signal.SIGTERM)
        assert next(watch).status == STATUS.NOT_SERVING
        watch.cancel()
        responses += call
    assert running.process.wait(60) == 0
    running.process.stdout.close()
    refused = {response.request_id for response in responses if response.HasField("error")}
    assert {from_status(response.error).reason for response in responses if response.HasField("error")} <= {Reason.DRAINING}
    for who in range(8):
        answered = [r.request_id for r in responses if r.request_id % 8 == who and r.request_id not in refused]
        assert answered == [now * 8 + who for now in range(len(answered))], "answers of a session must have no gap"


def test_a_server_may_open_as_many_files_as_the_system_lets_it(tiny_repository):
    """Started with room for few, as by systemd with 1,024, it takes what the hard limit leaves it: a connection is a file."""
    soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, soft), most))
    try:
        running = start(tiny_repository)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, most))
    try:
        assert float(scraped(running, "process_max_fds")[0]) == most
    finally:
        running.stop()


def test_a_second_signal_ends_at_once(tiny_repository):
    """While the drain waits for a stream that does not end, a second SIGTERM ends the process, and not with status 0."""
    running = start(tiny_repository)
    with grpc.insecure_channel(running.address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == STATUS.SERVING
        running.process.send_signal(signal.SIGTERM)
        assert next(watch).status == STATUS.NOT_SERVING
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(60) == 1
    running.process.stdout.close()


async def test_a_dead_engine_ends_the_server_with_status_70(tiny_repository):
    """A server whose batcher has died never limps on."""
    settings = ServeSettings(repository=tiny_repository, listen="127.0.0.1:0", metrics_listen="127.0.0.1:0")
    assert await serve(settings, lambda server: server.host.failed.set()) == EXIT_ENGINE_DIED
