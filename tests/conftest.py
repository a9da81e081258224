"""What tests of every folder may ask for."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

import pytest

from builders.tools import tool


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips the tests that need a GPU where there is none; `make gpu-check` fails instead."""
    if os.environ.get("STATEWISE_GPU") or shutil.which("nvidia-smi"):
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip("needs an NVIDIA GPU: make gpu-check"))


@pytest.fixture(scope="session")
def needs_tool() -> Callable[[str], str]:
    """Returns the path of a program, such as `promtool`; without it the test is skipped, and in CI it fails."""
    return lambda name: tool(name, os.environ)
