"""Links between the pages lead somewhere: a reader never ends at a file or a heading that is not there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def prose(page: Path) -> str:
    """Returns a page without its code."""
    return re.sub(
        r"```.*?```|`[^`\n]*`", lambda code: code[0].strip("`") if "\n" not in code[0] else "", page.read_text(), flags=re.S
    )


def anchors(page: Path) -> set[str]:
    """Returns what GitHub makes of the headings of a page."""
    return {re.sub(r"[^\w\- ]", "", told.lower()).replace(" ", "-") for told in re.findall(r"^#+ (.+)$", prose(page), re.M)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_within_the_pages_leads_somewhere(page):
    """The file is there, and so is the heading that a link names."""
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if not re.match(r"[a-z]+:", link):
            path, _, heading = link.partition("#")
            target = page.parent / path if path else page
            assert target.exists(), link
            assert not heading or heading in anchors(target), link
