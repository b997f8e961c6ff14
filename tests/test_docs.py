"""The site's sources: each page leads on, numbers come from the build, and commands have the options that they use."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from diffmath.__main__ import app
from paper_figures.__main__ import main

DOCS = Path(__file__).parent.parent / "docs"
PAGES = [p for p in sorted([*DOCS.glob("**/*.md"), *DOCS.glob("**/*.rst")]) if p.relative_to(DOCS).parts[0][0] != "_"]


def test_each_page_says_what_to_read_next():
    assert len(PAGES) > 40
    silent = [page.name for page in PAGES if not re.search(r"\*\*Read next:\*\*|## Where to begin", page.read_text())]
    assert silent == []


def typed_numbers(text):
    """Decimals, powers of ten, thousands and percentages outside code, formulas, tables from results, and links."""
    for hidden in (
        r"```.*?```",
        r"{{.*?}}",
        r"`[^`]*`",
        r"\$\$.*?\$\$",
        r"\$[^$]*\$",
        r"\]\([^)]*\)",
        "95 % confidence",
    ):
        text = re.sub(hidden, "", text, flags=re.DOTALL)
    return re.findall(r"\d+[.,]\d+|\d+e[+-]?\d+|\d+ %", text)


@pytest.mark.parametrize("page", sorted((DOCS / "evidence").glob("*.md")), ids=lambda page: page.stem)
def test_numbers_come_from_the_build(page):
    """Results change with the weights and the code; a number that somebody typed does not."""
    assert typed_numbers(page.read_text()) == []


def test_typed_numbers_are_found():
    assert typed_numbers("0.7 of 1,000 `0.5` $0.1$ {{ x }} 8 % and 1e-7") == ["0.7", "1,000", "8 %", "1e-7"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_formula_waits_for_a_number(page):
    """The build puts nothing into a formula: it would print the name of the number."""
    text = re.sub(r"```.*?```|`[^`]*`", "", page.read_text(), flags=re.DOTALL)
    assert [formula for formula in re.findall(r"\$\$.*?\$\$|\$[^$]*\$", text, flags=re.DOTALL) if "{{" in formula] == []


def commands():
    """The lines of shell in the pages and the README that run the package."""
    for page in [*PAGES, DOCS.parent / "README.md"]:
        for block in re.findall(r"```sh\n(.*?)```", page.read_text(), flags=re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                if found := re.search(r"-m (diffmath|paper_figures)\b(.*)", line):
                    yield pytest.param(
                        found[1], shlex.split(found[2], comments=True), id=f"{page.stem}: {found[2].strip()}"
                    )


@pytest.mark.parametrize(("program", "arguments"), list(commands()))
def test_commands_have_the_options_that_pages_use(program, arguments, tmp_path, monkeypatch):
    """The command line is understood; what it then does is tested elsewhere."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_images").mkdir()
    if program == "diffmath":
        command = typer.main.get_command(app).commands[arguments.pop(0)]
    else:
        figures = typer.Typer()
        figures.command()(main)
        command = typer.main.get_command(figures)
    command.make_context(program, arguments)
