"""States of any shape and dtype lie in pools; one row's infinity is told of that row alone, and no row is padded into another."""

import numpy as np
import onnx
import pytest

from builders.foreign import alone, info, node, save, torch_cell
from builders.hosted import answers, host_of
from statewise.conversation import Step
from statewise.engine import Batch, OnnxEngine
from statewise.importing import Asked, prepare, publish, read
from statewise.opening import Open
from statewise.pool import StatePool
from statewise.runtime import choose_provider
from statewise.sessions import INITIAL_ROW, RESERVED_ROWS


def summing(file, dtype, *dims):
    """A running sum of a shape and dtype."""
    taken, returned = [info("x", dtype, "N", *dims), info("h", dtype, "N", *dims)], [info("y", dtype, "N", *dims)]
    nodes = [node("Add", "x h", "h_out"), node("Identity", "h_out", "y")]
    return save(file, nodes, taken, [*returned, info("h_out", dtype, "N", *dims)])


@pytest.mark.parametrize("dims", [(), (3,), (2, 3)])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32", "int64"])
def test_each_row_goes_its_own_way_and_is_judged_by_itself(tmp_path, provider, dtype, dims):
    """Two rows beside one that becomes infinite; what float64 can hold and float32 cannot is finite."""
    imported = prepare(read(summing(tmp_path / "sum.onnx", dtype, *dims)), Asked(initial={"h": 2}))
    engine = OnnxEngine(onnx.load_from_string(imported.raw), imported.spec, choose_provider(provider), 1)
    pool = StatePool(imported.spec.states, RESERVED_ROWS + 6, choose_provider(provider))
    floats = dtype.startswith("float")
    large = {"float64": 1e300, "float16": 6e4}.get(dtype, 7)
    x = np.stack([np.full(dims, value, dtype) for value in (1, np.inf if floats else 5, large)])
    source, target = np.full(3, INITIAL_ROW), RESERVED_ROWS + np.arange(3)
    outcome = engine.run(Batch({"x": x[None]}, np.ones(3, np.int32), source, target), pool)
    assert outcome.finite.tolist() == [True, not floats, True]
    engine.run(Batch({"x": x[None, :1]}, np.ones(1, np.int32), target[:1], target[:1] + 3), pool)
    after = pool.read(np.array([target[0], target[0] + 3, target[2]]))["h"]
    np.testing.assert_array_equal(after, np.stack([np.full(dims, value, dtype) for value in (3, 4, np.asarray(2 + x[2].flat[0]))]))


async def test_steps_of_unlike_length_never_pad_each_other(tmp_path):
    """A file that takes no lengths would carry the padding of the shorter row on: what comes after it tells."""
    file = torch_cell(tmp_path / "gru.onnx", "GRU", batch_first=True)
    publish(prepare(read(file), Asked()), tmp_path / "repository", "gru")
    x = np.random.default_rng(4).standard_normal((3, 5, 3)).astype(np.float32)
    async with host_of(tmp_path / "repository") as host:
        ids = [(await host.open(Open("gru"))).session_id for _ in range(3)]
        lengths = (3, 4, 3)
        first = await answers(host, [Step(i, {"x": each[:n]}) for i, each, n in zip(ids, x, lengths, strict=True)])
        after = await answers(host, [Step(i, {"x": each[n:]}) for i, each, n in zip(ids, x, lengths, strict=True)])
    for each, ours in zip(x, zip(first, after, strict=True), strict=True):
        calls = [{"x": value[None, None]} for value in each]
        theirs = alone(file, calls, {"h0": "hn"}, {"h0": np.zeros((2, 1, 5), np.float32)})
        np.testing.assert_allclose(np.concatenate(ours), [answer["y"][0, 0] for answer in theirs], atol=1e-6)


async def test_a_models_own_idle_time_goes_before_the_servers_and_behind_the_clients(tmp_path):
    """What a Triton folder says of idle sequences holds for sessions whose Open says nothing."""
    asked = Asked(idle_timeout_seconds=5)
    publish(prepare(read(summing(tmp_path / "sum.onnx", "float32", 3)), asked), tmp_path / "repository", "sum")
    async with host_of(tmp_path / "repository") as host:
        told = [(await host.open(Open("sum", idle_timeout_seconds=each))).idle_timeout_seconds for each in (None, 9)]
    assert told == [5, 9]
