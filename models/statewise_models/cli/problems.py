"""How a command of this package ends when it cannot do what it was asked: one line on standard error and a status.

2: what the user gave cannot be used. 1: trouble of the machine. 130: Ctrl-C.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer

from statewise.repository import RepositoryError
from statewise_models.config import InvalidConfig

MISTAKE, TROUBLE, INTERRUPTED = 2, 1, 130


@contextmanager
def told(*troubles: type[Exception]) -> Iterator[None]:
    """Turns mistakes and troubles, `troubles` among them, into one line and an exit status."""
    from statewise_models.data.policy import InvalidData

    try:
        yield
    except KeyboardInterrupt:
        end("stopped", INTERRUPTED)
    except (InvalidData, InvalidConfig) as error:
        end(str(error), MISTAKE)
    except RepositoryError as error:
        end(str(error), TROUBLE)
    except troubles as error:
        end(str(error), TROUBLE)
    except OSError as error:
        end(f"{error.filename}: {error.strerror}" if error.filename else str(error), TROUBLE)


def end(message: str, status: int) -> NoReturn:
    """Says why, in one line, and ends the command."""
    typer.echo(f"error: {' '.join(message.split())}", err=True)
    raise typer.Exit(status)
