"""deploy/kubernetes: each overlay renders, passes the API's schemas, and names only what the code has."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml
from prometheus_client import CollectorRegistry

from builders.manifests import KUBERNETES, OVERLAYS, of_kind, pods, rendered, server, settings
from statewise.config import ServeSettings
from statewise.metrics import ServerMetrics
from statewise.server import LIVENESS

VERSION = "1.34"
SCHEMAS = yaml.safe_load((Path(__file__).parent / "schemas.yaml").read_text())
PREFIX = "STATEWISE_"
AWAITED = {
    *("STATEWISE_STORE", "STATEWISE_STORE_PASSWORD_FILE", "STATEWISE_SEAL_KEYS", "STATEWISE_DURABILITY"),
    "STATEWISE_DRAIN_PAUSE_SECONDS",
}
"""Settings of the store, which may come later than these files."""


@pytest.fixture(scope="module", params=OVERLAYS)
def overlay(request, needs_tool):
    """The resources of an overlay."""
    return rendered_once(needs_tool("kubectl"), request.param)


@cache
def rendered_once(kubectl, name):
    return rendered(kubectl, name)


def custom(resource):
    """Whether a resource is of an API that Kubernetes itself does not have."""
    group = resource["apiVersion"].rpartition("/")[0]
    return ("." in group and not group.endswith(".k8s.io")) or group == "gateway.networking.k8s.io"


def test_an_overlay_passes_the_schemas_of_kubernetes(overlay):
    """No field is unknown, misplaced or of a wrong type."""
    for resource in overlay:
        if not custom(resource):
            kubernetes_validate.validate(resource, VERSION, strict=True)


def test_custom_resources_pass_theirs(overlay):
    """What Kubernetes has no schema of is held against those in schemas.yaml: fields, values and metadata."""
    for resource in filter(custom, overlay):
        kind = f"{resource['apiVersion']}/{resource['kind']}"
        assert set(resource) == {"apiVersion", "kind", "metadata", "spec"}
        for part, schema in ((resource["metadata"], SCHEMAS["definitions"]["metadata"]), (resource["spec"], SCHEMAS[kind])):
            jsonschema.validate(part, {**schema, "definitions": SCHEMAS["definitions"]})


def test_a_misspelt_field_of_a_custom_resource_is_found(needs_tool):
    """The schemas refuse what they do not know: otherwise they would prove nothing."""
    (policy,) = of_kind(rendered_once(needs_tool("kubectl"), "envoy-gateway"), "BackendTrafficPolicy")
    schema = {**SCHEMAS["gateway.envoyproxy.io/v1alpha1/BackendTrafficPolicy"], "definitions": SCHEMAS["definitions"]}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**policy["spec"], "loadbalancer": {}}, schema)


def test_every_setting_is_one_of_the_servers_and_is_taken(overlay, monkeypatch):
    """The environment of the pod is what `statewise serve` reads, and it accepts the values."""
    told = settings(overlay)
    fields = {PREFIX + name.upper() for name in ServeSettings.model_fields}
    if not fields >= AWAITED:
        told = {name: value for name, value in told.items() if name not in AWAITED}
    assert set(told) <= fields
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    taken = ServeSettings()
    assert not taken.insecure
    assert taken.bearer_key_file
    assert taken.tls_certificate


def test_ports_and_probes_are_what_the_server_listens_on(overlay):
    """The container's ports are the settings', and probes ask where health is told in plaintext, by names that it knows."""
    (container,) = server(overlay)["containers"]
    told = settings(overlay)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    for name, variable in (("grpc", "LISTEN"), ("metrics", "METRICS_LISTEN"), ("health", "HEALTH_LISTEN")):
        assert told[PREFIX + variable] == f"0.0.0.0:{ports[name]}"
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["grpc"]["port"] == ports["health"]
    assert container["livenessProbe"]["grpc"]["service"] == LIVENESS
    assert "service" not in container["readinessProbe"]["grpc"]
    for service in of_kind(overlay, "Service"):
        if service["metadata"]["name"] == "statewise":
            assert {port["targetPort"]: port["port"] for port in service["spec"]["ports"]}.items() <= ports.items()
            assert service["spec"]["selector"] == {"app.kubernetes.io/name": "statewise"}


def test_the_grace_covers_the_drain(overlay, monkeypatch):
    """PreStop, the pause for routers, the drain and five seconds for the end fit into terminationGracePeriodSeconds."""
    pod = server(overlay)
    for name, value in settings(overlay).items():
        monkeypatch.setenv(name, value)
    drain = {name: value for name, value in ServeSettings().model_dump().items() if name.startswith("drain_")}
    assert "drain_seconds" in drain
    pause = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pause + sum(drain.values()) + 5 <= pod["terminationGracePeriodSeconds"]


def test_pods_are_restricted(overlay):
    """Every pod passes the Pod Security Standard `restricted`, and writes nowhere but where a volume says."""
    for pod in pods(overlay):
        assert pod["automountServiceAccountToken"] is False
        own = pod["securityContext"]
        assert own["runAsNonRoot"]
        assert own["runAsUser"] > 0
        assert own["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert {"cpu", "memory"} <= set(container["resources"]["requests"])
            assert "memory" in container["resources"]["limits"]


def test_the_repository_is_read_only_and_secrets_are_followed(overlay):
    """Models are mounted to be read; certificates and keys as whole folders, since a subPath is never renewed."""
    pod = server(overlay)
    (container,) = pod["containers"]
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert set(mounts) == {volume["name"] for volume in pod["volumes"]}
    assert mounts["repository"] == {"name": "repository", "mountPath": settings(overlay)["STATEWISE_REPOSITORY"], "readOnly": True}
    assert not [mount for mount in mounts.values() if "subPath" in mount]
    folders = tuple(mount["mountPath"] + "/" for mount in mounts.values())
    for name, value in settings(overlay).items():
        if value.startswith("/") and not name.endswith("REPOSITORY"):
            assert (value + "/").startswith(folders), name


def test_policies_select_the_pods_that_are_there(overlay):
    """Disruption budgets, network policies and scrapers speak of pods and ports that exist."""
    labels = [each["spec"]["template"]["metadata"]["labels"] for each in overlay if each["kind"] in ("Deployment", "StatefulSet")]
    for resource in [*of_kind(overlay, "PodDisruptionBudget"), *of_kind(overlay, "NetworkPolicy")]:
        selector = resource["spec"].get("selector") or resource["spec"]["podSelector"]
        assert any(selector["matchLabels"].items() <= each.items() for each in labels)
    (service,) = (each for each in of_kind(overlay, "Service") if each["metadata"]["name"] == "statewise")
    named = {port["name"] for port in service["spec"]["ports"]}
    for monitor in of_kind(overlay, "ServiceMonitor"):
        assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
        assert {endpoint["port"] for endpoint in monitor["spec"]["endpoints"]} <= named
    for route in of_kind(overlay, "GRPCRoute"):
        backends = [backend for rule in route["spec"]["rules"] for backend in rule["backendRefs"]]
        assert all(backend["port"] in {port["port"] for port in service["spec"]["ports"]} for backend in backends)


def exposed():
    """Returns the names of the server's metrics, as they are scraped."""
    registry = CollectorRegistry()
    ServerMetrics(registry)
    suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "gauge": [""]}
    return {family.name + suffix for family in registry.collect() for suffix in suffixes.get(family.type, [""])}


def test_the_scaler_asks_for_metrics_that_are_there():
    """The adapter makes the scaler's metrics, out of metrics that the server exposes."""
    folder = KUBERNETES / "components" / "autoscaling"
    adapter = yaml.safe_load((folder / "prometheus-adapter.yaml").read_text())["rules"]["custom"]
    scaler = yaml.safe_load((folder / "scaler.yaml").read_text())
    wanted = {metric["pods"]["metric"]["name"] for metric in scaler["spec"]["metrics"]}
    assert wanted == {rule["name"]["as"] for rule in adapter}
    text = " ".join(rule["seriesQuery"] + rule["metricsQuery"] for rule in adapter)
    assert set(re.findall(r"statewise_\w+", text)) <= exposed()
    down, up = scaler["spec"]["behavior"]["scaleDown"], scaler["spec"]["behavior"]["scaleUp"]
    assert down["stabilizationWindowSeconds"] > up["stabilizationWindowSeconds"]


def test_a_gpu_is_never_asked_for_twice(needs_tool):
    """A rollout on GPUs gives the old pod's back before the new one takes it; the server refuses to fall back to the CPU."""
    resources = rendered_once(needs_tool("kubectl"), "cuda")
    (deployment,) = of_kind(resources, "Deployment")
    assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    assert deployment["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert settings(resources)["STATEWISE_PROVIDER"] == "cuda"


def test_the_server_knows_of_how_many_it_is_one(overlay):
    """Replicas and setting agree, the most of the scaler included: so several without a store they share are refused."""
    (deployment,) = of_kind(overlay, "Deployment")
    scaled = [scaler["spec"]["maxReplicas"] for scaler in of_kind(overlay, "HorizontalPodAutoscaler")]
    assert int(settings(overlay)["STATEWISE_REPLICAS"]) == (scaled or [deployment["spec"].get("replicas")])[0]


def test_what_scales_does_not_fix_its_replicas(needs_tool):
    """Where the scaler is, applying the manifests again leaves the number of replicas as it is."""
    for name in OVERLAYS:
        resources = rendered_once(needs_tool("kubectl"), name)
        (deployment,) = of_kind(resources, "Deployment")
        assert ("replicas" in deployment["spec"]) == (not of_kind(resources, "HorizontalPodAutoscaler"))
