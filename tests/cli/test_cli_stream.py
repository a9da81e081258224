"""`statewise stream` against a real server: what goes in, what comes out, and what is said of a bad file."""

import csv
import io

import numpy as np
import pytest

from statewise.client import Client


def table(text):
    return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture
def stream(command, tiny_server, tmp_path):
    def run(model, content, *options):
        data = tmp_path / "data.csv"
        data.write_bytes(content if isinstance(content, bytes) else content.encode())
        return command("stream", model, "--data", data, "--address", tiny_server.address, *options)

    return run


def test_a_forecast_streams_what_the_client_would(stream, tiny_server):
    """Each row's answer is what a session gives for that row, its time counted in half-hours of UTC."""
    ended = stream("demand", "time,demand\n2000-06-05T00:00,101\n2000-06-05T00:30,99.5\n2000-06-05T03:00+02:00,98\n")
    first = 960_163_200 // 1800
    with Client(tiny_server.address) as client, client.open_session("demand") as session:
        expected = session.step([[101], [99.5], [98]], time=[first, first + 1, first + 2])
    assert ended.status == 0
    assert [row["row"] for row in table(ended.out)] == ["2", "3", "4"]
    np.testing.assert_allclose([[float(row["forecast_demand"])] for row in table(ended.out)], expected, rtol=1e-5)


def test_a_classification_shows_the_label_and_its_probability(stream):
    """Missing values go through where the model was trained to take them."""
    rows = table(stream("label", "right,left\n1,2\n,3\nNA,4\n").out)
    assert len(rows) == 3
    assert all(row["label"] in ("calm", "busy") and 0.5 <= float(row["probability"]) <= 1 for row in rows)


def test_each_series_has_a_session_of_its_own(stream):
    """Interleaved series are answered as each would be alone."""
    mixed = table(stream("label", "who,left,right\na,1,2\nb,9,9\na,3,4\n", "--series", "who").out)
    alone = table(stream("label", "left,right\n1,2\n3,4\n").out)
    assert [row["probability"] for row in mixed if row["who"] == "a"] == [row["probability"] for row in alone]


def test_columns_may_have_other_names(stream):
    """--column says which column holds a feature."""
    renamed = stream("label", "l,right\n1,2\n", "--column", "left=l")
    assert table(renamed.out) == table(stream("label", "left,right\n1,2\n").out)


def test_a_text_shows_the_best_guess_and_the_bits(stream):
    """Each token's row has the guess made after it, what came, and its cost; the mean is told at the end."""
    ended = stream("text", "ab cab")
    rows = table(ended.out)
    assert [row["token"] + row["next"] for row in rows] == ["ab", "b ", " c", "ca", "ab"]
    told = float(ended.err.split()[0])
    assert told == pytest.approx(np.mean([float(row["bits"]) for row in rows]), abs=0.002)
    assert "over 5 tokens" in ended.err


def test_out_is_whole_or_not_there(stream, tmp_path):
    """A file that fails half-way leaves no predictions behind, nor a part of them, and an older file as it was."""
    out = tmp_path / "out.csv"
    assert stream("label", "left,right\n1,2\n", "--out", out).status == 0
    good = out.read_text()
    assert stream("label", "left,right\n1,2\nx,2\n", "--out", out).status == 2
    assert out.read_text() == good
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.csv", "out.csv"]


@pytest.mark.parametrize(
    ("model", "content", "told"),
    [
        ("label", "left,right\n1,2\n1,two\n", "row 3, column right: 'two' is not a number"),
        ("label", "left,right\n,2\n", "row 2, column left: the value is missing"),
        ("label", "left,right\ninf,2\n", "row 2, column left: 'inf' is not finite"),
        ("label", "left,right\n1\n", "row 2: it has not as many fields as the header"),
        ("label", "left,right\n1,2,3\n", "row 2: it has not as many fields as the header"),
        ("label", "left\n1\n", "no column right; the file has: left"),
        ("label", "", "no column left, right; the file has: nothing"),
        ("label", "left,right\n", "has no rows"),
        ("label", b"left,right\n\xff,1\n", "is not UTF-8 text"),
        ("demand", "demand\n1\n", "no column time; the file has: demand"),
        ("demand", "time,demand\nnoon,1\n", "row 2, column time: 'noon' is not an ISO date and time"),
        ("text", "abz", "character 'z' at 2 is not in the model's vocabulary"),
        ("text", "a", "takes at least 2"),
        ("text", b"ab\xff", "is not UTF-8 text"),
    ],
)
def test_a_bad_file_is_refused_in_one_line_with_status_2(stream, model, content, told):
    """The line names the row and the column, and is no traceback."""
    ended = stream(model, content)
    assert ended.status == 2
    assert told in ended.err
    assert ended.err.strip().startswith("error: ")
    assert ended.err.strip().count("\n") == 0


@pytest.mark.parametrize("option", [["--column", "left"], ["--column", "up=left"]])
def test_a_bad_column_option_is_refused(stream, option):
    """--column names a feature of the model and a column."""
    ended = stream("label", "left,right\n1,2\n", *option)
    assert ended.status == 2
    assert "--column" in ended.err


def test_trouble_that_is_not_the_users_ends_with_status_1(command, stream, tmp_path):
    """No server, or no such model: one line that says so."""
    ended = stream("nope", "a\n1\n")
    assert (ended.status, ended.err.count("\n")) == (1, 1)
    assert "it has: demand, label, text" in ended.err
    data = tmp_path / "data.csv"
    assert "no Statewise server answers on 127.0.0.1:1" in command("stream", "x", "--data", data, "--address", "127.0.0.1:1").err


def test_a_file_that_is_not_there_is_told(command, tmp_path):
    """The path and the system's reason, before any server is asked."""
    ended = command("stream", "label", "--data", tmp_path / "none.csv", "--address", "127.0.0.1:1")
    assert (ended.status, "none.csv: No such file" in ended.err) == (2, True)
