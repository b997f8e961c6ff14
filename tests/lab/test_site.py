"""The built site in Chromium: SITE names the folder of its pages, and without one this is skipped."""

import os
from pathlib import Path

import pytest

from tests.lab.conftest import Watched

pytestmark = pytest.mark.skipif("SITE" not in os.environ, reason="SITE does not name a built site")


def test_pages_ask_for_nothing_that_is_missing_and_say_nothing(browser):
    """Every page but listings of sources: its files are there, it asks for nothing else, and its formulas are drawn."""
    site = Path(os.environ["SITE"]).resolve()
    pages = sorted(path for path in site.rglob("*.html") if "_modules" not in path.parts)
    formulas = 0
    assert len(pages) > 30
    watched = Watched(browser, (site / "index.html").as_uri())
    failed = []
    watched.page.on("requestfailed", lambda request: failed.append(request.url))
    for path in pages:
        watched.page.goto(path.as_uri())
        raw = "[...document.querySelectorAll('.math')].filter(one => !one.querySelector('.katex'))"
        assert watched.page.evaluate(f"{raw}.map(one => one.textContent)") == [], path
        assert watched.page.locator(".katex-error").count() == 0, path
        formulas += watched.page.locator(".katex").count()
    assert formulas > 100
    assert failed == []
    assert watched.messages == []
    assert [url for url in watched.requests if not url.startswith(("file:", "blob:", "data:"))] == []


def test_the_site_links_to_the_lab(browser):
    site = Path(os.environ["SITE"]).resolve()
    watched = Watched(browser, (site / "lab.html").as_uri())
    watched.page.get_by_role("link", name="Open the lab").click()
    watched.page.wait_for_function("window.lab")
    assert watched.page.title() == "Forward – diffmath lab"
