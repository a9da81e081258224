"""Network → verified ONNX in the repository: `builder` makes the graphs, `contract` the spec, `verify` holds them against torch.

Nothing that has not passed `verify` ever bears a version's name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx

from statewise.repository import MODEL_FILE, REPORT_FILE, TRACE_FILE, Repository
from statewise.spec import METADATA_KEY, ModelSpec
from statewise_models.export.builder import build, build_trace
from statewise_models.export.contract import contract
from statewise_models.export.conversation import torch_outputs
from statewise_models.export.int8 import check_int8, measure, quantised
from statewise_models.export.runtime import RuntimeNetwork
from statewise_models.export.verify import ParityError, verify, verify_trace
from statewise_models.network import Network

__all__ = ["NETWORK_KEY", "Exported", "ParityError", "RuntimeNetwork", "build", "export", "int8_model", "plain_model", "quantised"]

INT8_TOLERANCE = 0.25
"""The largest difference from float32, as a share of the scale of the head's values; a kernel that overflows was seen at 0.4."""
NETWORK_KEY = "statewise.network"
"""The metadata that holds `NetworkConfig.to_json()`; with the weights it rebuilds the network (`statewise_models.published`)."""


@dataclass(frozen=True, slots=True)
class Exported:
    """A version just published.

    Attributes:
        version: its number.
        path: its ONNX file.
        largest_difference: between torch and ONNX Runtime's float32, as a share of the output's scale.
        digest: SHA-256 of the file, in hexadecimal, as the server tells it.
        bytes: the size of the file.
        int8: of an int8 version, what its spec's `about` says of that; otherwise empty.
    """

    version: int
    path: Path
    largest_difference: float
    digest: str
    bytes: int
    int8: dict[str, Any] = field(default_factory=dict)


def int8_model(network: Network, about: dict[str, Any] | None = None) -> onnx.ModelProto:
    """Returns the int8 form of a network's model. Its parity vectors are its own, and `about` tells how far it is from float32.

    Raises:
        InvalidConfig: ONNX Runtime has no int8 kernel for the cell.
        ParityError: it differs from float32 by more than rounding can.
    """
    check_int8(network.config.cell)
    plain = build(network)
    model = quantised(plain)
    measured = measure(network, plain, model)
    if not measured.float32_difference <= INT8_TOLERANCE:
        apart = f"{measured.float32_difference:.1e} of its scale (allowed: {INT8_TOLERANCE:.0e})"
        raise ParityError(
            f"the int8 graph differs from float32 by {apart}: this network does not bear rounding, or the kernel fails"
        )
    itself = RuntimeNetwork(network, model)
    told = {**(about or {}), "int8": {**measured.as_dict(), **(about or {}).get("int8", {})}}
    props = {METADATA_KEY: contract(network, told, lambda _, steps: torch_outputs(itself, steps)).to_json()}
    onnx.helper.set_model_props(model, {**props, NETWORK_KEY: network.config.to_json()})
    return model


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
    int8: bool = False,
) -> Exported:
    """Publishes a network as the next version of `model`.

    Args:
        promote: new sessions get this version from now on; the first version of a model is promoted anyway.
        about: facts for people, kept in the spec.
        report: returns a page of HTML about the version, which becomes `report.html` beside the model.
        int8: publish the int8 form; the float32 graph that it is made from is held against torch as ever. It has no trace, which
            would show other numbers than it computes.

    Raises:
        InvalidConfig: `int8` for a cell that has no such kernel.
        ParityError: ONNX Runtime's outputs differ from torch's, or the trace's from them; nothing is published.
        RepositoryError: the repository cannot be written.
    """
    place, plain = Repository(repository), plain_model(network, about)
    served = int8_model(network, about) if int8 else plain
    raw, told = served.SerializeToString(), _about(served)
    differences: list[float] = []

    def write(folder: Path) -> None:
        (folder / MODEL_FILE).write_bytes(plain.SerializeToString())
        differences.append(verify(network, folder / MODEL_FILE))
        if int8:
            (folder / MODEL_FILE).write_bytes(raw)
        else:
            (folder / TRACE_FILE).write_bytes(trace_model(network, plain).SerializeToString())
            verify_trace(network.config, folder / MODEL_FILE, folder / TRACE_FILE)

    def exported(version: int) -> Exported:
        path = place.root / model / str(version) / MODEL_FILE
        return Exported(version, path, differences[0], hashlib.sha256(raw).hexdigest(), len(raw), told.get("int8", {}))

    def describe(folder: Path, version: int) -> None:
        if report:
            (folder / REPORT_FILE).write_text(report(exported(version)), encoding="utf-8")

    return exported(place.publish(model, write, describe=describe, promote=promote))


def _about(model: onnx.ModelProto) -> dict[str, Any]:
    (told,) = (entry.value for entry in model.metadata_props if entry.key == METADATA_KEY)
    return ModelSpec.from_json(told).about
