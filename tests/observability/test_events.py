"""The log: a line for each event in a session's life, one for a burst of refused steps, none for a step, and no secrets."""

import numpy as np
import pytest
from structlog.testing import capture_logs

from builders.asking import Listener
from builders.summing import ALL, summing
from statewise.conversation import Frame, Step
from statewise.errors import ModelUnknown, Reason, error
from statewise.events import LASTING, LASTING_SECONDS, LINES, Passing
from statewise.opening import Open

X = {"x": np.ones((1, 2), np.float32)}


def told(lines, event):
    return [line for line in lines if line["event"] == event]


async def test_a_session_s_life_is_told():
    """Opened, resumed, forked, closed and expired sessions have a line each, with how far they came."""
    now = [0.0]
    async with summing(on_loop=ALL, clock=lambda: now[0]) as made:
        with capture_logs() as lines:
            await made.host.open(Open("sum", session_id="a", token=b"secret"))
            await made.host.open(Open("sum", session_id="a", token=b"secret"))
            made.host.fork("a", "b", b"")
            now[0] = 5.0
            await made.host.close("a")
            now[0] = 1e6
            made.host._expire(now[0])
        by_event = {line["event"]: line for line in lines}
        assert by_event["session opened"]["session"] == "a"
        assert by_event["session resumed"]["session"] == "a"
        assert by_event["session forked"]["session"] == "b"
        assert (by_event["session closed"]["session"], by_event["session closed"]["age_seconds"]) == ("a", 5.0)
        assert by_event["session expired"]["session"] == "b"
        assert "secret" not in str(lines)
        assert "handle" not in str(lines)


async def test_a_refused_open_is_told():
    """The line says which model was asked for, and why it was refused."""
    async with summing() as made:
        with capture_logs() as lines, pytest.raises(ModelUnknown):
            await made.host.open(Open("nothing"))
        (line,) = told(lines, "session refused")
        assert (line["model"], line["reason"]) == ("nothing", "MODEL_UNKNOWN")
        assert made.host._metrics.sessions_refused.labels("MODEL_UNKNOWN").value == 1


async def test_thousands_of_opens_are_some_lines():
    """Past the first between two looks they are counted, and every event that was not told is in the count."""
    async with summing(alone=True) as made:
        with capture_logs() as lines:
            for _ in range(LINES + 30):
                await made.host.open(Open("sum"))
            assert len(told(lines, "session opened")) == LINES
            made.host.events.look()
            assert told(lines, "session opened")[-1]["more"] == 30
            await made.host.open(Open("sum"))
            assert len(told(lines, "session opened")) == LINES + 2


async def test_steps_write_nothing():
    """Neither single steps nor frames that run leave a line."""
    async with summing(on_loop=ALL, alone=True) as made:
        opened = await made.host.open(Open("sum", session_id="a"))
        with capture_logs() as lines:
            asker = Listener()
            for _ in range(20):
                made.host.step(Step("a", X), asker, None)
                frame = {"x": X["x"][None]}
                made.host.frame(Frame(np.array([opened.handle], np.uint64), frame), asker, 1)
                await made.host.batcher.until_quiet()
            made.host.events.look()
        assert len(asker.heard) == 40
        assert lines == []


async def test_a_burst_of_refused_steps_is_a_line():
    """However many fail for one reason, the next look tells how many, and of the first who and why."""
    async with summing(alone=True) as made:
        with capture_logs() as lines:
            for number in range(1000):
                with pytest.raises(Exception, match="not known") as refused:
                    made.host.step(Step("no one", X), Listener(), number)
                made.host.refused(refused.value, session="no one", step=number)
            assert lines == []
            made.host.events.look()
        (line,) = lines
        assert (line["event"], line["reason"], line["steps"], line["step"]) == ("steps refused", "UNKNOWN", 1000, 0)
        assert made.host._metrics.steps_rejected.labels("UNKNOWN").value == 1000


async def test_a_session_on_its_way_to_another_server_is_no_warning_and_a_client_that_goes_round_is():
    """NOT_HERE and MOVED are told for who looks closely; when they go on second after second, for everybody, until they stop."""
    async with summing(alone=True) as made:
        for reason in (Reason.NOT_HERE, Reason.MOVED):
            with capture_logs() as lines:
                for _ in range(LASTING + 2):
                    made.host.refused(error(reason, "asked here"), frame=1, row=0)
                    made.host.events.look()
            assert [line["log_level"] for line in lines] == ["debug"] * (LASTING - 1) + ["warning"] * 3
            assert {line["steps"] for line in lines} == {1}
            with capture_logs() as lines:
                for _ in range(int(LASTING_SECONDS)):
                    made.host.events.look()
                made.host.refused(error(reason, "asked here"), frame=1, row=0)
                made.host.events.look()
            assert [line["log_level"] for line in lines] == ["debug"]


def test_what_comes_now_and_then_passes_however_often_and_what_fails_never_does():
    """A rollout a minute is no trouble; a step that the model refuses is, from the first."""
    passing = Passing()
    assert all(passing.note("NOT_HERE", 10.0 * number) for number in range(10 * LASTING))
    assert not passing.note("NON_FINITE_INPUT", 0.0)
    assert not passing.note("OWNER_CHANGED", 0.0)
