"""A real Envoy with the configuration of deploy/envoy, its ports, replicas and certificate files exchanged for those of a test."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from builders.authority import Files

ENVOY = Path(__file__).parents[2] / "deploy" / "envoy"


@dataclass(frozen=True)
class Router:
    """A running Envoy."""

    admin: str
    address: str
    metrics: str

    def healthy(self) -> set[str]:
        """Returns the replicas that get new calls."""
        hosts = self._told("clusters")["cluster_statuses"]
        (cluster,) = (each for each in hosts if each["name"] == "statewise")
        return {
            f"{host['address']['socket_address']['address']}:{host['address']['socket_address']['port_value']}"
            for host in cluster["host_statuses"]
            if host["health_status"] == {"eds_health_status": "HEALTHY"}
        }

    def until_healthy(self, *replicas: str) -> None:
        """Returns once these and no others get new calls; pytest's own timeout ends a wait in vain."""
        while self.healthy() != set(replicas):
            pass

    def _told(self, what: str) -> Any:
        with urllib.request.urlopen(f"http://{self.admin}/{what}?format=json", timeout=30) as page:
            return json.load(page)


def configuration(replicas: Sequence[str], files: Files, folder: Path) -> dict[str, Any]:
    """Returns deploy/envoy/envoy.yaml for the replicas; files that it names are those of the test."""
    text = (
        (ENVOY / "envoy.yaml").read_text().replace("/etc/statewise/tls", str(files.key.parent)).replace("/etc/envoy", str(folder))
    )
    with socket.create_server(("127.0.0.1", 0)) as free:  # of admin Envoy must know the port beforehand: a cluster leads there
        text = text.replace("port_value: 9901", f"port_value: {free.getsockname()[1]}")
    made = yaml.safe_load(text)
    for listener in made["static_resources"]["listeners"]:
        listener["address"]["socket_address"] = {"address": "127.0.0.1", "port_value": 0}
    cluster = made["static_resources"]["clusters"][0]
    cluster["type"] = "STATIC"
    places = [address.rpartition(":") for address in replicas]
    cluster["load_assignment"]["endpoints"][0]["lb_endpoints"] = [
        {"endpoint": {"address": {"socket_address": {"address": host, "port_value": int(port)}}}} for host, _, port in places
    ]
    return made


def envoy() -> str:
    """Returns the path of the binary that the package brings."""
    found = find_spec("envoy")
    assert found
    assert found.submodule_search_locations
    (binary,) = (file for file in Path(found.submodule_search_locations[0], "_bin").rglob("envoy*") if file.is_file())
    return str(binary)


@contextlib.contextmanager
def routed(replicas: Sequence[str], files: Files, folder: Path) -> Iterator[Router]:
    """Runs Envoy before the replicas, and yields it once all of them are healthy."""
    folder.mkdir()
    (folder / "envoy.yaml").write_text(yaml.safe_dump(configuration(replicas, files, folder)))
    certificate = (ENVOY / "certificate.yaml").read_text().replace("/etc/statewise/tls", str(files.key.parent))
    (folder / "certificate.yaml").write_text(certificate)
    command = [envoy(), "-c", str(folder / "envoy.yaml"), "--admin-address-path", str(folder / "admin"), "--concurrency", "1"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([*command, "--disable-hot-restart"], stdout=log, stderr=log)
    try:
        router = _ready(process, folder)
        router.until_healthy(*replicas)
        yield router
    finally:
        process.terminate()
        process.wait(30)


def _ready(process: subprocess.Popen[bytes], folder: Path) -> Router:
    place = folder / "admin"
    while not (place.is_file() and place.read_text()):
        assert process.poll() is None, (folder / "log").read_text()
    admin = place.read_text()
    with urllib.request.urlopen(f"http://{admin}/listeners?format=json", timeout=30) as page:
        told = json.load(page)["listener_statuses"]
    ports = {each["name"]: each["local_address"]["socket_address"]["port_value"] for each in told}
    return Router(admin, f"localhost:{ports['statewise']}", f"http://127.0.0.1:{ports['metrics']}/metrics")
