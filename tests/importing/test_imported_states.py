"""States of any shape and dtype lie in pools, and one row's infinity is told of that row alone."""

import numpy as np
import onnx
import pytest

from builders.foreign import info, node, save
from statewise.engine import Batch, OnnxEngine, StatePool
from statewise.importing import Asked, prepare, read
from statewise.sessions import INITIAL_ROW, RESERVED_ROWS


def summing(file, dtype, *dims):
    """A running sum of a shape and dtype."""
    taken, returned = [info("x", dtype, "N", *dims), info("h", dtype, "N", *dims)], [info("y", dtype, "N", *dims)]
    nodes = [node("Add", "x h", "h_out"), node("Identity", "h_out", "y")]
    return save(file, nodes, taken, [*returned, info("h_out", dtype, "N", *dims)])


@pytest.mark.parametrize("dims", [(), (3,), (2, 3)])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32", "int64"])
def test_each_row_goes_its_own_way_and_is_judged_by_itself(tmp_path, dtype, dims):
    """Two rows beside one that becomes infinite; what float64 can hold and float32 cannot is finite."""
    imported = prepare(read(summing(tmp_path / "sum.onnx", dtype, *dims)), Asked(initial={"h": 2}))
    engine = OnnxEngine(onnx.load_from_string(imported.raw), imported.spec, "CPUExecutionProvider", 1)
    pool = StatePool(imported.spec.states, RESERVED_ROWS + 6, "CPUExecutionProvider")
    floats = dtype.startswith("float")
    large = {"float64": 1e300, "float16": 6e4}.get(dtype, 7)
    x = np.stack([np.full(dims, value, dtype) for value in (1, np.inf if floats else 5, large)])
    source, target = np.full(3, INITIAL_ROW), RESERVED_ROWS + np.arange(3)
    outcome = engine.run(Batch({"x": x[None]}, np.ones(3, np.int32), source, target), pool)
    assert outcome.finite.tolist() == [True, not floats, True]
    engine.run(Batch({"x": x[None, :1]}, np.ones(1, np.int32), target[:1], target[:1] + 3), pool)
    after = pool.read(np.array([target[0], target[0] + 3, target[2]]))["h"]
    np.testing.assert_array_equal(after, np.stack([np.full(dims, value, dtype) for value in (3, 4, np.asarray(2 + x[2].flat[0]))]))
