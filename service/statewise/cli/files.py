"""Files that commands read and write, and the options by which a file's columns are told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TextIO

import typer

from statewise.reading.problems import BadInput
from statewise.spec import Vocabulary

Data = Annotated[Path, typer.Option(help="A CSV with the model's columns; a text file for a token model.")]
Time = Annotated[str, typer.Option(help="The time column, for a model with a calendar.")]
Column = Annotated[
    list[str] | None, typer.Option(help="FEATURE=COLUMN, where the file calls a feature otherwise. May be given again.")
]


def renamed(pairs: list[str]) -> dict[str, str]:
    """Reads `--column`: feature → column; raises `BadInput`."""
    for pair in pairs:
        if not all(pair.partition("=")):
            raise BadInput(f"--column takes FEATURE=COLUMN, not {pair!r}")
    return {feature: name for feature, _, name in (pair.partition("=") for pair in pairs)}


def opened(data: Path) -> TextIO:
    """Opens a text file to read; raises `BadInput`."""
    try:
        return data.open(newline="", encoding="utf-8")
    except OSError as error:
        raise BadInput(f"cannot read {data}: {error.strerror}") from error


def text_of(source: TextIO, data: Path) -> str:
    """Returns all of a text file; raises `BadInput`."""
    try:
        return source.read()
    except UnicodeDecodeError as error:
        raise BadInput(f"{data} is not UTF-8 text: {error.reason} at byte {error.start}") from error


def tokens_of(text: str, vocabulary: Vocabulary) -> list[int]:
    """Returns the tokens of a text; raises `BadInput` naming the first character that a model does not know."""
    try:
        return vocabulary.encode(text)
    except ValueError as error:
        raise BadInput(str(error)) from error


@contextmanager
def written(out: Path) -> Iterator[Path]:
    """Yields the path to write; the file bears its name only once all of it is there. Raises `BadInput` if it cannot be made."""
    part = out.with_name(f".{out.name}.part")
    try:
        part.open("wb").close()
    except OSError as error:
        raise BadInput(f"cannot write {out}: {error.strerror}") from error
    try:
        yield part
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)
