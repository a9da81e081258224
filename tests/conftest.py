"""What tests of every folder may ask for."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from builders.tools import tool


@pytest.fixture(scope="session")
def needs_tool() -> Callable[[str], str]:
    """Returns the path of a program, such as `promtool`; without it the test is skipped, and in CI it fails."""
    return lambda name: tool(name, os.environ)
