"""The words that name a published version on the command line: `demand@7`, or `demand` for the one that new sessions get."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from statewise.repository import Repository, RepositoryError
from statewise_models.config import InvalidConfig


@dataclass(frozen=True, slots=True)
class Published:
    """A version in a repository.

    Attributes:
        model, version: its name and number.
        path: its ONNX file.
    """

    model: str
    version: int
    path: Path

    def __str__(self) -> str:
        """Returns the words that name it."""
        return f"{self.model}@{self.version}"


def published(repository: Path, words: str) -> Published:
    """Returns the version that `MODEL@VERSION` names; of `MODEL` alone, the one that new sessions get.

    Raises:
        InvalidConfig: there is no such model or version, or the words name none.
    """
    model, mark, number = words.partition("@")
    place = Repository(repository)
    if mark and not number.isdecimal():
        raise InvalidConfig(f"a version is named MODEL or MODEL@NUMBER, not {words!r}")
    try:
        version = int(number) if mark else place.default(model)
        return Published(model, version, place.path(model, version))
    except RepositoryError as error:
        raise InvalidConfig(str(error)) from error
