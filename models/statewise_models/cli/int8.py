"""What `--int8` tells: an int8 version beside the float32 network that it was made from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from statewise_models.sheet import Sheet

if TYPE_CHECKING:
    from statewise_models.network import Network
    from statewise_models.training import Trained

Scored = Callable[["Network"], dict[str, Any]]


def rescored(trained: Trained, score: Scored) -> dict[str, Any]:
    """Returns the metrics of a trained network's int8 form, as `Trained` has its own."""
    from statewise_models.export import RuntimeNetwork, build, quantised

    return score(RuntimeNetwork(trained.network, quantised(build(trained.network))))


def int8_sheet(told: Mapping[str, Any], metrics: Mapping[str, Any]) -> Sheet:
    """Returns the figures of an int8 version beside those of the float32 network.

    Args:
        told: `about["int8"]` of its spec.
        metrics: those of the float32 network.
    """
    exact, rounded = dict(_headlines(metrics)), dict(_headlines(told["scores"]))
    scores = tuple((name, f"{value:,.4g}", f"{rounded[name]:,.4g}") for name, value in exact.items())
    sizes = ("file, bytes", f"{told['bytes']['float32']:,}", f"{told['bytes']['int8']:,}")
    times = [
        (f"a timestep of {batch} sessions, µs", f"{took['float32']:,.0f}", f"{took['int8']:,.0f}")
        for batch, took in told["microseconds"].items()
    ]
    apart = (
        ("head's values apart, of their scale", "", f"{told['float32_difference']:.1e}"),
        ("alone and in a batch of 8 apart", "< 1e-6", f"{told['batch_difference']:.1e}"),
    )
    return Sheet("int8 beside float32, measured on this machine", ("",), ("float32", "int8"), (scores, (sizes, *times), apart))


def _headlines(metrics: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yields the figure of each split that its task goes by."""
    for split in ("validation", "test"):
        figures = metrics.get(split, {})
        for name, said in (("accuracy", "accuracy"), ("bits_per_token", "bits a token")):
            if name in figures:
                yield f"{split}, {said}", figures[name]
        for target, methods in figures.items():
            if isinstance(methods, dict) and "model" in methods:
                yield f"{split}, RMSE of {target}", methods["model"]["rmse"]
