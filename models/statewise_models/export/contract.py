"""Network → spec: what the exported graph takes, returns and remembers, with parity vectors computed by torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from statewise.spec import SERIES_MEAN, SERIES_SCALE, ModelSpec, Parity, StateSpec, TensorSpec
from statewise_models.config import NetworkConfig
from statewise_models.export import own_scale
from statewise_models.export.builder import LENGTHS, OUTPUT
from statewise_models.export.conversation import Chunk, conversation, torch_outputs
from statewise_models.network import Network

PARITY_STEPS = (3, 1, 2)
PARITY_BATCH = 2
MOST_SERIES = 4096

Compute = Callable[[Network, Sequence[Chunk]], list[NDArray[np.float32]]]


def contract(network: Network, about: dict[str, Any], compute: Compute = torch_outputs) -> ModelSpec:
    """Returns the spec of the graph that `builder.build` makes of `network`.

    Args:
        compute: what the parity vectors expect: torch, or a graph that does not compute quite the same.
    """
    config = network.config
    return ModelSpec(
        inputs=_inputs(config),
        outputs=(_output(config),),
        states=(
            *(StateSpec(name, f"{name}_next", "float32", (size,)) for name, size in config.state_sizes.items()),
            *own_scale.states(config),
        ),
        lengths=LENGTHS,
        task=config.task,
        calendar=config.calendar,
        vocabulary=config.vocabulary,
        parity=_parity(network, compute),
        about={**_about(network), **about},
        series=_series(config),
    )


def _inputs(config: NetworkConfig) -> tuple[TensorSpec, ...]:
    if config.vocabulary:
        return (TensorSpec("token", "int64", (), minimum=0, maximum=len(config.vocabulary) - 1),)
    names = tuple(feature.name for feature in config.features)
    missing = tuple(feature.missing for feature in config.features)
    ahead = tuple(feature.ahead for feature in config.features)
    x = TensorSpec(
        "x",
        "float32",
        (len(names),),
        features=names,
        missing=missing,
        ahead=ahead if any(ahead) else (),
        scale=tuple(feature.scale for feature in config.features),
        least=_known([feature.least for feature in config.features]),
        greatest=_known([feature.greatest for feature in config.features]),
    )
    return (x, TensorSpec(config.calendar.input, "int64", ())) if config.calendar else (x,)


def _known(values: Sequence[float | None]) -> tuple[float, ...]:
    """Returns the values if all are known, else none."""
    return tuple(value for value in values if value is not None) if None not in values else ()


def _output(config: NetworkConfig) -> TensorSpec:
    names = {"forecast": tuple(target.name for target in config.targets), "classify": config.labels, "tokens": ()}
    return TensorSpec(OUTPUT[config.task], "float32", (config.head_size,), features=names[config.task])


def _about(network: Network) -> dict[str, Any]:
    config = network.config
    parameters = sum(weight.numel() for weight in network.parameters())
    about = {"cell": config.cell, "layers": config.layers, "hidden_size": config.hidden_size, "parameters": parameters}
    return {**about, "feedback": ",".join(map(str, config.routes))} if config.routes else about


def _series(config: NetworkConfig) -> dict[str, Any]:
    """Returns what the sessions of the series are to be given; nothing of so many that the file would be mostly that."""
    if len(config.series) > MOST_SERIES:
        return {}
    return {each.name: {SERIES_MEAN: list(each.mean), SERIES_SCALE: list(each.scale)} for each in config.series}


def _parity(network: Network, compute: Compute) -> Parity:
    """Returns carried steps without missing values (JSON has no NaN) and the outputs to them, as lists."""
    steps = conversation(network.config, [(PARITY_BATCH, length) for length in PARITY_STEPS], seed=0, masked=False)
    outputs = compute(network, steps)
    return Parity(
        steps=tuple({name: array.tolist() for name, array in step.inputs.items()} for step in steps),
        expected=tuple({OUTPUT[network.config.task]: output.tolist()} for output in outputs),
        constants={name: array.tolist() for name, array in steps[0].constants.items()},
    )
