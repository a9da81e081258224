"""What a server tells of a model, as the client shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from numpy.typing import NDArray

from statewise.spec import Calendar, ConstantSpec, TensorSpec, Vocabulary
from statewise.tensors import DTYPES, decode
from statewise.v1 import model_pb2

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Model:
    """The model version that a session is pinned to.

    Attributes:
        task: `forecast`, `classify`, `tokens`, or empty.
        calendar: how the time input counts, or `None`.
        vocabulary: the meaning of token ids, or `None`.
        constants: what a session may or must be given when it is opened.
        series: of `Client.model` alone: for the series that it was trained on, what to give their sessions as `constants`.
        batch: the most sessions that share a run, 0 for any number; 1 where they are served one by one.
    """

    name: str
    version: int
    task: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    calendar: Calendar | None
    vocabulary: Vocabulary | None
    constants: tuple[ConstantSpec, ...] = ()
    series: Mapping[str, Mapping[str, Array]] = field(default_factory=dict)
    batch: int = 0


def read_model(message: model_pb2.Model) -> Model:
    """Returns the model that an open session tells of."""
    spec = message.spec
    calendar = Calendar(spec.calendar.input, spec.calendar.step_seconds, tuple(spec.calendar.periods))
    vocabulary = Vocabulary(tuple(spec.vocabulary.characters), spec.vocabulary.bytes) if spec.HasField("vocabulary") else None
    return Model(
        message.name,
        message.version,
        spec.task,
        tuple(_read_tensor(tensor) for tensor in spec.inputs),
        tuple(_read_tensor(tensor) for tensor in spec.outputs),
        calendar if spec.HasField("calendar") else None,
        vocabulary,
        tuple(_read_constant(constant) for constant in spec.constants),
        batch=spec.batch,
    )


def read_described(response: model_pb2.GetModelResponse) -> Model:
    """Returns the model that `GetModel` tells of, with what it knows of its series."""
    known = {each.series: {tensor.name: decode(tensor) for tensor in each.constants} for each in response.series}
    return replace(read_model(response.model), series=known)


def _read_constant(message: model_pb2.ConstantSpec) -> ConstantSpec:
    return ConstantSpec(
        message.name,
        DTYPES[message.data_type].name,  # type: ignore[arg-type]
        tuple(message.shape),
        features=tuple(message.features),
        required=message.required,
        positive=message.positive,
    )


def _read_tensor(message: model_pb2.TensorSpec) -> TensorSpec:
    return TensorSpec(
        message.name,
        DTYPES[message.data_type].name,  # type: ignore[arg-type]
        tuple(message.shape),
        features=tuple(message.features),
        missing=tuple("mask" if missing == model_pb2.MISSING_MASK else "refuse" for missing in message.missing),
        minimum=message.minimum if message.HasField("minimum") else None,
        maximum=message.maximum if message.HasField("maximum") else None,
        ahead=tuple(message.ahead),
    )
