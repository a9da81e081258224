"""The command line, called in this process, and a server process for the commands that need one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from builders.command import Command, Ended
from builders.served import Running, start
from builders.tiny import fill
from statewise.cli import main


@pytest.fixture(scope="module")
def tiny_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`demand`, `label` and `text`, one version each."""
    root = tmp_path_factory.mktemp("tiny")
    fill(root)
    return root


@pytest.fixture(scope="module")
def tiny_server(tiny_repository: Path) -> Iterator[Running]:
    """A server of them."""
    running = start(tiny_repository)
    yield running
    running.stop()


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs `statewise` with arguments."""

    def run(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["statewise", *map(str, arguments)])
        status: object = 0
        try:
            main()
        except SystemExit as ended:
            status = ended.code or 0
        captured = capsys.readouterr()
        if isinstance(status, str):
            return Ended(1, captured.out, f"{captured.err}{status}\n")
        return Ended(int(str(status)), captured.out, captured.err)

    return run
