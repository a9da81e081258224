"""Train a model on a file of yours: `train forecast`, `train classify`, `train tokens`.

`statewise train` takes a file and leaves a model to serve. Nothing heavy is imported before a command runs, so help is instant.
`options` holds what the commands share, `run` the road that each takes: settings → data → training → export → summary.
"""

from __future__ import annotations

import typer

from statewise_models.cli.classify import classify
from statewise_models.cli.forecast import forecast
from statewise_models.cli.tokens import tokens

__all__ = ["train"]

train = typer.Typer(
    add_completion=False,
    help="Train a recurrent model on a file of yours and put it into the repository, ready to be served.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
for command in (forecast, classify, tokens):
    train.command(no_args_is_help=True)(command)
