"""matplotlib's figures → SVG that stands inside a page: it takes the page's colours, light or dark, and names no other file."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from markupsafe import Markup

from statewise_models.plots import FAINT, MODEL, QUIET, TRUTH

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = {"#000000": "var(--ink)", TRUTH: "var(--truth)", MODEL: "var(--accent)", QUIET: "var(--quiet)", FAINT: "var(--rule)"}
LEFT_OUT = {"metadata", "style"}  # the drawing program's name, and styles that would hold for the whole page


def svg(figure: Figure, name: str) -> Markup:
    """Returns a figure as an `<svg>` element called `name`."""
    from matplotlib import rc_context

    drawn = io.BytesIO()
    with rc_context({"svg.fonttype": "path", "svg.hashsalt": name}):
        figure.savefig(drawn, format="svg", transparent=True, metadata={"Date": None})
    root = ElementTree.fromstring(drawn.getvalue())  # noqa: S314 (it was drawn two lines above)
    _adapt(root, name)
    for size in ("width", "height"):
        del root.attrib[size]
    root.attrib |= {"role": "img", "aria-label": name}
    return Markup(ElementTree.tostring(root, encoding="unicode"))  # noqa: S704 (every text in it was escaped as XML)


def _adapt(element: ElementTree.Element, name: str) -> None:
    """Strips namespaces, which HTML does not need; gives ids the picture's name; puts the page's colours for the picture's."""
    element.tag = _local(element.tag)
    for key, value in list(element.attrib.items()):
        del element.attrib[key]
        element.attrib[_local(key)] = _named(_local(key), _coloured(value), name)
    for child in list(element):
        if _local(child.tag) in LEFT_OUT:
            element.remove(child)
        else:
            _adapt(child, name)


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def _named(key: str, value: str, name: str) -> str:
    """Makes an id, or what refers to one, this picture's own: several pictures share a page."""
    if key == "id":
        return f"{name}-{value}"
    if key == "href" and value.startswith("#"):
        return f"#{name}-{value[1:]}"
    return re.sub(r"url\(#", f"url(#{name}-", value)


def _coloured(value: str) -> str:
    return re.sub("#[0-9a-f]{6}", lambda found: COLOURS.get(found[0], found[0]), value)
