"""Who may speak to a server, and how: TLS, bearer keys, both renewed without a restart; over real sockets."""

from __future__ import annotations

import queue
import ssl

import grpc
import numpy as np
import pytest
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc

from builders.authority import issue, replace
from builders.served import start
from builders.summing import serving, serving_apart
from statewise.access import AccessError, is_local, read_keys
from statewise.client import AsyncClient, Client
from statewise.config import ServeSettings
from statewise.errors import InvalidInput, Unauthenticated, Unavailable
from statewise.rpc.certificates import server_credentials
from statewise.rpc.keys import BearerKeys
from statewise.server import LIVENESS
from statewise.v1 import model_pb2, model_pb2_grpc, sequence_pb2, sequence_pb2_grpc

KEY, OTHER = "first-key-0123456789", "other-key-0123456789"
STATUS = health_pb2.HealthCheckResponse


@pytest.fixture(scope="module")
def authority():
    """Signs the certificates of these tests."""
    return trustme.CA()


@pytest.fixture
def pair(authority, tmp_path):
    """A certificate of this machine and its key."""
    return issue(authority, tmp_path / "tls")


@pytest.fixture
def keys(tmp_path):
    """A file with one key."""
    file = tmp_path / "keys"
    file.write_text(f"# who: the tests\n\n{KEY}\n")
    return file


def checked(channel, service=""):
    return health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service), timeout=30).status


def test_both_clients_step_over_tls_with_a_key(pair, keys):
    """Given the authority and the key, a client works as without; sessions, frames and models alike."""
    credentials = server_credentials(pair.certificate, pair.key, None)
    with (
        serving_apart(interceptors=[BearerKeys(keys)], credentials=credentials) as apart,
        Client(apart.address, tls_ca=pair.authority, bearer_key=KEY) as client,
        client.open_session("sum") as session,
    ):
        assert session.step([1, 2]).tolist() == [1, 2]
        assert client.frame([session]).step([[1, 2]]).tolist() == [[2, 4]]
        assert client.model("sum").name == "sum"


async def test_the_async_client_too(pair, keys):
    """`AsyncClient` takes the same and does the same."""
    credentials = server_credentials(pair.certificate, pair.key, None)
    async with (
        serving(interceptors=[BearerKeys(keys)], credentials=credentials) as served,
        AsyncClient(served.address, tls_ca=pair.authority, bearer_key=KEY) as client,
        await client.open_session("sum") as session,
    ):
        assert (await session.step([1, 2])).tolist() == [1, 2]


@pytest.mark.parametrize(
    "metadata",
    [
        (),
        (("authorization", f"Bearer {OTHER}"),),
        (("authorization", KEY),),
        (("authorization", f"bearer {KEY}"),),
        (("authorization", "Bearer "),),
        (("authorization", f"Bearer {KEY}"), ("authorization", f"Bearer {OTHER}")),
    ],
)
def test_without_the_key_nothing_is_done(keys, metadata):
    """Calls of every kind are refused, before they send a message; whether the server lives is told all the same."""
    with serving_apart(interceptors=[BearerKeys(keys)]) as apart, grpc.insecure_channel(apart.address) as channel:
        sequences, models = sequence_pb2_grpc.SequenceServiceStub(channel), model_pb2_grpc.ModelServiceStub(channel)
        calls = [
            lambda: sequences.OpenSession(sequence_pb2.OpenSessionRequest(model="sum"), metadata=metadata, timeout=30),
            lambda: models.ListModels(model_pb2.ListModelsRequest(), metadata=metadata, timeout=30),
            lambda: list(sequences.StepFrame(_never(), metadata=metadata, timeout=30)),
            lambda: list(sequences.Step(_never(), metadata=metadata, timeout=30)),
        ]
        for call in calls:
            with pytest.raises(grpc.RpcError) as refused:
                call()
            assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
            assert KEY not in refused.value.details()
        assert apart.serving.summing.sums()["sessions"] == 0


def _never():
    """A stream of requests that has nothing to say for as long as the call lasts."""
    return iter(queue.SimpleQueue().get, None)


def test_clients_raise_what_is_wrong(keys, pair):
    """A key that is not known and an authority that is not the server's each have an error of their own, at once."""
    with (
        serving_apart(interceptors=[BearerKeys(keys)]) as apart,
        Client(apart.address, bearer_key=OTHER) as client,
        pytest.raises(Unauthenticated, match="authorization"),
    ):
        client.open_session("sum")
    credentials = server_credentials(pair.certificate, pair.key, None)
    stranger = issue(trustme.CA(), pair.key.parent / "stranger")
    with serving_apart(credentials=credentials) as apart:
        for wrong in ({"tls_ca": stranger.authority}, {}):
            with Client(apart.address, timeout_seconds=5, **wrong) as client, pytest.raises(Unavailable):
                client.open_session("sum")


def test_a_key_that_is_taken_away_ends_at_its_next_call(keys):
    """Rotation: a new key beside the old one, clients change, the old one is removed; nothing is restarted, nothing fails."""
    with (
        serving_apart(interceptors=[BearerKeys(keys)]) as apart,
        Client(apart.address, bearer_key=KEY) as old,
        Client(apart.address, bearer_key=OTHER) as new,
    ):
        with pytest.raises(Unauthenticated):
            new.model("sum")
        replace(keys, f"{KEY}\n{OTHER}\n".encode())
        new.model("sum")
        old.model("sum")
        replace(keys, b"")
        old.model("sum")  # an empty file is a mistake: the keys of before stay in force
        replace(keys, f"{OTHER}\n".encode())
        new.model("sum")
        with pytest.raises(Unauthenticated):
            old.model("sum")


def served_certificate(address):
    host, _, port = address.rpartition(":")
    return ssl.get_server_certificate((host, int(port)))


def test_a_renewed_certificate_is_shown_to_the_next_connection(authority, pair):
    """Files that are replaced are followed; a pair that does not fit together is not; open connections go on."""
    first = pair.certificate.read_text()
    with serving_apart(credentials=server_credentials(pair.certificate, pair.key, None)) as apart:
        assert first.startswith(served_certificate(apart.address))
        with Client(apart.address, tls_ca=pair.authority) as client, client.open_session("sum") as session:
            session.step([1, 1])
            replace(pair.key, authority.issue_cert("127.0.0.1").private_key_pem.bytes())
            assert first.startswith(served_certificate(apart.address)), "half of a renewal is not used"
            issue(authority, pair.key.parent)
            second = served_certificate(apart.address)
            assert pair.certificate.read_text().startswith(second)
            assert not first.startswith(second)
            assert session.step([1, 1]).tolist() == [2, 2]


def test_a_client_shows_its_certificate_where_it_is_asked_for(authority, pair, tmp_path):
    """With tls_client_ca, who has no certificate of that authority gets no connection."""
    clients = trustme.CA()
    mine = issue(clients, tmp_path / "mine", "client.example")
    with serving_apart(credentials=server_credentials(pair.certificate, pair.key, mine.authority)) as apart:
        with (
            Client(apart.address, tls_ca=pair.authority, tls_certificate=mine.certificate, tls_key=mine.key) as client,
            client.open_session("sum") as session,
        ):
            assert session.step([1, 2]).tolist() == [1, 2]
        with Client(apart.address, tls_ca=pair.authority, timeout_seconds=5) as client, pytest.raises(Unavailable):
            client.open_session("sum")


@pytest.mark.parametrize("client", [Client, AsyncClient])
@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"address": "models.example.com:443", "bearer_key": KEY}, "over TLS only"),
        ({"tls_ca": "no/such.pem"}, "cannot read no/such.pem"),
        ({"tls": True, "tls_key": "a"}, "tls_certificate beside it"),
        ({"tls_key": "a", "tls_certificate": "b"}, "takes tls_ca, or tls=True"),
    ],
)
async def test_a_client_refuses_what_does_not_go_together(client, options, told):
    """A key never leaves the machine in plaintext, and nothing that was asked for is silently left out."""
    with pytest.raises(InvalidInput, match=told):
        client(**options)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"listen": "0.0.0.0:1"}, "--listen 0.0.0.0:1 is open to the network"),
        ({"listen": "[::]:1"}, "open to the network"),
        ({"listen": "example.com:1", "tls_certificate": "c", "tls_key": "k"}, "open to the network"),
        ({"listen": "10.0.0.1:1", "bearer_key_file": "k"}, "open to the network"),
        ({"tls_certificate": "c"}, "--tls-certificate and --tls-key take a file each"),
        ({"tls_client_ca": "c"}, "--tls-client-ca takes --tls-certificate"),
        ({"health_listen": "here"}, "takes HOST:PORT"),
        ({"console_listen": "0.0.0.0:1"}, "--console-listen 0.0.0.0:1 is open to the network without TLS"),
    ],
)
def test_settings_that_leave_a_server_open_are_refused(settings, told):
    """Beyond its machine a server takes TLS and a way to know who calls; half of that is as good as nothing."""
    with pytest.raises(ValueError, match=told):
        ServeSettings(**settings)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"listen": "localhost:1"},
        {"listen": "127.0.0.7:1"},
        {"listen": "[::1]:1"},
        {"listen": "0.0.0.0:1", "insecure": True},
        {"console_listen": "127.0.0.1:1"},
        {"console_listen": "0.0.0.0:1", "insecure": True},
        {"listen": "0.0.0.0:1", "tls_certificate": "c", "tls_key": "k", "bearer_key_file": "b"},
        {"listen": "0.0.0.0:1", "tls_certificate": "c", "tls_key": "k", "tls_client_ca": "b"},
    ],
)
def test_settings_that_are_safe_or_chosen_are_taken(settings):
    """On the machine itself nothing is asked for; elsewhere TLS and keys, or the word that says otherwise."""
    ServeSettings(**settings)


@pytest.mark.parametrize("host", ["127.0.0.1.example.com", "", "10.0.0.1", "0.0.0.0", "::", "localhost.example.com"])
def test_what_only_looks_local_is_not(host):
    """A name that begins like this machine's is anybody's."""
    assert not is_local(host)


@pytest.mark.parametrize(
    ("content", "told"),
    [("", "has no key"), ("# a comment\n", "has no key"), ("short\n", "at least 16"), ("two words in a line\n", "without spaces")],
)
def test_a_file_of_keys_that_cannot_be_meant_is_refused(tmp_path, content, told):
    """The message names the file, and never a key."""
    (tmp_path / "keys").write_text(content)
    with pytest.raises(AccessError, match=told) as refused:
        read_keys(tmp_path / "keys")
    assert "keys" in str(refused.value)
    assert "short" not in str(refused.value)


def test_certificates_that_cannot_serve_are_refused(authority, pair, tmp_path):
    """A missing file, a key of another certificate and an authority that is none end the start, not every handshake."""
    stranger = issue(authority, tmp_path / "stranger")
    with pytest.raises(AccessError, match="tls_certificate: cannot read"):
        server_credentials(tmp_path / "none", pair.key, None)
    with pytest.raises(AccessError, match="is not the key of"):
        server_credentials(pair.certificate, stranger.key, None)
    with pytest.raises(AccessError, match="tls_client_ca"):
        server_credentials(pair.certificate, pair.key, pair.key)


def test_a_server_as_it_is_deployed(tiny_repository, pair, keys):
    """`statewise serve` with TLS, keys and a port for probes: probes need neither, and liveness outlasts readiness."""
    running = start(
        tiny_repository,
        *pair.options(),
        "--bearer-key-file",
        str(keys),
        "--health-listen",
        "127.0.0.1:0",
        "--drain-pause-seconds",
        "3",
    )
    with grpc.insecure_channel(running.health) as probes:
        assert [checked(probes, name) for name in ("", LIVENESS)] == [STATUS.SERVING, STATUS.SERVING]
        with pytest.raises(grpc.RpcError) as refused:
            sequence_pb2_grpc.SequenceServiceStub(probes).OpenSession(sequence_pb2.OpenSessionRequest(model="label"))
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
        roots = grpc.ssl_channel_credentials(pair.authority.read_bytes())
        with grpc.secure_channel(running.address, roots) as channel:
            assert checked(channel) == STATUS.SERVING
        with Client(running.address, tls_ca=pair.authority, bearer_key=KEY) as client:
            session = client.open_session("label")
            session.step(np.zeros((2, 2), np.float32))
            watch = health_pb2_grpc.HealthStub(probes).Watch(health_pb2.HealthCheckRequest())
            assert next(watch).status == STATUS.SERVING
            running.process.terminate()
            assert next(watch).status == STATUS.NOT_SERVING
            assert checked(probes, LIVENESS) == STATUS.SERVING
            watch.cancel()
    assert running.process.wait(60) == 0
    running.process.stdout.close()


def test_a_client_names_its_routing_key_on_every_call():
    """What a router hashes travels with sessions, models and streams: one key a client, or the one that it was given."""
    seen = []

    class Notes(grpc.aio.ServerInterceptor):
        async def intercept_service(self, continuation, details):
            seen.append((details.method.rpartition("/")[2], dict(details.invocation_metadata).get("x-session-id")))
            return await continuation(details)

    with serving_apart(interceptors=[Notes()]) as apart:
        for options in ({}, {"routing_key": "mine"}):
            with Client(apart.address, **options) as client, client.open_session("sum") as session:
                session.step([1, 1])
                client.model("sum")
                session.fork().close()
    methods = ["OpenSession", "StepFrame", "GetModel", "ForkSession", "CloseSession", "CloseSession"]
    assert [method for method, _ in seen] == methods * 2
    assert {key for _, key in seen[6:]} == {"mine"}
    assert len({key for _, key in seen[:6]}) == 1
    assert len(seen[0][1]) == 32
