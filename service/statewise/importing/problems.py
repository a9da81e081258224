"""Why a file is not imported."""


class Refused(Exception):
    """The file cannot be imported as it is told; the message says why, and what would help."""
