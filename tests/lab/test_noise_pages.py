"""The pages Forward, Backward and Exact denoiser against the package."""

import io
from contextlib import redirect_stdout

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from diffmath import load_checkpoint, sample
from diffmath.data import load_mnist, to_tensor
from diffmath.ddpm import gaussian_denoiser, guided, matched_start, moments
from diffmath.schedule import VarianceSchedule

SCHEDULE = VarianceSchedule.linear(500)
# Each of ten steps adds the network's 4e-6, and those to small t divide by sqrt(alpha_bar); 2e-6 to 2e-5 were seen.
CLOSE = 1e-4

SAMPLE = """async ([settings, x_T, noise]) => {
    const samples = x_T.map((x, index) => ({ index, x_T: x, noise: noise.map(draw => draw[index]) }));
    const last = await lab.crew.sample(settings, samples);
    return last.states.map(x => Array.from(x));
}"""


@pytest.fixture(scope="module")
def data():
    """MNIST's moments, and the digit 3 of the page."""
    mnist = load_mnist("sample")
    images = to_tensor(mnist.images)
    return (*moments(images), images[mnist.labels == 3][0])


def draws(n_draws, n_samples):
    """The noise that `sample` draws from the seed 1, step by step."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randn((n_samples, 1, 32, 32), generator=generator) for _ in range(n_draws)]


def as_lists(images):
    return images.reshape(len(images), -1).tolist()


def test_the_page_has_the_digit_and_the_schedule(lab, data):
    np.testing.assert_array_equal(lab.page.evaluate("Array.from(lab.digit(3))"), data[2].flatten())
    beta = lab.page.evaluate("Array.from({length: 500}, (_, i) => lab.paperSchedule().transition(i + 1, i)[1])")
    np.testing.assert_allclose(beta, SCHEDULE.beta[1:], rtol=1e-11)  # differences of logarithms of up to 5


@pytest.mark.parametrize("name", ["linear", "cosine"])
@pytest.mark.parametrize("t", [0, 1, 120, 500])
def test_noisy_images_are_those_of_add_noise(lab, data, name, t):
    """x_t to 1e-6, some roundings of float32."""
    eps = torch.randn(1024, generator=torch.Generator().manual_seed(0))
    x_t = lab.page.evaluate(
        "([name, eps, t]) => Array.from(lab.VarianceSchedule[name](500).addNoise(lab.digit(3), eps, t))",
        [name, eps.tolist(), t],
    )
    wanted = getattr(VarianceSchedule, name)(500).add_noise(data[2].flatten(), eps, t)
    np.testing.assert_allclose(x_t, wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("method", "n_steps", "eta", "weight", "n_samples"),
    [
        ("ancestral", 6, 0.0, 0.0, 3),
        ("ddim", 6, 0.0, 0.0, 1),
        ("ddim", 6, 0.5, 0.0, 1),
        ("heun", 5, 0.0, 0.0, 1),
        ("dpmsolver++2m", 10, 0.0, 0.0, 1),
        ("dpmsolver++2m", 6, 0.0, 0.4, 2),
    ],
)
def test_samples_are_those_of_sample(lab, data, method, n_steps, eta, weight, n_samples):
    """From the same x_T and the same noise, step by step, with the trained network, by all Workers."""
    x_T = torch.randn((n_samples, 1, 32, 32), generator=torch.Generator().manual_seed(0))
    network = load_checkpoint("compact").model
    if weight:
        reference = gaussian_denoiser(SCHEDULE, data[0], covariance=data[1])
        network = guided(network, reference, weight)
    wanted = sample(network, SCHEDULE, x_T, n_steps=n_steps, method=method, eta=eta, generator=1)
    times = SCHEDULE.subsequence(n_steps)[::-1].tolist()
    settings = {"method": method, "times": times, "eta": eta, "weight": weight, "seed": 0}
    noise = [as_lists(draw) for draw in draws(n_steps - 1, n_samples)]
    got = lab.page.evaluate(SAMPLE, [settings, as_lists(x_T), noise])
    np.testing.assert_allclose(got, as_lists(wanted), rtol=0, atol=CLOSE)


def test_the_matched_start_is_that_of_the_package(lab, data):
    """To the 16 bits that the page keeps of the covariance's axes."""
    wanted = matched_start(SCHEDULE, 1, data[0], covariance=data[1], generator=1)
    got = lab.page.evaluate(
        "z => Array.from(lab.matchedStart(lab.paperSchedule(), lab.moments(), z))", draws(1, 1)[0].flatten().tolist()
    )
    np.testing.assert_allclose(got, wanted.flatten(), rtol=0, atol=CLOSE)


def test_a_run_by_the_keyboard(lab):
    """Five steps from a matched start with guidance, and the film that the keys move."""
    lab.open("backward?steps=5&count=1&start=matched&weight=0.4")
    lab.page.get_by_role("button", name="Run").press("Enter")
    lab.page.wait_for_function("document.querySelector('#page-backward dl').textContent.endsWith('5 of 5')")
    assert lab.numbers() == {"time t": "0", "steps": "5 of 5"}
    lab.page.locator("#backward-frame").press("Home")
    assert lab.numbers()["time t"] == "500"
    lab.page.wait_for_url("**frame=0")
    lab.page.locator("#backward-seed").press("ArrowRight")
    assert lab.numbers() == {"x at the start": "press Run"}


def test_stop_stops_within_two_steps(lab):
    lab.open("backward?steps=500&count=1")
    lab.page.get_by_role("button", name="Run").click()
    lab.page.wait_for_function("/[3-9] of 500/.test(document.querySelector('#page-backward dl').textContent)")
    count = "Number(document.querySelector('#page-backward dd:last-of-type').textContent.split(' ')[0])"
    stop = "[...document.querySelectorAll('#page-backward button')].find(one => one.textContent === 'Stop').click()"
    before = lab.page.evaluate(f"() => {{ const before = {count}; {stop}; return before; }}")
    lab.page.wait_for_timeout(600)
    assert before <= lab.page.evaluate(count) <= before + 2
    assert "running" not in lab.numbers()["steps"]


def predicted_variance(method, s):
    """The variance of the samples of N(0.3, s^2) over s^2: each step is affine, x_s = g x_t + c z + const."""
    variance = 1.0
    for t in range(500, 0, -1):
        alpha, v = SCHEDULE.transition(t, t - 1)
        alpha_bar_t, v_t = SCHEDULE.transition(t, 0)
        v_s = SCHEDULE.transition(t - 1, 0)[1] if t > 1 else 0.0
        slope = np.sqrt(v_t) / (alpha_bar_t * s**2 + v_t)  # of E[eps | x_t]
        if method == "ancestral":
            gain, noise = (1 - v / np.sqrt(v_t) * slope) / np.sqrt(alpha), v * v_s / v_t
        else:
            gain, noise = (1 - np.sqrt(v_t) * slope) / np.sqrt(alpha) + np.sqrt(v_s) * slope, 0.0
        variance = gain**2 * variance + noise
    return variance / s**2


@pytest.mark.parametrize(
    ("method", "s", "known"), [("ancestral", 0.2, 0.952), ("ddim", 0.2, 0.986), ("ancestral", 1, 0.988)]
)
def test_algorithm_2_is_too_narrow(lab, method, s, known):
    """With the exact denoiser, T = 500, for N(0.3, s^2): 0.952 of the variance for s = 0.2."""
    lab.open(f"exact?method={method}&deviation={s}")
    shown = float(lab.numbers()["exact variance of the samples, over it"])
    assert shown == pytest.approx(known, abs=5e-4)
    assert shown == pytest.approx(predicted_variance(method, s), abs=1e-6)
    samples = lab.numbers()["variance of these 400 samples, over it"]
    assert float(samples) == pytest.approx(shown, abs=0.3)  # four standard errors of a variance from 400 samples


@pytest.mark.parametrize(
    ("place", "control", "value"),
    [
        ("forward?image=5", "forward-t", 300),
        ("exact?components=2&steps=50", "exact-deviation", 0.3),
        ("exact?T=500", "exact-deviation", 0.3),  # all steps, and the exact law of the samples
    ],
)
def test_sliders_redraw_at_once(lab, place, control, value):
    lab.open(place)
    assert lab.redraw(control, value) < 50


def test_a_drawing_is_kept_by_the_hash_and_goes_to_the_next_page(lab):
    lab.open("forward")
    lab.page.get_by_role("button", name="Blank sheet").click()
    sheet = lab.page.locator("#page-forward canvas").first
    for key in [" ", "ArrowDown", "ArrowDown", " "]:
        sheet.press(key)
    drawing = lab.page.evaluate("lab.view().state.drawing")
    assert drawing.count("0") < 256
    lab.page.wait_for_url(f"**drawing={drawing}*")
    lab.page.get_by_role("link", name="Backward").click()
    lab.page.wait_for_function("lab.view().page.id === 'backward'")
    assert lab.page.evaluate("lab.view().state.drawing") == drawing


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("forward?t=120", "√ᾱ, amplitude of the image"),
        (f"forward?image=drawing&drawing={'0' * 100}ff{'0' * 154}&schedule=cosine", "√ᾱ, amplitude of the image"),
        ("backward?steps=5&count=1", None),
        ("backward?steps=5&count=1&start=matched&weight=0.4&method=ancestral", None),
        ("backward?steps=5&count=1&start=image&image=7&from=3&method=ddim&eta=0.5", None),
        ("exact?components=3&steps=20&method=heun", None),
        ("exact?T=100", None),
    ],
)
def test_the_lines_of_python_run(lab, place, expected, tmp_path, monkeypatch):
    """And print the amplitudes that the page shows, or write the sheet of samples. One stream of noise has the seed."""
    monkeypatch.chdir(tmp_path)
    lab.open(place)
    printed = io.StringIO()
    with redirect_stdout(printed):
        exec(lab.python(), {})
    assert lab.python().count("generator=0") + lab.python().count("manual_seed(0)") == 1
    if expected:
        assert float(printed.getvalue().split()[0]) == pytest.approx(float(lab.numbers()[expected]), rel=1e-5)
    elif place.startswith("backward"):
        assert np.ptp(plt.imread(tmp_path / "digits.png")) > 0.5  # neither black nor white
    else:
        assert 0.5 < float(printed.getvalue()) < 1.5
