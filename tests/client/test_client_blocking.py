"""`Client` against a real server with the real servicer; the batcher sums, so every answer can be computed by hand."""

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from copy import copy

import numpy as np
import pytest

from builders.summing import BUG, FATAL
from statewise.client import Client, Session
from statewise.errors import (
    AlreadyOpen,
    EngineFailed,
    FrameFailed,
    InvalidInput,
    ModelUnknown,
    NonFiniteState,
    OutOfOrder,
    Reason,
    SessionGone,
    Unavailable,
)


def test_one_timestep_has_no_time_axis_and_several_have_one(apart):
    """X [features] gives [outputs]; x [timesteps, features] gives [timesteps, outputs]; the state goes on between."""
    with Client(apart.address) as client, client.open_session("sum") as session:
        assert session.step([1, 2]).tolist() == [1, 2]
        assert session.step([[1, 0], [1, 0]]).tolist() == [[2, 2], [3, 2]]
        assert session.step(np.ones((3, 2)), last=True).tolist() == [6, 5]
        assert session.position == 6


def test_a_session_tells_what_it_is_pinned_to(apart):
    """Name, version, inputs and outputs are known after open, without another call."""
    with Client(apart.address) as client, client.open_session("sum", version=8, session_id="mine") as session:
        assert (session.id, session.model.name, session.model.version) == ("mine", "sum", 8)
        assert session.model.inputs[0].features == ("left", "right")
        assert repr(session) == "<Session mine of sum@8 at 0>"


def test_several_inputs_go_by_name_and_several_outputs_come_by_name(apart):
    """Extra inputs are keywords; a model with more than one output answers with a dict."""
    with Client(apart.address) as client, client.open_session("clocked") as session:
        one = session.step([1, 2], time=7)
        many = session.step([[1, 2], [1, 2]], time=[8, 9])
        assert (one["total"].tolist(), one["clock"].tolist()) == ([1, 2], 7)
        assert (many["total"].tolist(), many["clock"].tolist()) == ([[2, 4], [3, 6]], [8, 9])


def test_a_scalar_input_takes_a_number_or_a_list(apart):
    """A token is one timestep, a list of tokens several."""
    with Client(apart.address) as client, client.open_session("tokens") as session:
        assert session.step(5).tolist() == [5]
        assert session.step([1, 2]).tolist() == [[6], [8]]


def test_sessions_do_not_mix(apart):
    """Each session of a shared stream sums what is its own."""
    with Client(apart.address) as client:
        sessions = [client.open_session("sum") for _ in range(10)]
        for _ in range(3):
            for number, session in enumerate(sessions):
                session.step([number, 1])
        assert [session.step([0, 0]).tolist() for session in sessions] == [[3 * number, 3] for number in range(10)]


def test_one_client_serves_many_threads(apart):
    """Sessions stepped from 8 threads at once give what each gives alone."""
    with Client(apart.address) as client, ThreadPoolExecutor(8) as pool:

        def run(number):
            with client.open_session("sum") as session:
                return [session.step([number, 1]).tolist() for _ in range(20)][-1]

        assert list(pool.map(run, range(8))) == [[20 * number, 20] for number in range(8)]


def test_one_session_may_be_stepped_by_several_threads(apart):
    """Positions are given out in the order of sending, so no step is refused and none is lost."""
    with Client(apart.address) as client, client.open_session("sum") as session, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: session.step([1, 1]), range(100)))
        assert session.position == 100
        assert session.step([0, 0]).tolist() == [100, 100]


@pytest.mark.parametrize("window", [1, 3, 16])
def test_steps_yields_every_output_in_order(apart, window):
    """A generator of timesteps gives as many outputs, however many are under way."""
    with Client(apart.address) as client, client.open_session("sum") as session:
        outputs = [y.tolist() for y in session.steps(([1, number] for number in range(40)), window=window)]
        assert outputs == [[number + 1, number * (number + 1) / 2] for number in range(40)]
        assert session.position == 40


def test_steps_with_window_1_answers_each_value_before_it_asks_for_the_next(apart):
    """A live source is not read ahead: an output is there before the next value exists."""
    with Client(apart.address) as client, client.open_session("sum") as session:
        heard = []

        def sensor():
            for number in range(5):
                assert len(heard) == number
                yield [1, 1]

        for y in session.steps(sensor(), window=1):
            heard.append(y)  # noqa: PERF402 (the sensor watches it grow)
        assert len(heard) == 5


def test_steps_takes_mappings_for_several_inputs(apart):
    """Models with several inputs are stepped by mappings of name to value."""
    with Client(apart.address) as client, client.open_session("clocked") as session:
        assert [y["clock"].tolist() for y in session.steps({"x": [1, 1], "time": time} for time in range(3))] == [0, 1, 2]


@pytest.mark.parametrize("bad", [[float("nan"), 0], [FATAL, 0]])
def test_a_failed_step_inside_a_pipeline_leaves_a_session_that_goes_on(apart, bad):
    """The steps behind the failed one did not run, the position is known at once, and the session steps on from there."""
    with Client(apart.address) as client, client.open_session("sum") as session:
        heard = []
        with pytest.raises((InvalidInput, NonFiniteState)):
            heard.extend(session.steps([1, 0] if number != 5 else bad for number in range(30)))
        assert len(heard) == session.position == 5
        assert session.step([1, 0]).tolist() == [6, 0]


@pytest.mark.parametrize("bad", [[float("nan"), 0], [FATAL, 0]])
def test_what_comes_behind_a_failed_step_is_not_sent_in_its_place(apart, bad):
    """A source that gives its next value when the failure is answered, and before anybody has heard of it: it does not run."""
    with Client(apart.address) as client, client.open_session("sum") as session:

        def source():
            for number in range(8):
                if number == 6:
                    while session._exchange.tail != 5:
                        time.sleep(0.001)
                yield bad if number == 5 else [1, 0]

        heard = []
        with pytest.raises((InvalidInput, NonFiniteState)):
            heard.extend(session.steps(source()))
        assert len(heard) == session.position == 5
        assert session.step([1, 0]).tolist() == [6, 0]


def test_a_step_that_fails_beside_a_pipeline_does_not_end_it(apart):
    """Its failure was heard by whoever asked for it, and nothing was under way behind it."""
    with Client(apart.address) as client, client.open_session("sum") as session:
        heard = []
        for y in session.steps(([1, 0] for _ in range(4)), window=1):
            heard.append(y.tolist())
            with pytest.raises(InvalidInput):
                session.step([float("nan"), 0])
        assert heard == [[1, 0], [2, 0], [3, 0], [4, 0]]


def test_a_caller_may_stop_listening_to_steps(apart):
    """After a break the steps that were sent have run, the position says so, and the session goes on."""
    with Client(apart.address) as client, client.open_session("sum") as session:
        for _ in session.steps(([1, 0] for _ in range(30)), window=4):
            break
        assert session.step([0, 0]).tolist() == [session.position - 1, 0]


def test_an_error_of_the_source_passes_through_and_hurts_nothing(apart):
    """What the caller's generator raises is raised, and the session goes on."""

    def broken():
        yield [1, 0]
        raise LookupError("no more data")

    with Client(apart.address) as client, client.open_session("sum") as session:
        with pytest.raises(LookupError):
            list(session.steps(broken()))
        assert session.step([1, 0]).tolist() == [2, 0]


def test_errors_have_their_classes_and_the_stream_survives_them(apart):
    """Every refusal is raised as its class, and the very next step runs on the same stream."""
    with Client(apart.address) as client, client.open_session("sum", session_id="a") as session:
        session.step([1, 1])
        stream = client._stream._call
        with pytest.raises(ModelUnknown):
            client.open_session("nope")
        with pytest.raises(AlreadyOpen):
            client.open_session("sum", session_id="a")
        with pytest.raises(InvalidInput) as refused:
            session.step([float("nan"), 1])
        assert refused.value.reason is Reason.NON_FINITE_INPUT
        with pytest.raises(NonFiniteState):
            session.step([FATAL, 1])
        with pytest.raises(EngineFailed):
            session.step([BUG, 1])
        gone = client.open_session("sum")
        gone.close()
        with pytest.raises(SessionGone):
            gone.step([1, 1])
        assert session.step([1, 1]).tolist() == [2, 2]
        assert client._stream._call is stream


def test_a_session_moved_on_by_another_is_noticed(apart):
    """Positions protect: a session advanced elsewhere refuses the step, and says what it expects."""
    with Client(apart.address) as client, Client(apart.address) as other:
        mine = client.open_session("sum")
        mine.step([1, 1])
        theirs = Session(other, copy(mine._exchange))
        theirs.step([1, 1])
        with pytest.raises(InvalidInput) as reused:
            mine.step([2, 2])
        assert reused.value.reason is Reason.POSITION_REUSED
        for _ in range(4):
            theirs.step([1, 1])
        with pytest.raises(OutOfOrder) as refused:
            mine.step([1, 1])
        assert (refused.value.reason, refused.value.metadata["expected"]) == (Reason.STALE, "6")
        assert theirs.step([0, 0]).tolist() == [6, 6]


def test_close_is_idempotent_and_leaving_the_block_closes(apart):
    """The first close says that it ended the session; the second, that it had ended."""
    with Client(apart.address) as client:
        with client.open_session("sum") as session:
            pass
        assert session.close() is False
        assert client.open_session("sum").close() is True
        assert apart.serving.summing.sums() == {"sessions": 0, "steps": 0, "rows": 0}


def test_the_callers_own_error_is_not_hidden_by_a_failing_close(apart):
    """Where the server is gone when a block is left by an error, the caller sees their error."""
    client = Client(apart.address)
    session = client.open_session("sum")

    def work():
        with session:
            client.close()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()


def test_a_broken_stream_is_opened_again_and_no_step_runs_twice(apart):
    """What was under way is sent again with its position: the caller hears nothing of the break."""
    with Client(apart.address) as client, client.open_session("sum") as session:
        session.step([1, 1])
        apart.call(apart.serving.summing.hold)
        with ThreadPoolExecutor(1) as pool:
            under_way = pool.submit(session.step, [1, 1])
            apart.call(apart.serving.summing.until, 1)
            client._stream._call.cancel()
            apart.call(apart.serving.summing.release)
            assert under_way.result(30).tolist() == [2, 2]
        assert session.step([1, 1]).tolist() == [3, 3]


def test_a_server_that_is_gone_fails_what_was_under_way(apart):
    """After `timeout_seconds` without a server the caller is told that the outcome is not known, where and why."""
    with Client(apart.address, timeout_seconds=0.2) as client:
        session = client.open_session("sum")
        session.step([1, 1])
        apart.call(apart.serving.server.stop, None)
        with pytest.raises(Unavailable, match=rf"may or may not have run: .* on {apart.address}.*(refused|closed|ended|reached)"):
            session.step([1, 1])


def test_a_frame_steps_its_sessions_together(apart):
    """X [sessions, features] gives [sessions, outputs]; several timesteps give a time axis; sessions go on by themselves after."""
    with Client(apart.address) as client:
        sessions = [client.open_session("sum") for _ in range(20)]
        frame = client.frame(sessions)
        numbers = np.arange(20, dtype=np.float32)
        assert frame.step(np.stack([numbers, np.ones(20)], axis=1)).tolist() == [[number, 1] for number in range(20)]
        totals = frame.step(np.ones((20, 3, 2)))
        assert totals.shape == (20, 3, 2)
        assert frame.step(np.zeros((20, 2, 2)), last=True)[:, 1].tolist() == [4] * 20
        assert sessions[7].step([1, 0]).tolist() == [11, 4]
        assert [session.position for session in sessions] == [6] * 7 + [7] + [6] * 12


def test_a_row_that_fails_leaves_the_others_of_its_frame(apart):
    """`FrameFailed` has the outputs of those that ran, and why the others did not."""
    with Client(apart.address) as client:
        sessions = [client.open_session("sum") for _ in range(4)]
        frame = client.frame(sessions)
        sessions[3].close()
        with pytest.raises(FrameFailed) as failed:
            frame.step([[1, 1], [float("nan"), 1], [FATAL, 1], [1, 1]])
        assert {row: problem.reason for row, problem in failed.value.problems.items()} == {
            1: Reason.NON_FINITE_INPUT,
            2: Reason.NON_FINITE_STATE,
            3: Reason.CLOSED,
        }
        assert failed.value.outputs[0].tolist() == [1, 1]
        assert [session.step([1, 1]).tolist() for session in sessions[:3]] == [[2, 2], [1, 1], [1, 1]]


def test_a_frame_takes_each_session_once_and_one_model(apart):
    """What cannot be a frame is refused before anything is sent."""
    with Client(apart.address) as client:
        one, other = client.open_session("sum"), client.open_session("tokens")
        with pytest.raises(InvalidInput, match="once"):
            client.frame([one, one])
        with pytest.raises(InvalidInput, match="sum@3, tokens@3"):
            client.frame([one, other])
        with pytest.raises(InvalidInput, match=r"takes \[1, 2\] for one timestep"):
            client.frame([one]).step([[1, 2], [3, 4]])


def test_fork_and_snapshot_begin_where_the_session_stands(apart):
    """A fork and a restored snapshot have the state and the position; after that each goes its own way."""
    with Client(apart.address) as client, client.open_session("sum") as session:
        session.step([5, 6])
        fork, snapshot = session.fork(), session.snapshot()
        session.step([1, 1])
        restored = client.open_session("", snapshot=snapshot)
        assert (fork.position, restored.position) == (1, 1)
        assert fork.step([1, 0]).tolist() == restored.step([1, 0]).tolist() == [6, 6]
        assert session.step([0, 0]).tolist() == [6, 7]


def test_a_session_is_found_again_by_its_id(apart):
    """With `resume` an open session goes on where it stands, whoever opened it; one that never was is opened."""
    with Client(apart.address) as client, Client(apart.address) as other:
        first = client.open_session("sum", session_id="meter", resume=True)
        first.step([1, 1])
        again = other.open_session("sum", session_id="meter", resume=True)
        assert again.position == 1
        assert again.step([1, 1]).tolist() == [2, 2]


def test_no_server_is_told_with_its_address():
    """Connection refused is `Unavailable` and names where."""
    with Client("127.0.0.1:1") as client, pytest.raises(Unavailable, match=r"no Statewise server answers on 127\.0\.0\.1:1"):
        client.open_session("sum")


def test_a_closed_client_says_so(apart):
    """Every call on a closed client is refused clearly, and leaves nothing running."""
    client = Client(apart.address)
    session = client.open_session("sum")
    session.step([1, 1])
    client.close()
    for call in (lambda: session.step([1, 1]), session.close, lambda: client.open_session("sum")):
        with pytest.raises(Unavailable, match="closed"):
            call()
    client.close()


def test_close_fails_the_steps_of_other_threads(apart):
    """A thread that waits for an answer does not wait for ever."""
    client = Client(apart.address)
    session = client.open_session("sum")
    apart.call(apart.serving.summing.hold)
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(session.step, [1, 1])
        apart.call(apart.serving.summing.until, 1)
        client.close()
        with pytest.raises(Unavailable):
            under_way.result(30)


def test_a_closed_client_leaves_no_reader(apart):
    """The thread that reads answers is gone when close returns."""
    with Client(apart.address) as client, client.open_session("sum") as session:
        session.step([1, 1])
        assert "statewise-stream" in {thread.name for thread in threading.enumerate()}
    assert "statewise-stream" not in {thread.name for thread in threading.enumerate()}


def test_a_script_that_closes_nothing_ends_without_a_word(apart):
    """Forgetting to close neither hangs the interpreter nor prints anything."""
    script = """if True:
        import sys
        from statewise.client import Client
        session = Client(sys.argv[1]).open_session("sum")
        print(session.step([1, 2]).tolist())
    """
    done = subprocess.run([sys.executable, "-W", "error", "-c", script, apart.address], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[1.0, 2.0]\n", "")
