"""The part of the graph in which each session's targets have a mean and a scale of their own, those of its series.

They are states that the graph returns as it took them: the server gives them their first value at Open, and keeps and copies them
with the rest of the state.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from statewise.spec import SERIES_MEAN, SERIES_SCALE, StateSpec
from statewise_models.config import NetworkConfig
from statewise_models.export.nodes import Graph


def states(config: NetworkConfig) -> tuple[StateSpec, ...]:
    """Returns what a session must be given, `[targets]` each; nothing where all series have one scale."""
    if config.scale == "global":
        return ()
    names = tuple(target.name for target in config.targets)
    mean = StateSpec(SERIES_MEAN, f"{SERIES_MEAN}_next", "float32", (len(names),), given="must", features=names)
    scale = StateSpec(
        SERIES_SCALE, f"{SERIES_SCALE}_next", "float32", (len(names),), initial=1.0, given="must", features=names, positive=True
    )
    return mean, scale


def infos(config: NetworkConfig, suffix: str = "") -> list[onnx.ValueInfoProto]:
    """Returns the graph's inputs for them, or with a suffix its outputs."""
    return [helper.make_tensor_value_info(s.input + suffix, TensorProto.FLOAT, ["batch", *s.shape]) for s in states(config)]


def inputs(graph: Graph, config: NetworkConfig) -> str:
    """Adds `x` with its target columns in the series' own units, and returns its name; `x` itself where all have one scale."""
    if config.scale == "global":
        return "x"
    places = graph.constant("target_places", np.array([place or 0 for place in config.target_places], np.int64))
    own = graph.constant("is_target", np.array([place is not None for place in config.target_places]))
    plain = {
        SERIES_MEAN: graph.constant("no_mean", np.zeros(1, np.float32)),
        SERIES_SCALE: graph.constant("no_scale", np.ones(1, np.float32)),
    }
    spread = {}
    for name, without in plain.items():
        gathered = graph.add("Gather", [name, places], f"{name}_of_features", axis=1)
        spread[name] = graph.add("Where", [own, gathered, without], f"{name}_of_x")
    return graph.add("Div", [graph.add("Sub", ["x", spread[SERIES_MEAN]], "x_centred"), spread[SERIES_SCALE]], "x_in_series_units")


def outputs(graph: Graph, config: NetworkConfig, values: str, name: str) -> str:
    """Adds values in the series' units → the targets' own units; what is differenced has no mean to be added."""
    differenced = graph.constant("target_differenced", np.array([target.difference for target in config.targets]))
    level = graph.add("Where", [differenced, graph.constant("no_mean", np.zeros(1, np.float32)), SERIES_MEAN], "series_level")
    return graph.add("Add", [graph.add("Mul", [values, SERIES_SCALE], "in_own_scale"), level], name)


def pass_through(graph: Graph, config: NetworkConfig) -> None:
    """Returns what was given as it is."""
    for state in states(config):
        graph.add("Identity", [state.input], state.output)
