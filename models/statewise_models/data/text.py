"""The door for tokens: a UTF-8 text file → token ids and their vocabulary."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from statewise.spec import Vocabulary
from statewise_models.config import InvalidConfig
from statewise_models.data.policy import InvalidData

Level = Literal["characters", "bytes"]

FEWEST_TOKENS = 2  # one to read, one to predict


@dataclass(frozen=True, slots=True, eq=False)
class Text:
    """A text in tokens.

    Attributes:
        tokens: int64 `[timesteps]`, ids in `vocabulary`.
        vocabulary: the characters of the text sorted by code point, or the 256 bytes.
    """

    tokens: NDArray[np.int64]
    vocabulary: Vocabulary

    def __len__(self) -> int:
        """Returns the timesteps."""
        return len(self.tokens)


def read_text(path: str | Path, *, level: Level = "characters") -> Text:
    """Reads a text as it stands (line ends are kept, a byte order mark is not).

    Args:
        path: a UTF-8 file of any suffix.
        level: what a token is.

    Raises:
        InvalidData: not found, unreadable, not UTF-8, empty, or too short to predict anything.
        InvalidConfig: an unknown level.
    """
    if level not in get_args(Level):
        raise InvalidConfig(f"level must be one of {', '.join(get_args(Level))}, not {level!r}")
    text = _decoded(Path(path))
    if not text:
        raise InvalidData(f"{path}: is empty")
    made = _characters(text) if level == "characters" else _bytes(text)
    if len(made) < FEWEST_TOKENS:
        raise InvalidData(f"{path}: is too short: it has {len(made)} of the {FEWEST_TOKENS} tokens that a text needs")
    return made


def read_tokens(path: str | Path, vocabulary: Vocabulary) -> Text:
    """Reads a text in the tokens of a given vocabulary; raises `InvalidData` as `read_text`, and where one is not in it."""
    text = _decoded(Path(path))
    try:
        tokens = vocabulary.encode(text)
    except ValueError as error:
        raise InvalidData(f"{path}: {error}") from error
    if len(tokens) < FEWEST_TOKENS:
        raise InvalidData(f"{path}: is too short: it has {len(tokens)} of the {FEWEST_TOKENS} tokens that a text needs")
    return Text(np.array(tokens, np.int64), vocabulary)


def _decoded(path: Path) -> str:
    if path.is_dir():
        raise InvalidData(f"{path}: is a directory, not a file")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InvalidData(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InvalidData(f"{path}: is not UTF-8 text: byte {error.start} is {error.object[error.start]:#04x}") from error


def _characters(text: str) -> Text:
    points, tokens = np.unique(np.frombuffer(text.encode("utf-32-le"), np.uint32), return_inverse=True)
    return Text(tokens.astype(np.int64), Vocabulary(tuple(map(chr, points.tolist()))))


def _bytes(text: str) -> Text:
    return Text(np.frombuffer(text.encode(), np.uint8).astype(np.int64), Vocabulary(bytes=True))
