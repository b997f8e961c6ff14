"""The lab in headless Chromium, to which only this machine has a name; skipped where there is none."""

import os
import shutil

import pytest

from diffmath.lab import write_page

NOWHERE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1"


class Watched:
    """A page of the browser, with all that it asked for and all that it said."""

    def __init__(self, browser, address, width=1280, height=900, **options):
        self.page = browser.new_page(viewport={"width": width, "height": height}, **options)
        self.page.set_default_timeout(120_000)  # milliseconds; others may be busy here
        self.requests, self.messages = [], []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self.address = address
        self.page.goto(address)

    def open(self, place):
        """Go to a place within the page, such as "flow?t=-3", and wait until it is drawn."""
        self.page.evaluate(
            """place => new Promise(done => {
                if (location.hash === `#${place}`) done();
                addEventListener("hashchange", () => done(), { once: true });
                location.hash = place;
            })""",
            place,
        )

    def python(self):
        """The lines of Python that the page shows."""
        return self.page.locator("section:not([hidden]) details code").text_content()

    def numbers(self):
        """The numbers that the page shows, by name."""
        shown = self.page.locator("section:not([hidden]) dl").evaluate(
            "list => Array.from(list.children, child => child.textContent)"
        )
        return dict(zip(shown[::2], shown[1::2], strict=True))

    def redraw(self, control, value):
        """The milliseconds that the page takes to follow a range, at its quickest of twelve."""
        if os.getloadavg()[0] > 2 * os.cpu_count():
            pytest.skip("others are so busy here that a time says little")
        return self.page.evaluate(
            """([id, value]) => {
                const input = document.getElementById(id);
                const times = [];
                for (let i = 0; i < 12; i++) {
                    input.value = Number(value) + (i % 5) * Number(input.step);
                    const start = performance.now();
                    input.dispatchEvent(new Event("input"));
                    times.push(performance.now() - start);
                }
                return Math.min(...times);
            }""",
            [control, value],
        )


@pytest.fixture(scope="session")
def lab_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("lab") / "lab.html"
    write_page(path)
    return path


@pytest.fixture(scope="session")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("there is no Chromium here")
    with playwright.sync_playwright() as started:
        running = started.chromium.launch(executable_path=chromium, args=["--no-sandbox", NOWHERE])
        yield running
        running.close()


@pytest.fixture(scope="module")
def lab(browser, lab_file):
    """The lab, opened from the disk. At the end it must have asked nobody for anything and have said nothing."""
    watched = Watched(browser, lab_file.as_uri())
    yield watched
    watched.page.close()
    assert watched.requests == [watched.address] or all(url.startswith("blob:") for url in watched.requests[1:])
    assert watched.messages == []
