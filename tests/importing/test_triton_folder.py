"""Triton's model folders come in without anything being written, and go out so that Triton carries the same states."""

import numpy as np
import onnx
import pytest

from builders.foreign import CONTROLLED, controlled, convolution, torch_cell, voice
from builders.tiny import fill
from statewise.catalog import read_spec
from statewise.importing import Asked, Refused, prepare, publish, read
from statewise.importing.triton.exporting import exported
from statewise.importing.triton.folder import read_folder
from statewise.importing.triton.pbtxt import parse
from statewise.pool import initial
from statewise.repository import Repository

CONFIG = """
# A model as a Triton user has it.
name: "wakeword"
platform: "onnxruntime_onnx"
max_batch_size: 8
input [ { name: "frame" data_type: TYPE_FP32 dims: [ 3 ] } ]
output [ { name: "out", data_type: TYPE_FP32, dims: [ 2 ], label_filename: "labels.txt" } ]
instance_group [ { count: 2 kind: KIND_CPU } ]
dynamic_batching { }
sequence_batching {
  max_sequence_idle_microseconds: 5000000
  direct { max_queue_delay_microseconds: 100 }
  state [
    {
      input_name: "cache" output_name: "cache_out" data_type: TYPE_FP32 dims: [ 3, 3 ]
      initial_state: { name: "first" data_type: TYPE_FP32 dims: [ 3, 3 ] data_file: "first.bin" }
    }
  ]
}
parameters: { key: "intra_op_thread_count" value: { string_value: "1" } }
"""
CONTROLS = """
backend: "onnxruntime"
max_batch_size: 4
input [ { name: "INPUT" data_type: TYPE_FP32 dims: [ 1 ] } ]
output [ { name: "OUTPUT" data_type: TYPE_FP32 dims: [ 3 ] } ]
sequence_batching {
  control_input [
    { name: "START" control [ { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] } ] },
    { name: "READY" control [ { kind: CONTROL_SEQUENCE_READY fp32_false_true: [ 0.0, 1.0 ] } ] },
    { name: "END" control [ { kind: CONTROL_SEQUENCE_END bool_false_true: [ false, true ] } ] },
    { name: "CORRID" control [ { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64 } ] }
  ]
  state {
    input_name: "sum" output_name: "sum_out" data_type: TYPE_FP32 dims: [ 1 ]
    initial_state { data_type: TYPE_FP32 dims: 1 zero_data: true name: "zero" }
  }
}
"""


def folder_of(place, config, make, version=1):
    """A model folder of Triton's."""
    (place / str(version)).mkdir(parents=True)
    (place / "config.pbtxt").write_text(config)
    make(place / str(version) / "model.onnx")
    return place


@pytest.fixture
def wakeword(tmp_path):
    """A model whose state begins as a file says."""
    place = folder_of(tmp_path / "wakeword", CONFIG, convolution)
    (place / "initial_state").mkdir()
    (place / "initial_state" / "first.bin").write_bytes(np.arange(9, dtype="<f4").tobytes())
    return place


def test_a_folder_tells_states_axes_limits_and_what_is_not_carried_over(command, wakeword, tmp_path):
    """Name, pairs, initial state from its file, batch limit and idle timeout are taken; every other field is listed."""
    ended = command("import", wakeword, "--repository", tmp_path / "repository")
    assert ended.status == 0, ended.err
    left = [line.split(": ")[1] for line in ended.out.splitlines() if "not carried over" in line]
    assert left == ["instance_group", "dynamic_batching", "parameters", "output.label_filename", "sequence_batching.direct"]
    spec = read_spec(onnx.load(str(Repository(tmp_path / "repository").path("wakeword", 1))))
    (state,) = spec.states
    assert (state.input, state.output, state.shape, spec.batch, spec.idle_timeout_seconds) == ("cache", "cache_out", (3, 3), 8, 5.0)
    assert initial(state).ravel().tolist() == list(range(9))


def test_control_inputs_of_a_folder_are_fed(tmp_path):
    """All four kinds, each in its own dtype, and the client sends the input alone."""
    folder = read_folder(folder_of(tmp_path / "sums", CONTROLS, controlled))
    spec = prepare(read(folder.file), folder.asked).spec
    assert [(each.kind, each.input, each.dtype) for each in spec.controls] == [
        ("start", "START", "int32"),
        ("ready", "READY", "float32"),
        ("end", "END", "bool"),
        ("corrid", "CORRID", "int64"),
    ]
    assert ([tensor.name for tensor in spec.inputs], folder.left) == (["INPUT"], ())


def test_a_model_without_a_batch_axis_is_served_one_by_one(tmp_path):
    """`max_batch_size` 0 means that the dims are all there is."""
    config = (
        'backend: "onnxruntime" sequence_batching { state { input_name: "cache" output_name: "cache_out" data_type: TYPE_FP32 } }'
    )
    folder = read_folder(folder_of(tmp_path / "one", config, lambda file: convolution(file, batch=1)))
    spec = prepare(read(folder.file), folder.asked).spec
    assert (folder.name, spec.batch, spec.inputs[0].shape) == ("one", 1, (1, 3))


def test_the_newest_version_is_read_unless_another_is_named(tmp_path):
    """By number, not by name: 10 is newer than 9."""
    place = folder_of(tmp_path / "many", CONTROLS, controlled, version=9)
    (place / "10").mkdir()
    controlled(place / "10" / "model.onnx")
    assert [read_folder(place, version).file.parent.name for version in (0, 9)] == ["10", "9"]
    with pytest.raises(Refused, match="has no version 3; it has: 9, 10"):
        read_folder(place, 3)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (CONTROLS.replace("onnxruntime", "python"), "its backend is 'python'"),
        (CONTROLS.replace("CONTROL_SEQUENCE_END", "CONTROL_SEQUENCE_MOOD"), "is of kind 'CONTROL_SEQUENCE_MOOD'"),
        (CONTROLS.replace('"OUTPUT" data_type: TYPE_FP32', '"OUTPUT" data_type: TYPE_STRING'), "'OUTPUT' is TYPE_STRING"),
        (CONTROLS.replace('"OUTPUT"', '"ANSWER"'), "names 'ANSWER', which the file does not have"),
        (CONTROLS.replace('"INPUT" data_type: TYPE_FP32', '"INPUT" data_type: TYPE_FP16'), "says that 'INPUT' is float16"),
        ("input [ { name: ", "config.pbtxt, line"),
        ("max_batch_size 4", "config.pbtxt, line"),
    ],
)
def test_a_config_that_cannot_be_followed_is_refused(command, tmp_path, config, told):
    """With the field, or the line that cannot be read, and status 2."""
    ended = command("import", folder_of(tmp_path / "bad", config, controlled), "--name", "bad", "--repository", tmp_path / "r")
    assert (ended.status, told in ended.err) == (2, True), ended.err


def test_a_folder_that_is_no_model_folder_is_told(command, tmp_path):
    """It names what is missing."""
    ended = command("import", tmp_path, "--name", "x")
    assert (ended.status, "has no config.pbtxt" in ended.err) == (2, True)


def fields(config):
    """What a written config says, as plain values."""

    def plain(value):
        return {name: [plain(each) for each in value.all(name)] for name in list(value._values)} if hasattr(value, "all") else value

    return plain(parse(config, "config.pbtxt"))


def test_an_exported_folder_says_field_by_field_what_triton_needs(tmp_path):
    """Names, types, dims without the batch, states with their initial values in files, controls with their values."""
    publish(prepare(read(controlled(tmp_path / "c.onnx")), CONTROLLED), tmp_path / "r", "sums")
    model = onnx.load(str(tmp_path / "r" / "sums" / "1" / "model.onnx"))
    made = exported("sums", 1, model, read_spec(model))
    told = fields(made.files["config.pbtxt"].decode())
    assert told["name"] == ["sums"]
    assert (told["backend"], told["max_batch_size"]) == (["onnxruntime"], [256])
    assert told["input"] == [{"name": ["INPUT"], "data_type": ["TYPE_FP32"], "dims": [1]}]
    assert told["output"] == [{"name": ["OUTPUT"], "data_type": ["TYPE_FP32"], "dims": [3]}]
    (sequences,) = told["sequence_batching"]
    assert sequences["max_sequence_idle_microseconds"] == [600_000_000]
    assert sequences["state"] == [
        {
            "input_name": ["sum"],
            "output_name": ["sum_out"],
            "data_type": ["TYPE_FP32"],
            "dims": [1],
            "initial_state": [{"name": ["sum"], "data_type": ["TYPE_FP32"], "dims": [1], "data_file": ["sum"]}],
        }
    ]
    assert made.files["initial_state/sum"] == np.array([7], "<f4").tobytes()
    controls = {each["name"][0]: each["control"][0] for each in sequences["control_input"]}
    assert controls == {
        "START": {"kind": ["CONTROL_SEQUENCE_START"], "int32_false_true": [0, 1]},
        "READY": {"kind": ["CONTROL_SEQUENCE_READY"], "fp32_false_true": [0.0, 1.0]},
        "END": {"kind": ["CONTROL_SEQUENCE_END"], "bool_false_true": [False, True]},
        "CORRID": {"kind": ["CONTROL_SEQUENCE_CORRID"], "data_type": ["TYPE_INT64"]},
    }


def test_what_goes_out_comes_in_again(command, tmp_path):
    """Recurrent exports, initial states, constants, and models that were trained here, each held against its own answers twice."""
    root, out, back = tmp_path / "repository", tmp_path / "triton", tmp_path / "back"
    fill(root)
    every = [
        ("gru", torch_cell(tmp_path / "gru.onnx", "GRU", batch_first=True), Asked()),
        ("conv", convolution(tmp_path / "conv.onnx"), Asked(initial={"cache": np.arange(9.0)})),
        ("voice", voice(tmp_path / "voice.onnx"), Asked(constants={"sr": 16000}, dims={"samples": 8})),
    ]
    for name, file, asked in every:
        publish(prepare(read(file), asked), root, name)
    for name in ("demand", "label", *(name for name, _, _ in every)):
        ended = command("export-triton", name, out, "--repository", root)
        assert ended.status == 0, ended.err
        assert "differs by at most" in ended.out
        ended = command("import", out / name, "--repository", back)
        assert ended.status == 0, ended.err
        ours = read_spec(onnx.load(str(root / name / "1" / "model.onnx")))
        theirs = read_spec(onnx.load(str(back / name / "1" / "model.onnx")))
        assert {state.input: initial(state).ravel().tolist() for state in theirs.states} == {
            state.input: initial(state).ravel().tolist() for state in ours.states
        }
        assert [t.name for t in theirs.inputs] == [t.name for t in ours.inputs]


def test_a_folder_that_is_there_is_not_written_over(command, tmp_path):
    """Nor is anything left of the attempt."""
    fill(tmp_path / "repository")
    (tmp_path / "out" / "label").mkdir(parents=True)
    ended = command("export-triton", "label", tmp_path / "out", "--repository", tmp_path / "repository")
    assert (ended.status, "is there already" in ended.err) == (2, True)
    assert [entry.name for entry in (tmp_path / "out").iterdir()] == ["label"]
    assert command("export-triton", "nope", tmp_path / "out", "--repository", tmp_path / "repository").status == 2
