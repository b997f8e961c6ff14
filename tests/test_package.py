"""What is imported when, which way imports point, and that half-written files never replace whole ones."""

import ast
import doctest
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import diffmath
from diffmath.__main__ import app
from diffmath._files import replacing

ROOT = Path(__file__).parent.parent


def loaded_by(statement):
    """The modules that a statement loads in a new interpreter."""
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import diffmath", {"torch", "matplotlib", "numpy", "scipy"}),
        ("import diffmath; diffmath.VarianceSchedule", {"torch", "matplotlib", "scipy"}),
        ("import diffmath; diffmath.pde", {"torch", "matplotlib", "diffmath.ddpm"}),
        ("import diffmath.pde", {"torch", "matplotlib", "diffmath.ddpm"}),
        ("import diffmath.gaussian", {"torch", "matplotlib", "scipy", "diffmath.ddpm", "diffmath.pde"}),
        ("import diffmath.toy", {"torch", "matplotlib", "scipy", "diffmath.ddpm", "diffmath.pde"}),
        ("import diffmath.schedule", {"torch", "matplotlib", "scipy", "diffmath.ddpm", "diffmath.pde"}),
        ("import diffmath.data", {"torch", "matplotlib", "mlxtend", "diffmath.ddpm", "diffmath.pde"}),
        ("import diffmath.ddpm", {"matplotlib", "diffmath.pde", "paper_figures"}),
        ("import diffmath.__main__", {"torch", "matplotlib"}),
        ("import diffmath.lab", {"torch", "matplotlib"}),
    ],
)
def test_imports_are_light(statement, absent):
    assert loaded_by(statement).isdisjoint(absent)


def test_readme(tmp_path, monkeypatch):
    """It is short, its Python examples run and draw their pictures, and its links lead to files."""
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 150
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    names = {}
    for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        exec(block, names)
    assert names["images"].shape == (9, 1, 32, 32)
    assert names["ds"].multiplier[-1] == pytest.approx(3.141592653589793**2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["digits.png", "flow.png"]
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    assert len(links) > 15
    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.parametrize(
    "module",
    [
        "diffmath.gaussian",
        "diffmath.schedule",
        "diffmath.domains.box",
        "diffmath.domains.eigenbasis",
        "diffmath.pde.flow",
        "diffmath.pde.initial",
        "diffmath.pde.norms",
        "diffmath.pde.spectral",
        "diffmath.data.training",
        "diffmath.ddpm.checkpoints",
        "diffmath.ddpm.cost",
        "diffmath.ddpm.guidance",
        "diffmath.ddpm.mlp",
        "diffmath.ddpm.training.algorithm",
        "diffmath.ddpm.training.run",
        "diffmath.ddpm.unet",
        "diffmath.toy",
        "diffmath.lab.page",
        "diffmath.data.images",
        "diffmath.data.pixels",
    ],
)
def test_docstrings(module):
    results = doctest.testmod(importlib.import_module(module))
    assert results.attempted > 0
    assert results.failed == 0


def test_doors():
    assert diffmath.schedule.VarianceSchedule.linear().n_steps == 500
    assert {"ddpm", "pde", "schedule", "data", "__version__", "sample", "Box"} <= set(dir(diffmath))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = diffmath.nothing


def test_names_at_the_top():
    """Each is the object of its subpackage; type checkers see the same ones."""
    assert sorted(diffmath.__all__) == diffmath.__all__
    for home, names in diffmath._HOMES.items():
        module = importlib.import_module(f"diffmath.{home}")
        assert getattr(diffmath, home) is module
        for name in names:
            assert getattr(diffmath, name) is getattr(module, name)
    tree = ast.parse(Path(diffmath.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    imported = {line.module.removeprefix("diffmath."): tuple(a.name for a in line.names) for line in block.body}
    assert imported == {home: names for home, names in diffmath._HOMES.items() if names}
    assert {*diffmath._HOMES, "__version__"}.union(*imported.values()) == set(diffmath.__all__)


def test_version():
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.output) == (0, f"diffmath {diffmath.__version__}\n")


def test_replacing(tmp_path):
    path = tmp_path / "new" / "file"
    with replacing(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
    with open(path) as reader:
        with replacing(path) as temporary:
            temporary.write_text("newer")
        assert reader.read() == "whole"  # whoever was reading still has a whole file
    assert path.read_text() == "newer"

    def fail():
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "newer"
    assert [p.name for p in path.parent.iterdir()] == ["file"]
