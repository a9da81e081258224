"""What a caller may give as inputs, before anything is sent."""

import numpy as np
import pytest

from builders.summing import SPECS
from statewise.catalog import Loaded
from statewise.client.exchange import Exchange
from statewise.errors import InvalidInput
from statewise.models import Served
from statewise.opening import Opened
from statewise.rpc import codec


def _ask(model, x=None, **extra):
    served = Served(1, Loaded(model, 1, SPECS[model], None, "CPUExecutionProvider", "", {}, 0), None)
    exchange = Exchange(codec.open_response(Opened("s", 1, served, 0, 600.0, 4), "run"))
    asked = exchange.ask(x, extra, False, None, 0)
    return exchange, asked, list(asked.arrays.values())


@pytest.mark.parametrize(
    "x", [[1, 2], (1.0, 2.0), np.array([1, 2], np.float64), np.array([1, 2], np.uint8), np.array([True, False])]
)
def test_numbers_become_the_inputs_dtype(x):
    """Lists, integers and doubles are all float32 to a float32 input."""
    _, _, (array,) = _ask("sum", x)
    assert (array.dtype, array.shape) == (np.float32, (1, 2))


@pytest.mark.parametrize("x", [1.0, np.array(1.0), [0.5], "a", [1 + 0j], None, True])
def test_what_is_no_integer_is_refused_for_an_integer_input(x):
    """A float never silently becomes an integer, not even 1.0."""
    with pytest.raises(InvalidInput):
        _ask("tokens", token=x)


@pytest.mark.parametrize("x", [2**40, -(2**31) - 1, np.array([0, 2**63], np.uint64)])
def test_an_integer_that_does_not_fit_is_refused_and_not_wrapped(x):
    """2⁴⁰ is not 0, whatever int32 says."""
    with pytest.raises(InvalidInput, match="beyond int32"):
        _ask("tokens", x)


@pytest.mark.parametrize("x", [3.0, [1.0], [1.0, 2.0, 3.0], [[[1.0, 2.0]]], [[1.0], [2.0]], [[1.0, 2.0], [3.0]]])
def test_a_wrong_shape_says_what_is_taken(x):
    """The message gives both shapes that fit."""
    with pytest.raises(InvalidInput, match="x: "):
        _ask("sum", x)


@pytest.mark.parametrize(("x", "timesteps"), [([1, 2], 1), ([[1, 2]], 1), ([[1, 2]] * 5, 5)])
def test_the_timesteps_are_counted_as_the_server_counts_them(x, timesteps):
    """One timestep without a time axis, as many as the axis is long with one."""
    exchange, asked, _ = _ask("sum", x)
    assert asked.timesteps == exchange.tail == timesteps


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"x": [1, 2], "tme": 3}, "tme: not an input of 'clocked', which takes x, time"),
        ({"x": [[1, 2], [3, 4]], "time": 3}, "time one timestep"),
    ],
)
def test_wrong_names_and_mixed_lengths_are_told(arguments, told):
    """A misspelt input is answered with the names there are; one timestep does not go with several."""
    with pytest.raises(InvalidInput, match=told):
        _ask("clocked", **arguments)


def test_what_is_refused_counts_for_nothing():
    """After an input that cannot be sent, the next step still expects the same position."""
    exchange, _, _ = _ask("sum", [1, 2])
    with pytest.raises(InvalidInput):
        exchange.ask([1.0], {}, False, None, 0)
    assert exchange.tail == 1
