"""docs/training.md tells of the commands as they are: every option, no other, and code that runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from statewise.cli.app import app
from statewise_models.cli import train

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
TASKS = ("forecast", "classify", "tokens")
ROW = re.compile(r"^\| `(--[a-z0-9-]+)` \| ([a-z, ]+) \|", re.MULTILINE)


def options(command) -> set[str]:
    """The options that a command's help shows."""
    return {word for each in command.params if not getattr(each, "hidden", False) for word in each.opts if word.startswith("--")}


def offered() -> dict[str, set[str]]:
    """Each option of the training commands, and the commands that have it."""
    commands = typer.main.get_command(train).commands
    having = [(option, task) for task in TASKS for option in options(commands[task])]
    return {option: {task for task, name in ((t, o) for o, t in having) if name == option} for option, _ in having}


def test_the_tables_name_every_option_with_its_tasks():
    """An option added, renamed or dropped must be in the page's tables, beside the commands that take it."""
    told = {option: set(tasks.split(", ")) for option, tasks in ROW.findall(PAGE)}
    assert told == offered()
    assert len(ROW.findall(PAGE)) == len(told)


def test_the_page_names_no_option_that_does_not_exist():
    """Nobody types an option from the page and is told that there is none."""
    commands = typer.main.get_command(app).commands.values()
    real = (
        {word for command in commands for each in command.params for word in each.opts}
        | set(offered())
        | {"--help", "--bidirectional"}
    )
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", PAGE)) <= real


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL), ids=["gestures", "interface"])
def test_the_pages_code_runs(block, tmp_path):
    """What is copied from the page works as it stands."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", block], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("task", TASKS)
def test_the_pages_commands_are_accepted(task):
    """Every `statewise train` of the page is parsed by the command that it calls, its required options given."""
    lines = re.findall(rf"^statewise train {task} (.*)$", PAGE, re.MULTILINE)
    assert lines
    for line in lines:
        typer.main.get_command(train).commands[task].make_context(task, line.split())


def test_the_pages_files_and_links_exist():
    """A link leads somewhere."""
    for target in re.findall(r"\]\(([^)#:]+)\)", PAGE):
        assert (ROOT / "docs" / target).exists(), target
