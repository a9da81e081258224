"""The spec that a model carries: it is read back as it was written, and what cannot be served is refused by the field's name."""

import contextlib
import dataclasses
import json
import typing

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from statewise.spec import (
    Calendar,
    ControlSpec,
    DType,
    Given,
    ModelSpec,
    Parity,
    SpecError,
    StateSpec,
    Task,
    TensorSpec,
    Vocabulary,
)

NAMES = st.text(min_size=1, max_size=6)
SHAPES = st.lists(st.integers(1, 9), max_size=3).map(tuple)
DTYPES = st.sampled_from(typing.get_args(DType))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@st.composite
def tensors(draw, name):
    shape, axes = draw(SHAPES), draw(st.sampled_from([(0, None), (1, 0), (0, 1)]))
    width = shape[-1] if shape else 1
    features = draw(st.just(()) | st.lists(NAMES, min_size=width, max_size=width).map(tuple))
    missing = draw(st.just(()) | st.lists(st.sampled_from(["refuse", "mask"]), min_size=width, max_size=width).map(tuple))
    least = draw(st.none() | st.integers())
    most = draw(st.none() | st.integers(min_value=least))
    ahead = draw(st.just(()) | st.lists(st.integers(0, 1), min_size=width, max_size=width).map(tuple))
    scale = draw(st.just(()) | st.lists(st.floats(1e-9, 1e9), min_size=width, max_size=width).map(tuple))
    span = draw(st.just(()) | st.lists(st.floats(-1e9, 1e9), min_size=width, max_size=width).map(tuple))
    return TensorSpec(
        name, draw(DTYPES), shape, *axes, features, missing, least, most, ahead, scale, span, tuple(each + 1 for each in span)
    )


def names_of(shape):
    width = shape[-1] if shape else 1
    return st.just(()) | st.lists(NAMES, min_size=width, max_size=width).map(tuple)


@st.composite
def states(draw, taken, returned):
    initial = draw(st.floats(allow_nan=False, allow_infinity=False))
    kinds = (draw(st.integers(0, 3)), initial, draw(st.booleans()), draw(st.sampled_from(typing.get_args(Given))))
    return StateSpec(taken, returned, draw(DTYPES), shape := draw(SHAPES), *kinds, draw(names_of(shape)), draw(st.booleans()))


@st.composite
def specs(draw):
    names = draw(st.lists(NAMES, min_size=8, max_size=8, unique=True))
    inputs, outputs = (draw(tensors(names[0])), draw(tensors(names[1]))), (draw(tensors(names[2])),)
    steps = draw(st.lists(st.fixed_dictionaries({names[0]: JSON, names[1]: JSON}), max_size=2).map(tuple))
    expected = tuple({names[2]: draw(JSON)} for _ in steps)
    state = draw(states(names[3], names[4]))
    given = st.just({}) if state.given == "never" else st.dictionaries(st.just(state.input), JSON)
    return ModelSpec(
        inputs,
        outputs,
        (state,),
        lengths=draw(st.sampled_from([None, names[5]])),
        task=draw(st.none() | st.sampled_from(typing.get_args(Task))),
        calendar=draw(st.none() | st.builds(Calendar, st.just(names[0]), st.floats(0, 1e9), st.just((48, 336)))),
        vocabulary=draw(st.sampled_from([None, Vocabulary(bytes=True), Vocabulary(tuple("aé€ \n"))])),
        parity=Parity(steps, expected, draw(st.floats(0, 1)), draw(given)),
        about=draw(st.dictionaries(st.text(max_size=5), JSON, max_size=3)),
        series=draw(st.dictionaries(NAMES, given, max_size=3)),
        controls=draw(
            st.sampled_from([(), (ControlSpec("start", names[6], "bool", 1.0, 0.0), ControlSpec("corrid", names[7], "int64"))])
        ),
        batch=draw(st.integers(0, 9)),
        timesteps=draw(st.integers(0, 9)),
        idle_timeout_seconds=draw(st.floats(0, 1e9)),
    )


@given(specs())
def test_a_spec_comes_back_as_it_was(spec):
    """Whatever a spec holds survives its JSON, types included."""
    assert ModelSpec.from_json(spec.to_json()) == spec


TEXT = json.loads(
    ModelSpec(
        inputs=(TensorSpec("x", "float32", (2,), features=("a", "b"), missing=("refuse", "mask")), TensorSpec("time", "int64", ())),
        outputs=(TensorSpec("y", "float32", (1,)),),
        states=(StateSpec("h", "h_next", "float32", (3,)),),
        lengths="lengths",
        task="forecast",
        calendar=Calendar("time", 1800.0, (48,)),
        vocabulary=Vocabulary(("a", "b")),
        parity=Parity(({"x": [[[1.0, 2.0]]], "time": [[1]]},), ({"y": [[[0.5]]]},)),
    ).to_json()
)
ABSENT = object()


def changed(path, value):
    text = json.loads(json.dumps(TEXT))
    *way, last = path
    place = text
    for part in way:
        place = place[part]
    if value is ABSENT:
        del place[last]
    else:
        place[last] = value
    return json.dumps(text)


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (["format"], 2, "format 1"),
        (["format"], ABSENT, "format 1"),
        (["inputs"], ABSENT, "inputs: is absent"),
        (["inputs"], [], "at least one input"),
        (["inputs"], {"x": 1}, "inputs: takes a list"),
        (["inputs", 0], "x", r"inputs\[0\]: takes an object"),
        (["inputs", 0, "name"], 5, r"inputs\[0\].name: takes a string"),
        (["inputs", 0, "name"], "", "needs a name"),
        (["inputs", 0, "name"], "y", "unique, these are not: y"),
        (["inputs", 0, "dtype"], "complex64", r"inputs\[0\].dtype: takes one of float32"),
        (["inputs", 0, "dtype"], ABSENT, r"inputs\[0\].dtype: is absent"),
        (["inputs", 0, "shape"], [2.0], r"inputs\[0\].shape\[0\]: takes an integer, not 2.0"),
        (["inputs", 0, "shape"], [True], r"inputs\[0\].shape\[0\]: takes an integer, not True"),
        (["inputs", 0, "shape"], "22", r"inputs\[0\].shape: takes a list"),
        (["inputs", 0, "shape"], [0], "'x': shape"),
        (["inputs", 0, "features"], ["a"], "'x': features has 1 entries"),
        (["inputs", 0, "features"], ["a", None], r"inputs\[0\].features\[1\]: takes a string"),
        (["inputs", 0, "missing"], ["refuse", "guess"], r"inputs\[0\].missing\[1\]: takes one of refuse, mask, not 'guess'"),
        (["inputs", 0, "missing"], ["mask"], "'x': missing has 1 entries"),
        (["inputs", 0, "ahead"], [1], "'x': ahead has 1 entries"),
        (["inputs", 0, "ahead"], [0, 2], r"'x': ahead must hold 0 and 1, not \[0, 2\]"),
        (["inputs", 0, "scale"], [1.0, 0.0], r"'x': scale must hold finite numbers above 0, not \[1.0, 0.0\]"),
        (["inputs", 0, "scale"], [1.0], "'x': scale has 1 entries, the last axis 2"),
        (["inputs", 0, "least"], [0.0, 0.0], "'x': least and greatest go together"),
        (["states", 0, "given"], "always", r"states\[0\].given: takes one of never, may, must, not 'always'"),
        (["states", 0, "features"], ["a"], "'h': features has 1 entries"),
        (["parity", "constants"], {"h": [[0.0]]}, "parity.constants: may hold only what Open gives: nothing"),
        (["series"], {"corner": {"h": [0.0]}}, "series.corner: may hold only what Open gives: nothing"),
        (["series"], {"corner": 5}, "series.corner: may hold only"),
        (["inputs", 0, "time_axis"], 1, "'x': batch_axis and time_axis"),
        (["inputs", 0, "batch_axis"], -1, "'x': batch_axis and time_axis"),
        (["inputs", 0, "minimum"], 0.5, r"inputs\[0\].minimum: takes an integer"),
        (["inputs", 1], {**TEXT["inputs"][1], "minimum": 3, "maximum": 2}, "'time': minimum 3 is more than maximum 2"),
        (["inputs", 0, "units"], "MW", r"inputs\[0\].units: is not known"),
        (["outputs", 0, "shape"], [-1], "'y': shape"),
        (["states"], None, "states: takes a list"),
        (["states", 0, "output"], "h", "'h': output"),
        (["states", 0, "output"], "", "'h': output"),
        (["states", 0, "output"], "y", "unique, these are not: y"),
        (["states", 0, "initial"], "zero", r"states\[0\].initial: takes a number"),
        (["states", 0, "initial"], float("inf"), "'h': initial"),
        (["states", 0, "initial_base64"], "AAAA", "'h': initial_base64 holds 3 bytes, the state has 12"),
        (["states", 0, "initial_base64"], "?", "'h': initial_base64 is not base64"),
        (["batch"], -1, "batch, timesteps and idle_timeout_seconds must be 0 or more"),
        (
            ["controls"],
            [{"kind": "begin", "input": "s", "dtype": "bool"}],
            r"controls\[0\].kind: takes one of start, end, ready, corrid",
        ),
        (["controls"], [{"kind": "corrid", "input": "s", "dtype": "bool"}], "corrid takes int32 or int64, not bool"),
        (["states", 0, "batch_axis"], -1, "'h': batch_axis"),
        (["states", 0, "finite"], 1, r"states\[0\].finite: takes true or false"),
        (["lengths"], "x", "unique, these are not: x"),
        (["task"], "poetry", "task: takes one of forecast, classify, tokens, not 'poetry'"),
        (["calendar", "input"], "clock", "calendar: 'clock' is not an input"),
        (["calendar", "step_seconds"], -1, "calendar: step_seconds"),
        (["calendar", "step_seconds"], float("nan"), "calendar: step_seconds"),
        (["calendar", "periods"], [1], "every period at least 2"),
        (["vocabulary", "characters"], ["a", "a"], "vocabulary: characters"),
        (["vocabulary", "characters"], ["ab"], "vocabulary: characters"),
        (["vocabulary", "characters"], [], "vocabulary: either bytes"),
        (["vocabulary", "bytes"], True, "vocabulary: either bytes"),
        (["parity", "steps"], [], "parity: 0 steps but 1 expected"),
        (["parity", "steps", 0], {"x": []}, r"parity: steps\[0\] must bring the inputs time, x"),
        (["parity", "expected", 0], {"z": []}, r"parity: expected\[0\] may hold only the outputs y"),
        (["parity", "tolerance"], "much", "parity.tolerance: takes a number"),
        (["about"], [], "about: takes an object"),
        (["weather"], "fine", "weather: is not known"),
    ],
)
def test_the_refusal_names_the_field(path, value, told):
    """A spec that is wrong in one place is refused with that place, and with what it takes."""
    with pytest.raises(SpecError, match=told):
        ModelSpec.from_json(changed(path, value))


@given(st.text(max_size=30) | JSON.map(json.dumps))
def test_what_is_no_spec_is_refused_as_such(text):
    """Whatever a file's metadata hold, the answer is SpecError and no other."""
    with pytest.raises(SpecError, match=r"not JSON|format 1"):
        ModelSpec.from_json(text)


def paths(value, way=()):
    yield way
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from paths(inner, (*way, key))


@given(st.sampled_from([way for way in paths(TEXT) if way]), JSON)
def test_any_value_anywhere_gives_a_spec_or_a_refusal(path, value):
    """Another value in any place gives a spec that holds it or SpecError, never another exception."""
    with contextlib.suppress(SpecError):
        spec = ModelSpec.from_json(changed(path, value))
        assert ModelSpec.from_json(spec.to_json()) == spec


def test_what_is_absent_takes_its_default():
    """A spec of the required fields alone can be served."""
    least = {"format": 1, "inputs": [{"name": "x", "dtype": "float32", "shape": []}]}
    least |= {"outputs": [{"name": "y", "dtype": "float32", "shape": []}]}
    least |= {"states": [{"input": "h", "output": "g", "dtype": "float32", "shape": [1]}]}
    spec = ModelSpec.from_json(json.dumps(least))
    assert spec == ModelSpec(
        (TensorSpec("x", "float32", ()),), (TensorSpec("y", "float32", ()),), (StateSpec("h", "g", "float32", (1,)),)
    )


@pytest.mark.parametrize("part", ["inputs", "outputs", "states"])
def test_a_model_takes_returns_and_remembers_something(part):
    """A spec without an input, an output or a state cannot be made."""
    with pytest.raises(SpecError, match="at least one input, one output and one state"):
        dataclasses.replace(ModelSpec.from_json(json.dumps(TEXT)), **{part: (), "calendar": None, "parity": Parity()})


def test_a_spec_cannot_change():
    """What was checked when it was made stays so."""
    spec = ModelSpec.from_json(json.dumps(TEXT))
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.inputs[0].name = "z"


def test_nan_is_never_written():
    """JSON has no NaN, so a spec with one is not written at all."""
    spec = dataclasses.replace(ModelSpec.from_json(json.dumps(TEXT)), about={"error": float("nan")})
    with pytest.raises(ValueError, match="JSON compliant"):
        spec.to_json()


@given(st.text("ab c€\n"))
def test_text_survives_the_vocabulary(text):
    """Characters and bytes give back the text that they were made of."""
    for vocabulary in (Vocabulary(tuple("ab c€\n")), Vocabulary(bytes=True)):
        tokens = vocabulary.encode(text)
        assert all(0 <= token < len(vocabulary) for token in tokens)
        assert vocabulary.decode(tokens) == text


def test_a_character_outside_the_vocabulary_is_named():
    """The first character that the model does not know is named with its place."""
    with pytest.raises(ValueError, match="'ß' at 2 is not in the model's vocabulary of 2"):
        Vocabulary(("a", "b")).encode("abß")


def test_bytes_that_are_no_text_are_shown_as_such():
    """A model that makes half a character is shown with U+FFFD, not with an exception."""
    assert Vocabulary(bytes=True).decode([0x61, 0xC3]) == "a\ufffd"


def test_masked_tells_of_any_feature():
    """A tensor takes NaN as soon as one feature does."""
    assert TensorSpec("x", "float32", (2,), missing=("refuse", "mask")).masked
    assert not TensorSpec("x", "float32", (2,), missing=("refuse", "refuse")).masked


@pytest.mark.parametrize("dtype", typing.get_args(DType))
def test_every_dtype_is_numpys(dtype):
    """The names of element types are NumPy's own."""
    assert np.dtype(dtype).name == dtype
