"""Sheets on the terminal."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table

from statewise_models.sheet import Sheet

SHORT = 8  # characters of a heading that is not worth a second line: its numbers stay whole on a narrow terminal


def table_of(sheet: Sheet) -> Table:
    """Returns a sheet as rich prints it; no name in it is read as markup."""
    table = Table(title=escape(sheet.title))
    for heading in sheet.names:
        table.add_column(escape(heading))
    for heading in sheet.numbers:
        table.add_column(escape(heading), justify="right", no_wrap=len(heading) <= SHORT)
    for group in sheet.groups:
        for row in group:
            table.add_row(*map(escape, row), style="bold" if sheet.stands_out(row) else None)
        table.add_section()
    return table
