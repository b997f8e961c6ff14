"""``python -m diffmath verify``: nothing of the paper is missing from it, all holds, and all can fail."""

import functools
import inspect
import json
import math
import re
import sys
from pathlib import Path
from pkgutil import resolve_name

import numpy as np
import pytest
from typer.testing import CliRunner

from diffmath import ddpm, verification
from diffmath.__main__ import app
from diffmath.ddpm import samplers, sampling
from diffmath.ddpm.training import algorithm, batches, run
from diffmath.domains.box import DifferenceBox
from diffmath.gaussian import Gaussian
from diffmath.heat import HeatProcess, LinearHeatProcess, flow_posterior
from diffmath.pde import (
    RenormalizedFlow,
    invariant,
    inverse,
    norms,
    priors,
    reversal,
    schemes,
    stability,
    stepping,
    stochastic,
)
from diffmath.schedule import VarianceSchedule
from diffmath.verification import CHECKS, Check, Example, backwards, heat, runner, table, terminal_table, verify
from tests import test_figures

CODE = {check.label: check.code for check in CHECKS}
ROOT = Path(__file__).parent.parent
EQUATIONS = [*(f"({n})" for n in range(1, 24)), "Algorithm 1", "Algorithm 2"]
BEYOND = [f"({n})" for n in (*range(24, 30), *range(31, 36))]
LABELS = [*EQUATIONS, "(22), differences", "(22), order", "(23), differences", *BEYOND]


def traced(check):
    """The result of a check, and the code of all functions that it called."""
    called, before = set(), sys.getprofile()
    sys.setprofile(lambda frame, event, arg: called.add(frame.f_code))
    try:
        (result,) = verify(20, checks=[check])
    finally:
        sys.setprofile(before)
    return result, called


@pytest.fixture(scope="module")
def runs():
    verify(1, checks=[check for check in CHECKS if check.method == "symbolic"])  # computer algebra is slow when traced
    return {check.label: traced(check) for check in CHECKS}


def cited(text):
    """The equations' numbers in a text, those within a range too."""
    numbers = set()
    for first, last in re.findall(r"\((\d+)\)(?:-\((\d+)\))?", text):
        numbers |= {f"({n})" for n in range(int(first), int(last or first) + 1)}
    return numbers | set(re.findall(r"Algorithm \d", text))


def test_citations():
    assert cited("eqs. (1), (7)-(9); Algorithm 2") == {"(1)", "(7)", "(8)", "(9)", "Algorithm 2"}


def test_nothing_is_missing():
    """Every equation and algorithm has a check and code; the figures have their tests."""
    assert sorted(check.label for check in CHECKS) == sorted(LABELS)
    (mark,) = test_figures.test_figure.pytestmark
    assert {number for number, _ in mark.args[1]} >= set(range(1, 8))
    assert callable(test_figures.test_every_figure_is_tested)


@pytest.mark.parametrize("label", LABELS)
def test_each_equation_is_code_that_its_check_calls(runs, label):
    """The objects are there, say themselves which equation they are, and are called when it is checked."""
    assert CODE[label]
    for name in CODE[label]:
        item = resolve_name(name)
        assert cited(label) <= cited(item.__doc__), f"{name} does not cite {label}"
        function = inspect.unwrap(item.__init__ if inspect.isclass(item) else item)
        assert function.__code__ in runs[label][1], f"the check of {label} does not call {name}"


def test_all_holds(runs):
    results = [result for result, _ in runs.values()]
    assert [r.label for r in results if not r.passed] == []
    assert all(math.isfinite(r.worst) and r.where and r.code for r in results)
    assert table(results).count("holds") == len(LABELS)


def test_the_site_has_these_checks():
    """The pages that derive the equations show each of them once; what it says of one is made from its results."""
    pages = "".join(page.read_text() for page in (ROOT / "docs" / "paper").glob("*.md"))
    shown = re.findall(r'^{{ check\["(.*?)"\] }}$', pages, flags=re.MULTILINE)
    assert sorted(shown) == sorted(LABELS)


@pytest.mark.parametrize("width", [70, 80, 100])
def test_the_table_of_a_terminal_fits(runs, width):
    """It has each label, all words of its claim, and its numbers; a failure names the worst example."""
    results = [result for result, _ in runs.values()]
    results[0] = results[0]._replace(passed=False, where="a place " * 40)
    text = terminal_table(results, width)
    assert max(map(len, text.splitlines())) <= width
    words = f"what is checked worst error tolerance {'-' * width} at {results[0].where} ".split()
    for r in results:
        words += f"{r.label} {r.claim} {r.worst:.1e} {r.tolerance:.0e} {'holds' if r.passed else 'FAILS'}".split()
    assert sorted(text.split()) == sorted(words)


def test_a_terminal_that_is_too_narrow():
    with pytest.raises(ValueError, match="width must be at least 70; it is 40"):
        terminal_table([], 40)


def lasting(text):
    """Of a table's lines, what does not depend on the run."""
    rows = [line.split(" | ") for line in text.splitlines()]
    return [row[:4] + row[7:] for row in rows[2:]]


def scaled(method, factor=1 + 1e-9):
    """The method of a class, with its result off by a part in a thousand million."""
    return lambda self, *args, **kwargs: factor * method(self, *args, **kwargs)


def changed(method, change):
    """The method of a class, with its result changed."""
    return lambda self, *args, **kwargs: change(method(self, *args, **kwargs))


def rushed(method):
    """A method of the flow, with its times off by a part in a million."""
    return lambda self, u_0, times, **options: method(self, u_0, np.multiply(times, 1 + 1e-6), **options)


def growing(ds):
    return ds * (1 + 1e-9 * np.pi**2 / float(ds.x[0] + ds.x[-1]) ** 2 * ds.time)


def in_the_plane(method):
    """A method of the flow that is off on rectangles alone."""
    return lambda self, *args, **kwargs: (1 + 1e-9 * (self.domain.ndim == 2)) * method(self, *args, **kwargs)


def unnormalised(self, x, log_density=Gaussian.log_density):
    return log_density(self, x) - log_density(self, self.mean)


def off(*args, integrate=stepping.integrate, **options):
    run = integrate(*args, **options)
    return run._replace(states=(1 + 1e-9) * run.states)


def stiffer(factor, f=DifferenceBox.stiffness.func):
    return property(lambda self: factor * f(self))


first_order = schemes.SCHEMES | {"pade02": schemes.SCHEMES["backward-euler"]}


def wrong_tables(self, beta, init=VarianceSchedule.__init__):
    init(self, beta)
    self.alpha, self.alpha_bar = self.alpha * (1 + 1e-9), self.alpha_bar * (1 + 1e-9)


SCHEDULE, FLOW = VarianceSchedule, RenormalizedFlow
ERRORS = [
    (SCHEDULE, "__init__", wrong_tables, ["(4)", "(7)"]),
    (
        SCHEDULE,
        "transition",
        changed(SCHEDULE.transition, lambda pair: (pair[0], pair[1] * (1 + 1e-9))),
        ["(3)", "(5)", "(6)", "(9)", "(11)"],
    ),
    (SCHEDULE, "forward_step", scaled(SCHEDULE.forward_step), ["(2)"]),
    (SCHEDULE, "add_noise", scaled(SCHEDULE.add_noise), ["(8)"]),
    (SCHEDULE, "predict_x_0", scaled(SCHEDULE.predict_x_0), ["(17)"]),
    (SCHEDULE, "posterior_variance", scaled(SCHEDULE.posterior_variance), ["(13)", "(14)", "(15)"]),
    (
        SCHEDULE,
        "posterior_mean",
        scaled(SCHEDULE.posterior_mean),
        ["(10)", "(12)", "(13)", "(14)", "(16)", "(17)"],
    ),
    (
        SCHEDULE,
        "posterior_mean_from_noise",
        scaled(SCHEDULE.posterior_mean_from_noise),
        ["(17)", "(18)", "(19)"],
    ),
    (SCHEDULE, "backward_step", scaled(SCHEDULE.backward_step), ["(19)"]),
    *(
        (
            SCHEDULE,
            "backward_coefficients",
            changed(SCHEDULE.backward_coefficients, lambda abc, i=i: (*abc[:i], abc[i] * (1 + 1e-9), *abc[i + 1 :])),
            ["(19)", "Algorithm 2"],
        )
        for i in range(3)
    ),
    (Gaussian, "log_density", scaled(Gaussian.log_density), ["(1)", "(10)", "(12)"]),
    (Gaussian, "log_density", lambda self, x, f=Gaussian.log_density: f(self, x) / self.dim, ["(1)", "(12)"]),
    (Gaussian, "log_density", unnormalised, ["(1)", "(10)", "(12)"]),
    (Gaussian, "push", changed(Gaussian.push, lambda law: law.affine(1 + 1e-9)), ["(6)", "(11)"]),
    (Gaussian, "product", changed(Gaussian.product, lambda p: (p[0].affine(1 + 1e-9), p[1])), ["(13)", "(14)"]),
    (Gaussian, "given", changed(Gaussian.given, lambda law: law.affine(1 + 1e-9)), ["(10)", "(14)"]),
    (FLOW, "solve", changed(FLOW.solve, growing), ["(21)", "(22)", "(22), differences"]),
    (FLOW, "solve", rushed(FLOW.solve), ["(20)", "(22)", "(22), differences"]),
    (FLOW, "solve", changed(FLOW.solve, lambda ds: ds.assign(multiplier=ds.multiplier * (1 + 1e-6))), ["(20)", "(22)"]),
    (FLOW, "evolve", scaled(FLOW.evolve), ["(21)", "(22)"]),
    (FLOW, "evolve", in_the_plane(FLOW.evolve), ["(21)", "(22)"]),
    (FLOW, "evolve", rushed(FLOW.evolve), ["(20)", "(22)"]),
    (FLOW, "solve_modes", changed(FLOW.solve_modes, growing), ["(21)", "(22)"]),
    (FLOW, "solve_modes", rushed(FLOW.solve_modes), ["(20)", "(22)"]),
    (
        FLOW,
        "solve_modes",
        changed(FLOW.solve_modes, lambda ds: ds.assign(multiplier=ds.multiplier * (1 + 1e-6))),
        ["(20)", "(22)"],
    ),
    (SCHEDULE, "posterior_variance", scaled(SCHEDULE.posterior_variance, math.nan), ["(13)", "(14)", "(15)"]),
    (FLOW, "evolve", scaled(FLOW.evolve, math.nan), ["(20)", "(21)", "(22)"]),
    (FLOW, "growth_rate", scaled(FLOW.growth_rate, 1 + 1e-6), ["(23)"]),
    (stepping, "integrate", off, ["(22), differences"]),
    (
        norms.QuadraticNorm,
        "measure",
        changed(norms.QuadraticNorm.measure, lambda found: (*found[:2], found[2] * (1 + 1e-9))),
        ["(22)", "(22), differences"],
    ),
    (
        DifferenceBox,
        "stiffness",
        property(lambda self, f=DifferenceBox.stiffness.func: (1 + 1e-9) * f(self)),
        ["(22), differences"],
    ),
    (DifferenceBox, "stiffness", property(lambda self, f=DifferenceBox.stiffness.func: 1.1 * f(self)), ["(22), order"]),
    (stepping, "SCHEMES", first_order, ["(22), differences", "(22), order", "(23), differences"]),
    (
        DifferenceBox,
        "eigenvalues",
        property(lambda self, f=DifferenceBox.eigenvalues.func: (1 + 1e-6) * f(self)),
        ["(23)"],
    ),
    (stability, "jacobian", lambda *args, J=stability.jacobian: (1 + 1e-6) * J(*args), ["(23)"]),
    *(
        (prior, "posterior", changed(prior.posterior, lambda p: p._replace(mean=p.mean * (1 + 1e-6))), ["(24)"])
        for prior in (priors.PowerLaw, priors.GaussianPrior)
    ),
    (inverse, "reconstruct", lambda *a, f=inverse.reconstruct, **k: (1 + 1e-9) * f(*a, **k), ["(25)"]),
    (stochastic, "step", lambda y, m, dt, *a, f=stochastic.step: f(y, m, dt * (1 + 1e-6), *a), ["(26)"]),
    (stochastic, "step", lambda y, m, dt, a, b, f=stochastic.step: f(y, m, dt, a, ~b), ["(26)"]),
    (invariant, "circle_density", lambda x, m, D, C, f=invariant.circle_density: f(x, m, D, C * 1.001), ["(27)"]),
    (invariant.Bingham, "moments", scaled(invariant.Bingham.moments, 1 + 1e-8), ["(28)"]),
    (HeatProcess, "flow_modes", scaled(HeatProcess.flow_modes, 1 + 1e-6), ["(31)"]),
    (
        heat,
        "flow_posterior",
        lambda x, u, v, sigma, *a: flow_posterior(x, u, v, sigma * 1.000001, *a),
        ["(32)", "(34)"],
    ),
    (HeatProcess, "kept", lambda self, t, s, eta, f=HeatProcess.kept: f(self, t, s, 1.000001 * eta), ["(33)"]),
    (
        LinearHeatProcess,
        "_transition",
        changed(LinearHeatProcess._transition, lambda pair: (pair[0] * (1 + 1e-9), pair[1])),
        ["(35)"],
    ),
    (reversal.SphereModel, "coefficients", lambda m, t, f=reversal.SphereModel.coefficients: f(m, 1.02 * t), ["(29)"]),
]


@pytest.mark.parametrize(("owner", "name", "replacement", "labels"), ERRORS)
def test_errors_are_found(monkeypatch, owner, name, replacement, labels):
    """A coefficient or a time a little off fails the checks of its equation, by what they find."""
    monkeypatch.setattr(owner, name, replacement)
    results = verify(10, checks=[check for check in CHECKS if check.label in labels])
    assert [r.label for r in results if r.passed or "Error: " in r.where] == []


ALGORITHMS = [
    (algorithm, "squared_error", "process.add_noise(x_0, eps, t)", "process.add_noise(x_0, -eps, t)"),
    (algorithm, "squared_error", "model(x_t, t), x_t)).square()", "model(x_t, t), x_t)).abs()"),
    (
        batches,
        "Batches",
        "return x_0, eps[self.own], t[",
        "return x_0, eps[self.own], torch.where(torch.rand(t.shape) < 0.003, 1, t)[",
    ),
    (batches, "OnDevice", "spread(c[t - 1],", "spread(c[(t - 2).clamp(min=0)],"),
    (
        samplers,
        "ancestral",
        "if s > 0:\n            _update(x, 1.0, (c,",
        "if s > 0:\n            _update(x, 1.0, (c * (1 + 1e-9),",
    ),
    (
        samplers,
        "ancestral",
        "if s > 0:\n            _update(x, 1.0, (c, walk.noise()))",
        "if s > 0:\n            _update(x, 1.0, (c, walk.noise()), (1e-5, torch.randn_like(x)))",
    ),
    (
        samplers,
        "ancestral",
        "_coefficients(t, s)\n        walk.predict(x, t,",
        "_coefficients(t, s)\n        walk.predict(x, max(t - 1, 1),",
    ),
    (sampling, "sample", ".fill_(t)", ".fill_(max(t - 1, 1))"),
    (sampling, "sample", "x, dtype = x_T.to(", "x, dtype = (1 + 1e-9) * x_T.to("),
    (sampling, "sample", "return torch.randn(", "generator.manual_seed(0)\n        return torch.randn("),
]


@pytest.mark.parametrize(("module", "name", "old", "new"), ALGORITHMS)
def test_errors_in_the_algorithms_are_found(monkeypatch, module, name, old, new):
    """One place of the source changed: another noise, time, loss or start."""
    source = inspect.getsource(module)
    assert source.count(old) == 1
    namespace = {"__name__": module.__name__}
    exec(source.replace(old, new), namespace)
    changed = namespace[name]
    if module is samplers:
        monkeypatch.setitem(samplers.SAMPLERS, name, samplers.Sampler(name, changed))
    elif module is sampling:
        monkeypatch.setattr(ddpm, name, changed)
    elif module is batches:
        monkeypatch.setattr(run, name, changed)
    else:
        monkeypatch.setattr(ddpm, "train", functools.partial(ddpm.train, loss=changed))
    label = "Algorithm 1" if module in (algorithm, batches) else "Algorithm 2"
    (result,) = verify(10, checks=[check for check in CHECKS if check.label == label])
    assert not result.passed
    assert "Error: " not in result.where


def test_every_check_can_fail():
    assert {label for *_, labels in ERRORS for label in labels} | {"Algorithm 1"} == set(LABELS)


def test_symbolic_identities_are_needed(monkeypatch):
    """Right numbers do not save a wrong identity."""
    for name in ("_completed_square", "_substituted"):
        _, *functions = getattr(backwards, name)()
        monkeypatch.setattr(backwards, name, lambda functions=functions: (False, *functions))
    results = verify(1, checks=[check for check in CHECKS if check.label in ("(13)", "(17)")])
    assert [r.worst for r in results] == [math.inf, math.inf]


def test_a_nan_fails():
    """One is enough, whatever comes after it."""
    errors = iter([0.0, math.nan, 0.5])
    broken = Check("(0)", "nothing", (), "property", 1.0, lambda rng: Example(next(errors), "everywhere"))
    (result,) = verify(3, checks=[broken])
    assert not result.passed
    assert "**fails**" in table([result])


def test_an_exception_fails_its_check_alone(tmp_path, monkeypatch):
    """A failed line says what happened; the others are tried, and the exit status is 1."""

    def raising(rng):
        raise ValueError("a | b\nc")

    broken = Check("(0)", "nothing", (), "property", 1.0, raising)
    monkeypatch.setattr(runner, "CHECKS", [broken, *(check for check in CHECKS if check.label == "(2)")])
    first, second = verify(3)
    assert (first.worst, first.where, first.passed) == (math.inf, "ValueError: a | b\nc", False)
    assert second.passed
    assert r"| inf | ValueError: a \| b c |" in table([first])
    assert "ValueError: a | b c" in terminal_table([first])
    done = CliRunner().invoke(app, ["verify", "--examples", "3", "--json", str(tmp_path / "verify.json")])
    assert done.exit_code == 1
    assert "1 of 2 hold; (0) fail" in done.output
    written = json.loads((tmp_path / "verify.json").read_text())
    assert [(r["worst"] is None, r["passed"]) for r in written] == [(True, False), (False, True)]


def test_command(tmp_path, monkeypatch):
    """Prints the table, writes it as JSON, and ends with 1 if any check fails."""
    few = [check for check in CHECKS if check.label in ("(2)", "(13)")]
    monkeypatch.setattr(runner, "CHECKS", few)
    done = CliRunner().invoke(app, ["verify", "--examples", "3", "--json", str(tmp_path / "verify.json")])
    assert done.exit_code == 0, done.output
    assert re.search(r"2 of 2 hold\. It took \d+ s\.", done.output)
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert re.search(r"^\(13\) .* holds$", done.output, flags=re.MULTILINE)
    wide = CliRunner().invoke(app, ["verify", "--examples", "3", "--markdown"]).stdout
    assert lasting(wide)[:2] == lasting(table(verify(3)))
    written = json.loads((tmp_path / "verify.json").read_text())
    assert [(r["label"], r["examples"]) for r in written] == [("(2)", 3), ("(13)", 3)]
    assert [tuple(r["code"]) for r in written] == [CODE["(2)"], CODE["(13)"]]
    monkeypatch.setattr(VarianceSchedule, "forward_step", scaled(VarianceSchedule.forward_step))
    done = CliRunner().invoke(app, ["verify", "--examples", "3"])
    assert done.exit_code == 1
    assert "1 of 2 hold; (2) fail" in done.output


def test_a_place_that_cannot_be_written_is_told_first(tmp_path, monkeypatch):
    """A directory, a file in the place of one, and one that may not be written to: before any check is tried."""

    def refused(dir):
        raise PermissionError(13, "Permission denied", f"{dir}/internal")

    monkeypatch.setattr(verification, "verify", lambda *args, **kwargs: pytest.fail("the checks were begun"))
    monkeypatch.setattr("tempfile.TemporaryFile", refused)
    (tmp_path / "file").write_text("")
    for place, reason in (
        (tmp_path, "is a directory"),
        (tmp_path / "file" / "verify.json", "cannot be written"),
        (tmp_path / "verify.json", "cannot be written: Permission denied"),
    ):
        done = CliRunner().invoke(app, ["verify", "--json", str(place)])
        assert done.exit_code == 2
        said = re.sub(r"[\s│]+", " ", done.output)
        assert reason in said
        assert "internal" not in said
        assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_bad_arguments():
    with pytest.raises(ValueError, match="n_examples must be at least 1"):
        verify(0)
