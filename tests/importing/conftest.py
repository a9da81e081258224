"""The command line, as the tests of commands call it."""

from cli.conftest import command

__all__ = ["command"]
