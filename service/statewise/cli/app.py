"""All commands under one roof. Those of other packages come through the entry-point group `statewise.commands`."""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from statewise.cli.importing import export_triton, import_
from statewise.cli.mounted import MountedCommands
from statewise.cli.repository import canary, models, promote, rollback
from statewise.cli.serve import serve
from statewise.cli.stream import stream
from statewise.cli.trace import trace
from statewise.errors import StatewiseError
from statewise.reading.problems import BadInput
from statewise.repository import RepositoryError

EXIT_TROUBLE, EXIT_BAD_INPUT = 1, 2

app = typer.Typer(
    name="statewise",
    cls=MountedCommands,
    help="Train recurrent models, serve them one timestep at a time, and stream to them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"statewise {version('statewise')}")
        raise typer.Exit


for command in (serve, models, promote, rollback, canary, stream, trace):
    app.command()(command)
app.command("import")(import_)
app.command("export-triton")(export_triton)


@app.callback()
def _options(
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    pass


def run() -> None:
    """Runs the command line. A user's mistake ends with status 2, trouble around it with 1, each with one line."""
    try:
        app()
    except BadInput as wrong:
        typer.echo(f"error: {wrong}", err=True)
        sys.exit(EXIT_BAD_INPUT)
    except (RepositoryError, StatewiseError, OSError) as problem:
        typer.echo(f"error: {problem}", err=True)
        sys.exit(EXIT_TROUBLE)
