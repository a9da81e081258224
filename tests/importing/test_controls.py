"""Control inputs are fed by the server: start, end, ready and the session's number, whatever else is in the batch."""

import grpc
import numpy as np
import pytest

from builders.asking import Listener
from builders.foreign import CONTROLLED, controlled
from builders.hosted import answers, host_of
from builders.inferring import outputs, request
from builders.served import start
from statewise.controls import controls_of
from statewise.conversation import Step
from statewise.importing import prepare, publish, read
from statewise.inference import open_inference_pb2, open_inference_pb2_grpc
from statewise.opening import Open
from statewise.spec import ControlSpec


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """The controlled model, whose output is the sum that START resets, END, and CORRID."""
    root = tmp_path_factory.mktemp("controls")
    publish(prepare(read(controlled(root / "controlled.onnx")), CONTROLLED), root / "repository", "controlled")
    return root / "repository"


def step(session_id, *values, **options):
    return Step(session_id, {"INPUT": np.array(values, np.float32)[:, None]}, **options)


async def test_the_first_timestep_starts_and_the_step_that_ends_ends(repository):
    """START is told once in a session's life, at its first timestep; END at the last timestep of the step that says so."""
    async with host_of(repository) as host:
        opened = await host.open(Open("controlled", number=77))
        first, second = await answers(host, [step(opened.session_id, 1, 2), step(opened.session_id, 3, 4, ends=True)])
        assert first.tolist() == [[1, 0, 77], [3, 0, 77]], "a model without START would have begun at 7"
        assert second.tolist() == [[6, 0, 77], [10, 1, 77]]


async def test_sessions_of_one_batch_are_told_apart(repository):
    """A session that begins, one that goes on and one that ends share a batch, and each is told its own."""
    async with host_of(repository) as host:
        ids = [(await host.open(Open("controlled", number=number))).session_id for number in (11, 12, 13)]
        await answers(host, [step(ids[1], 5), step(ids[2], 5)])
        told = await answers(host, [step(ids[0], 1), step(ids[1], 1), step(ids[2], 1, ends=True)])
        assert [array[0].tolist() for array in told] == [[1, 0, 11], [6, 0, 12], [6, 1, 13]]


async def test_a_fork_and_a_restored_session_do_not_start_again(repository):
    """They go on from where the other stood; a fork of a session that has not begun begins."""
    async with host_of(repository) as host:
        one = (await host.open(Open("controlled"))).session_id
        unbegun = host.fork(one, "", b"").session_id
        await answers(host, [step(one, 5)])
        begun = host.fork(one, "", b"").session_id
        restored = (await host.open(Open(snapshot=(await host.snapshot(one)).to_bytes()))).session_id
        told = await answers(host, [step(each, 1) for each in (unbegun, begun, restored)])
        assert [array[0, 0] for array in told] == [1, 6, 6]


async def test_a_session_that_tells_no_number_has_one_that_no_other_has(repository):
    """It is above 0, fits into 31 bits, and stays the same through the session."""
    async with host_of(repository) as host:
        ids = [(await host.open(Open("controlled"))).session_id for _ in range(5)]
        numbers = [host.sessions.number[host.sessions.directory.find(each)] for each in ids]
        assert len(set(numbers)) == 5
        assert all(0 < number < 2**31 for number in numbers)
        (told,) = await answers(host, [step(ids[0], 1, 1)])
        assert {float(value) for value in told[:, 2]} == {float(np.float32(numbers[0]))}


async def test_a_step_that_ends_is_another_than_one_that_does_not(repository):
    """Sent again at its position without the word it is refused, since the answer would differ."""
    async with host_of(repository) as host:
        opened = await host.open(Open("controlled"))
        await answers(host, [step(opened.session_id, 1, position=0, ends=True)])
        listener = Listener()
        host.step(step(opened.session_id, 1, position=0), listener, 0)
        host.step(step(opened.session_id, 1, position=0, ends=True), listener, 1)
        await host.batcher.until_quiet()
        assert {told.tag: str(told.problem and told.problem.reason) for told in listener.heard} == {0: "POSITION_REUSED", 1: "None"}


def test_no_and_yes_are_told_in_the_models_own_values():
    """Triton's models choose them, and the dtype."""
    controls = (
        ControlSpec("start", "a", "int32", 5, 9),
        ControlSpec("end", "b", "bool"),
        ControlSpec("ready", "c", "float32", 1, -1),
    )
    told = controls_of(controls, np.array([True, False]), np.array([False, True]), np.array([3, 4]))
    assert {name: (array.tolist(), str(array.dtype)) for name, array in told.items()} == {
        "a": ([9, 5], "int32"),
        "b": ([False, True], "bool"),
        "c": ([-1, -1], "float32"),
    }


def test_a_client_of_tritons_protocol_is_told_of_in_the_controls(repository):
    """Its own sequence id, START and END reach the model, interleaved with another's, and the config names the inputs."""
    running = start(repository)
    try:
        with grpc.insecure_channel(running.address) as channel:
            stub = open_inference_pb2_grpc.GRPCInferenceServiceStub(channel)
            config = stub.ModelConfig(open_inference_pb2.ModelConfigRequest(name="controlled")).config
            answers = []
            for at in range(3):
                for sequence in (41, 42):
                    inputs = {"INPUT": np.full((1, 1), at + sequence, np.float32)}
                    asked = request(sequence, model="controlled", inputs=inputs, start=at == 0, end=at == 2)
                    answers.append(outputs(stub.ModelInfer(asked))["OUTPUT"].ravel().tolist())
    finally:
        running.stop()
    assert answers == [[41, 0, 41], [42, 0, 42], [83, 0, 41], [85, 0, 42], [126, 1, 41], [129, 1, 42]]
    assert {each.name for each in config.sequence_batching.control_input} == {"START", "READY", "END", "CORRID"}
