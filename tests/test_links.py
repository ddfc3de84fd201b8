"""Links between the pages lead to files and headings that exist, and so do pictures."""

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", "CONTRIBUTING.md", "SECURITY.md"]
PAGES += sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))
FENCED = re.compile(r"^( *)(```+).*?^\1\2 *$", re.MULTILINE | re.DOTALL)
IN_LINE = re.compile(r"(`+).*?\1")
LINK = re.compile(r"\]\(([^()\s]+)[^()]*\)")
HEADING = re.compile(r"^#{1,6} +(.+?)[ #]*$", re.MULTILINE)
ELSEWHERE = re.compile(r"[a-z]+:")


def anchors(text):
    """Return those that GitHub gives to the headings of a page."""
    found, counts = set(), Counter()
    for heading in HEADING.findall(FENCED.sub("", text)):
        shown = re.sub(r"\[(.*?)\]\(.*?\)", r"\1", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", shown).replace(" ", "-")
        found.add(f"{anchor}-{counts[anchor]}" if counts[anchor] else anchor)
        counts[anchor] += 1
    return found


def broken(page):
    """Return the links of a page that lead nowhere."""
    found = []
    for link in LINK.findall(IN_LINE.sub("", FENCED.sub("", page.read_text("utf-8")))):
        if ELSEWHERE.match(link):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text("utf-8"))):
            found.append(link)
    return found


@pytest.mark.skipif(not (ROOT / "accelnn").exists(), reason="not all of the pages are here")
@pytest.mark.parametrize("page", PAGES)
def test_every_link_of_a_page_leads_somewhere(page):
    assert broken(ROOT / page) == []


def test_a_link_that_leads_nowhere_is_found(tmp_path):
    (tmp_path / "other.md").write_text(
        "# One\n\n## What `f` keeps, and *why* (in a [link](x.md))\n\n## One\n\n"
        "```sh\n# in a shell\n```\n\n## snake_case - a part\n"
    )
    good = ["other.md", "other.md#one", "other.md#one-1", "other.md#snake_case---a-part", "#here"]
    good += ["other.md#what-f-keeps-and-why-in-a-link", "https://example.org/#there"]
    bad = ["none.md", "#there", "other.md#One", "other.md#one-2", "other.md#in-a-shell", "none.png"]
    page = tmp_path / "page.md"
    page.write_text(
        "# Here\n\n"
        + "\n".join(f"[a\nlink]({link})" for link in good)
        + "`x[0](1)`\n\n  ```python\n  x[0](1)\n  ```\n\n"
        + " ".join(f"![a picture]({link})" for link in bad)
    )
    assert broken(page) == bad
