"""A page of HTML as a test sees it."""

from __future__ import annotations

from html.parser import HTMLParser

REFERS = ("src", "href", "srcset", "data", "action", "poster", "background", "formaction", "cite", "ping", "xlink:href")
FETCHES = ("script", "link", "iframe", "object", "embed", "base", "form", "audio", "video", "source", "img")


class Page(HTMLParser):
    """Its elements, its text, and what it refers to."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.tags: set[str] = set()
        self.references: list[str] = []
        self.events: list[str] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Notes an element."""
        self.tags.add(tag)
        self.references += [value or "" for name, value in attrs if name in REFERS]
        self.events += [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        """Notes what stands between elements."""
        self.words.append(data)

    @property
    def text(self) -> str:
        """All text, styles included."""
        return "\n".join(self.words)

    def outside(self) -> list[str]:
        """Whatever would make a browser ask for something else than this page."""
        fetched = [tag for tag in FETCHES if tag in self.tags]
        strange = [words for words in self.references if not words.startswith(("#", "data:image/png;base64,"))]
        styled = [word for word in ("http:", "https:", "//cdn", "@import", "url(http", "javascript:") if word in self.html]
        return fetched + strange + styled + self.events
