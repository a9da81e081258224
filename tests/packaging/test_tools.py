"""What tests need from the system: on a developer's machine a want is told, in CI it is a failure."""

import subprocess
from pathlib import Path

import pytest

from builders.tools import tool

ROOT = Path(__file__).parents[2]


def test_a_program_that_is_there_is_found(tmp_path):
    """The test gets its path."""
    program = tmp_path / "promtool"
    program.touch(0o755)
    assert tool("promtool", {"PATH": str(tmp_path)}) == str(program)


def test_a_missing_program_skips_and_says_what_to_do(tmp_path):
    """The line names the program and what brings it."""
    with pytest.raises(pytest.skip.Exception, match="promtool is not installed: run scripts/install-system-tools"):
        tool("promtool", {"PATH": str(tmp_path)})


def test_a_missing_program_fails_in_ci(tmp_path):
    """CI never passes by not looking."""
    with pytest.raises(pytest.fail.Exception, match="promtool is not installed"):
        tool("promtool", {"PATH": str(tmp_path), "CI": "1"})


def test_ci_says_that_it_is_ci():
    """The script of CI sets the variable before it runs the targets."""
    assert (ROOT / ".ci" / "run").read_text().index("export CI=1") < (ROOT / ".ci" / "run").read_text().index("\nmake ")


def test_installing_tools_twice_does_nothing(tmp_path):
    """Where the tool is there, the script is silent and needs no network and no root."""
    for program in ("prometheus", "promtool", "redis-server", "node", "npm", "kubectl", "chromium"):
        (tmp_path / program).touch(0o755)
    command = ["/bin/bash", str(ROOT / "scripts" / "install-system-tools")]
    done = subprocess.run(command, env={"PATH": str(tmp_path)}, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
