"""`statewise trace`: what the arrays hold, that there is a picture, and what is said of what cannot be traced."""

import shutil

import numpy as np
import pytest
from matplotlib.image import imread

from builders.tiny import LABEL as LSTM
from statewise.client import Client
from statewise_models.export import export
from statewise_models.network import Network

DEMAND = "time,demand\n" + "".join(f"2000-06-{5 + n // 48:02}T{n // 2 % 24:02}:{n % 2 * 30:02},{100 + n % 7}\n" for n in range(60))
LABEL = "who,left,right\na,1,2\nb,9,9\na,3,\na,5,1\nb,7,7\n"


@pytest.fixture
def trace(command, tiny_repository, tmp_path):
    def run(model, content, *options, repository=tiny_repository):
        data = tmp_path / "data.csv"
        data.write_bytes(content if isinstance(content, bytes) else content.encode())
        return command("trace", model, "--data", data, "--repository", repository, "--output", tmp_path / "out", *options)

    return run


@pytest.fixture
def arrays(trace, tmp_path):
    def read(*arguments):
        ended = trace(*arguments)
        assert ended.status == 0, ended.err
        with np.load(tmp_path / "out" / "trace.npz") as held:
            return dict(held)

    return read


@pytest.mark.parametrize(
    ("model", "content", "names", "timesteps"),
    [
        ("demand", DEMAND, {"x", "time", "row", "forecast", "reset_0", "update_0", "candidate_0", "hidden_0"}, 60),
        ("label@1", LABEL, {"x", "row", "probability", "f_0", "i_0", "o_0", "candidate_0", "cell_state_0", "hidden_0"}, 5),
        ("text", "ab cab", {"token", "logits", "hidden_0"}, 6),
        ("text", "a", {"token", "logits", "hidden_0"}, 1),
    ],
)
def test_each_task_leaves_arrays_and_a_picture(arrays, tmp_path, model, content, names, timesteps):
    """Every array has a row for each timestep, gates lie between 0 and 1, and the picture has colours."""
    held = arrays(model, content)
    assert set(held) == names
    assert {len(array) for array in held.values()} == {timesteps}
    assert held["hidden_0"].shape == (timesteps, 4)
    for gate in names & {"f_0", "i_0", "o_0", "reset_0", "update_0"}:
        assert 0 < held[gate].min() <= held[gate].max() < 1
    picture = imread(tmp_path / "out" / "trace.png")
    assert len(np.unique(picture.reshape(-1, picture.shape[-1]), axis=0)) > 50
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["trace.npz", "trace.png"]


def test_the_outputs_are_those_that_the_server_gives(arrays, trace, tiny_server, tmp_path):
    """What is looked into is what is served; its times and rows are the file's; and a later part has read what it skips."""
    whole = arrays("demand", DEMAND)
    with Client(tiny_server.address) as client, client.open_session("demand") as session:
        expected = session.step(whole["x"], time=whole["time"])
    np.testing.assert_allclose(whole["forecast"], expected, rtol=1e-5)
    assert whole["time"][0] == 960_163_200 // 1800
    assert whole["row"].tolist() == list(range(2, 62))
    assert trace("demand", DEMAND, "--skip", "20", "--timesteps", "15").out.startswith("timesteps 21 to 35 of data.csv: ")
    with np.load(tmp_path / "out" / "trace.npz") as part:
        for name, array in part.items():
            np.testing.assert_allclose(array, whole[name][20:35], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("only", "rows"), [((), [2, 4, 5]), (("--only", "b"), [3, 6])])
def test_a_series_is_traced_alone(arrays, only, rows):
    """--only chooses it, else the first is taken; the rows of others between them are passed over."""
    held = arrays("label", LABEL, "--series", "who", *only)
    assert held["row"].tolist() == rows
    assert held["x"][:, 0].tolist() == [[1, 3, 5], [9, 7]][len(only) // 2]


@pytest.mark.parametrize(
    ("model", "content", "options", "told"),
    [
        ("nope", DEMAND, [], "no model 'nope' in"),
        ("demand@7", DEMAND, [], "model 'demand' has no version 7 (it has: 1)"),
        ("demand@new", DEMAND, [], "a version is named MODEL or MODEL@NUMBER, not 'demand@new'"),
        ("demand", "time,load\n", [], "no column demand; the file has: time, load"),
        ("demand", "time,demand\nnoon,1\n", [], "row 2, column time: 'noon' is not an ISO date and time"),
        ("demand", "", [], "no column demand, time; the file has: nothing"),
        ("demand", DEMAND, ["--skip", "60"], "--skip 60: there are 60 timesteps to read"),
        ("label", LABEL, ["--series", "who", "--only", "c"], "--only c: no row has it in column who, which has: a, b"),
        ("label", LABEL, ["--only", "a"], "--only goes with --series"),
        ("label", LABEL, ["--column", "up=left"], "--column: the model has no feature up"),
        ("text", "abz", [], "character 'z' at 2 is not in the model's vocabulary"),
        ("text", "", [], "is empty"),
        ("text", "ab", ["--series", "who"], "--series: the model reads text"),
    ],
)
def test_what_cannot_be_traced_is_one_line_with_status_2(trace, tmp_path, model, content, options, told):
    """The line names what is wrong, and nothing is written."""
    ended = trace(model, content, *options)
    assert (ended.status, ended.err.count("\n")) == (2, 1), ended.err
    assert told in ended.err
    assert not (tmp_path / "out").exists()


def test_a_version_of_before_is_told_apart(trace, tiny_repository, tmp_path):
    """A version without an explicit-gate graph can be served, not traced."""
    shutil.copytree(tiny_repository, tmp_path / "old")
    (tmp_path / "old" / "text" / "1" / "trace.onnx").unlink()
    ended = trace("text", "ab", repository=tmp_path / "old")
    assert (ended.status, ended.err.count("\n")) == (2, 1)
    assert "text@1 has no trace.onnx: it was exported before there were traces" in ended.err


def test_an_int8_version_says_why_it_has_no_trace(trace, tmp_path):
    """It was not forgotten: what its kernel does inside cannot be seen."""
    export(Network(LSTM).eval(), repository=tmp_path / "int8", model="label", int8=True)
    ended = trace("label", LABEL, repository=tmp_path / "int8")
    assert (ended.status, ended.err.count("\n")) == (2, 1)
    assert "label@1 is int8, and has no trace.onnx" in ended.err


def test_a_folder_that_cannot_be_made_is_named(command, tiny_repository, tmp_path):
    """--output below a file."""
    (tmp_path / "file").write_text("ab")
    out = tmp_path / "file" / "out"
    ended = command("trace", "text", "--data", tmp_path / "file", "--repository", tiny_repository, "--output", out)
    assert (ended.status, ended.err.count("\n")) == (2, 1)
    assert f"--output: cannot make {out}" in ended.err
