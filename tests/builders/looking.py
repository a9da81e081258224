"""A page of the console as a real browser shows it, with all that it asks for and complains of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from playwright.sync_api import BrowserContext, Page

PICTURES = Path(__file__).parents[2] / "var" / "console"
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
MARKED = '<img src="x" onerror="document.title=1"><b>left</b>'
"""A name that a page must not take for markup."""
PATIENCE = 20_000  # milliseconds


class Seen:
    """One page of a browser; those that ask for nothing special share what the browser keeps.

    Attributes:
        complaints: errors and warnings of the page.
        strangers: addresses that it asked for and that are not the console's.
    """

    def __init__(self, browser: BrowserContext, base: str, path: str) -> None:
        self.complaints: list[str] = []
        self.strangers: list[str] = []
        self.page: Page = browser.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.page.on("console", lambda message: message.type in ("error", "warning") and self.complaints.append(message.text))
        self.page.on("pageerror", lambda problem: self.complaints.append(str(problem)))
        self.page.on("request", lambda request: self._asked(request.url, base))
        self.page.on("websocket", lambda socket: self._asked(socket.url, base))
        self.page.goto(base + path)
        self.page.get_by_role("status").get_by_text("ready").wait_for()

    def turn(self, path: str, heading: str) -> None:
        """Goes to another page of the console."""
        self.page.evaluate("path => { location.hash = path; }", path)
        self.page.get_by_role("heading", level=1, name=heading).wait_for()

    def play(self, rate: str = "7") -> None:
        """Plays the series to its end."""
        self.page.get_by_label("Timesteps a second").fill(rate)
        self.page.get_by_role("button", name="Play", exact=True).click()
        self.page.get_by_role("button", name="Play again").wait_for()

    def numbers(self) -> dict[str, NDArray[np.float64]]:
        """Returns what the page computed, by the columns of the file that it saves."""
        with self.page.expect_download() as saved:
            self.page.get_by_role("button", name="Save numbers").click()
        header, *rows = Path(saved.value.path()).read_text().splitlines()
        values = np.array([[float(cell or "nan") for cell in row.split(",")] for row in rows])
        return dict(zip(header.split(","), values.T, strict=True))

    def too_wide(self) -> int:
        """Returns by how many pixels the page is wider than its window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))

    def keep(self, name: str) -> None:
        """Keeps a picture of what is seen, for people."""
        PICTURES.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=PICTURES / f"{name}.png")

    def close(self) -> None:
        """Leaves the page."""
        self.page.close()

    def _asked(self, url: str, base: str) -> None:
        mine = (base, base.replace("http://", "ws://"), "blob:", "data:")
        if not url.startswith(mine):
            self.strangers.append(url)
