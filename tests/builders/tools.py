"""Programs that tests need and PyPI does not bring."""

from __future__ import annotations

import shutil
from collections.abc import Mapping

import pytest


def tool(name: str, environment: Mapping[str, str]) -> str:
    """Returns the path of a program; without it the test is skipped, or fails where the environment says CI."""
    found = shutil.which(name, path=environment.get("PATH", ""))
    told = f"{name} is not installed: run scripts/install-system-tools as root, or put {name} on the PATH"
    if not found and environment.get("CI"):
        pytest.fail(told)
    if not found:
        pytest.skip(told)
    return found
