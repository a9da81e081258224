"""An equal share for each stream: nobody who sends much holds up one who sends little, whatever either sends."""

import numpy as np
import pytest

from builders.asking import Listener
from builders.summing import summing
from statewise.config import Limits
from statewise.conversation import Frame, Step
from statewise.opening import Open

BATCH, FLOOD = 8, 160
ONE = {"x": np.ones((1, 2), np.float32)}


async def opened(made, count, model="sum"):
    return [await made.host.open(Open(model)) for _ in range(count)]


@pytest.mark.parametrize("flood", ["steps", "frame", "long steps"])
@pytest.mark.parametrize("model", ["sum", "tokens"])
async def test_a_step_waits_for_a_few_batches_and_not_for_all_that_others_sent_before(flood, model):
    """A stream with twenty batches of work waiting, and another that sends one step after all of it."""
    async with summing(limits=Limits(batch=BATCH)) as made:
        made.hold()
        heard = []
        greedy, modest = Listener(heard), Listener(heard)
        many, (mine,) = await opened(made, FLOOD), await opened(made, 1, model)
        if flood == "frame":
            handles = np.array([each.handle for each in many], np.uint64)
            made.host.frame(Frame(handles, {"x": np.ones((FLOOD, 1, 2), np.float32)}), greedy, "greedy")
        for each in many if flood != "frame" else ():
            inputs = ONE if flood == "steps" else {"x": np.ones((100, 2), np.float32)}
            made.host.step(Step(each.session_id, inputs), greedy, "greedy")
        await made.until(FLOOD)
        inputs = ONE if model == "sum" else {"token": np.ones(1, np.int32)}
        made.host.step(Step(mine.session_id, inputs), modest, "modest")
        await made.until(FLOOD + 1)
        made.release()
        await made.until(0)
        assert [told.problem for told in heard if told.problem] == []
        before = [told.tag for told in heard].index("modest")
        assert before <= 4 * BATCH, f"{before} of {FLOOD} steps of another stream came before it"
        runs = made.engines[model].lengths if model == "tokens" else made.engines["sum"].lengths
        assert any(lengths == [1] or 1 in lengths for lengths in runs)


async def test_streams_of_single_steps_share_a_turn_each_and_not_one_for_all():
    """Fifty streams with one step each are not held up by one stream with a hundred and sixty."""
    async with summing(limits=Limits(batch=BATCH)) as made:
        made.hold()
        heard = []
        greedy = Listener(heard)
        for each in await opened(made, FLOOD):
            made.host.step(Step(each.session_id, ONE), greedy, "greedy")
        await made.until(FLOOD)
        modest = [Listener(heard) for _ in range(5)]
        for listener, each in zip(modest, await opened(made, 5), strict=True):
            made.host.step(Step(each.session_id, ONE), listener, "modest")
        await made.until(FLOOD + 5)
        made.release()
        await made.until(0)
        last = max(place for place, told in enumerate(heard) if told.tag == "modest")
        assert last <= 5 * BATCH
