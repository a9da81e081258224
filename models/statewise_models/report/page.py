"""Title, tiles and sections → one HTML page: styles and pictures inside, no script, nothing fetched, every name escaped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from statewise_models.report.pictures import svg
from statewise_models.sheet import Sheet

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure that is seen first: its name, its value, and what it is to be held against."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Section:
    """A part of the page; what is empty is not shown.

    Attributes:
        title: its heading.
        note: a paragraph below the heading.
        figures: pictures side by side, by name.
        sheets: tables, one below the other.
        pairs: names and values.
        text: shown letter by letter: a command, a sample.
    """

    title: str
    note: str = ""
    figures: tuple[tuple[str, Figure], ...] = ()
    sheets: tuple[Sheet, ...] = ()
    pairs: Pairs = ()
    text: str = ""


def page(title: str, subtitle: str, tiles: Sequence[Tile], sections: Sequence[Section]) -> str:
    """Returns the page."""
    drawn = [(section, [svg(figure, name) for name, figure in section.figures]) for section in sections]
    return _template().render(title=title, subtitle=subtitle, tiles=tiles, sections=drawn)


@cache
def _template() -> Template:
    loader = PackageLoader("statewise_models.report", "")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    return environment.get_template("page.html.jinja")
