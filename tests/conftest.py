"""What tests of every folder may ask for."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator

import pytest
import structlog
from hypothesis import settings

from builders.tools import tool

# `make test` draws the same examples every time; `make fuzz` draws others each time, and a hundred times as many. A slow machine
# is no error.
settings.register_profile("test", deadline=None, derandomize=True, max_examples=100)
settings.register_profile("fuzz", deadline=None, max_examples=10_000, print_blob=True)
settings.load_profile("test")

# A shell's background job ignores Ctrl-C, and so would every process that a test starts to see what Ctrl-C does to it.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips the tests that need a GPU where there is none; `make gpu-check` fails instead."""
    if os.environ.get("STATEWISE_GPU") or shutil.which("nvidia-smi"):
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip("needs an NVIDIA GPU: make gpu-check"))


@pytest.fixture(scope="session", params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def provider(request: pytest.FixtureRequest) -> str:
    """What runs the models: what holds of one holds of the other."""
    return str(request.param)


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    """A command that a test runs in this process sets up the log; the next test finds it as it was."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def needs_tool() -> Callable[[str], str]:
    """Returns the path of a program, such as `promtool`; without it the test is skipped, and in CI it fails."""
    return lambda name: tool(name, os.environ)
