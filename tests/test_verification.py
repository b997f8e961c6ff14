"""``python -m diffmath verify``: nothing of the paper is missing from it, all holds, and all can fail."""

import importlib
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from diffmath import verification
from diffmath.__main__ import app
from diffmath.pde import RenormalizedFlow, stability
from diffmath.schedule import VarianceSchedule
from diffmath.verification import CHECKS, Check, Example, table, verify

ROOT = Path(__file__).parent.parent
EQUATIONS = [f"({n})" for n in range(1, 24)]
ALGORITHMS = ["Algorithm 1", "Algorithm 2"]


def test_nothing_is_missing():
    """Every equation and algorithm has a check and code that names it; every figure has a module and a test."""
    assert sorted(check.label for check in CHECKS) == sorted(EQUATIONS + ALGORITHMS)
    code = "\n".join(path.read_text() for path in (ROOT / "diffmath").rglob("*.py") if path.name != "verification.py")
    named = set()
    for first, last in re.findall(r"\((\d+)\)(?:-\((\d+)\))?", code):
        named |= set(range(int(first), int(last or first) + 1))
    assert set(range(1, 24)) <= named
    assert all(name in code for name in ALGORITHMS)
    tests = (ROOT / "tests" / "test_figures.py").read_text()
    for number in range(1, 8):
        module = importlib.import_module(f"paper_figures.figure{number}")
        assert callable(module.compute)
        assert callable(module.draw)
        assert f"figure{number}" in tests


def test_all_holds():
    results = verify(20)
    assert [r.label for r in results if not r.passed] == []
    assert all(math.isfinite(r.worst) and r.where for r in results)
    assert table(results).count("holds") == 25


def scaled(method, factor=1 + 1e-9):
    """The method of a class, with its result off by a part in a thousand million."""
    return lambda self, *args, **kwargs: factor * method(self, *args, **kwargs)


def shifted_transition(self, t, s=None):
    alpha, variance = TRANSITION(self, t, s)
    return alpha, variance * (1 + 1e-9)


TRANSITION = VarianceSchedule.transition
SCHEDULE = VarianceSchedule


@pytest.mark.parametrize(
    ("owner", "name", "replacement", "labels"),
    [
        (SCHEDULE, "transition", shifted_transition, ["(3)", "(5)", "(6)", "(9)", "(11)"]),
        (SCHEDULE, "forward_step", scaled(SCHEDULE.forward_step), ["(2)"]),
        (SCHEDULE, "add_noise", scaled(SCHEDULE.add_noise), ["(8)"]),
        (SCHEDULE, "posterior_variance", scaled(SCHEDULE.posterior_variance), ["(14)", "(15)"]),
        (SCHEDULE, "posterior_mean", scaled(SCHEDULE.posterior_mean), ["(14)", "(16)"]),
        (SCHEDULE, "posterior_mean", scaled(SCHEDULE.posterior_mean, 1.01), ["(10)", "(12)"]),
        (SCHEDULE, "posterior_mean_from_noise", scaled(SCHEDULE.posterior_mean_from_noise), ["(18)", "(19)"]),
        (SCHEDULE, "backward_step", scaled(SCHEDULE.backward_step), ["(19)", "Algorithm 2"]),
        (stability, "jacobian", lambda *args, J=stability.jacobian: (1 + 1e-6) * J(*args), ["(23)"]),
        (verification.Gaussian, "log_density", scaled(verification.Gaussian.log_density), ["(1)"]),
    ],
)
def test_errors_are_found(monkeypatch, owner, name, replacement, labels):
    """A coefficient off by 1e-9, or a term left out, fails the checks of its equation."""
    monkeypatch.setattr(owner, name, replacement)
    results = verify(10, checks=[check for check in CHECKS if check.label in labels])
    assert [r.label for r in results if r.passed] == []


def test_errors_of_tables_and_of_the_flow_are_found(monkeypatch):
    original = VarianceSchedule.__init__

    def wrong(self, beta):
        original(self, beta)
        self.alpha, self.alpha_bar = self.alpha * (1 + 1e-9), self.alpha_bar * (1 + 1e-9)

    solve = RenormalizedFlow.solve_modes

    def drifting(self, c, times, **options):
        return solve(self, c, times, **options) * (1 + 1e-6 * np.max(times))

    monkeypatch.setattr(VarianceSchedule, "__init__", wrong)
    monkeypatch.setattr(RenormalizedFlow, "solve_modes", drifting)
    results = verify(10, checks=[check for check in CHECKS if check.label in ("(4)", "(7)", "(21)", "(22)")])
    assert [r.label for r in results if r.passed] == []


def test_a_wrong_multiplier_is_found(monkeypatch):
    solve = RenormalizedFlow.solve_modes

    def wrong(self, c, times, **options):
        ds = solve(self, c, times, **options)
        return ds.assign(multiplier=ds.multiplier * (1 + 1e-6))

    monkeypatch.setattr(RenormalizedFlow, "solve_modes", wrong)
    results = verify(10, checks=[check for check in CHECKS if check.label in ("(20)", "(22)")])
    assert [r.label for r in results if r.passed] == []


def test_a_nan_fails():
    broken = Check("(0)", "nothing", "property", 1.0, lambda rng: Example(math.nan, "everywhere"))
    (result,) = verify(3, checks=[broken])
    assert not result.passed
    assert "**fails**" in table([result])


def test_command(tmp_path, monkeypatch):
    """Prints the table, writes it as JSON, and ends with 1 if any check fails."""
    few = [check for check in CHECKS if check.label in ("(2)", "(13)")]
    monkeypatch.setattr(verification, "CHECKS", few)
    done = CliRunner().invoke(app, ["verify", "--examples", "3", "--json", str(tmp_path / "verify.json")])
    assert done.exit_code == 0, done.output
    assert "2 of 2 hold" in done.output
    written = json.loads((tmp_path / "verify.json").read_text())
    assert [(r["label"], r["examples"]) for r in written] == [("(2)", 3), ("(13)", 1)]
    monkeypatch.setattr(VarianceSchedule, "forward_step", scaled(VarianceSchedule.forward_step))
    done = CliRunner().invoke(app, ["verify", "--examples", "3"])
    assert done.exit_code == 1
    assert "1 of 2 hold; (2) fail" in done.output


def test_bad_arguments():
    with pytest.raises(ValueError, match="n_examples must be at least 1"):
        verify(0)
