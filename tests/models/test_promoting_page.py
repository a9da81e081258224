"""docs/promoting.md tells of `statewise evaluate` as it is, and its commands are accepted."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from statewise.cli.app import app
from statewise_models.cli import train
from statewise_models.cli.evaluate import app as evaluate

PAGE = (Path(__file__).parents[2] / "docs" / "promoting.md").read_text(encoding="utf-8")
COMMANDS = sorted(set(re.findall(r"^statewise (.*)$", PAGE, re.MULTILINE)))


def options(command) -> set[str]:
    """The options that a command's help shows."""
    return {word for each in command.params if not getattr(each, "hidden", False) for word in each.opts if word.startswith("--")}


def test_the_table_names_every_option_of_evaluate():
    """An option added, renamed or dropped must be in the page's table."""
    told = {option for row in re.findall(r"^\| (`--.*?) \|", PAGE, re.MULTILINE) for option in re.findall(r"`(--[a-z-]+)`", row)}
    assert told == options(typer.main.get_command(evaluate))


@pytest.mark.parametrize("line", COMMANDS)
def test_the_pages_commands_are_accepted(line):
    """Every command of the page is parsed by the one that it calls."""
    name, *words = shlex.split(line.replace("$new", "8"))
    if name == "train":
        command, words = typer.main.get_command(train).commands[words[0]], words[1:]
    else:
        command = typer.main.get_command(evaluate) if name == "evaluate" else typer.main.get_command(app).commands[name]
    command.make_context(name, words)


def test_the_page_has_commands():
    """The test above is not idle."""
    assert {line.split()[0] for line in COMMANDS} == {"train", "evaluate", "canary", "promote", "rollback"}
