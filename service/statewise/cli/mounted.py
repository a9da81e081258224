"""Commands of other packages, through the entry-point group `statewise.commands`: listed by name, imported when they are run.

So `statewise serve` runs where the training extra is not installed, and `statewise --help` does not wait for torch. What a
mounted command is for is the first line of its module's docstring, which is read from the source.
"""

from __future__ import annotations

import ast
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

GROUP = "statewise.commands"


class MountedCommands(TyperGroup):
    """The commands of this package, and those that entry points name; these are `typer.Typer`s of one command or several."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Returns the names of all commands; nothing is imported."""
        return [*super().list_commands(ctx), *_mounted()]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Returns a command as the list of commands shows it."""
        if cmd_name not in _mounted():
            return super().get_command(ctx, cmd_name)
        return TyperCommand(cmd_name, help=_purpose(_mounted()[cmd_name]))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Returns the command to run and what is left of the arguments; here a mounted command is imported."""
        entry = _mounted().get(args[0])
        if entry is None:
            return super().resolve_command(ctx, args)
        return args[0], typer.main.get_command(entry.load()), args[1:]


def _mounted() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def _purpose(entry: EntryPoint) -> str:
    """Reads the docstring where it stands: to find a module inside a package would import the package."""
    package, *inside = entry.module.split(".")
    found = find_spec(package)
    places = [Path(folder, *inside) for folder in (found and found.submodule_search_locations) or ()]
    files = [file for place in places for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()]
    source = files[0].read_text(encoding="utf-8") if files else ""
    return (ast.get_docstring(ast.parse(source)) or entry.value).partition("\n")[0]
