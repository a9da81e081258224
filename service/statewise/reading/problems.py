"""What goes wrong by the user's own doing: a command ends with one line and status 2, the console says the line."""


class BadInput(Exception):
    """What the user gave cannot be used; the message names the file, row and column, or the option."""
