"""The start that belongs to the data: its law, its noise, and what is refused."""

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from diffmath.data import load_mnist, to_tensor
from diffmath.ddpm import gaussian_denoiser, matched_start, moments, sample
from diffmath.schedule import VarianceSchedule
from tests import laws
from tests.strategies import covariances, jumps

PAPER = VarianceSchedule.linear()


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def affine(x, z):
    """The c and S of x = c + z S, of more samples than unknowns, and exactly so."""
    ones = np.concatenate([np.ones((len(z), 1)), z], axis=1)
    solution, residual, *_ = np.linalg.lstsq(ones, x, rcond=None)
    assert residual.max(initial=0) < 1e-20
    return solution[0], solution[1:]


@given(covariances(4), jumps(), st.integers(0, 2**32 - 1))
@example((np.zeros(4), np.eye(4)), (PAPER, [0, 500]), 0)
def test_law(case, jump, seed):
    """The map from the noise to x_t: eq. (9) pushed through the data's law, by the symmetric root."""
    s, axes = case
    schedule, (_, t) = jump
    covariance, mean = (axes * s) @ axes.T, np.random.default_rng(seed).standard_normal((2, 2))
    x = matched_start(
        schedule,
        40,
        torch.tensor(mean),
        covariance=torch.tensor(covariance),
        t=t,
        generator=seeded(seed),
        dtype=torch.float64,
    )
    assert x.shape == (40, 2, 2)
    z = torch.randn((40, 2, 2), generator=seeded(seed), dtype=torch.float64)
    centre, root = affine(x.flatten(1).numpy(), z.flatten(1).numpy())
    alpha_bar, rest = schedule.transition(t, 0)
    # The least squares of 40 normal samples for 5 unknowns are well conditioned: some roundings of the largest number.
    laws.within(centre, np.sqrt(alpha_bar) * mean.ravel(), 1e-12, label="mean")
    laws.within(root, root.T, 1e-12, label="symmetry")
    laws.within(root @ root, alpha_bar * covariance + rest * np.eye(4), 1e-12, label="covariance")
    assert np.linalg.eigvalsh(root).min() >= -1e-12


@pytest.mark.parametrize(
    ("mean", "variance", "shape"),
    [
        (0.3, 0.04, ()),
        (0.3, torch.tensor([0.04, 0.5]), (2,)),
        (torch.tensor([[0.3], [1.0]]), 0.04, (2, 1)),
        (torch.tensor([0.3, -1.0]), torch.tensor([0.0, 2.0]), (2,)),
    ],
)
def test_independent_components(mean, variance, shape):
    """Each component by itself, from one noise; numbers stand for all components."""
    x = matched_start(PAPER, 5, mean, variance, t=400, generator=seeded(), dtype=torch.float64)
    z = torch.randn((5, *shape), generator=seeded(), dtype=torch.float64)
    alpha_bar, rest = PAPER.transition(400, 0)
    m, v = (torch.as_tensor(c, dtype=torch.float64) for c in (mean, variance))
    torch.testing.assert_close(x, alpha_bar**0.5 * m + (alpha_bar * v + rest).sqrt() * z, rtol=1e-14, atol=1e-14)
    if shape:
        diagonal = torch.diag(v.expand(shape).flatten())
        whole = matched_start(
            PAPER, 5, m.expand(shape), covariance=diagonal, t=400, generator=seeded(), dtype=torch.float64
        )
        torch.testing.assert_close(whole, x, rtol=1e-13, atol=1e-13)


def test_its_noise_is_that_of_sample():
    """The same generator, the same noise, so that samples come in pairs; float32 as there."""
    denoiser = gaussian_denoiser(PAPER, 0.3, 0.04)
    _, (z,) = sample(denoiser, PAPER, n_samples=3, n_steps=1, generator=seeded(), trajectory=[500])
    assert torch.equal(matched_start(PAPER, 3, torch.zeros(1, 32, 32), 1.0, generator=seeded()), z)
    x = matched_start(PAPER, 3, torch.full((1, 32, 32), 0.3), 0.04, generator=seeded())
    assert x.dtype == torch.float32
    assert 0 < (x - z).abs().max() < 0.05


def test_samples_have_the_law():
    """Monte Carlo, 20,000 samples: an exact test with 1e-6 for a false alarm. And N(0, I) fails it."""
    axes = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0]
    covariance, mean = (axes * [0.01, 0.25, 9.0]) @ axes.T, np.array([0.3, -1.0, 0.5])
    x = matched_start(
        PAPER, 20_000, torch.tensor(mean), covariance=torch.tensor(covariance), generator=seeded(), dtype=torch.float64
    ).numpy()
    alpha_bar, rest = PAPER.transition(500, 0)
    laws.gaussian_samples(x, np.sqrt(alpha_bar) * mean, alpha_bar * covariance + rest * np.eye(3))
    with pytest.raises(AssertionError, match="in a tail"):
        laws.gaussian_samples(x, np.zeros(3), np.eye(3))


def test_shape_and_randomness():
    """With a covariance alone, vectors; without a generator, something else each time."""
    assert matched_start(PAPER, 2, 0.0, covariance=torch.eye(3)).shape == (2, 3)
    assert not torch.equal(matched_start(PAPER, 2, 0.0, 1.0), matched_start(PAPER, 2, 0.0, 1.0))


def test_moments():
    """In fractions, by hand; of samples of any shape and precision."""
    data = torch.tensor([[[0.0, 1.0]], [[2.0, 1.0]], [[4.0, 4.0]]])
    mean, covariance = moments(data)
    assert torch.equal(mean, torch.tensor([[2.0, 2.0]], dtype=torch.float64))
    assert torch.equal(covariance, torch.tensor([[4.0, 3.0], [3.0, 3.0]], dtype=torch.float64))
    assert moments(torch.tensor([1.0, 3.0]))[1].tolist() == [[2.0]]
    assert matched_start(PAPER, 2, mean, covariance=covariance).shape == (2, 1, 2)
    for bad, said in ((data[:1], r"shape \(N, ...\) with N >= 2"), (data / 0, "data must be finite")):
        with pytest.raises(ValueError, match=said):
            moments(bad)
    with pytest.raises(TypeError, match="data must be a floating tensor; it is torch.int64"):
        moments(data.long())


def test_bad_arguments():
    vector, square = torch.zeros(3), torch.eye(3)
    with pytest.raises(ValueError, match="n_samples must be at least 1; it is 0"):
        matched_start(PAPER, 0, 0.0, 1.0)
    for n in (2.5, True, np.array([3, 4])):
        with pytest.raises(TypeError, match="n_samples must be an integer"):
            matched_start(PAPER, n, 0.0, 1.0)
        with pytest.raises(TypeError, match="t must be an integer"):
            matched_start(PAPER, 2, 0.0, 1.0, t=n)
    for both in ({}, {"variance": 1.0, "covariance": square}):
        with pytest.raises(ValueError, match="give a variance or a covariance"):
            matched_start(PAPER, 2, vector, **both)
    with pytest.raises(ValueError, match=r"variance must have the shape \(\) or \(3,\) for samples of shape \(3,\)"):
        matched_start(PAPER, 2, vector, torch.ones(2))
    with pytest.raises(ValueError, match=r"covariance must have the shape \(4, 4\) for samples of shape \(2, 2\)"):
        matched_start(PAPER, 2, torch.zeros(2, 2), covariance=square)
    with pytest.raises(ValueError, match="positive semidefinite"):
        matched_start(PAPER, 2, vector, covariance=-square)
    with pytest.raises(ValueError, match="variance must be finite and at least 0; -1 came"):
        matched_start(PAPER, 2, vector, -1.0)
    for t in (0, 501):
        with pytest.raises(ValueError, match=r"t must lie in 1\.\.500"):
            matched_start(PAPER, 2, vector, 1.0, t=t)
    with pytest.raises(TypeError, match="dtype must be floating"):
        matched_start(PAPER, 2, vector, 1.0, dtype=torch.int64)


def test_images():
    """The mean and covariance of digits, of which a third of the eigenvalues are zero but for rounding."""
    mean, covariance = moments(to_tensor(load_mnist("sample").images[::10]))
    x = matched_start(PAPER, 4000, mean, covariance=covariance, generator=seeded())
    assert x.shape == (4000, 1, 32, 32)
    alpha_bar, rest = PAPER.transition(500, 0)
    # Along the widest axis and the one of least variance, and in the mean of all pixels: 5 standard errors.
    axes = torch.linalg.eigh(covariance)[1][:, [0, -1]]
    for axis in (*axes.T, torch.full((1024,), 1 / 32, dtype=torch.float64)):
        seen = x.double().flatten(1) @ axis
        centre = alpha_bar**0.5 * (mean.flatten() @ axis).item()
        laws.sample_mean(seen, centre)
        laws.sample_mean((seen - centre) ** 2, (alpha_bar * axis @ covariance @ axis + rest).item())


def test_rounded_covariances():
    """What is below zero by roundings of the largest eigenvalue is zero; those of 60,000 digits' covariance are."""
    direction = torch.zeros(64, dtype=torch.float64)
    direction[:2] = torch.tensor([1.0, -1.0]) / math.sqrt(2)
    for least, accepted in ((1e-12, True), (1e-11, False)):
        covariance = torch.ones(64, 64, dtype=torch.float64) - least * torch.outer(direction, direction)
        if accepted:  # 4 d eps times 64 is 3.6e-12
            assert torch.isfinite(matched_start(PAPER, 2, 0.0, covariance=covariance)).all()
        else:
            with pytest.raises(ValueError, match="positive semidefinite"):
                matched_start(PAPER, 2, 0.0, covariance=covariance)
