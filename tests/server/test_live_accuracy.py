"""Forecasts held against what came, through a host whose forecast is a running sum: every number here can be worked out by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from builders.asking import Listener
from builders.summing import ALL, BUG, FATAL, WIDE, summing
from statewise.conversation import Frame, Step
from statewise.errors import Reason
from statewise.host import Open
from statewise.spec import SERIES_MEAN, SERIES_SCALE, ModelSpec, StateSpec, TensorSpec

NAMES = ("left", "right")
X = TensorSpec("x", "float32", (2,), features=NAMES, scale=(2.0, 4.0), least=(0.0, 0.0), greatest=(5.0, 5.0))
NEXT = TensorSpec("total", "float32", (2,), features=NAMES)
WALK = ModelSpec((X,), (NEXT,), WIDE, "lengths", task="forecast", about={"scaled_error": {"model": 0.25, "persistence": 0.5}})
OWN = (
    *WIDE,
    StateSpec(SERIES_MEAN, "mean_next", "float32", (2,), given="must", features=NAMES),
    StateSpec(SERIES_SCALE, "scale_next", "float32", (2,), initial=1.0, given="must", features=NAMES, positive=True),
)
SPECS = {
    "walk": WALK,
    "cut": dataclasses.replace(WALK, timesteps=2),
    "panel": dataclasses.replace(WALK, states=OWN),
    "ranged": dataclasses.replace(WALK, task="classify"),
    "plain": dataclasses.replace(WALK, inputs=(dataclasses.replace(X, scale=(), least=(), greatest=()),)),
}
STEPS = [[1, 2], [3, 2], [3, -1]]
"""Forecasts [1, 2] and [4, 4] of [3, 2] and [3, -1]: errors 2, 0, 1 and 5; persistence 2, 0, 0 and 3. One value is outside."""
TOLD = {
    "statewise_forecast_error_count": 4,
    "statewise_forecast_error_sum": 2 / 2 + 0 / 4 + 1 / 2 + 5 / 4,
    "statewise_forecast_persistence_error_total": 2 / 2 + 0 / 4 + 0 / 2 + 3 / 4,
    "statewise_input_values_total": 6,
    "statewise_input_values_outside_total": 1,
}


def counted(made, model="walk", **labels):
    """What the metrics say of a model: name → value."""
    read = made.host._metrics.registry.get_sample_value
    return {name: read(name, {"model": model, "version": "3", **labels}) for name in TOLD}


async def told(made, *steps):
    """Takes steps on together and returns what each is told, by its place."""
    listener = Listener()
    for place, step in enumerate(steps):
        made.host.step(step, listener, place)
    await made.host.batcher.until_quiet()
    return {each.tag: each.problem and each.problem.reason for each in listener.heard}


def x(*timesteps):
    return {"x": np.array(timesteps, np.float32)}


async def walk(made, session_id, steps=STEPS, position=0):
    for number, values in enumerate(steps):
        assert await told(made, Step(session_id, x(values), position + number)) == {0: None}


@pytest.mark.parametrize("on_loop", [0, ALL])
async def test_errors_are_what_the_hand_works_out(on_loop):
    """The sum, the persistence beside it, the buckets and the values outside; and what training told of itself."""
    async with summing(specs=SPECS, on_loop=on_loop) as made:
        session = await made.host.open(Open("walk"))
        await walk(made, session.session_id)
        assert counted(made) == TOLD
        read = made.host._metrics.registry.get_sample_value
        bounds = ("0.001", "0.25", "0.5", "1.0", "2.5", "+Inf")
        labels = {"model": "walk", "version": "3"}
        sizes = [read("statewise_forecast_error_bucket", {**labels, "le": bound}) for bound in bounds]
        assert sizes == [1, 1, 2, 3, 4, 4]
        assert read("statewise_forecast_validation_error", labels) == 0.25


@pytest.mark.parametrize("model", ["walk", "cut"])
@pytest.mark.parametrize("last_only", [False, True])
async def test_a_step_of_many_timesteps_tells_what_single_ones_do(model, last_only):
    """Whether a step is cut by the server or not, and whether its client wants all outputs or the last."""
    async with summing(specs=SPECS) as made:
        session = await made.host.open(Open(model))
        assert await told(made, Step(session.session_id, x(*STEPS[:1]), 0)) == {0: None}
        assert await told(made, Step(session.session_id, x(*STEPS[1:], [0, 0], [0, 0]), 1, last_only=last_only)) == {0: None}
        single = await made.host.open(Open("walk", version=4))
        await walk(made, single.session_id, [*STEPS, [0, 0], [0, 0]])
        assert counted(made, model) == counted(made, version="4")
        assert counted(made, model)["statewise_forecast_error_count"] == 8


async def test_a_step_counts_once_however_often_it_is_sent():
    """One that is joined, sent again, fails in the engine or behind another, or leaves what is not finite."""
    async with summing(specs=SPECS) as made:
        session = (await made.host.open(Open("walk"))).session_id
        first, second, third = (Step(session, x(values), position) for position, values in enumerate(STEPS))
        made.hold()
        listener = Listener()
        for step in (first, first, second):
            made.host.step(step, listener, None)
        await made.until(2)
        made.release()
        await made.host.batcher.until_quiet()
        assert len(listener.heard) == 3
        for doom, reason in ((FATAL, Reason.NON_FINITE_STATE), (BUG, Reason.ENGINE_FAILED)):
            behind = Step(session, x([9, 9]), 3)
            assert await told(made, Step(session, x([doom, 0]), 2), behind) == {0: reason, 1: Reason.BEHIND_FAILED}
        assert await told(made, first, third) == {0: None, 1: None}
        assert await told(made, third) == {0: None}
        assert counted(made) == TOLD


@pytest.mark.parametrize("on_loop", [0, ALL])
async def test_a_session_is_judged_by_its_own_forecasts(on_loop):
    """One that is forked, or takes the number of a closed one, has no forecast of its own yet; batched ones keep apart."""
    async with summing(specs=SPECS, on_loop=on_loop) as made:
        parent = (await made.host.open(Open("walk"))).session_id
        await walk(made, parent)
        child = made.host.fork(parent, "child", b"")
        assert await told(made, Step("child", x([1, 1]), 3)) == {0: None}
        assert counted(made)["statewise_forecast_error_count"] == 4
        assert await told(made, Step(parent, x([7, 3]), 3), Step("child", x([8, 4]), 4)) == {0: None, 1: None}
        assert child.position == 3
        assert counted(made)["statewise_forecast_error_count"] == 8
        assert counted(made)["statewise_forecast_error_sum"] == TOLD["statewise_forecast_error_sum"]  # both said just this
        await made.host.close(parent)
        await made.host.close("child")
        for name in ("new", "newer"):
            await made.host.open(Open("walk", session_id=name))
            await walk(made, name, STEPS[:1])
        assert counted(made)["statewise_forecast_error_count"] == 8


@pytest.mark.parametrize("on_loop", [0, ALL])
async def test_frames_count_as_single_steps_do(on_loop):
    """Many sessions in one message, each for itself."""
    async with summing(specs=SPECS, on_loop=on_loop) as made:
        opened = [await made.host.open(Open("walk")) for _ in range(5)]
        handles = np.array([each.handle for each in opened], np.uint64)
        for values in STEPS:
            listener = Listener()
            made.host.frame(Frame(handles, {"x": np.tile(np.array(values, np.float32), (5, 1, 1))}), listener, None)
            await made.host.batcher.until_quiet()
        assert counted(made) == {name: 5 * value for name, value in TOLD.items()}


@pytest.mark.parametrize("on_loop", [0, ALL])
async def test_a_scale_of_the_series_is_the_sessions_own(on_loop):
    """What a session is given at Open scales its errors and is taken off before its values are held against the range."""
    async with summing(specs=SPECS, on_loop=on_loop) as made:
        given = [{SERIES_MEAN: np.array(m, np.float32), SERIES_SCALE: np.array(s, np.float32)} for m, s in (([0, 0], [10, 10]),)]
        own = (await made.host.open(Open("panel", constants=given[0]))).session_id
        plain = {SERIES_MEAN: np.zeros(2, np.float32), SERIES_SCALE: np.ones(2, np.float32)}
        other = (await made.host.open(Open("panel", constants=plain))).session_id
        for position, values in enumerate(STEPS):
            steps = (Step(own, x([10 * each for each in values]), position), Step(other, x(values), position))
            assert await told(made, *steps) == {0: None, 1: None}
        found = counted(made, "panel")
        assert found == {name: pytest.approx(2 * value, rel=1e-12) for name, value in TOLD.items()}
        made.host.fork(own, "fork", b"")
        await walk(made, "fork", [[40, 20], [40, 20]], 3)
        assert counted(made, "panel")["statewise_input_values_outside_total"] == 2


async def test_of_other_models_nothing_is_kept_or_shown():
    """A file that tells no scale and no range has no metrics of accuracy; one that tells ranges only has those."""
    async with summing(specs=SPECS) as made:
        for model in ("plain", "ranged"):
            await walk(made, (await made.host.open(Open(model))).session_id)
        assert set(counted(made, "plain").values()) == {None}
        assert made.host.models.ready["plain", 3].accuracy is None
        shown = {name: value for name, value in counted(made, "ranged").items() if value is not None}
        assert shown == {"statewise_input_values_total": 6, "statewise_input_values_outside_total": 1}
        zeros = counted(made, "cut")
        assert set(zeros.values()) == {0}
