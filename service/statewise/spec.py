"""What a model takes, returns and remembers: the contract between export and serving.

A served model is one ONNX file whose `metadata_props` hold this spec as JSON under `METADATA_KEY`. The exporter writes it, the
server reads it, and nothing else is needed to serve the file. Every class is a frozen value that checks itself when it is made,
so a spec that exists is a spec that can be served.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
import math
import operator
import reprlib
from dataclasses import dataclass
from functools import cache
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

METADATA_KEY = "statewise.spec"
FORMAT = 1
SERIES_MEAN, SERIES_SCALE = "series_mean", "series_scale"
"""The states in which a model that was trained on series of unlike size keeps the mean and the scale of the session's own."""

DType = Literal["float32", "float64", "float16", "int32", "int64", "bool"]
ITEM_BYTES: dict[str, int] = {"float32": 4, "float64": 8, "float16": 2, "int32": 4, "int64": 8, "bool": 1}
Missing = Literal["refuse", "mask"]
Given = Literal["never", "may", "must"]
Task = Literal["forecast", "classify", "tokens"]
Control = Literal["start", "end", "ready", "corrid"]


class SpecError(ValueError):
    """The spec is absent, unreadable or contradicts itself."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a model.

    Attributes:
        name: the graph's own name for it.
        dtype: element type, in NumPy's words.
        shape: the shape of one timestep of one session, that is without the batch and time axes; `()` is a scalar.
        batch_axis: where the graph has the batch axis.
        time_axis: where the graph has the time axis; `None` if it has none (one call is one timestep).
        features: a name for each place of the last axis, or empty.
        missing: for each feature, what a NaN means; empty is `refuse` for all.
        minimum: the least value that an integer input takes, or `None`.
        maximum: the greatest value that an integer input takes, or `None`.
        ahead: for each feature of an input, how many timesteps ahead of its step its value is: 1 where timestep t brings what is
            known of t + 1 (a promotion, a holiday), or 0; empty is 0 for all.
        scale: the standard deviation of each feature in training, or empty; of a target with a scale of its series, in that scale.
        least, greatest: of each feature in training, in the same unit; or empty.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    batch_axis: int = 1
    time_axis: int | None = 0
    features: tuple[str, ...] = ()
    missing: tuple[Missing, ...] = ()
    minimum: int | None = None
    maximum: int | None = None
    ahead: tuple[int, ...] = ()
    scale: tuple[float, ...] = ()
    least: tuple[float, ...] = ()
    greatest: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        _check_tensor(self.name, self.dtype, self.shape)
        for field in ("features", "missing", "ahead", "scale", "least", "greatest"):
            _check_width(self.name, self.shape, field, getattr(self, field))
        if not set(self.ahead) <= {0, 1}:
            raise SpecError(f"tensor {self.name!r}: ahead must hold 0 and 1, not {list(self.ahead)}")
        if not all(0 < each < math.inf for each in self.scale):
            raise SpecError(f"tensor {self.name!r}: scale must hold finite numbers above 0, not {list(self.scale)}")
        if len(self.least) != len(self.greatest) or not all(map(operator.le, self.least, self.greatest)):
            raise SpecError(f"tensor {self.name!r}: least and greatest go together, and no least is more than its greatest")
        axes = [axis for axis in (self.batch_axis, self.time_axis) if axis is not None]
        if min(axes) < 0 or len(set(axes)) < len(axes):
            raise SpecError(f"tensor {self.name!r}: batch_axis and time_axis must be 0 or more, and differ")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise SpecError(f"tensor {self.name!r}: minimum {self.minimum} is more than maximum {self.maximum}")

    @property
    def masked(self) -> bool:
        """Whether any feature takes NaN for "not known"."""
        return "mask" in self.missing


@dataclass(frozen=True, slots=True)
class ConstantSpec:
    """What a session may or must be given when it is opened: the first value of one of its states.

    Attributes:
        name: the graph input that takes the state.
        dtype: element type.
        shape: of the value, without a batch axis.
        features: a name for each place of the last axis, or empty.
        required: whether no session opens without it.
        positive: whether every element must be above 0, as a scale must.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    features: tuple[str, ...] = ()
    required: bool = False
    positive: bool = False


@dataclass(frozen=True, slots=True)
class StateSpec:
    """One recurrent tensor: what the graph takes as `input` it returns, one step on, as `output`.

    Attributes:
        input: the graph input that takes the state.
        output: the graph output that returns the state one step on.
        dtype: element type.
        shape: the state of one session, without the batch axis.
        batch_axis: where the graph has the batch axis.
        initial: the value that every element has when a session opens.
        initial_base64: where they are not all alike: the elements in base64, row-major and little-endian; then `initial` counts
            for nothing.
        finite: whether NaN and infinities in the state are errors.
        given: whether Open gives the initial value: never, may (then it goes before `initial`), or must. A value that stays as it
            was given is a state that the graph passes through.
        features: a name for each place of the last axis, or empty.
        positive: whether every element that is given must be above 0.
    """

    input: str
    output: str
    dtype: DType
    shape: tuple[int, ...]
    batch_axis: int = 0
    initial: float = 0.0
    finite: bool = True
    given: Given = "never"
    features: tuple[str, ...] = ()
    positive: bool = False
    initial_base64: str = ""

    def __post_init__(self) -> None:
        _check_tensor(self.input, self.dtype, self.shape)
        _check_initial(self)
        _check_width(self.input, self.shape, "features", self.features)
        if not self.output or self.output == self.input:
            raise SpecError(f"state {self.input!r}: output must name another tensor than its input")
        if self.batch_axis < 0:
            raise SpecError(f"state {self.input!r}: batch_axis must be 0 or more, not {self.batch_axis}")
        if not math.isfinite(self.initial):
            raise SpecError(f"state {self.input!r}: initial must be a finite number, not {self.initial}")

    @property
    def constant(self) -> ConstantSpec:
        """What Open takes for this state."""
        return ConstantSpec(self.input, self.dtype, self.shape, self.features, self.given == "must", self.positive)


@dataclass(frozen=True, slots=True)
class ControlSpec:
    """A graph input `[batch]` that the server feeds, as Triton's sequence batcher does.

    Attributes:
        kind: what it tells. `start`: this run is the session's first. `end`: it ends with the step that the client calls its last.
            `ready`: the row is a step's, which is always so. `corrid`: the session's number, unlike that of any other open one.
        input: the graph's name for it.
        dtype: element type.
        off, on: what stands for no and for yes; they count for nothing for `corrid`.
    """

    kind: Control
    input: str
    dtype: DType
    off: float = 0.0
    on: float = 1.0

    def __post_init__(self) -> None:
        _check_tensor(self.input, self.dtype, ())
        if self.kind == "corrid" and self.dtype not in ("int32", "int64"):
            raise SpecError(f"control {self.input!r}: corrid takes int32 or int64, not {self.dtype}")


@dataclass(frozen=True, slots=True)
class Calendar:
    """How an integer time input counts.

    Attributes:
        input: the input's name.
        step_seconds: seconds of one timestep, and time is `floor(unix_seconds / step_seconds)`; 0 if time is the row's index.
        periods: the periods that the model knows, in timesteps.
    """

    input: str
    step_seconds: float
    periods: tuple[int, ...]

    def __post_init__(self) -> None:
        if not 0 <= self.step_seconds < math.inf or any(period < 2 for period in self.periods):
            raise SpecError("calendar: step_seconds must be 0 or more, and every period at least 2 timesteps")


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The meaning of token ids: the characters in the order of their ids, or the 256 bytes.

    Attributes:
        characters: single characters; the id of a token is its place.
        bytes: whether a token is one byte of UTF-8 text instead.
    """

    characters: tuple[str, ...] = ()
    bytes: bool = False

    def __post_init__(self) -> None:
        if self.bytes == bool(self.characters):
            raise SpecError("vocabulary: either bytes, or the characters")
        if any(len(character) != 1 for character in self.characters) or len(set(self.characters)) < len(self.characters):
            raise SpecError("vocabulary: characters must hold single characters, each once")

    def __len__(self) -> int:
        return 256 if self.bytes else len(self.characters)

    def encode(self, text: str) -> list[int]:
        """Returns the token ids of `text`; raises `ValueError` naming the first character that is not in the vocabulary."""
        if self.bytes:
            return list(text.encode())
        ids = {character: number for number, character in enumerate(self.characters)}
        for place, character in enumerate(text):
            if character not in ids:
                raise ValueError(f"character {character!r} at {place} is not in the model's vocabulary of {len(self)}")
        return [ids[character] for character in text]

    def decode(self, tokens: list[int]) -> str:
        """Returns the text of token ids; bytes that are not UTF-8 become U+FFFD."""
        if self.bytes:
            return bytes(tokens).decode(errors="replace")
        return "".join(self.characters[token] for token in tokens)


@dataclass(frozen=True, slots=True)
class Parity:
    """A carried conversation and its expected outputs, run on the real provider before the model is called ready.

    Attributes:
        steps: for each step, input name → nested lists of shape `[timesteps, batch, ...]`.
        expected: for each step, output name → nested lists of the same layout.
        tolerance: the largest difference allowed, as a share of the output's scale.
        constants: what the sessions were given, state → nested lists `[batch, ...]`.
    """

    steps: tuple[dict[str, Any], ...] = ()
    expected: tuple[dict[str, Any], ...] = ()
    tolerance: float = 1e-4
    constants: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.steps) != len(self.expected):
            raise SpecError(f"parity: {len(self.steps)} steps but {len(self.expected)} expected outputs")


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """The whole contract of one model version.

    Attributes:
        inputs, outputs: what steps bring and replies return.
        states: what is carried from step to step; pairs are explicit, never inferred from order.
        lengths: the int32 graph input `[batch]` with the timesteps of each row, or `None` for a graph without ragged batches: then
            steps of unlike length never share a run.
        task: what the model was trained for, or `None`.
        calendar: how the time input counts, or `None`.
        vocabulary: the meaning of token ids, or `None`.
        parity: the vectors to check at load.
        about: free facts for people (cell, parameters, training error): shown, never interpreted.
        series: for series that the model was trained on, what their sessions are to be given: name → constant → nested lists.
        controls: inputs that the server feeds.
        batch: the most sessions of one run, 0 for as many as the server takes.
        timesteps: the most timesteps of one run, 0 for as many as the server takes; 1 where one call is one timestep.
        idle_timeout_seconds: after which a session ends whose Open names no other; 0 for the server's own.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    states: tuple[StateSpec, ...]
    lengths: str | None = None
    task: Task | None = None
    calendar: Calendar | None = None
    vocabulary: Vocabulary | None = None
    parity: Parity = dataclasses.field(default_factory=Parity)
    about: dict[str, Any] = dataclasses.field(default_factory=dict)
    series: dict[str, Any] = dataclasses.field(default_factory=dict)
    controls: tuple[ControlSpec, ...] = ()
    batch: int = 0
    timesteps: int = 0
    idle_timeout_seconds: float = 0.0

    def __post_init__(self) -> None:
        if not self.inputs or not self.outputs or not self.states:
            raise SpecError("a model needs at least one input, one output and one state")
        names = [tensor.name for tensor in (*self.inputs, *self.outputs)]
        names += [name for state in self.states for name in (state.input, state.output)]
        names += [control.input for control in self.controls]
        names += [self.lengths] if self.lengths else []
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise SpecError(f"names must be unique, these are not: {', '.join(twice)}")
        if min(self.batch, self.timesteps, self.idle_timeout_seconds) < 0:
            raise SpecError("batch, timesteps and idle_timeout_seconds must be 0 or more")
        if self.calendar and self.calendar.input not in {tensor.name for tensor in self.inputs}:
            raise SpecError(f"calendar: {self.calendar.input!r} is not an input")
        self._check_constants()
        self._check_parity()

    @property
    def constants(self) -> tuple[ConstantSpec, ...]:
        """What a session may or must be given when it is opened."""
        return tuple(state.constant for state in self.states if state.given != "never")

    def _check_constants(self) -> None:
        names = {constant.name for constant in self.constants}
        for field, held in (
            ("parity.constants", self.parity.constants),
            *((f"series.{name}", g) for name, g in self.series.items()),
        ):
            if not isinstance(held, dict) or not set(held) <= names:
                raise SpecError(f"{field}: may hold only what Open gives: {', '.join(sorted(names)) or 'nothing'}")

    def _check_parity(self) -> None:
        inputs, outputs = ({tensor.name for tensor in tensors} for tensors in (self.inputs, self.outputs))
        for number, (step, expected) in enumerate(zip(self.parity.steps, self.parity.expected, strict=True)):
            if set(step) != inputs:
                raise SpecError(f"parity: steps[{number}] must bring the inputs {', '.join(sorted(inputs))}")
            if not set(expected) <= outputs:
                raise SpecError(f"parity: expected[{number}] may hold only the outputs {', '.join(sorted(outputs))}")

    def to_json(self) -> str:
        """Returns the spec as JSON, the form in which a model carries it."""
        return json.dumps({"format": FORMAT, **dataclasses.asdict(self)}, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> ModelSpec:
        """Reads what `to_json` wrote; raises `SpecError` naming the field that is wrong."""
        try:
            raw = json.loads(text)
        except ValueError as error:
            raise SpecError(f"the model's spec is not JSON: {error}") from error
        if not isinstance(raw, dict) or raw.pop("format", None) != FORMAT:
            raise SpecError(f"the model's spec must have format {FORMAT}, the only one known")
        spec: ModelSpec = _read_class(cls, raw, "")
        return spec


_hints = cache(get_type_hints)


def _read_class(kind: Any, value: Any, field: str) -> Any:
    """Returns JSON's `value` as the dataclass `kind`; raises `SpecError` naming the field, which has the path `field`."""
    if not isinstance(value, dict):
        raise SpecError(f"{field}: takes an object, not {reprlib.repr(value)}")
    path, hints = f"{field}." if field else "", _hints(kind)
    required = {entry.name for entry in dataclasses.fields(kind) if entry.default is entry.default_factory is dataclasses.MISSING}
    for wrong, names in (("is absent", required - set(value)), ("is not known", set(value) - set(hints))):
        if names:
            raise SpecError(f"{path}{min(names)}: {wrong}")
    return kind(**{name: _read(hints[name], entry, path + name) for name, entry in value.items()})


def _read(kind: Any, value: Any, field: str) -> Any:
    """Returns JSON's `value` as what a field's annotation `kind` takes; raises `SpecError` naming the field."""
    origin, inner = get_origin(kind), get_args(kind)
    if dataclasses.is_dataclass(kind):
        return _read_class(kind, value, field)
    if NoneType in inner:
        return None if value is None else _read(inner[0], value, field)
    if origin is tuple and isinstance(value, list):
        return tuple(_read(inner[0], entry, f"{field}[{place}]") for place, entry in enumerate(value))
    if origin is Literal and value in inner:
        return value
    if origin is dict and isinstance(value, dict):
        return value
    if type(value) is kind or (kind is float and type(value) is int):
        return value
    raise SpecError(f"{field}: takes {_told(kind)}, not {reprlib.repr(value)}")


def _told(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    words = {int: "an integer", float: "a number", str: "a string", bool: "true or false", tuple: "a list", dict: "an object"}
    return words[get_origin(kind) or kind]


def _check_tensor(name: str, dtype: str, shape: tuple[int, ...]) -> None:
    if not name:
        raise SpecError("a tensor needs a name")
    if dtype not in get_args(DType):
        raise SpecError(f"tensor {name!r}: dtype {dtype!r} is not one of {', '.join(get_args(DType))}")
    if any(length < 1 for length in shape):
        raise SpecError(f"tensor {name!r}: shape {list(shape)} must hold positive integers")


def _check_initial(state: StateSpec) -> None:
    size = math.prod(state.shape) * ITEM_BYTES[state.dtype]
    try:
        held = len(base64.b64decode(state.initial_base64, validate=True))
    except (binascii.Error, ValueError) as error:
        raise SpecError(f"state {state.input!r}: initial_base64 is not base64: {error}") from error
    if state.initial_base64 and held != size:
        raise SpecError(f"state {state.input!r}: initial_base64 holds {held} bytes, the state has {size}")


def _check_width(name: str, shape: tuple[int, ...], field: str, values: tuple[Any, ...]) -> None:
    width = shape[-1] if shape else 1
    if values and len(values) != width:
        raise SpecError(f"tensor {name!r}: {field} has {len(values)} entries, the last axis {width}")
