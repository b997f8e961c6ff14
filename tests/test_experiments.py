"""Every experiment runs in its small form."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted((ROOT / "experiments").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_smoke(script, tmp_path):
    arguments = ["--smoke", "--results", tmp_path / "results.json"]
    done = subprocess.run(
        [sys.executable, script, *arguments],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "results.json").read_text())


def test_scripts_say_what_they_do():
    """Question, command, minutes, result."""
    assert SCRIPTS
    for script in SCRIPTS:
        text = script.read_text()
        assert all(word in text for word in ("Question  ", "Command  ", "Minutes  ", "Result  ", "--smoke")), script


def test_the_verdict_on_quick_samplers(monkeypatch):
    """How much worse, in error bars: larger distances, smaller shares, backgrounds off the real ones."""
    monkeypatch.syspath_prepend(ROOT / "experiments")
    compare = importlib.import_module("quality_vs_steps").compare
    goal = {"frechet": (1.0, 0.3), "kernel": (0.1, 0.1), "sure": (0.9, 0.03), "background": (-0.97, 0.01)}
    quick = {"frechet": (1.3, 0.4), "kernel": (0.0, 0.1), "sure": (0.81, 0.04), "background": (-1.02, 0.01)}
    shared = {"checkpoint": "compact", "matched start": False}
    rows = [shared | {"method": "ancestral", "evaluations": n} | goal for n in (500, 250)]
    rows.append(shared | {"method": "heun", "evaluations": 19} | quick)
    (verdict,) = compare(rows, {"background": (-0.99, 0.0)}, (19, 20))
    worse = {key: verdict[key]["worse by, in error bars"] for key in quick}
    assert worse == {"frechet": 1.0, "kernel": -1.0, "sure": 3.0, "background": 1.0}
    assert verdict["sure"]["in errors of the difference"] == 1.8
    assert not verdict["sure"]["within the error bar"]
    assert verdict["kernel"]["within the error bar"]
