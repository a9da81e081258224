"""A server with a console over small models of every task, and a real browser that looks at it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, sync_playwright

from builders.looking import DESKTOP, MARKED, Seen
from builders.remade import remade
from builders.served import Running, start
from builders.tiny import fill
from statewise.repository import REPORT_FILE

REPORT = "<!DOCTYPE html><title>r</title><h1>The report of {}</h1>"


@pytest.fixture(scope="module")
def console_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`demand`, `label`, `text`; `plain` of no task; `marked`, whose names are markup; `broken`, refused for a field named so."""
    root = tmp_path_factory.mktemp("console")
    fill(root)

    def plain(told: dict[str, Any]) -> None:
        told["task"] = None
        told["inputs"][0].update(features=[], missing=[])
        told["outputs"][0]["features"] = []

    def marked(told: dict[str, Any]) -> None:
        told["inputs"][0]["features"][0] = MARKED
        told["outputs"][0]["features"] = [MARKED, "<script>document.title = 2</script>"]
        told["about"]["author"] = MARKED

    remade(root, "label", "plain", plain)
    remade(root, "label", "marked", marked)
    remade(root, "label", "broken", lambda told: told.update({MARKED: 1}))
    (root / "demand" / "1" / REPORT_FILE).write_text(REPORT.format("demand"))
    (root / "label" / "1" / REPORT_FILE).write_text(
        REPORT.format("label") + "<script>document.querySelector('h1').remove()</script>"
    )
    return root


@pytest.fixture(scope="module")
def console(console_repository: Path) -> Iterator[Running]:
    """A server of them, in a process of its own."""
    running = start(console_repository, "--console-listen", "127.0.0.1:0")
    yield running
    running.stop()


@pytest.fixture(scope="module")
def chromium(needs_tool: Callable[[str], str]) -> Iterator[Browser]:
    """Debian's Chromium, without a window. Its sandbox does not work for root.

    It is closed with the module: its driver has an event loop, beside which no asynchronous test could run.
    """
    path = needs_tool("chromium")
    with sync_playwright() as playwright:
        flags = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=path, args=[*flags, "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def desktop(chromium: Browser) -> BrowserContext:
    """A window on a desk."""
    return chromium.new_context(viewport=DESKTOP, reduced_motion="reduce")


@pytest.fixture
def look(chromium: Browser, desktop: BrowserContext, console: Running) -> Iterator[Callable[..., Seen]]:
    """Opens pages of the console; at the end of the test none of them may have complained, or asked anybody else."""
    opened: list[Seen] = []

    def open_page(path: str = "", **options: Any) -> Seen:
        context = chromium.new_context(**{"viewport": DESKTOP, "reduced_motion": "reduce", **options}) if options else desktop
        opened.append(Seen(context, console.console, path))
        return opened[-1]

    yield open_page
    for seen in opened:
        seen.close()
        assert seen.complaints == []
        assert seen.strangers == []
