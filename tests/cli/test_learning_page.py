"""docs/learning.md tells of `statewise trace` as it is."""

import re
from pathlib import Path

import typer

from statewise.cli.app import app

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "learning.md").read_text(encoding="utf-8")
SECTION = PAGE[PAGE.index("## What the cells do") :].partition("\n## ")[0]


def test_the_sections_options_are_the_commands():
    """Every option of the command is told, and no other but those that are said to be of training."""
    (command,) = (each for name, each in typer.main.get_command(app).commands.items() if name == "trace")
    real = {word for each in command.params for word in each.opts if word.startswith("--")}
    told = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", SECTION))
    assert told - {"--feedback", "--hidden", "--epochs"} == real - {"--repository", "--output"}
    for line in re.findall(r"^statewise trace (.*)$", SECTION, re.MULTILINE):
        command.make_context("trace", line.split())


def test_the_sections_links_and_pictures_exist():
    """A link leads somewhere."""
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", SECTION):
        assert (ROOT / "docs" / target).exists(), target
