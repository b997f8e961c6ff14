"""Reconstructions from noisy states: exact posteriors, classical estimates, bands, scales and refusals."""

import math

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from diffmath.data import load_mnist, to_tensor
from diffmath.domains import Mask
from diffmath.pde import Box, RenormalizedFlow, inverse
from diffmath.pde.inverse import reconstruct
from diffmath.pde.priors import (
    Backward,
    EmpiricalBayes,
    GaussianPrior,
    MixturePrior,
    Observation,
    PowerLaw,
    Prior,
    SpectralCutoff,
    Tikhonov,
)

BOX = Box(64)
FLOW = RenormalizedFlow(BOX)
T = 0.01


def observation(rng, n=8, sigma=0.05):
    mu = np.arange(1.0, n + 1) ** 2
    decay = np.exp(-0.03 * mu)
    return Observation(mu, decay, decay * rng.standard_normal(n) + sigma * rng.standard_normal(n), sigma)


def by_bayes(seen, mean, covariance):
    """The posterior of a Gaussian, by the inverse of the covariance of the data."""
    D = np.diag(seen.decay)
    gain = covariance @ D @ np.linalg.inv(D @ covariance @ D + seen.deviation**2 * np.eye(len(mean)))
    return mean + gain @ (seen.data - D @ mean), covariance - gain @ D @ covariance


@given(seed=st.integers(0, 10**6))
def test_posteriors_are_those_of_bayes(seed):
    rng = np.random.default_rng(seed)
    seen = observation(rng)
    a, p = rng.uniform(0.5, 2), rng.uniform(0, 3)
    root = rng.standard_normal((8, 5))
    priors = {
        PowerLaw(a, p): (np.zeros(8), np.diag(a**2 * seen.eigenvalues**-p)),
        Tikhonov(0.2): (np.zeros(8), np.eye(8) * seen.deviation**2 / 0.2),
        GaussianPrior(np.arange(8.0), root): (np.arange(8.0), root @ root.T),
    }
    for prior, (mean, covariance) in priors.items():
        found, (m, V) = prior.posterior(seen), by_bayes(seen, mean, covariance)
        np.testing.assert_allclose(found.mean, m, atol=1e-9 * np.abs(m).max())  # the inverse's condition is 1e4
        np.testing.assert_allclose(found.variance, np.diag(V), atol=1e-9 * covariance.max())


@given(seed=st.integers(0, 10**6))
def test_the_evidence_is_the_density_of_the_data(seed):
    """Up to a constant that is the same for every prior, here of rank below, at and above the number of modes."""
    rng = np.random.default_rng(seed)
    seen = observation(rng)
    found, exact = [], []
    for rank in (1, 8, 12):
        mean, root = rng.standard_normal(8), rng.standard_normal((8, rank))
        H = seen.decay[:, None] * root
        law = stats.multivariate_normal(seen.decay * mean, H @ H.T + seen.deviation**2 * np.eye(8))
        found.append(GaussianPrior(mean, root).log_evidence(seen))
        exact.append(law.logpdf(seen.data))
    np.testing.assert_allclose(np.diff(found), np.diff(exact), rtol=1e-8, atol=1e-8 * np.abs(exact).max())


def test_the_posterior_of_a_mixture():
    """Against quadrature, in one dimension; in several, equal components are one."""
    seen = Observation(np.ones(1), np.array([0.5]), np.array([0.1]), 0.3)
    weights, means, deviations = np.array([0.2, 0.5, 0.3]), np.array([-1.0, 0.2, 2.0]), np.array([0.1, 0.5, 1.0])
    a, da = np.linspace(-8, 8, 160_001, retstep=True)
    density = sum(w * stats.norm.pdf(a, m, s) for w, m, s in zip(weights, means, deviations, strict=True))
    density *= stats.norm.pdf(0.1, 0.5 * a, 0.3)
    density /= density.sum() * da
    mean = (a * density).sum() * da
    parts = [GaussianPrior([m], [[s]]) for m, s in zip(means, deviations, strict=True)]
    found = MixturePrior(weights, parts).posterior(seen)
    assert found.mean[0] == pytest.approx(mean, abs=1e-9)
    assert found.variance[0] == pytest.approx(((a - mean) ** 2 * density).sum() * da, abs=1e-9)

    seen = observation(np.random.default_rng(0))
    part = GaussianPrior(np.zeros(8), np.eye(8))
    single, mixed = part.posterior(seen), MixturePrior([0.4, 0.6], [part, part]).posterior(seen)
    np.testing.assert_allclose(mixed.mean, single.mean, rtol=1e-12)
    np.testing.assert_allclose(mixed.variance, single.variance, rtol=1e-12)


def test_laws_of_data():
    """A Gaussian from data has their moments; clusters far apart become the components of a mixture."""
    rng = np.random.default_rng(0)
    a = rng.standard_normal((500, 3)) @ rng.standard_normal((3, 3))
    prior = GaussianPrior.of(a, floor=0.1)
    np.testing.assert_allclose(prior.root @ prior.root.T, np.cov(a.T) + 0.1 * np.eye(3), atol=1e-12)
    two = np.concatenate((a[:100] + 100, a[100:400] - 100))
    mixture = MixturePrior.of(two, 2, rng=0)
    order = np.argsort(mixture.weights)
    np.testing.assert_allclose(mixture.weights[order], [0.25, 0.75])
    np.testing.assert_allclose(mixture.components[order[0]].mean, two[:100].mean(axis=0))


def test_variances_stay_positive():
    """Where the difference of covariances is all rounding: data a million times as exact as the prior is wide."""
    rng = np.random.default_rng(0)
    seen = observation(rng, sigma=1e-9)
    root = 1e3 * rng.standard_normal((8, 8))
    assert (by_bayes(seen, np.zeros(8), root @ root.T)[1].diagonal() < 0).any()
    variance = GaussianPrior(np.zeros(8), root).posterior(seen).variance
    np.testing.assert_allclose(variance, (seen.deviation / seen.decay) ** 2, rtol=1e-6)


def test_the_parameters_of_empirical_bayes():
    """Drawn from a power law and hardly damped, the data tell a and p; 2,000 modes to 0.02 and 3 %."""
    rng = np.random.default_rng(0)
    mu = (np.pi * np.arange(1, 2001.0)) ** 2
    for a, p in ((0.3, 0.7), (5.0, 2.5)):
        amplitude = a * mu ** (-p / 2) * rng.standard_normal(len(mu))
        parameters = EmpiricalBayes().posterior(Observation(mu, np.ones(len(mu)), amplitude, 1e-12)).parameters
        assert parameters["p"] == pytest.approx(p, abs=0.03)
        assert parameters["a"] == pytest.approx(a, rel=0.25)  # a goes with p, by mu^(p/2)


def test_the_discrepancy_principle():
    """The misfit of Tikhonov's estimate is 1.1 times the noise's norm; the cut-off keeps the fewest modes with less."""
    seen = observation(np.random.default_rng(1), 50)
    allowed = 1.1 * seen.deviation * math.sqrt(50)
    estimate = Tikhonov().posterior(seen)
    assert np.linalg.norm(seen.decay * estimate.mean - seen.data) == pytest.approx(allowed, rel=1e-9)
    n = int(SpectralCutoff().posterior(seen).parameters["n_modes"])
    for modes, fits in ((n, True), (n - 1, False)):
        kept = SpectralCutoff(modes).posterior(seen).mean if modes else np.zeros(50)
        assert bool(np.linalg.norm(seen.decay * kept - seen.data) <= allowed) is fits
    with pytest.raises(ValueError, match="noise must be smaller than the data"):
        Tikhonov().posterior(seen._replace(deviation=10.0))
    with pytest.raises(ValueError, match="noise must be larger"):
        Tikhonov().posterior(seen._replace(decay=np.zeros(50)))


def test_bands_cover_what_they_say():
    """With the true prior: 0.90 +- 0.01, over 300 initial conditions."""
    rng = np.random.default_rng(0)
    variance = np.zeros(64)
    variance[1:] = BOX.eigenvalues[1:] ** -1.5
    inside = []
    for _ in range(300):
        c = np.sqrt(variance) * rng.standard_normal(64)
        u_T = BOX.to_values(c * np.exp(-BOX.eigenvalues * T)) + 1e-3 * rng.standard_normal(64)
        ds = reconstruct(FLOW, u_T, T, noise=1e-3, prior=PowerLaw(1.0, 1.5))
        u_0 = BOX.to_values(c)
        inside.append(((ds.lower <= u_0) & (u_0 <= ds.upper)).mean().item())
    assert np.mean(inside) == pytest.approx(0.9, abs=0.01)


@pytest.mark.parametrize("shape", ["step", "hat", "rough", "smooth"])
def test_the_default_is_close_to_the_best_classical_estimate(shape):
    """In the median over draws the error is at most 1.15 times that of the best cut-off and Tikhonov, truth known."""
    box = Box(512)
    rng = np.random.default_rng(0)
    x = box.coordinates[0]
    mu, deviation = box.eigenvalues[1:], 1e-3 / math.sqrt(512)
    errors = []
    for _ in range(30):
        smooth = np.exp(np.cos(2 * np.pi * (x - 0.1)))  # its even extension has kinks
        u = {"step": np.sign(0.5 - x), "hat": np.maximum(0, 1 - 4 * np.abs(x - 0.5)), "smooth": smooth}.get(shape)
        a = mu**-0.5 * rng.standard_normal(511) if u is None else box.to_modes(u)[1:]
        decay = np.exp(-mu * T)
        seen = Observation(mu, decay, decay * a + deviation * rng.standard_normal(511), deviation)
        classical = [*map(SpectralCutoff, range(1, 16)), *map(Tikhonov, 10.0 ** np.arange(-10, -2))]
        misses = [np.linalg.norm(prior.posterior(seen).mean - a) for prior in (EmpiricalBayes(), *classical)]
        errors.append((misses[0], min(misses[1:16]), min(misses[16:])))
    default, cutoff, tikhonov = np.median(errors, axis=0)
    assert default <= 1.15 * min(cutoff, tikhonov)


def test_the_scale_follows_from_the_preserved_quantity():
    """The expected energy is C, for each norm that is a sum over modes."""
    rng = np.random.default_rng(0)
    u_T = BOX.eigenfunction(1) + 0.01 * rng.standard_normal(64)
    for preserve, power in (("gradient", 1), ("value", 0), ("laplacian", 2)):
        ds = reconstruct(RenormalizedFlow(BOX, preserve), u_T, T, noise=0.01, C=7.0)
        squares = ds.amplitude.values**2 + ds.amplitude_deviation.values**2
        assert (BOX.eigenvalues**power * squares)[1:].sum() == pytest.approx(7.0, rel=1e-12)
        plain = reconstruct(RenormalizedFlow(BOX, preserve), u_T, T, noise=0.01)
        np.testing.assert_allclose(plain.u * ds.scale, ds.u, atol=1e-12)
        np.testing.assert_allclose(plain.deviation * ds.scale, ds.deviation, rtol=1e-12)


def test_deviations_at_the_grid_points():
    """The diagonal of W V W^T, for covariances that are diagonal and full."""
    box = Box((6, 5))
    W = box.to_values(np.eye(30).reshape(30, 6, 5)).reshape(30, 30).T
    rng = np.random.default_rng(0)
    root = rng.standard_normal((30, 7))
    u_T = rng.standard_normal((6, 5))
    ds = reconstruct(RenormalizedFlow(box), u_T, 0.001, noise=0.1, mean="keep", prior=GaussianPrior(np.zeros(30), root))
    deviation = 0.1 / math.sqrt(30)
    seen = Observation(np.ones(30), np.exp(-box.eigenvalues * 0.001).ravel(), box.to_modes(u_T).ravel(), deviation)
    mean, V = by_bayes(seen, np.zeros(30), root @ root.T)
    np.testing.assert_allclose(ds.u.values.ravel(), W @ mean, atol=1e-9)
    np.testing.assert_allclose(ds.deviation.values.ravel(), np.sqrt(np.diag(W @ V @ W.T)), rtol=1e-6)
    ds = reconstruct(RenormalizedFlow(box), u_T, 0.001, noise=0.1, prior=PowerLaw(1.0, 1.0))
    V = np.diag(ds.amplitude_deviation.values.ravel() ** 2)
    np.testing.assert_allclose(ds.deviation.values.ravel(), np.sqrt(np.diag(W @ V @ W.T)), rtol=1e-12)
    assert 0 < ds.modes_told < 29


def test_names_and_coordinates_are_those_of_the_data():
    u_T = xr.DataArray(BOX.eigenfunction(1), dims="lon", coords={"lon": BOX.coordinates[0], "station": 3})
    ds = reconstruct(FLOW, u_T, T, noise=1e-3)
    assert (ds.u.dims, ds.amplitude.dims, ds.station.item()) == (("lon",), ("k_lon",), 3)
    np.testing.assert_array_equal(ds.k_lon, np.arange(64))


def test_backwards_without_a_prior():
    """Exactly, it is the backward flow; mollified, it stays near; the longer, the more the highest mode has."""
    box = Box(12)
    flow = RenormalizedFlow(box)
    u_T = flow.evolve(np.sign(0.4 - box.coordinates[0]), 0.01)[0]
    ds = reconstruct(flow, u_T, 0.01, noise=1e-12, prior=Backward(), C=3.0)
    back = flow.evolve(u_T, -0.01, C=3.0)[0]
    np.testing.assert_allclose(ds.u, back, atol=1e-9)  # rounding is amplified by exp(11.6) = 1e5
    energy, highest = [], []
    for time in (0.005, 0.02):
        noisy = u_T + 1e-6 * np.random.default_rng(0).standard_normal(12)
        ds = reconstruct(flow, noisy, time, noise=1e-6, prior=Backward(), C=3.0)
        share = box.eigenvalues * ds.amplitude.values**2
        energy.append(share.sum())
        highest.append(share[-1] / share.sum())
    assert max(energy) <= 3.0 + 1e-12
    assert highest[0] < 0.1
    assert highest[1] > 0.7
    with pytest.raises(ValueError, match=r"mu T must be at most 30 .* has 59\.7"):
        reconstruct(flow, u_T, 0.05, noise=1e-6, prior=Backward())
    highest = []
    for time in (0.005, 0.05, 0.5):  # by a polynomial
        ds = reconstruct(flow, u_T, time, noise=1e-6, prior=Backward(2), C=3.0)
        share = box.eigenvalues * ds.amplitude.values**2
        assert share.sum() <= 3.0 + 1e-12
        highest.append(share[-1] / share.sum())
    assert highest[0] < highest[1] < highest[2]


def test_a_mixture_recovers_digits():
    """Blurred by 4 pixels: at most 0.72 times the median error of Tikhonov's method with each digit known."""
    pytest.importorskip("torch")  # of the digits
    chosen = np.random.default_rng(0).permutation(5000)[:3016]
    images = to_tensor(load_mnist("sample").images[chosen]).squeeze(1).double().numpy()
    box, noise = Box((32, 32)), 0.01 / 32
    modes = box.to_modes(images).reshape(-1, 1024)
    mixture, rng = MixturePrior.of(modes[16:], 40, rng=0), np.random.default_rng(1)
    decay = np.exp(-box.eigenvalues * (4 / 32) ** 2 / 2).ravel()
    errors = []
    for c in modes[:16]:
        seen = Observation(box.eigenvalues.ravel(), decay, decay * c + noise * rng.standard_normal(1024), noise)
        priors = (mixture, *map(Tikhonov, 10.0 ** np.arange(-8, -1, 0.5)))
        own, *classical = (np.linalg.norm(prior.posterior(seen).mean - c) / np.linalg.norm(c) for prior in priors)
        errors.append((own, min(classical)))
    mixed, tikhonov = np.median(errors, axis=0)
    assert mixed <= 0.72 * tikhonov


def test_a_domain_of_any_shape():
    """An L of 20 x 20 cells: a prior's bands hold a state that is drawn from it."""
    shape = np.ones((20, 20), dtype=bool)
    shape[10:, 10:] = False
    domain, rng = Mask(shape, n_modes=30), np.random.default_rng(0)
    inside = []
    for _ in range(40):
        c = np.append(0.0, domain.eigenvalues[1:] ** -0.75 * rng.standard_normal(29))
        u_0 = domain.to_values(c)
        u_T = domain.to_values(np.exp(-1.0 * domain.eigenvalues) * c) + 1e-3 * rng.standard_normal(domain.shape)
        ds = reconstruct(RenormalizedFlow(domain), u_T, 1.0, noise=1e-3, prior=PowerLaw(1.0, 1.5))
        inside.append(((ds.lower <= u_0) & (u_0 <= ds.upper)).mean().item())
    assert np.mean(inside) == pytest.approx(0.9, abs=0.03)  # of 40 draws


def test_what_is_refused():
    u_T = BOX.eigenfunction(1)
    for options, message in (
        ({"T": -1.0}, "T must be positive"),
        ({"T": math.nan}, "T must be finite"),
        ({"T": 0.0}, "T must be positive"),
        ({"T": 4.0}, r"T must be at most 3\.04, .* it is 4, with exp\(-39\.48\)"),
        ({"noise": 0.0}, "noise must be positive"),
        ({"noise": 1e-17}, r"noise must be at least 3\.1e-16, the rounding of u_T in float64; it is 1e-17"),
        ({"noise": 10.0, "prior": SpectralCutoff(), "C": 1.0}, "noise must be smaller, or C left out: with 10"),
        ({"prior": SpectralCutoff(18)}, r"mu T must be at most 30 .* has 31\.98: n_modes must be less than 18"),
        ({"T": 3.0, "prior": Backward(500)}, r"n_steps must be smaller: 500 amplify the highest mode by exp\("),
        ({"level": 1.0}, r"level must lie in \(0, 1\)"),
        ({"C": -2.0}, "C must be positive"),
        ({"mean": "drop"}, "mean must be"),
        ({"u_T": np.stack((u_T, u_T))}, "u_T must be one state"),
        ({"prior": GaussianPrior(np.zeros(3), np.eye(3))}, "prior must be of the domain's 63 modes"),
    ):
        arguments = {"u_T": u_T, "T": T, "noise": 1e-3} | options
        with pytest.raises(ValueError, match=message):
            reconstruct(FLOW, arguments.pop("u_T"), arguments.pop("T"), **arguments)
    with pytest.raises(TypeError, match="prior must be a Prior"):
        reconstruct(FLOW, u_T, T, noise=1e-3, prior="smooth")
    with pytest.raises(ValueError, match="C must be left out"):
        reconstruct(RenormalizedFlow(BOX, "total_variation"), u_T, T, noise=1e-3, C=1.0)
    with pytest.raises(ValueError, match="weights must be positive with sum 1"):
        MixturePrior([0.5, 0.6], [GaussianPrior([0.0], [[1.0]])] * 2)
    for make in (GaussianPrior.of, lambda a: MixturePrior.of(a, 1)):
        for amplitudes in (np.ones(5), np.ones((1, 5)), np.full((3, 5), math.nan)):
            with pytest.raises(ValueError, match="amplitudes must be finite, those of at least 2 functions"):
                make(amplitudes)
    with pytest.raises(ValueError, match="mean and root must have shapes"):
        GaussianPrior([0.0, 1.0], [[1.0]])
    assert issubclass(Backward, Prior)


@pytest.mark.parametrize("given", ["a matrix", "a diagonal"])
def test_deviations_a_few_columns_at_a_time(given, monkeypatch):
    """The deviations at the grid points do not depend on how many modes are transformed at once."""
    box = Box(16)
    root = np.random.default_rng(0).standard_normal((15, 9) if given == "a matrix" else 15)
    at_once = inverse._deviation(box, ~box.null_modes, root)
    monkeypatch.setattr(inverse, "CHUNK", 3 * 16)
    np.testing.assert_allclose(inverse._deviation(box, ~box.null_modes, root), at_once, rtol=1e-14)
