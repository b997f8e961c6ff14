"""The lab as wide as a phone and as a desk, light and dark; LAB_SCREENSHOTS names a folder for pictures of it."""

import os
from pathlib import Path

import pytest

from tests.lab.conftest import Watched

PAGES = ["forward", "backward", "exact", "flow", "stability"]


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (360, "dark")])
def test_every_page_fits(browser, lab_file, tmp_path, width, theme):
    """Nothing is wider than the screen, and every control has a name; what was drawn is no empty canvas."""
    lab = Watched(browser, lab_file.as_uri(), width, 900, color_scheme=theme)
    folder = Path(os.environ.get("LAB_SCREENSHOTS", tmp_path))
    background = lab.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, background[4:-1].split(","))) > 384) == (theme == "light")
    for name in PAGES:
        lab.open(f"backward?steps=5&count={9 if theme == 'light' else 1}" if name == "backward" else name)
        if name == "backward":
            lab.page.get_by_role("button", name="Run").click()
            lab.page.wait_for_function("document.querySelector('#page-backward dl').textContent.endsWith('5 of 5')")
        assert lab.page.evaluate("document.documentElement.scrollWidth") <= width
        nameless = "[...document.querySelectorAll('section:not([hidden]) :is(input:not([type=hidden]), select)')]"
        assert lab.page.evaluate(f"{nameless}.filter(one => !one.labels.length).length") == 0
        empty = """[...document.querySelectorAll('section:not([hidden]) canvas')].filter(canvas => {
            const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
            return data.every(value => value === 0);
        }).length"""
        assert lab.page.evaluate(empty) == 0
        lab.page.screenshot(path=folder / f"{name}-{width}-{theme}.png", full_page=True)
    assert lab.messages == []
    lab.page.close()


def test_the_button_changes_the_theme(lab):
    background = "getComputedStyle(document.body).backgroundColor"
    before = lab.page.evaluate(background)
    lab.page.get_by_role("button", name="Light or dark").click()
    assert lab.page.evaluate(background) != before
    lab.page.get_by_role("button", name="Light or dark").click()
    assert lab.page.evaluate(background) == before


def test_what_a_hash_cannot_mean_is_ignored(lab):
    lab.open("flow?t=99&norm=nonsense&initial=bump&unknown=1&infinite=perhaps")
    state = lab.page.evaluate("lab.view().state")
    assert (state["t"], state["norm"], state["initial"], state["infinite"]) == (-3, "gradient", "bump", False)
