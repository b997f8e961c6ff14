"""``python -m diffmath lab``."""

import webbrowser

from typer.testing import CliRunner

from diffmath.cli import app


def test_the_command_writes_the_page_and_opens_it(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    result = CliRunner().invoke(app, ["lab", "--out", str(tmp_path / "my.html"), "--open"])
    assert result.exit_code == 0
    assert opened == [(tmp_path / "my.html").as_uri()]
    html = (tmp_path / "my.html").read_text()
    assert html.startswith("<!doctype html>")
    assert "<!-- program" not in html
    assert 6e6 < len(html) < 12e6


def test_other_endings_are_refused(tmp_path):
    result = CliRunner().invoke(app, ["lab", "--out", str(tmp_path / "lab.txt")])
    assert result.exit_code == 2
    assert "--out" in result.output
