"""Show how far back models remember: gradients through time on your data, and the recall of a bit after a delay.

`gradients` measures, `windows` brings windows of a user's file to it, `recall` is the task, `picture` draws, and `command` is
`statewise memory`. Nothing heavy is imported before the command runs.
"""

from __future__ import annotations

import typer

from statewise_models.memory.command import memory

__all__ = ["command"]

command = typer.Typer(rich_markup_mode="markdown", pretty_exceptions_enable=False, add_completion=False)
command.command("memory")(memory)
