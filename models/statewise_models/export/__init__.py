"""Network → verified ONNX in the repository: `builder` makes the graphs, `contract` the spec, `verify` holds them against torch.

Nothing that has not passed `verify` ever bears a version's name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from statewise.repository import MODEL_FILE, REPORT_FILE, TRACE_FILE, Repository
from statewise.spec import METADATA_KEY
from statewise_models.export.builder import build, build_trace
from statewise_models.export.contract import contract
from statewise_models.export.verify import ParityError, verify, verify_trace
from statewise_models.network import Network

__all__ = ["NETWORK_KEY", "Exported", "ParityError", "export", "plain_model"]

NETWORK_KEY = "statewise.network"
"""The metadata that holds `NetworkConfig.to_json()`; with the weights it rebuilds the network (`statewise_models.published`)."""


@dataclass(frozen=True, slots=True)
class Exported:
    """A version just published.

    Attributes:
        version: its number.
        path: its ONNX file.
        largest_difference: between torch and ONNX Runtime, as a share of the output's scale.
        digest: SHA-256 of the file, in hexadecimal, as the server tells it.
        bytes: the size of the file.
    """

    version: int
    path: Path
    largest_difference: float
    digest: str
    bytes: int


def plain_model(network: Network, about: dict[str, Any] | None = None) -> onnx.ModelProto:
    """Returns the self-describing ONNX model of a network: the plain graph, checked, with its spec in the metadata."""
    model = build(network)
    props = {METADATA_KEY: contract(network, about or {}).to_json(), NETWORK_KEY: network.config.to_json()}
    onnx.helper.set_model_props(model, props)
    onnx.checker.check_model(model, full_check=True)
    return model


def trace_model(network: Network, served: onnx.ModelProto) -> onnx.ModelProto:
    """Returns the explicit-gate graph of a network, checked; its metadata is that of the model that is served."""
    model = build_trace(network)
    model.metadata_props.extend(served.metadata_props)
    onnx.checker.check_model(model, full_check=True)
    return model


def export(
    network: Network,
    *,
    repository: Path,
    model: str,
    promote: bool = False,
    about: dict[str, Any] | None = None,
    report: Callable[[Exported], str] | None = None,
) -> Exported:
    """Publishes a network as the next version of `model`.

    Args:
        promote: new sessions get this version from now on; the first version of a model is promoted anyway.
        about: facts for people, kept in the spec.
        report: returns a page of HTML about the version, which becomes `report.html` beside the model.

    Raises:
        ParityError: ONNX Runtime's outputs differ from torch's, or the trace's from them; nothing is published.
        RepositoryError: the repository cannot be written.
    """
    place, served = Repository(repository), plain_model(network, about)
    raw = served.SerializeToString()
    differences: list[float] = []

    def write(folder: Path) -> None:
        (folder / MODEL_FILE).write_bytes(raw)
        differences.append(verify(network, folder / MODEL_FILE))
        (folder / TRACE_FILE).write_bytes(trace_model(network, served).SerializeToString())
        verify_trace(network.config, folder / MODEL_FILE, folder / TRACE_FILE)

    def exported(version: int) -> Exported:
        path = place.root / model / str(version) / MODEL_FILE
        return Exported(version, path, differences[0], hashlib.sha256(raw).hexdigest(), len(raw))

    def describe(folder: Path, version: int) -> None:
        if report:
            (folder / REPORT_FILE).write_text(report(exported(version)), encoding="utf-8")

    return exported(place.publish(model, write, describe=describe, promote=promote))
