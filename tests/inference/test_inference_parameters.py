"""The parameters of a request: their types, their meaning, and the words in which Triton refuses them."""

import pytest

from builders.inferring import request
from statewise.errors import InvalidInput
from statewise.inference import open_inference_pb2 as wire
from statewise.opening import LONGEST_ID
from statewise.rpc.inference.parameters import Parameters, read
from statewise.rpc.inference.requests import session_id


def parameters(**given):
    return request(None, **given).parameters


def test_what_a_request_says_of_its_sequence():
    """Ids are integers or strings, a timeout is in microseconds, and what is not known here passes."""
    told = read(parameters(sequence_id="a", sequence_start=True, timeout=2_500_000, position=0, priority=1, mine="yes"), "m")
    assert told == Parameters("a", start=True, position=0, timeout_seconds=2.5)
    assert read(parameters(sequence_id=5, sequence_end=True, triton_enable_empty_final_response=True), "m") == Parameters(
        5, end=True
    )


def test_an_integer_id_is_unsigned():
    """The wire's int64 is read as an unsigned one, as Triton reads it."""
    assert read(parameters(sequence_id=-1), "m").sequence == 2**64 - 1


@pytest.mark.parametrize("given", [{}, {"sequence_id": 0}, {"sequence_id": ""}])
def test_a_request_without_a_sequence_is_refused(given):
    """Every model here remembers; without an id there is nothing to remember it by."""
    with pytest.raises(InvalidInput, match="inference request to model 'm' must specify a non-zero or non-empty correlation ID"):
        read(parameters(**given), "m")


@pytest.mark.parametrize(
    ("name", "value", "takes"),
    [
        ("sequence_id", True, "int64_param or string_param"),
        ("sequence_id", 1.0, "int64_param or string_param"),
        ("sequence_start", 1, "bool_param"),
        ("sequence_end", "true", "bool_param"),
        ("priority", "high", "int64_param or uint64_param"),
        ("timeout", "soon", "int64_param"),
        ("position", 1.0, "int64_param or uint64_param"),
        ("triton_enable_empty_final_response", 1, "bool_param"),
    ],
)
def test_a_parameter_of_another_type_is_refused(name, value, takes):
    """In Triton's words."""
    with pytest.raises(InvalidInput, match=f"invalid value type for '{name}' parameter, expected {takes}."):
        read(parameters(**{"sequence_id": 1, name: value}), "m")


def test_a_parameter_without_a_value_is_refused():
    """A parameter that is there and says nothing is none of the types that it takes."""
    with pytest.raises(InvalidInput, match="invalid value type for 'sequence_id'"):
        read({"sequence_id": wire.InferParameter()}, "m")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"triton_final_response": True}, "parameter keys starting with 'triton_' are reserved"),
        ({"position": -1}, "position: takes 0 or more"),
        ({"position": 4, "sequence_start": True}, "a sequence starts at 0, not 4"),
        ({"sequence_id": "x" * 129}, "cannot be longer than 128"),
    ],
)
def test_what_contradicts_itself_is_refused(given, words):
    """Reserved names, positions that cannot be, and ids that are too long."""
    with pytest.raises(InvalidInput, match=words):
        read(parameters(**{"sequence_id": 1, **given}), "m")


def test_no_two_sequences_share_a_session():
    """7 and "7" are two sequences, and the same id of two models is; an id that is too long to be told is told by its hash."""
    ids = [session_id(model, sequence) for model in ("m", "n") for sequence in (7, "7", "int/7", "x" * 128, "x" * 127 + "y")]
    assert len(set(ids)) == len(ids)
    assert all(name.startswith("triton/") and len(name.encode()) <= LONGEST_ID for name in ids)
    assert session_id("m", 7) == "triton/m/int/7"
