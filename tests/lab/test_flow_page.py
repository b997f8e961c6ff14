"""The pages Flow and Stability against the package."""

import io
import re
from contextlib import redirect_stdout

import numpy as np
import pytest

from diffmath.pde import Box, RenormalizedFlow
from diffmath.pde.initial import bump, step

TIMES = [0.0, 1e-5, 1e-3, 0.03, 1.0, np.inf]
# Sums of 256 products of float64 numbers, here and there by different transforms: 2e-14 was seen.
CLOSE = 1e-12

SOLVE = """([boundary, norm, u, times]) => {
    const axis = new lab.Axis(u.length, boundary);
    const c = axis.toModes(u);
    return times.map(t => {
        const one = lab.evolve(axis, c, t ?? Infinity, norm);
        return { ...one, u: Array.from(axis.toValues(one.b)), shares: Array.from(one.shares) };
    });
}"""


@pytest.mark.parametrize("norm", ["gradient", "value", "laplacian", "total_variation"])
@pytest.mark.parametrize("boundary", ["no-flux", "periodic", "fixed"])
@pytest.mark.parametrize("initial", [step, bump])
def test_the_flow_is_that_of_solve(lab, initial, boundary, norm):
    """u and lambda within 1e-12 of the largest u and of lambda, at all times and at infinity."""
    domain = Box(256, boundary=boundary)
    u_0 = initial(domain)
    ds = RenormalizedFlow(domain, norm).solve(u_0, TIMES)
    finite = [t if np.isfinite(t) else None for t in TIMES]
    states = lab.page.evaluate(SOLVE, [boundary, norm, u_0.tolist(), finite])
    # Where the highest modes count most, so do their roundings: lambda's are relative to the largest eigenvalue.
    slack = CLOSE * domain.eigenvalues.max() if norm in ("laplacian", "total_variation") else 0.0
    for i, state in enumerate(states):
        scale = np.abs(ds.u[i]).max()
        np.testing.assert_allclose(state["u"], ds.u[i], rtol=0, atol=CLOSE * scale)
        np.testing.assert_allclose(state["multiplier"], ds.multiplier[i], rtol=CLOSE, atol=slack)
        np.testing.assert_allclose(state["energy"], ds.energy[i], rtol=CLOSE)
        np.testing.assert_allclose(state["preserved"], ds.preserved[i], rtol=CLOSE)
        np.testing.assert_allclose(state["shares"], ds.energy_fraction[i], rtol=0, atol=CLOSE)


def test_what_the_page_shows_obeys_the_laws(lab):
    """lambda never rises, the energy stays, and at infinity mode 1 has all of it."""
    multipliers, energies = [], set()
    for t in np.linspace(-6, 1, 8):
        lab.open(f"flow?t={t:g}")
        shown = lab.numbers()
        multipliers.append(float(shown["λ(t)"]))
        energies.add(shown["energy ∫ |∇u|²"])
    assert sorted(multipliers, reverse=True) == multipliers
    assert len(set(multipliers)) > 5
    assert len(energies) == 1
    lab.open("flow?infinite=true")
    assert lab.numbers()["largest share"] == "k = 1: 1.0000"
    assert float(lab.numbers()["λ(t)"]) == pytest.approx(np.pi**2, rel=1e-6)


def test_keys_draw_and_the_hash_remembers(lab):
    lab.open("flow?initial=drawn")
    curve = lab.page.evaluate("lab.view().state.curve")
    lab.page.locator("section:not([hidden]) canvas").first.focus()
    for key in ["ArrowRight", "ArrowRight", "ArrowUp", "ArrowUp"]:
        lab.page.keyboard.press(key)
    changed = lab.page.evaluate("lab.view().state.curve")
    assert [i for i in range(33) if curve[i] != changed[i]] == [2]
    lab.page.wait_for_url(f"**curve={changed}**")
    lab.page.reload()
    lab.page.wait_for_function("window.lab")
    assert lab.page.evaluate("lab.view().state.curve") == changed
    lab.requests.remove(lab.page.url.partition("#")[0])


def test_a_curve_and_an_image_are_different_drawings(lab):
    """What was drawn on the page Forward does not become the initial condition of the flow, nor the reverse."""
    lab.open("flow?initial=drawn")
    shown = lab.numbers()
    lab.open(f"forward?image=drawing&drawing={'f' * 256}")
    lab.open("flow")  # as the link does: without a state, so that the page keeps its own
    assert lab.page.evaluate("lab.view().state.initial") == "drawn"
    assert lab.numbers() == shown
    lab.open("forward")
    assert lab.page.evaluate("lab.view().state.drawing") == "f" * 256


def test_the_keys_show_where_they_draw(lab):
    """A line in the plot marks the point that the arrow keys lift, before anything is drawn."""
    lab.open("flow?initial=bump")
    canvas = lab.page.locator("section:not([hidden]) canvas").first
    pictures = [canvas.evaluate("canvas => canvas.toDataURL()")]
    for act in (canvas.focus, lambda: canvas.press("ArrowRight"), canvas.blur):
        act()
        pictures.append(canvas.evaluate("canvas => canvas.toDataURL()"))
    assert len(set(pictures)) == 3
    assert pictures[0] == pictures[-1]
    assert lab.page.evaluate("lab.view().state.initial") == "bump"


def test_a_pointer_draws(lab):
    lab.open("flow?initial=bump")
    box = lab.page.locator("section:not([hidden]) canvas").first.bounding_box()
    lab.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 30)
    lab.page.mouse.down()
    lab.page.mouse.move(box["x"] + box["width"] / 2 + 40, box["y"] + 30)
    lab.page.mouse.up()
    assert lab.page.evaluate("lab.view().state.initial") == "drawn"


def test_play_plays_until_pause(lab):
    lab.open("flow?t=-6")
    lab.page.get_by_role("button", name="Play").press("Enter")
    lab.page.wait_for_function("lab.view().state.t > -5.5")
    lab.page.get_by_role("button", name="Pause").press("Enter")
    t = lab.page.evaluate("lab.view().state.t")
    lab.page.wait_for_timeout(150)
    assert lab.page.evaluate("lab.view().state.t") == t
    assert lab.page.get_by_role("button", name="Play").is_visible()


@pytest.mark.parametrize(
    ("place", "control", "value"),
    [("flow", "flow-t", -2), ("stability?k=4", "stability-size", -6), ("stability", "stability-two", -6)],
)
def test_sliders_redraw_at_once(lab, place, control, value):
    """Within 50 ms, which is less than the eye notices."""
    lab.open(place)
    assert lab.redraw(control, value) < 50


@pytest.mark.parametrize(("k", "j"), [(3, 1), (2, 4), (5, 2), (1, 2)])
def test_perturbations_change_at_the_rate_of_equation_23(lab, k, j):
    """mu_k - mu_j to 1e-6; the square of the perturbation, 1e-12, is what (23) leaves out."""
    lab.open(f"stability?k={k}&j={j}&size=-6")
    shown = lab.numbers()
    theory = RenormalizedFlow(Box(256)).growth_rate(k, j)
    for name in ("μk − μj, eq. (23)", "measured at first"):
        assert float(shown[name].replace("−", "-")) == pytest.approx(theory, rel=1e-6)
    assert shown["verdict"] == ("unstable" if theory > 0 else "stable")


@pytest.mark.parametrize(
    "place",
    [
        "flow",
        "flow?initial=bump&infinite=true&norm=value&boundary=fixed",
        "flow?initial=noise&seed=3&boundary=periodic",
        "flow?initial=drawn&norm=total_variation",
        "flow?initial=modes&a1=0.5&t=-1",
        "stability",
        "stability?k=2&j=2",
    ],
)
def test_the_lines_of_python_run_and_agree(lab, place):
    """They print what the page shows: the multiplier at the page's time, or the rate of the perturbation."""
    lab.open(place)
    printed = io.StringIO()
    with redirect_stdout(printed):
        exec(lab.python(), {})
    shown = lab.numbers()
    numbers = [float(word) for word in re.findall(r"-?\d+\.?\d*(?:e[+-]?\d+)?", printed.getvalue())]
    if place.startswith("stability"):
        assert numbers[1] == pytest.approx(float(shown["μk − μj, eq. (23)"].replace("−", "-")), rel=1e-6)
    elif "noise" not in place:  # that of the page comes from another generator
        assert numbers[1] == pytest.approx(float(shown["λ(t)"].replace("−", "-")), rel=1e-5)
