"""Files that cannot be trained on are refused in one line that says why."""

import numpy as np
import pandas as pd
import pytest

from statewise_models.data.policy import InvalidData, Policy
from statewise_models.data.table import read_table


def refusal(path, content=None, **options) -> str:
    """Writes `content`, reads it, and returns the refusal, without the path that it begins with."""
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InvalidData) as caught:
        read_table(path, **{"targets": ["load"], **options})
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "is empty: the first line must name the columns"),
        ("\n\n", "is empty: the first line must name the columns"),
        ("load\n", "has no rows"),
        ("load,time\n,\n\n", "has no rows"),
        ("time,wind\n1,2\n", "has no column 'load'; its columns are 'time', 'wind'"),
        ("load,load\n1,2\n", "has more than one column 'load'; its columns are 'load', 'load'"),
        ("load\n1,2\n3,4\n", "is not CSV: rows have more fields than the header"),
        ("load,wind\n1,2\n1,234,5\n", "is not CSV: Expected 2 fields in line 3, saw 3"),
        ('load\n"1\n2\n', "is not CSV: EOF inside string starting at row 1"),
        (b"load\n\xff\xfe\n", "is not UTF-8 text, so not CSV"),
    ],
)
def test_files_that_are_no_table_are_refused(tmp_path, content, expected):
    """Whatever the file lacks to be a table with rows is said in one line."""
    assert refusal(tmp_path / "file.csv", content) == expected


def test_paths_without_a_readable_file_are_refused(tmp_path):
    """Not found, a directory, an unknown suffix, a Parquet file that is none."""
    assert refusal(tmp_path / "absent.csv") == "No such file or directory"
    (tmp_path / "folder.csv").mkdir()
    assert refusal(tmp_path / "folder.csv") == "is a directory, not a file"
    assert refusal(tmp_path / "file.xlsx", "load\n1\n") == "the suffix must be one of .csv, .parquet"
    assert refusal(tmp_path / "file.parquet", "load\n1\n").startswith("is not Parquet: ")
    assert refusal(tmp_path / "file.csv", b"PAR1\x15\x04\x15\xa0\xffPAR1").startswith("is not UTF-8 text")


def test_text_among_numbers_is_refused_with_column_line_and_text(tmp_path):
    """The cell can be found and corrected at once."""
    content = "load\n1\n2\n1,5".replace("1,5", '"1,5"\n4\noops\n')
    assert refusal(tmp_path / "a.csv", content) == "column 'load' holds text where numbers are due, '1,5': lines 4, 6"
    long = "x" * 1000
    assert (
        refusal(tmp_path / "b.csv", f"load\n{long}\n") == f"column 'load' holds text where numbers are due, '{long[:40]}…': line 2"
    )


def test_missing_values_are_refused_with_the_first_lines_and_their_count(tmp_path):
    """Seven words for no value: five lines are named, two are counted. A blank line is a missing value too."""
    content = "load,wind\n" + "".join(f"{word},1\n" for word in ("1", "", "NA", "nan", "NULL", "N/A", "None", "null", "8"))
    expected = "column 'load' has no value: lines 3, 4, 5, 6, 7 and 2 more (only a model trained with missing: mask takes that)"
    assert refusal(tmp_path / "a.csv", content) == expected
    assert refusal(tmp_path / "b.csv", "load\n1\n\n3\n").startswith("column 'load' has no value: line 3")


def test_lines_are_counted_as_an_editor_does(tmp_path):
    """Quoted fields that span lines do not shift the lines named."""
    content = 'load,note\n1,"two\nlines"\n2,"three\n\nlines"\n?,x\n'
    assert refusal(tmp_path / "a.csv", content).endswith("'?': line 7")


def test_parquet_faults_are_named_by_row(tmp_path):
    """A Parquet file has no lines; its first row is row 1."""
    pd.DataFrame({"load": [1.0, np.nan, 3.0, np.inf]}).to_parquet(tmp_path / "a.parquet")
    assert refusal(tmp_path / "a.parquet").endswith(": row 4")
    pd.DataFrame({"load": ["1", "two", "3"]}).to_parquet(tmp_path / "b.parquet")
    assert refusal(tmp_path / "b.parquet").endswith("'two': row 2")
    pd.DataFrame({"load": pd.to_datetime(["2000-01-01"])}).to_parquet(tmp_path / "c.parquet")
    assert "holds text where numbers are due, '2000-01-01" in refusal(tmp_path / "c.parquet")
    pd.DataFrame({"load": [1, 2], "time": [pd.Timestamp("2000-01-01"), None]}).to_parquet(tmp_path / "d.parquet")
    assert refusal(tmp_path / "d.parquet", time="time") == "column 'time' has no time: row 2"


@pytest.mark.parametrize("value", ["inf", "-Infinity", "1e400", "1e39", "-4e38"])
def test_infinities_are_refused_even_where_nan_is_masked(tmp_path, value):
    """Also numbers that only float32 makes infinite; a mask is for values that are absent."""
    message = refusal(tmp_path / "a.csv", f"load\n1\n{value}\n", policy=Policy(missing="mask"))
    assert message == "column 'load' holds infinities, or numbers too large for float32: line 3"


def test_a_column_without_any_number_is_refused_even_where_nan_is_masked(tmp_path):
    """It has no mean and no scale, so nothing could be learned from it."""
    message = refusal(tmp_path / "a.csv", "load,wind\n,1\n,2\n", policy=Policy(missing="mask"))
    assert message == "column 'load' holds no number at all"


def test_columns_asked_for_must_make_sense(tmp_path):
    """A role without columns, or with one twice, is a mistake in the call."""
    (tmp_path / "a.csv").write_text("load\n1\n")
    with pytest.raises(InvalidData, match="at least one target column is needed"):
        read_table(tmp_path / "a.csv", targets=[])
    with pytest.raises(InvalidData, match="input column 'load' is named more than once"):
        read_table(tmp_path / "a.csv", targets=["load"], inputs=["load", "load"])


def test_what_a_csv_may_look_like(tmp_path):
    """A byte order mark, spaces after commas, CRLF, quotes, empty rows at the end and other columns do not matter."""
    content = '\ufeffload, note\r\n 1, "a, b"\r\n"2",\r\n3e0 , NA\r\n,\r\n\r\n'
    (tmp_path / "a.csv").write_bytes(content.encode())
    (series,) = read_table(tmp_path / "a.csv", targets=["load"]).series
    np.testing.assert_array_equal(series.x, [[1.0], [2.0], [3.0]])
