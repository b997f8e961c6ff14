"""Every experiment runs in its small form, two of them in each run of the tests."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from diffmath.ddpm.samplers import SAMPLERS

ROOT = Path(__file__).parent.parent
DESCRIBED = ("ancestral", "ddim", "heun", "dpmsolver++2m")  # the samplers whose cost the docstring of the curve states
QUICK = ("pde_convergence", "pde_stability")  # the others are run in their small form by -m slow
SCRIPTS = sorted(path for path in (ROOT / "experiments").glob("*.py") if not path.stem.startswith("_"))


@pytest.mark.parametrize(
    "script",
    [pytest.param(path, marks=[pytest.mark.slow] * (path.stem not in QUICK), id=path.stem) for path in SCRIPTS],
)
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


def test_the_claims_on_noise_hold():
    """In the results that the site shows: orders, laws, energy, and what comes back."""
    found = json.loads((ROOT / "experiments" / "results" / "forced.json").read_text())
    assert found["claims that hold"] == found["claims"] == 21


def test_the_claims_on_priors_hold():
    """Against the best classical estimates, but for an analytic function, whose amplitudes follow no power law."""
    found = json.loads((ROOT / "experiments" / "results" / "backwards.json").read_text())
    assert [name for name, row in found["functions"].items() if not row["holds"]] == ["analytic"]
    assert [row["holds"] for row in found["digits"].values() if "holds" in row] == [True, True]


@pytest.fixture
def curve(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "experiments")
    return importlib.import_module("quality_vs_steps")


def test_the_verdict_on_quick_samplers(curve):
    """How much worse, in error bars: larger distances, smaller shares, backgrounds off the real ones."""
    goal = {"frechet": (1.0, 0.3), "kernel": (0.1, 0.1), "sure": (0.9, 0.03), "background": (-0.97, 0.01)}
    goal |= {"coverage": (0.8, 0.02), "imbalance": (0.05, 0.02)}
    quick = {"frechet": (1.15, 0.4), "kernel": (0.0, 0.1), "sure": (0.81, 0.04), "background": (-1.03, 0.01)}
    quick |= {"coverage": (0.73, 0.03), "imbalance": (0.08, 0.02)}
    shared = {"checkpoint": "compact", "matched start": False}
    rows = [shared | {"method": "ancestral", "evaluations": n} | goal for n in (500, 250)]
    rows.append(shared | {"method": "heun", "evaluations": 19} | quick)
    goals = {"compact": {"it": rows[0], "a better one": {"frechet": (0.7, 0.2)}}}
    entry, stricter = curve.compare(rows, goals, {"background": (-0.99, 0.0)}, (19, 20))
    worse = {key: entry[key]["worse by, in error bars"] for key in quick}
    assert worse == {
        "frechet": 0.5,
        "kernel": -1.0,
        "sure": 3.0,
        "background": 2.0,
        "coverage": 3.5,
        "imbalance": 1.5,
    }
    assert entry["sure"]["in errors of the difference"] == 1.8
    assert curve.verdict(entry).endswith(
        "heun, 19, against it: frechet within, kernel within, sure 3.0, coverage 3.5, imbalance 1.5, background 2.0"
    )
    assert stricter["frechet"]["worse by, in error bars"] == 2.25
    assert "coverage" not in stricter


def test_the_points_of_the_curve(curve):
    """Every sampler at all numbers of evaluations, and no more evaluations than the docstring says."""
    counts = curve.sizes(500)
    own = {(method, method != "ancestral") for method in SAMPLERS}
    assert all(tuple(counts[line]) == curve.EVALUATIONS for line in own)
    assert set(counts) == own | {(method, not matched) for method, matched in own}
    assert set(counts["ancestral", False].values()) == {500}
    assert list(counts["heun", True].values()) == [500, 500, 500, 100, 100, 100]
    described = [(line[0], asked) for line, asked in counts.items() if line[0] in DESCRIBED]
    assert sum(n * curve.steps(method, k)[1] for method, asked in described for k, n in asked.items()) == 897_200
    pooled = [curve.seed_of("ancestral", n, 500, seed=0) for n in curve.EVALUATIONS if n >= curve.SETTLED]
    assert pooled == [100, 250, 0]
    assert {curve.seed_of("ddim", n, 500, seed=0) for n in curve.EVALUATIONS} == {0}
    assert [curve.steps("heun", n) for n in (10, 20)] == [(5, 9), (10, 19)]
