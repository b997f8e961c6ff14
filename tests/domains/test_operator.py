"""Domains of matrices and of pixels, with few modes of many."""

import functools
import re

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse as sp

from diffmath.domains import Box, Mask, Operator, _cost
from diffmath.pde import RenormalizedFlow
from tests import laws

RNG = np.random.default_rng(7)


def elements(n, held=False):
    """Linear elements on n intervals of random lengths: mass and stiffness, with one end held at zero if asked."""
    h = RNG.uniform(0.5, 1.5, n)
    one = sp.diags_array([np.ones(n), np.ones(n)], offsets=[0, 1], shape=(n, n + 1))
    half = sp.diags_array([np.ones(n), -np.ones(n)], offsets=[0, 1], shape=(n, n + 1))
    M = one.T @ sp.diags_array(h / 6) @ one + sp.diags_array(np.append(h, 0) / 6 + np.append(0, h) / 6)
    K = half.T @ sp.diags_array(1 / h) @ half
    return (M.tocsr()[1:, 1:], K.tocsr()[1:, 1:]) if held else (M.tocsr(), K.tocsr())


def graph(n):
    """A random connected graph with random weights on its vertices."""
    A = sp.random_array((n, n), density=6 / n, rng=RNG, format="csr")
    A = A + sp.diags_array(np.ones(n - 1), offsets=1)
    A = A + A.T
    A.setdiag(0)
    return RNG.uniform(0.5, 2, n), sp.diags_array(A @ np.ones(n)) - A


@functools.cache
def bitmap(shape=(30, 27), spots=5):
    """A mask of several components, some of one pixel."""
    rng = np.random.default_rng(3)
    mask = rng.random(shape) < 0.2
    for i, j in rng.integers(0, shape, (spots, 2)):
        mask[i : i + 9, j : j + 9] = True
    return mask


def domains():
    yield "mass", Operator(*elements(40), n_modes=12)
    yield "lanczos", Operator(*elements(560), n_modes=30)
    yield "held", Operator(*elements(520, held=True), n_modes=15)
    yield "graph", Operator(*graph(520), n_modes=20)
    yield "complete", Operator(*graph(30))
    yield "two", Operator(np.ones(50), sp.block_diag([graph(20)[1], graph(30)[1]]), n_modes=6)
    yield "mask", Mask(np.ones((25, 24), dtype=bool), n_modes=30)
    yield "spots", Mask(bitmap(), spacing=(0.1, 0.2), n_modes=123)  # all of a multiple eigenvalue
    yield "solid", Mask(np.random.default_rng(0).random((12, 9, 8)) < 0.9, spacing=0.1, n_modes=20)
    yield "interval", Mask(np.arange(9) > 3, n_modes=5)


DOMAINS = dict(domains())


@functools.cache
def dense(name):
    """All eigenvalues, and the eigenvectors as columns."""
    domain = DOMAINS[name]
    return scipy.linalg.eigh(domain.stiffness.toarray(), domain.mass.toarray())


@pytest.mark.parametrize("name", DOMAINS)
def test_matrices_are_an_eigenbasis(name):
    laws.eigenbasis(DOMAINS[name])


@pytest.mark.parametrize("name", ["mask", "spots", "solid", "interval"])
def test_green(name):
    domain = DOMAINS[name]
    laws.green(domain, np.random.default_rng(1).standard_normal(domain.mode_shape))


@pytest.mark.parametrize("name", ["mass", "held", "graph", "complete", "two"])
def test_eigenvalues_are_those_of_dense_matrices(name):
    domain = DOMAINS[name]
    expected = dense(name)[0]
    # Dense eigenvalues are as accurate as the largest is.
    laws.within(domain.eigenvalues, expected[: domain.n_modes], 64 * laws.EPS * expected[-1])


@pytest.mark.parametrize("shape", [(9,), (24, 25), (6, 5, 4), (26, 26)], ids=str)
def test_a_full_mask_is_the_box_of_differences(shape):
    box = Box(shape, [n / max(shape) for n in shape]).discrete
    n_modes = min(40, box.weights.size)
    mask = Mask(np.ones(shape, dtype=bool), n_modes=n_modes)
    expected = np.sort(box.eigenvalues.ravel())[:n_modes]
    laws.within(mask.eigenvalues, expected, 1e-13 * expected)
    laws.within(mask.image(mask.points), box.points, 1e-15)
    u_0 = np.random.default_rng(1).standard_normal(shape)
    times = [0.0, 1e-4, 1e-3, 0.01, 0.1, 1.0]
    ours, theirs = (RenormalizedFlow(d).solve(u, times) for d, u in ((mask, u_0.ravel()), (box, u_0)))
    largest = np.abs(theirs.u.values).reshape(len(times), -1).max(axis=1)
    laws.within(mask.image(ours.u.values), theirs.u.values, 1e-13 * largest.reshape(-1, *[1] * len(shape)))
    for name in ("multiplier", "energy", "preserved"):
        laws.close(ours[name], theirs[name], ulps=1e-13 / laws.EPS)


@pytest.mark.parametrize("name", ["lanczos", "held", "graph", "spots"])
@pytest.mark.parametrize("preserve", ["gradient", "value", "laplacian"])
def test_the_flow_is_that_of_all_modes(name, preserve):
    """What lies beyond the known modes is not thrown away: every t from far below to far beyond them."""
    domain = DOMAINS[name]
    mu, w = dense(name)
    scale = domain.eigenvalues[domain.lowest_mode]
    u_0 = np.random.default_rng(1).standard_normal((2, *domain.shape))
    null = np.arange(len(mu)) < domain.null_modes.sum()
    t = np.array([0, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 1]) * 10 / scale
    ds = RenormalizedFlow(domain, preserve).solve(u_0, t)
    c = u_0 @ domain.mass @ w
    c[:, null] = 0
    v = c[:, None] * np.exp(-np.multiply.outer(t, mu - scale))
    s = {"gradient": 1, "value": 0, "laplacian": 2}[preserve]
    power = np.where(null, 0, mu) ** s * ~null
    size = np.sqrt((power * v**2).sum(axis=-1, keepdims=True))
    b = v / size * size[:, :1]
    u = b @ w.T
    laws.within(ds.u, u, 1e-10 * np.abs(u).max(axis=-1, keepdims=True), label="u")
    laws.within(ds.multiplier, (power * mu * v**2).sum(axis=-1) / size[..., 0] ** 2, 1e-10 * mu[-1], label="lambda")
    laws.close(ds.multiplier[:, 0], (power * mu * c**2).sum(axis=-1) / size[:, 0, 0] ** 2, ulps=4096, label="lambda(0)")
    laws.conserved(ds.preserved.values.T, ulps=256)
    shares = (power * v**2 / size**2)[..., : domain.n_modes]
    laws.within(ds.energy_fraction.sum("k"), shares.sum(axis=-1), 1e-10)


def test_means_of_components_are_projected():
    """Each component's, which would grow like exp of the integral of lambda, not that of the whole alone."""
    domain = DOMAINS["spots"]
    u_0 = np.random.default_rng(1).standard_normal(domain.shape)
    ds = RenormalizedFlow(domain).solve(u_0, [0.0, 1e-3, 0.1, 10.0, np.inf])
    for component in range(domain.components.max() + 1):
        part = ds.u.values[:, domain.components == component]
        laws.within(part.mean(axis=1) / np.abs(ds.u.values).max(axis=1), 0, 1e-14)
    assert domain.null_modes.sum() == domain.components.max() + 1 > 20
    assert not domain.eigenvalues[domain.null_modes].any()


def test_a_kernel_is_no_threshold():
    """A thread between two halves makes mu_1 small, and no zero of it."""
    chain = sp.diags_array([np.full(39, 1.0)], offsets=[1], shape=(40, 40)).tolil()
    chain[19, 20] = 1e-13
    A = (chain + chain.T).tocsr()
    domain = Operator(np.ones(40), sp.diags_array(A @ np.ones(40)) - A, n_modes=3)
    assert domain.null_modes.tolist() == [True, False, False]
    # Two halves of 20 masses each and a spring between them.
    assert domain.eigenvalues[1] == pytest.approx(1e-13 * (1 / 20 + 1 / 20), rel=1e-6)


def test_pixels_at_a_corner_are_apart():
    domain = Mask(np.eye(2, dtype=bool))
    assert domain.components.tolist() == [0, 1]
    assert domain.null_modes.all()


def test_merging():
    """Eigenvalues that a grid has split are one, so that the limit state keeps its direction."""
    mask = np.ones((40, 41), dtype=bool)
    apart, merged = (Mask(mask, spacing=1 / 40, n_modes=5, merge=m) for m in (1e-12, 0.1))
    assert apart.eigenvalues[2] > apart.eigenvalues[1]
    assert merged.eigenvalues[2] == merged.eigenvalues[1] == apart.eigenvalues[1:3].mean()
    c = {1: 1.0, 2: 1.0}
    turned, kept = (RenormalizedFlow(d).solve_modes(c, [0.0, 1e6]).amplitude.values for d in (apart, merged))
    assert turned[1, 2] == 0
    assert kept[1, 1] == kept[1, 2]


def test_a_batch_is_its_members():
    domain = DOMAINS["spots"]
    u_0 = np.random.default_rng(1).standard_normal((3, *domain.shape))
    flow = RenormalizedFlow(domain)
    each = np.stack([flow.evolve(u, [1e-4, 0.1]) for u in u_0])
    assert (flow.evolve(u_0, [1e-4, 0.1]) == each).all()


def test_long_solves_say_so(monkeypatch, capsys):
    """The estimate comes before the first solve, and a bar counts the solves; short ones are silent."""
    RenormalizedFlow(Mask(np.ones((25, 24), dtype=bool), n_modes=5)).solve(np.arange(600.0), [0.0, 0.1])
    assert not capsys.readouterr().err
    monkeypatch.setattr(_cost, "LONG", 0.0)
    RenormalizedFlow(Mask(np.ones((25, 24), dtype=bool), n_modes=5)).solve(np.arange(600.0), [0.0, 0.1])
    modes, rest = re.split("(?=the rest)", capsys.readouterr().err, maxsplit=1)
    assert modes.lstrip("\r").startswith("4 modes of 600 unknowns, about 1 min and 0.0 GB:   0%")
    assert "the rest of 600 unknowns, about 1 min" in rest
    assert all(re.search(r"[1-9]\d*/\d+ \[.* solves", text) for text in (modes, rest))


@pytest.mark.parametrize(
    ("n", "dimension", "shortest", "longest"),
    [(3_000, 2, 0, 1), (150_000, 2, 10, 60), (1_000_000, 2, 60, 600), (6_000, 3, 0, 10), (120_000, 3, 300, 3600)],
)
def test_expected_cost(n, dimension, shortest, longest):
    """Of 50 modes, in seconds of a core: a minute beyond which it is said lies between thousands and a million."""
    assert shortest <= _cost.expected_cost(n, dimension, 1, 272, 194).seconds <= longest


M3, K3 = np.ones(3), np.array([[1.0, -1, 0], [-1, 2, -1], [0, -1, 1]])
NOT_SYMMETRIC = np.array([[1.0, -1, 0], [-1, 2, -1], [0, -2, 1]])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Operator(M3, NOT_SYMMETRIC), ValueError, "K must be symmetric; K[1, 2] = -1 and K[2, 1] = -2"),
        (lambda: Operator(NOT_SYMMETRIC, K3), ValueError, "M must be symmetric"),
        (lambda: Operator([1.0, 0.0, 1.0], K3), ValueError, "M must be positive definite; its lowest pivot is 0"),
        (lambda: Operator(K3 - 0.1 * np.eye(3), K3), ValueError, "M must be positive definite"),
        (lambda: Operator(np.array([[1.0, 2], [2, 1]]), np.eye(2)), ValueError, "M must be positive definite"),
        (lambda: Operator(M3, -K3).eigenvalues, ValueError, "K must have no negative eigenvalue"),
        (lambda: Operator(M3, K3[:2]), ValueError, "K must be a square matrix; its shape is (2, 3)"),
        (lambda: Operator(np.ones(2), K3), ValueError, "one shape; they have (2, 2) and (3, 3)"),
        (lambda: Operator(M3, K3 * 1j), TypeError, "K must be real numbers; the dtype is complex128"),
        (lambda: Operator(M3, sp.csr_array(K3 * 1j)), TypeError, "K must be a matrix of real numbers"),
        (lambda: Operator(M3, K3 * np.nan), ValueError, "K must be finite; an entry is nan"),
        (lambda: Operator(M3, K3, 4), ValueError, "n_modes must be at most the number of unknowns, 3; it is 4"),
        (lambda: Operator(M3, K3, 2.5), TypeError, "n_modes must be an integer"),
        (lambda: Operator(M3, K3, merge=1.0), ValueError, "merge must lie in [0, 1); it is 1.0"),
        (lambda: Operator(M3, np.zeros((3, 3)), 2).eigenvalues, ValueError, "connected components, 3; it is 2"),
        (lambda: Mask(np.zeros((3, 3), dtype=bool)), ValueError, "mask must have at least one true cell"),
        (lambda: Mask(np.ones((3, 3))), TypeError, "mask must be an array of bool, such as image > 0"),
        (lambda: Mask([True, True], spacing=-1.0), ValueError, "spacing must be one positive number"),
        (lambda: Mask([[True]], spacing=(1.0, 1.0, 1.0)), ValueError, "spacing must be one positive number"),
        (
            lambda: RenormalizedFlow(Operator(M3, K3), "total_variation").solve([1.0, 0, 0], 1.0),
            ValueError,
            "gradients",
        ),
        (
            lambda: RenormalizedFlow(DOMAINS["mask"]).solve(np.random.default_rng(1).random(600), -1.0),
            ValueError,
            "must not be negative",
        ),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()
