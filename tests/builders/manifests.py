"""What Kustomize makes of deploy/kubernetes."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

KUBERNETES = Path(__file__).parents[2] / "deploy" / "kubernetes"
OVERLAYS = sorted(folder.name for folder in (KUBERNETES / "overlays").iterdir())

Resource = dict[str, Any]


def rendered(kubectl: str, overlay: str) -> list[Resource]:
    """Returns the resources of an overlay; no cluster is asked."""
    command = [kubectl, "kustomize", str(KUBERNETES / "overlays" / overlay)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return list(yaml.safe_load_all(done.stdout))


def of_kind(resources: list[Resource], kind: str) -> list[Resource]:
    """Returns the resources of one kind."""
    return [resource for resource in resources if resource["kind"] == kind]


def pods(resources: list[Resource]) -> Iterator[Resource]:
    """Yields the specs of the pods that are made."""
    for resource in resources:
        if resource["kind"] in ("Deployment", "StatefulSet"):
            yield resource["spec"]["template"]["spec"]


def server(resources: list[Resource]) -> Resource:
    """Returns the spec of the server's pod."""
    (deployment,) = of_kind(resources, "Deployment")
    return deployment["spec"]["template"]["spec"]


def settings(resources: list[Resource]) -> dict[str, str]:
    """Returns the environment that the server's container gets."""
    (container,) = server(resources)["containers"]
    wanted = [source["configMapRef"]["name"] for source in container["envFrom"]]
    maps = {each["metadata"]["name"]: each["data"] for each in of_kind(resources, "ConfigMap")}
    own = {each["name"]: each["value"] for each in container.get("env", [])}
    return {name: value for source in wanted for name, value in maps[source].items()} | own
