"""Sessions, their steps, rows and replies: pure transitions over columns; `table` says how."""

from statewise.sessions.digest import Digests, digests
from statewise.sessions.durable import Durable
from statewise.sessions.replies import Kept, Retained, Rings
from statewise.sessions.rows import INITIAL_ROW, PADDING_ROW, RESERVED_ROWS, Rows
from statewise.sessions.steps import NONE
from statewise.sessions.table import RETRY_SECONDS, Admission, Failures, Opening, Sessions

__all__ = [
    "INITIAL_ROW",
    "NONE",
    "PADDING_ROW",
    "RESERVED_ROWS",
    "RETRY_SECONDS",
    "Admission",
    "Digests",
    "Durable",
    "Failures",
    "Kept",
    "Opening",
    "Retained",
    "Rings",
    "Rows",
    "Sessions",
    "digests",
]
