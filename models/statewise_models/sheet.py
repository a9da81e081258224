"""A small table in words, which the terminal, a report and a test can each show in their own way."""

from __future__ import annotations

from dataclasses import dataclass

Row = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table whose cells are ready to be read.

    Attributes:
        title: what it shows.
        names: headings of the first columns, which hold words.
        numbers: headings of the others, which hold numbers.
        groups: rows that belong together, group by group; a row has a cell for each heading.
        strong: rows whose last name is this stand out.
    """

    title: str
    names: Row
    numbers: Row
    groups: tuple[tuple[Row, ...], ...]
    strong: str | None = None

    @property
    def headings(self) -> Row:
        """All headings, in order."""
        return self.names + self.numbers

    @property
    def rows(self) -> tuple[Row, ...]:
        """The rows of all groups."""
        return tuple(row for group in self.groups for row in group)

    def stands_out(self, row: Row) -> bool:
        """Whether a row is one that the reader looks for."""
        return bool(self.names) and row[len(self.names) - 1] == self.strong
