"""The vocabulary of tensors is one: the protocol's data types, the spec's dtypes and NumPy's arrays name the same things."""

import typing

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from statewise.errors import InvalidInput, Reason
from statewise.spec import DType
from statewise.tensors import DATA_TYPES, DTYPES, decode, encode
from statewise.v1 import tensor_pb2

NUMBERS = {number for number in tensor_pb2.DataType.values() if number != tensor_pb2.DATA_TYPE_UNSPECIFIED}


def test_every_data_type_of_the_protocol_can_travel():
    """A type that is added to the protos cannot be forgotten here, and none is made up."""
    assert set(DTYPES) == NUMBERS == set(DATA_TYPES.values())
    assert {f"DATA_TYPE_{name.upper()}": number for name, number in DATA_TYPES.items()} == {
        tensor_pb2.DataType.Name(number): number for number in NUMBERS
    }


def test_every_dtype_of_a_spec_can_travel():
    """What a model may take or return has a place on the wire."""
    assert set(typing.get_args(DType)) == set(DATA_TYPES)


@pytest.mark.parametrize(
    ("dtype", "values", "written"),
    [
        ("float32", [1.0, -2.5], "0000803f000020c0"),
        ("float64", [1.0], "000000000000f03f"),
        ("float16", [1.0, -2.0], "003c00c0"),
        ("int32", [1, -2], "01000000feffffff"),
        ("int64", [258], "0201000000000000"),
        ("bool", [True, False], "0100"),
    ],
)
def test_the_bytes_of_each_type(dtype, values, written):
    """Little-endian, one element after the other; clients in other languages are written by these bytes."""
    tensor = encode("x", np.array(values, dtype))
    assert tensor.data.hex() == written
    assert tensor.data_type == DATA_TYPES[dtype]
    assert list(tensor.shape) == [len(values)]


def test_the_last_axis_runs_fastest():
    """A tensor of two rows is its first row, then its second."""
    assert encode("x", np.array([[1, 2], [3, 4]], np.int32).T).data.hex() == "01000000030000000200000004000000"


def test_what_is_read_is_a_view_that_cannot_be_written():
    """Decoding copies nothing, and nobody can change a message by its array."""
    tensor = encode("x", np.arange(3, dtype=np.float32))
    array = decode(tensor)
    assert not array.flags.owndata
    assert not array.flags.writeable


@given(st.lists(st.integers(0, 2**32 - 1), max_size=8))
def test_every_float_keeps_its_bits(bits):
    """NaNs with their payload, infinities and negative zeros arrive as they were sent; whether they are wanted is judged later."""
    array = np.array(bits, np.uint32).view(np.float32)
    assert decode(encode("x", array)).tobytes() == array.tobytes()


@pytest.mark.parametrize("number", sorted(NUMBERS))
def test_a_byte_too_many_or_too_few_is_told_with_what_is_taken(number):
    """The refusal counts the bytes that the shape takes and those that came."""
    size = DTYPES[number].itemsize * 6
    for wrong in (size - 1, size + 1, 0):
        with pytest.raises(
            InvalidInput, match=rf"wind: shape \[2, 3\] of {DTYPES[number].name} takes {size} bytes.*not {wrong}"
        ) as no:
            decode(tensor_pb2.Tensor(name="wind", data_type=number, shape=[2, 3], data=bytes(wrong)))
        assert (no.value.reason, no.value.metadata["field"]) == (Reason.BAD_FIELD, "data")


def test_a_tensor_without_a_type_is_told_what_there_is():
    """A client that forgot data_type learns its name and what it takes; a tensor without a name is still spoken of."""
    with pytest.raises(InvalidInput, match=r"the tensor: data_type must be one of float32, .*bool"):
        decode(tensor_pb2.Tensor(shape=[1], data=bytes(4)))
