"""compose.yaml, Dockerfile and what they mount: names, ports and settings are those of the code, and nothing is left open.

There is no container engine here, so nothing of it is started; `make image-check` installs as the Dockerfile does.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from builders.router import ENVOY
from builders.summing import serving_apart
from statewise.access import read_keys
from statewise.client import Client
from statewise.config import ServeSettings
from statewise.rpc.certificates import server_credentials
from statewise.rpc.keys import BearerKeys

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
FIELDS = {f"STATEWISE_{name.upper()}" for name in ServeSettings.model_fields}
AWAITED = {
    *("STATEWISE_STORE", "STATEWISE_STORE_PASSWORD_FILE", "STATEWISE_SEAL_KEYS", "STATEWISE_DURABILITY"),
    "STATEWISE_DRAIN_PAUSE_SECONDS",
}
"""Settings of the store, which may come later than these files."""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """What `make compose-files` makes."""
    folder = tmp_path_factory.mktemp("compose")
    done = subprocess.run([ROOT / "scripts" / "compose-files", folder], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return folder


def port(settings, name):
    return int(settings[f"STATEWISE_{name}"].rpartition(":")[2])


def image_settings():
    """Returns the settings that the image sets."""
    return dict(re.findall(r"(STATEWISE_\w+)=(\S+)", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE)))


def test_the_image_sets_what_the_server_knows():
    """Its environment is of settings, its ports are exposed, its user is a number and not root, in every target."""
    settings = image_settings()
    assert set(settings) <= FIELDS
    listens = {str(port(settings, name)) for name in ("LISTEN", "METRICS_LISTEN", "HEALTH_LISTEN")}
    assert listens == set(re.search(r"^EXPOSE (.*)$", DOCKERFILE, re.MULTILINE)[1].split())
    stages = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)
    targets = [stage for stage in stages if re.match(r"runtime AS (cpu|cuda)\n", stage)]
    assert len(targets) == 2
    assert all("\nUSER 10001:10001\n" in stage for stage in targets)
    assert "statewise[train" not in DOCKERFILE


def test_the_image_as_it_is_does_not_start_open(monkeypatch):
    """Whoever runs it without certificates is told so, and says --insecure or mounts them."""
    for name, value in image_settings().items():
        if name != "STATEWISE_INSECURE":
            monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match="open to the network"):
        ServeSettings()


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_hardened_and_published_to_this_machine_alone(name):
    """Read-only, without capabilities or new privileges, of a fixed version; ports of the host are its own."""
    service = SERVICES[name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert re.fullmatch(r"[\w./-]+:(?!latest$)[\w.-]+", service["image"])
    assert all(published.startswith("127.0.0.1:") for published in service.get("ports", []))
    assert set(service.get("depends_on", [])) <= set(SERVICES)


def test_the_servers_settings_are_taken(monkeypatch):
    """What compose.yaml tells the server, over what the image does, is accepted; the drain fits into the grace."""
    told = SERVICES["statewise"]["environment"]
    assert set(told) <= FIELDS | AWAITED
    for name, value in (image_settings() | told).items():
        if name != "STATEWISE_INSECURE":
            monkeypatch.setenv(name, value)
    assert int(told["STATEWISE_REPLICAS"]) == SERVICES["statewise"]["deploy"]["replicas"]
    drain = sum(value for name, value in ServeSettings().model_dump().items() if name.startswith("drain_"))
    assert drain + 5 <= int(SERVICES["statewise"]["stop_grace_period"].removesuffix("s"))


def test_what_is_mounted_is_there_or_is_made(made):
    """Every source is in the repository, or in what `make compose-files` makes; only the store and the boards come and go."""
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("./var/compose/"):
                assert list((made / Path(source).relative_to("var/compose")).iterdir()), source
            elif source.startswith("./") and source not in ("./var/repository", "./deploy/grafana"):
                assert (ROOT / source).exists(), source
            elif not source.startswith("./"):
                assert source in COMPOSE["volumes"]


def test_ports_between_services_are_those_that_are_listened_on():
    """Envoy goes to the servers' port, Prometheus to the metrics' and to Envoy's."""
    settings, envoy = image_settings(), yaml.safe_load((ENVOY / "envoy.yaml").read_text())
    (endpoint,) = envoy["static_resources"]["clusters"][0]["load_assignment"]["endpoints"][0]["lb_endpoints"]
    assert endpoint["endpoint"]["address"]["socket_address"] == {"address": "statewise", "port_value": port(settings, "LISTEN")}
    listens = {each["name"]: each["address"]["socket_address"]["port_value"] for each in envoy["static_resources"]["listeners"]}
    assert SERVICES["envoy"]["ports"] == [f"127.0.0.1:{listens['statewise']}:{listens['statewise']}"]
    jobs = yaml.safe_load((ROOT / "deploy" / "prometheus" / "compose.yml").read_text())["scrape_configs"]
    servers, router = (next(job for job in jobs if job["job_name"] == name) for name in ("statewise", "envoy"))
    assert servers["dns_sd_configs"][0]["port"] == port(settings, "METRICS_LISTEN")
    assert router["static_configs"][0]["targets"] == [f"envoy:{listens['metrics']}"]


def test_promtool_accepts_the_scrape_configuration(needs_tool):
    """Prometheus would start with it."""
    command = [needs_tool("promtool"), "check", "config", ROOT / "deploy" / "prometheus" / "compose.yml"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_the_files_that_are_made_serve(made):
    """A server with the certificate and the key, and a client with the authority, speak; made again, nothing changes."""
    before = {file: file.read_bytes() for file in made.rglob("*") if file.is_file()}
    (key,) = read_keys(made / "keys" / "keys")
    credentials = server_credentials(made / "tls" / "tls.crt", made / "tls" / "tls.key", None)
    with (
        serving_apart(interceptors=[BearerKeys(made / "keys" / "keys")], credentials=credentials) as apart,
        Client(apart.address, tls_ca=made / "tls" / "ca.crt", bearer_key=key) as client,
        client.open_session("sum") as session,
    ):
        assert session.step([1, 2]).tolist() == [1, 2]
    subprocess.run([ROOT / "scripts" / "compose-files", made], check=True, capture_output=True, timeout=60)
    assert {file: file.read_bytes() for file in made.rglob("*") if file.is_file()} == before
