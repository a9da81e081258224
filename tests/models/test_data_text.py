"""Text becomes tokens and back, and what is no text is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statewise_models.config import InvalidConfig
from statewise_models.data.policy import InvalidData
from statewise_models.data.text import read_text


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("text") / "text.txt"


unicode_text = st.text(st.characters(exclude_categories=["Cs"]), min_size=2).filter(lambda text: text[0] != "\ufeff")


@settings(deadline=None)
@given(unicode_text)
def test_characters_round_trip(path, text):
    """Tokens decode to the very text, line ends included; the vocabulary is its characters by code point."""
    path.write_bytes(text.encode())
    made = read_text(path)
    assert made.vocabulary.decode(made.tokens.tolist()) == text
    assert made.vocabulary.characters == tuple(sorted(set(text)))
    assert made.tokens.tolist() == made.vocabulary.encode(text)
    assert made.tokens.dtype == np.int64


@settings(deadline=None)
@given(unicode_text)
def test_bytes_are_those_of_the_file(path, text):
    """A token is a byte of UTF-8."""
    path.write_bytes(text.encode())
    made = read_text(path, level="bytes")
    assert bytes(made.tokens.tolist()) == text.encode()
    assert made.vocabulary.bytes
    assert made.tokens.dtype == np.int64


def test_a_byte_order_mark_is_no_token(path):
    """An editor's mark does not become part of the vocabulary."""
    path.write_bytes(b"\xef\xbb\xbfab")
    assert read_text(path).vocabulary.characters == ("a", "b")
    assert read_text(path, level="bytes").tokens.tolist() == [97, 98]


@pytest.mark.parametrize("level", ["characters", "bytes"])
@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"a", "is too short: it has 1 of the 2 tokens that a text needs"),
        (b"caf\xe9 au lait", "is not UTF-8 text: byte 3 is 0xe9"),
    ],
)
def test_what_is_no_text_is_refused(path, level, content, fault):
    """In one line that begins with the file."""
    path.write_bytes(content)
    with pytest.raises(InvalidData) as caught:
        read_text(path, level=level)
    assert str(caught.value) == f"{path}: {fault}"


def test_paths_without_text_and_unknown_levels_are_refused(tmp_path):
    """Not found, a directory, a level that does not exist."""
    with pytest.raises(InvalidData, match="No such file or directory"):
        read_text(tmp_path / "absent.txt")
    with pytest.raises(InvalidData, match="is a directory, not a file"):
        read_text(tmp_path)
    with pytest.raises(InvalidConfig, match="level must be one of characters, bytes, not 'words'"):
        read_text(tmp_path / "absent.txt", level="words")
