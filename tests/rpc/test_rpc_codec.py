"""Tensors and messages: what is written is read back, and what cannot be read is refused by the field's name."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from statewise.catalog import Loaded
from statewise.errors import InvalidInput, Reason
from statewise.models import Served
from statewise.rpc import codec
from statewise.spec import Calendar, ConstantSpec, ModelSpec, StateSpec, TensorSpec, Vocabulary
from statewise.tensors import DTYPES, decode, encode
from statewise.v1 import sequence_pb2, tensor_pb2

ANY_ARRAY = st.sampled_from(list(DTYPES.values())).flatmap(
    lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
)


@given(ANY_ARRAY)
def test_a_tensor_comes_back_as_it_was(array):
    """Every dtype and shape, empty ones and scalars too, survives the wire bit by bit."""
    back = decode(tensor_pb2.Tensor.FromString(encode("x", array).SerializeToString()))
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert back.tobytes() == array.tobytes()


@given(st.integers(0, 40), st.lists(st.integers(-2, 2**62), max_size=70), st.sampled_from([*DTYPES, 0, 77]))
def test_a_broken_tensor_is_refused_as_bad_input_and_never_otherwise(size, shape, number):
    """Whatever bytes, shape and type a client sends, it gets an array or BAD_FIELD."""
    tensor = tensor_pb2.Tensor(name="x", data_type=number, shape=shape, data=bytes(size))
    refused = None
    try:
        array = decode(tensor)
    except InvalidInput as error:
        refused = error
    if refused:
        assert refused.reason is Reason.BAD_FIELD
        assert refused.metadata["field"] in ("data_type", "shape", "data")
    else:
        assert array.shape == tuple(shape)


@pytest.mark.parametrize(
    ("tensor", "field"),
    [
        ({"data_type": 0, "shape": [1], "data": bytes(4)}, "data_type"),
        ({"data_type": 1, "shape": [-1], "data": bytes(4)}, "shape"),
        ({"data_type": 1, "shape": [2], "data": bytes(4)}, "data"),
        ({"data_type": 1, "shape": [1], "data": bytes(5)}, "data"),
        ({"data_type": 6, "shape": [1], "data": b"\x02"}, "data"),
        ({"data_type": 1, "shape": [0, 2**62], "data": b""}, "shape"),
        ({"data_type": 1, "shape": [1] * 70, "data": bytes(4)}, "shape"),
    ],
)
def test_the_refusal_names_the_field(tensor, field):
    """BAD_FIELD says which field is wrong and whose tensor it is."""
    with pytest.raises(InvalidInput, match="wind") as refused:
        decode(tensor_pb2.Tensor(name="wind", **tensor))
    assert refused.value.metadata["field"] == field


def test_big_endian_and_strided_arrays_travel_as_their_values():
    """What travels is little-endian and row-major, whatever the array is in memory."""
    array = np.arange(12, dtype=">i4").reshape(3, 4).T[::2]
    assert decode(encode("x", array)).tolist() == array.tolist()


def test_what_has_no_wire_type_is_a_programming_error():
    """Complex numbers and text are refused before anything is sent."""
    with pytest.raises(TypeError, match="complex128"):
        encode("x", np.zeros(1, complex))


def _request(*names, **fields):
    tensors = [encode(name, np.zeros((1, 2), np.float32)) for name in names]
    return sequence_pb2.StepRequest(session_id="s", inputs=tensors, **fields)


def test_an_unnamed_tensor_is_the_only_input():
    """A model with one input needs no names; with several, no input is meant; twice is refused."""
    assert list(codec.step(_request(""), lambda _: "x").inputs) == ["x"]
    assert list(codec.step(_request(""), lambda _: None).inputs) == [codec.UNNAMED]
    with pytest.raises(InvalidInput, match="twice"):
        codec.step(_request("x", ""), lambda _: "x")


def test_absent_position_and_timeout_stay_absent():
    """Position 0 is a claim; no position is none."""
    assert codec.step(_request("x"), lambda _: None).position is None
    step = codec.step(_request("x", position=0, timeout={"seconds": 1, "nanos": 500_000_000}, output_timesteps=2), lambda _: None)
    assert (step.position, step.timeout_seconds, step.last_only) == (0, 1.5, True)


def test_the_client_reads_the_spec_that_the_server_wrote():
    """Names, shapes, dtypes, features, bounds, calendar and vocabulary survive from the server's spec to the client's model."""
    from statewise.client.described import read_model

    inputs = (
        TensorSpec("x", "float32", (2,), features=("a", "b"), missing=("refuse", "mask"), ahead=(0, 1)),
        TensorSpec("time", "int64", (), minimum=0, maximum=9),
    )
    outputs = (TensorSpec("y", "float32", (3,), features=("u", "v", "w")),)
    scale = StateSpec("s", "s_next", "float64", (2,), given="must", features=("a", "b"), positive=True)
    states = (StateSpec("h", "h_next", "float32", (4,)), scale)
    spec = ModelSpec(
        inputs, outputs, states, task="forecast", calendar=Calendar("time", 1800.0, (48, 336)), vocabulary=Vocabulary(("a", "b"))
    )
    loaded = Loaded("demand", 4, spec, None, "CPUExecutionProvider", "", {}, 0)
    model = read_model(codec.model(Served(1, loaded, None)))
    assert (model.name, model.version, model.task) == ("demand", 4, "forecast")
    assert (model.inputs, model.outputs) == (inputs, outputs)
    assert (model.calendar, model.vocabulary) == (spec.calendar, spec.vocabulary)
    assert model.constants == (ConstantSpec("s", "float64", (2,), ("a", "b"), required=True, positive=True),)
