"""Tensors of the Open Inference Protocol: typed and raw contents, shapes with and without time, and what is refused."""

import numpy as np
import pytest

from builders.inferring import DATATYPES
from statewise.errors import InvalidInput
from statewise.inference import open_inference_pb2 as wire
from statewise.rpc.inference.tensors import constant, lay_out, read
from statewise.spec import ModelSpec, StateSpec, TensorSpec

FIELDS = {"float32": "fp32", "float64": "fp64", "int32": "int", "int64": "int64", "bool": "bool"}
STATE = (StateSpec("h", "h_next", "float32", (1,)),)
VALUES = [[0, 1, 1]]


def message(dtype, shape=(1, 3), raw=None, **contents):
    made = wire.ModelInferRequest(model_name="m")
    tensor = made.inputs.add(name="x", datatype=DATATYPES.get(dtype, dtype), shape=shape)
    if contents:
        tensor.contents.CopyFrom(wire.InferTensorContents(**contents))
    if raw is not None:
        made.raw_input_contents.append(raw)
    return made


def spec(dtype="float32", shape=(3,)):
    return ModelSpec((TensorSpec("x", dtype, shape),), (TensorSpec("y", "float32", (1,)),), STATE)


@pytest.mark.parametrize("dtype", DATATYPES)
def test_raw_contents_are_little_endian_and_row_major(dtype):
    """Every element type of a model's input travels raw."""
    values = np.array(VALUES, dtype)
    array = read(message(dtype, raw=values.astype(values.dtype.newbyteorder("<")).tobytes()))["x"]
    assert array.dtype == dtype
    np.testing.assert_array_equal(array, values)


@pytest.mark.parametrize("dtype", FIELDS)
def test_typed_contents_are_in_the_field_of_their_type(dtype):
    """Every element type that has a field of its own travels in it, and gives what raw contents give."""
    array = read(message(dtype, **{f"{FIELDS[dtype]}_contents": VALUES[0]}))["x"]
    assert array.dtype == dtype
    np.testing.assert_array_equal(array, np.array(VALUES, dtype))


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (message("float32", raw=bytes(11)), "byte size mismatch for input 'x'. Expected 12, got 11"),
        (message("float32"), "unable to find data for input tensor 'x'"),
        (message("float32", fp32_contents=[1, 2]), "takes 3 elements, not 2"),
        (message("float32", fp64_contents=[1, 2, 3]), "FP32 travels in fp32_contents"),
        (message("float32", fp32_contents=[1, 2, 3], int_contents=[1]), "FP32 travels in fp32_contents"),
        (message("float16", fp32_contents=[1, 2, 3]), "FP16 travels in raw_input_contents alone"),
        (message("float32", raw=bytes(12), fp32_contents=[1, 2, 3]), "must not be specified when using raw_input_contents"),
        (message("BYTES", raw=bytes(12)), "data-type must be one of .*, not 'BYTES'"),
        (message("float32", shape=(1, -3), raw=bytes(12)), "positive lengths"),
        (message("float32", shape=(), raw=bytes(4)), "positive lengths"),
        (message("float32", shape=(1, 2**62, 2**62), raw=bytes(12)), "byte size mismatch"),
        (message("float32", shape=(1,) * 70, raw=bytes(4)), "70 axes"),
        (message("bool", raw=b"\0\1\2"), "a BOOL is the byte 0 or 1"),
    ],
)
def test_contents_that_cannot_be_read_are_refused(made, words):
    """The message names the input and says what it takes."""
    with pytest.raises(InvalidInput, match=words):
        read(made)


def test_an_input_with_parameters_is_refused():
    """Shared memory is asked for by parameters of an input; nothing is taken from where nothing was put."""
    made = message("float32", raw=bytes(12))
    made.inputs[0].parameters["shared_memory_region"].string_param = "there"
    with pytest.raises(InvalidInput, match="shared memory is not offered"):
        read(made)


@pytest.mark.parametrize(
    ("shape", "given", "timesteps", "timed"),
    [
        ((3,), (1, 3), 1, False),
        ((3,), (1, 1, 3), 1, True),
        ((3,), (1, 5, 3), 5, True),
        ((2, 3), (1, 2, 3), 1, False),
        ((2, 3), (1, 2, 2, 3), 2, True),
        ((), (1,), 1, False),
        ((), (1, 1), 1, False),
        ((), (1, 5), 5, True),
        ((), (1, 5, 1), 5, True),
        ((), (1, 1, 1), 1, True),
        ((1,), (1, 1), 1, False),
        ((1,), (1, 4, 1), 4, True),
    ],
)
def test_one_timestep_and_many_are_told_apart_by_rank(shape, given, timesteps, timed):
    """`[1, *shape]` is one timestep and `[1, timesteps, *shape]` are many; a scalar's timestep may be `[1]`."""
    array = np.arange(np.prod(given), dtype=np.float32).reshape(given)
    inputs, with_time = lay_out(spec(shape=shape), {"x": array})
    assert (inputs["x"].shape, with_time) == ((timesteps, *shape), timed)
    np.testing.assert_array_equal(inputs["x"].ravel(), array.ravel())


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((2, 3), "must specify batch-size 1"),
        ((3,), "Expected \\[1, 3\\] for one timestep or \\[1, timesteps, 3\\], got \\[3\\]"),
        ((1, 4), "Expected .*, got \\[1, 4\\]"),
        ((2, 2, 3), "Expected .*, got \\[2, 2, 3\\]"),
        ((1, 1, 1, 3), "Expected .*, got \\[1, 1, 1, 3\\]"),
    ],
)
def test_other_shapes_are_refused(given, words):
    """A batch of several, as Triton refuses it for sequences, and shapes that are neither one timestep nor many."""
    with pytest.raises(InvalidInput, match=words):
        lay_out(spec(), {"x": np.zeros(given, np.float32)})


def test_names_and_types_are_held_against_the_model():
    """An input of another type, one that the model does not know, and one that is missing are refused by name."""
    x = np.zeros((1, 3), np.float32)
    with pytest.raises(InvalidInput, match="'x' data-type is 'FP64', but the model expects 'FP32'"):
        lay_out(spec(), {"x": x.astype(np.float64)})
    with pytest.raises(InvalidInput, match="unexpected inference input 'z'"):
        lay_out(spec(), {"x": x, "z": x})
    with pytest.raises(InvalidInput, match="expected 1 inputs but got 0; the model takes x"):
        lay_out(spec(), {})


def test_a_value_given_at_the_start_has_no_time():
    """A constant comes as `[1, *shape]`, a scalar also as `[1]`; anything else is refused."""
    assert constant("c", np.ones((1, 3), np.float32), (3,)).shape == (3,)
    assert constant("c", np.ones((1, 1), np.float32), ()).shape == constant("c", np.ones(1, np.float32), ()).shape == ()
    with pytest.raises(InvalidInput, match="'c': takes shape \\[1, 3\\], not \\[1, 2, 3\\]"):
        constant("c", np.ones((1, 2, 3), np.float32), (3,))
