"""What cannot be served is refused at the door, in words that say why and what would help; nothing is published, status 2."""

import re

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from builders.foreign import CONTROLLED, controlled, convolution, counting, info, node, save, state_space, torch_cell, voice
from statewise.importing import Asked, Refused, prepare, read
from statewise.importing.asked import EVERY, Fed
from statewise.importing.foreign import Port
from statewise.importing.pairs import proposed_pairs, stems


def stateless(file):
    return save(file, [node("Relu", "x", "y")], [info("x", "float32", "N", 3)], [info("y", "float32", "N", 7)])


def growing(file):
    """A cache that gets longer with every call, as transformers keep theirs."""
    taken = [info("x", "float32", "N", 1, 3), info("past", "float32", "N", 2, 3)]
    returned = [info("y", "float32", "N", 1, 3), info("present", "float32", "N", "longer", 3)]
    return save(file, [node("Concat", "past x", "present", axis=1), node("Relu", "x", "y")], taken, returned)


def custom(file):
    nodes = [helper.make_node("Gate", ["x", "h"], ["h_out"], domain="acme"), node("Relu", "h_out", "y")]
    taken, returned = [info("x", "float32", "N", 3), info("h", "float32", "N", 3)], [info("y", "float32", "N", 3)]
    return save(file, nodes, taken, [*returned, info("h_out", "float32", "N", 3)], domains=["acme"])


def outside(file):
    state_space(file)
    model = onnx.load(str(file))
    onnx.save(model, str(file), save_as_external_data=True, location="weights.bin", size_threshold=0, convert_attribute=True)
    return file


def failing(file):
    """A shape that never fits: its own reshape fails in every run."""
    nodes = [node("Add", "x h", "h_out"), node("Reshape", "h_out seven", "y")]
    taken, returned = [info("x", "float32", "N", 3), info("h", "float32", "N", 3)], [info("y", "float32", "N", 7)]
    return save(file, nodes, taken, [*returned, info("h_out", "float32", "N", 3)], {"seven": np.array([-1, 7])})


def mixing(file):
    """Sessions that share a batch are normalised by its mean."""
    nodes = [
        node("ReduceMean", "x", "mean", axes=[0]),
        node("Sub", "x mean", "d"),
        node("Add", "h d", "h_out"),
        node("Relu", "h_out", "y"),
    ]
    taken, returned = [info("x", "float32", "N", 3), info("h", "float32", "N", 3)], [info("y", "float32", "N", 3)]
    return save(file, nodes, taken, [*returned, info("h_out", "float32", "N", 3)])


def backwards(file):
    """A model that reads its timesteps from the last to the first."""
    nodes = [
        node("ReduceSum", "x zero", "later", keepdims=1),
        node("Add", "h later", "level"),
        node("Squeeze", "level zero", "h_flat"),
        node("Add", "x level", "y"),
        node("Unsqueeze", "h_flat zero", "h_out"),
    ]
    taken = [info("x", "float32", "time", "N", 3), info("h", "float32", 1, "N", 3)]
    returned = [info("y", "float32", "time", "N", 3), info("h_out", "float32", 1, "N", 3)]
    return save(file, nodes, taken, returned, {"zero": np.array([0])})


def two_readings(file):
    """Two states of one shape whose outputs are named alike."""
    nodes = [node("Add", "a x", "r"), node("Add", "b x", "s"), node("Add", "r s", "t")]
    taken = [info(name, "float32", "N", 3) for name in ("x", "a", "b")]
    return save(file, nodes, taken, [info(name, "float32", "N", 3) for name in ("t", "r", "s")])


def never_finite(file):
    nodes = [node("Add", "x h", "h_out"), node("Div", "h_out zero", "y")]
    taken, returned = [info("x", "float32", "N", 3), info("h", "float32", "N", 3)], [info("y", "float32", "N", 3)]
    return save(file, nodes, taken, [*returned, info("h_out", "float32", "N", 3)], {"zero": np.float32(0)})


def bytes_in(file):
    nodes = [node("Cast", "x", "wide", to=TensorProto.FLOAT), node("Add", "wide h", "h_out"), node("Relu", "h_out", "y")]
    taken, returned = [info("x", "uint8", "N", 3), info("h", "float32", "N", 3)], [info("y", "float32", "N", 3)]
    return save(file, nodes, taken, [*returned, info("h_out", "float32", "N", 3)])


def too_new(file):
    """An operator that older opsets do not have."""
    nodes = [node("Add", "x h", "h_out"), node("RMSNormalization", "x scale", "y")]
    taken, returned = [info("x", "float32", "N", 3), info("h", "float32", "N", 3)], [info("y", "float32", "N", 3)]
    return save(
        file, nodes, taken, [*returned, info("h_out", "float32", "N", 3)], {"scale": np.ones(3, np.float32)}, 23, ir_version=11
    )


def cut_off(file):
    whole = state_space(file).read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    return file


REFUSED = [
    (stateless, Asked(), "no output looks like the next value of an input, so it has no state"),
    (growing, Asked(states=(("past", "present"),)), "state past:present changes its shape from step to step"),
    (custom, Asked(), "operators that ONNX Runtime does not have: acme:Gate"),
    (outside, Asked(), "lies outside the file, in 'weights.bin'"),
    (failing, Asked(), "its dry run failed with"),
    (mixing, Asked(), "sessions that run side by side disturb each other"),
    (backwards, Asked(), "3 timesteps at once give other numbers than one by one"),
    (two_readings, Asked(), r"(?s)more ways than one.*--state a:t\n.*--state b:s"),
    (never_finite, Asked(), "returns NaN or infinity in y"),
    (bytes_in, Asked(), "'x' is uint8; served are float32"),
    (too_new, Asked(), "its opset is 23; 13 to 20 are served, and it cannot be converted"),
    (cut_off, Asked(), "is not an ONNX file"),
    (lambda file: voice(file), Asked(constants={"sr": 16000}), "axis 'samples' of input input is of any length, and output output"),
    (lambda file: voice(file), Asked(fixed={"sr": 0.5}, dims={"samples": 8}), "'sr' is int64, which cannot hold 0.5"),
    (lambda file: voice(file), Asked(dims={"tone": 8}), "--dim tone: no input has a dynamic axis of that name"),
    (lambda file: convolution(file), Asked(states=(("cache", "out"),)), "changes its shape"),
    (lambda file: convolution(file), Asked(states=(("frame", "nope"),)), "has no output 'nope'; it has out float32"),
    (lambda file: convolution(file), Asked(initial={"cache": [1, 2]}), "'cache' is float32 [3, 3], and 2 values do not fill it"),
    (lambda file: convolution(file), Asked(initial={"frame": 1}), "--initial frame: the states are cache"),
    (lambda file: convolution(file, batch=4), Asked(batch_axis={EVERY: 0}), "the batch axis of frame .* is fixed at 4"),
    (lambda file: counting(file), Asked(constants={"nope": 1}), "--constant nope: the file has no input 'nope'"),
    (lambda file: counting(file), Asked(controls={"count": Fed("start")}), "--control start=count: it is int64"),
    (lambda file: torch_cell(file, "GRU", batch_first=False), Asked(time_axis={EVERY: None}), r"--dim time=512"),
    (
        lambda file: torch_cell(file, "LSTM", batch_first=True),
        Asked(states=(("h0", "cn"), ("c0", "cn"))),
        "'cn' is in more than one pair",
    ),
]


@pytest.mark.parametrize(("make", "asked", "told"), REFUSED, ids=[told[:40] for _, _, told in REFUSED])
def test_what_cannot_be_served_is_refused_with_the_reason(tmp_path, make, asked, told):
    """Each refusal names what is wrong with this file and, where there is something, what to say or do."""
    escaped = told if told.startswith("(?s)") or ".*" in told else re.escape(told)
    with pytest.raises(Refused, match=escaped):
        prepare(read(make(tmp_path / "model.onnx")), asked)


def test_the_command_refuses_in_one_line_with_status_2_and_publishes_nothing(command, tmp_path):
    """Neither a version nor a folder of the model is left behind."""
    ended = command("import", stateless(tmp_path / "x.onnx"), "--name", "x", "--repository", tmp_path / "repository")
    assert (ended.status, ended.err.count("\n")) == (2, 1)
    assert "x.onnx is not imported: no output looks like" in ended.err
    assert not (tmp_path / "repository").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "--name: say what the model is called"),
        (["--name", "a/b"], "--name: 'a/b' cannot name a model"),
        (["--name", "a", "--state", "cache"], "--state takes INPUT:OUTPUT, not 'cache'"),
        (["--name", "a", "--dim", "N=0"], "--dim N takes a length of 1 or more, not '0'"),
        (["--name", "a", "--time-axis", "first"], "--time-axis takes AXIS or TENSOR=AXIS"),
        (["--name", "a", "--control", "begin=START"], "--control: 'begin' is not one of start, end, ready, corrid"),
        (["--name", "a", "--initial", "cache=much"], "--initial cache takes a number"),
        (["--name", "a", "--initial", "cache=none.npy"], "--initial cache: cannot read none.npy"),
        (["--name", "a", "--version", "2"], "--version: it chooses among the versions of a Triton folder"),
    ],
)
def test_options_that_cannot_be_read_are_refused_by_name(command, tmp_path, options, told):
    """The line names the option and what it takes."""
    ended = command("import", convolution(tmp_path / "x.onnx"), *options, "--repository", tmp_path / "repository")
    assert (ended.status, told in ended.err) == (2, True), ended.err


def test_a_file_that_is_not_there_is_told(command, tmp_path):
    """The path and the system's reason."""
    ended = command("import", tmp_path / "none.onnx", "--name", "x")
    assert (ended.status, "none.onnx: No such file" in ended.err) == (2, True)


@pytest.mark.parametrize(
    ("name", "output", "stem"),
    [
        ("h0", False, "h"),
        ("hn", True, "h"),
        ("stateN", True, "state"),
        ("x_out", True, "x"),
        ("h_1_next", True, "h_1"),
        ("next_cell", True, "cell"),
    ],
)
def test_what_is_left_of_a_name_without_its_direction(name, output, stem):
    """The ways in which exporters and people name what comes and what goes."""
    assert stem in stems(name, output=output)


def test_states_are_never_paired_by_order():
    """Outputs in another order than their inputs find each other by name, and without names are asked for."""
    ports = {name: Port(name, "float32", (2, "N", 5)) for name in ("x", "h", "c")}
    crossed = {name: Port(name, "float32", (2, "N", 5)) for name in ("y", "cn", "hn")}
    assert proposed_pairs(ports, crossed) == ((("h", "hn"), ("c", "cn")), "names")
    nameless = {name: Port(name, "float32", (2, "N", 5)) for name in ("17", "18", "19")}
    with pytest.raises(Refused, match="more ways than one"):
        proposed_pairs(ports, nameless)


def test_a_control_that_is_not_told_is_what_a_client_sends(tmp_path):
    """Nothing is taken for a control by its name; and with all of them told, the client sends the input alone."""
    file = controlled(tmp_path / "c.onnx")
    assert [tensor.name for tensor in prepare(read(file), CONTROLLED).spec.inputs] == ["INPUT"]
    with pytest.raises(Refused, match="'CORRID' is uint64"):
        prepare(read(file), Asked())


def test_an_old_opset_is_converted_where_the_dry_run_holds(tmp_path):
    """Opset 9 is brought to one that is served, and the parity vectors are the old file's own answers."""
    nodes = [node("Add", "x h", "h_out"), node("Upsample", "h_out scales", "y", mode="nearest")]
    taken, returned = [info("x", "float32", "N", 3), info("h", "float32", "N", 3)], [info("y", "float32", "N", 6)]
    scales = {"scales": np.array([1, 2], np.float32)}
    file = save(tmp_path / "old.onnx", nodes, taken, [*returned, info("h_out", "float32", "N", 3)], scales, opset=9)
    imported = prepare(read(file), Asked())
    assert (imported.spec.about["opset"], imported.spec.outputs[0].shape, imported.loaded.parity_difference) == (9, (6,), 0.0)
