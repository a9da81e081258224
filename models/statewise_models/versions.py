"""The version that a user named on the command line."""

from __future__ import annotations

from pathlib import Path

from statewise.repository import Published, Repository, RepositoryError
from statewise_models.config import InvalidConfig


def published(repository: Path, words: str) -> Published:
    """Returns the version that `words` name (`Repository.named`); raises `InvalidConfig` where they name none."""
    try:
        return Repository(repository).named(words)
    except RepositoryError as error:
        raise InvalidConfig(str(error)) from error
