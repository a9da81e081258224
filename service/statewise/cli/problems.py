"""What goes wrong at the command line by the user's own doing; `statewise.cli.app` turns it into one line and status 2."""


class BadInput(Exception):
    """What the user gave cannot be used; the message names the file, row and column, or the option."""
