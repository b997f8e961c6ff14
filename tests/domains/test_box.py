"""Boxes and their eigenpairs."""

import copy
import functools
import math
import pickle
import re

import mpmath as mp
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from diffmath.domains import Box, Mask
from diffmath.domains.boundaries import BOUNDARIES
from tests import laws
from tests.strategies import boxes


def modes(box):
    return st.tuples(*[st.integers(0, n - 1) for n in box.shape])


def named(box):
    return f"{type(box).__name__}-{'x'.join(map(str, box.shape))}-{'-'.join(box.boundary)}"


SOME = [
    Box(2),
    Box(7, lengths=0.3),
    Box(256),
    *(Box(n, lengths=2.0, boundary=b) for b in BOUNDARIES for n in (2, 3, 8, 9)),
    Box((4, 5), (1.0, 2.0), ("periodic", "fixed"), (-1.0, 3.0)),
    Box((3, 4, 5), boundary=("fixed", "no-flux", "periodic")),
]


@pytest.mark.parametrize("box", [*SOME, *(box.discrete for box in SOME)], ids=named)
def test_a_box_is_an_eigenbasis(box):
    laws.eigenbasis(box)


@given(boxes(max_cells=6, boundaries=tuple(BOUNDARIES)), st.booleans())
def test_any_box_is_an_eigenbasis(box, discrete):
    laws.eigenbasis(box.discrete if discrete else box)


@given(boxes(boundaries=tuple(BOUNDARIES)), st.integers(0, 2**32 - 1))
def test_green(box, seed):
    """But for the highest sines, whose slopes vanish at the cell centres."""
    c = np.random.default_rng(seed).standard_normal(box.shape)
    laws.green(box.discrete, c)
    for axis, (n, boundary) in enumerate(zip(box.shape, box.boundary, strict=True)):
        if boundary == "fixed" or (boundary == "periodic" and n % 2 == 0):
            np.moveaxis(c, axis, 0)[-1] = 0
    if c.any():
        laws.green(box, c)


def wave(boundary, k, x, length):
    """Mode k along one axis as the formula has it, of unit L2 norm, and its derivative."""
    kind, rate = np.cos, k * math.pi / length
    if boundary == "fixed":
        kind = np.sin
    elif boundary == "periodic":
        kind, rate = (np.cos if k % 2 or k == 0 else np.sin), 2 * ((k + 1) // 2) * math.pi / length
    size = math.sqrt((2 if k else 1) / length)
    slope = -np.sin(rate * x) if kind is np.cos else np.cos(rate * x)
    return size * kind(rate * x), size * rate * slope, rate**2


@given(st.data())
def test_eigenfunctions_are_sines_and_cosines(data):
    """And so are their gradients and eigenvalues, but for the highest sines."""
    box = data.draw(boxes(boundaries=tuple(BOUNDARIES)))
    ends = zip(box.shape, box.boundary, strict=True)
    last = [n - 1 - (boundary == "periodic" and n % 2 == 0) for n, boundary in ends]
    k = tuple(data.draw(st.integers(int(b == "fixed"), n)) for n, b in zip(last, box.boundary, strict=True))
    per_axis = [
        wave(b, i, (np.arange(n) + 0.5) * (length / n), length)  # without the rounding of an origin far away
        for b, i, n, length in zip(box.boundary, k, box.shape, box.lengths, strict=True)
    ]

    def product(factors):
        return functools.reduce(np.multiply.outer, factors)

    values, slopes, rates = zip(*per_axis, strict=True)
    w = product(values)
    laws.close(box.eigenfunction(k), w, ulps=256, scale=abs(w).max() + 1, label="w")
    laws.close(box.eigenvalue(k), math.fsum(rates), ulps=8, label="mu")
    c = np.zeros((2, *box.shape))
    c[(0, *box.mode(k))], c[(1, *box.mode(k))] = 1.0, -2.0
    for axis in range(box.ndim):
        expected = product([slopes[a] if a == axis else values[a] for a in range(box.ndim)])
        scale = math.sqrt(box.eigenvalue(k) + 1) * abs(w).max() + 1
        laws.close(box.gradient(c)[axis], [expected, -2 * expected], ulps=1024, scale=scale * 4, label="gradient")


@pytest.mark.parametrize(("boundary", "n", "highest"), [("fixed", 4, 4), ("periodic", 4, 3)])
def test_the_highest_sine_alternates(boundary, n, highest):
    """On the grid it is 1, -1, 1, ..., of unit norm in the cells' sum."""
    box = Box(n, lengths=4.0, boundary=boundary)
    np.testing.assert_allclose(box.eigenfunction(highest), [0.5, -0.5, 0.5, -0.5], atol=1e-15)


def test_modes_do_not_depend_on_the_resolution():
    """The same function has the same coefficients on a finer grid, periodic ones too."""
    for boundary, k in (("no-flux", 3), ("periodic", 3), ("periodic", 4), ("fixed", 3)):
        coarse, fine = (Box(n, boundary=boundary) for n in (8, 24))
        np.testing.assert_allclose(fine.eigenfunction(k)[1::3], coarse.eigenfunction(k), atol=1e-14)


def test_figure_7s_domain():
    """w_k = sqrt(2) cos(k pi x), mu_k = k^2 pi^2 on [0, 1]."""
    box = Box(shape=(256,), lengths=(1.0,))
    (x,) = box.coordinates
    np.testing.assert_allclose(x, (np.arange(256) + 0.5) / 256)
    np.testing.assert_allclose(box.eigenfunction(3), math.sqrt(2) * np.cos(3 * math.pi * x), atol=1e-14)
    assert box.eigenvalue(3) == pytest.approx(9 * math.pi**2, rel=1e-15)
    assert Box(shape=(4, 5)).lengths == (1.0, 1.0)


@given(boxes(boundaries=tuple(BOUNDARIES)))
def test_difference_laplacian(box):
    """Its eigenvalues lie below those of the Laplacian, and its matrix is that of differences with ghost cells."""
    assert (box.discrete.eigenvalues <= box.eigenvalues * (1 + 1e-15)).all()
    u = np.random.default_rng(0).standard_normal(box.shape)
    expected = np.zeros(box.shape)
    for axis, (boundary, h) in enumerate(zip(box.boundary, box.spacing, strict=True)):
        along = np.moveaxis(u, axis, -1)
        first, last = {
            "no-flux": (along[..., 0], along[..., -1]),
            "fixed": (-along[..., 0], -along[..., -1]),
            "periodic": (along[..., -1], along[..., 0]),
        }[boundary]
        padded = np.concatenate([first[..., None], along, last[..., None]], axis=-1)
        expected -= np.moveaxis(np.diff(padded, n=2), -1, axis) / h**2
    got = box.discrete.stiffness @ u.ravel() / box.cell_volume
    laws.close(got, expected.ravel(), ulps=32, scale=abs(expected).max())


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_gaps_do_not_cancel(boundary):
    """Between neighbours at the end of a fine spectrum, where differences of eigenvalues lose digits."""
    with mp.workdps(40):
        n = 4096
        box = Box(n, boundary=boundary)
        m = [int(i) for i in BOUNDARIES[boundary].waves(n)]
        unit = mp.pi * (2 if boundary == "periodic" else 1)
        for k in (0, 1, n // 2, n - 3):
            for j in (0, 2, n // 2 + 3, n - 4, n - 1):
                exact = (m[j] ** 2 - m[k] ** 2) * unit**2
                assert abs(box.gaps(k)[j] - exact) <= 4 * laws.EPS * abs(exact)
                exact = (2 * n) ** 2 * (mp.sin(m[j] * unit / (2 * n)) ** 2 - mp.sin(m[k] * unit / (2 * n)) ** 2)
                assert abs(box.discrete.gaps((k,))[j] - exact) <= 8 * laws.EPS * abs(exact)


def test_corner_gradients():
    """In 1-D the two difference quotients at the faces of each cell, with half of its length each."""
    box = Box(3, lengths=3.0).discrete
    u = np.array([1.0, 4.0, 2.0])
    np.testing.assert_allclose(box.gradient(box.to_modes(u)), [[[3, -2, 0], [0, 3, -2]]], atol=1e-14)
    np.testing.assert_allclose(box.gradient_weights, 0.5)


def test_copies():
    """Equal, with the same hash, and as read-only: pickling forgets the flags of arrays."""
    box = Box((4, 5), (1.0, 2.0), ("fixed", "periodic"), (0.5, 0.0))
    for original in (box, box.discrete):
        _ = original.eigenvalues, original.coordinates, original.null_modes
        for other in (pickle.loads(pickle.dumps(original)), copy.deepcopy(original), copy.copy(original)):
            assert other == original
            assert type(other) is type(original)
            assert hash(other) == hash(original)
            np.testing.assert_array_equal(other.eigenvalues, original.eigenvalues)
            for array in (other.eigenvalues, other.weights, other.null_modes, *other.coordinates):
                assert not array.flags.writeable
    assert box != box.discrete
    assert box.discrete.discrete == box.discrete
    assert len({Box(4), Box((4,)), Box(4, 1.0), Box(4, boundary=["no-flux"]), Box(np.int64(4), origin=0.0)}) == 1


def test_names_and_coordinates():
    box = Box((4, 5), (1.0, 2.0), ("fixed", "no-flux"), (-1.0, 3.0))
    ds = xr.Dataset(coords=box.coords)
    np.testing.assert_allclose(ds.x, [-0.875, -0.625, -0.375, -0.125])
    np.testing.assert_allclose(ds.y, 3.2 + 0.4 * np.arange(5))
    assert list(ds.k_x.values) == [1, 2, 3, 4]
    assert list(ds.k_y.values) == [0, 1, 2, 3, 4]
    assert (box.dims, box.mode_dims) == (("x", "y"), ("k_x", "k_y"))
    assert Box((2,) * 3).dims == ("x", "y", "z")
    assert Box((2,) * 4).dims == ("x1", "x2", "x3", "x4")
    assert box.description == "[-1, 0] in 4 cells, fixed x [3, 5] in 5 cells"
    assert box.mode((1, 0)) == (0, 0)
    with pytest.raises(ValueError, match=re.escape("lie in 1..4, 0..4; got (0, 0)")):
        box.mode((0, 0))


@given(boxes(boundaries=tuple(BOUNDARIES)))
def test_from_coordinates(box):
    """Gives back a box, up to the rounding of its lengths and origins."""
    got = Box.from_coordinates(*box.coordinates, boundary=box.boundary)
    assert (got.shape, got.boundary) == (box.shape, box.boundary)
    np.testing.assert_allclose(got.lengths, box.lengths, rtol=1e-10)
    np.testing.assert_allclose(got.origin, box.origin, rtol=0, atol=1e-12)


def test_from_coordinates_of_any_kind():
    assert Box.from_coordinates(*Box((64, 10), (0.3, 7.0)).coordinates) == Box((64, 10), (0.3, 7.0))
    assert Box.from_coordinates(Box(64).coordinates[0].astype(np.float32)) == Box(64)
    assert Box.from_coordinates([10, 20, 30]) == Box(3, lengths=30.0, origin=5.0)
    far = Box.from_coordinates(Box(16, 1.6, origin=1000.0).coordinates[0].astype(np.float32))  # rounded by 3e-5
    np.testing.assert_allclose((far.lengths, far.origin), ((1.6,), (1000.0,)), rtol=1e-4)
    third = Box.from_coordinates(*Box(16, 0.16, origin=1 / 3).coordinates)  # not a number of 12 digits
    np.testing.assert_allclose(third.origin, 1 / 3, rtol=1e-14)
    assert Box.from_coordinates(*Box(7, 0.3, origin=0.1).coordinates).origin == (0.1,)
    temperature = xr.DataArray([0.0, 1.0, 2.5], dims="depth", name="depth")
    for axes, error, match in (
        (([0.0, 1.0, 2.5],), ValueError, "the axis x must increase in equal steps"),
        (([0.0, 1.0e-3, 2.001e-3],), ValueError, "the axis x must increase in equal steps"),
        (([0.0, 1.0], [2.0, 1.0]), ValueError, "the axis y must increase in equal steps"),
        ((temperature,), ValueError, "the axis depth must increase"),
        (([0.0, math.nan, 2.0],), ValueError, r"the axis x must be finite; x\[1\] = nan"),
        (([0.0],), ValueError, "at least 2 numbers"),
        ((np.zeros((2, 2)),), ValueError, "in one dimension"),
        ((["a", "b"],), TypeError, "must be real numbers"),
        ((np.ma.array([0.0, 1.0, 2.0], mask=[0, 1, 0]),), ValueError, "must not have masked entries"),
        ((), TypeError, "at least one axis"),
    ):
        with pytest.raises(error, match=match):
            Box.from_coordinates(*axes)


def test_nothing_shared_can_be_changed():
    box = Box(shape=(4,))
    for array in (box.coordinates[0], box.eigenvalues, box.discrete.eigenvalues, box.weights, box.null_modes):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1.0


@pytest.mark.parametrize(("n", "length"), [(4, 1e70), (100, 1e-67)])
def test_extreme_lengths(n, length):
    """Wave numbers lie within 1e-70..1e70: a box ten times as long, or as short, is refused."""
    assert Box(shape=(n,), lengths=(length,)).eigenvalue(1) == pytest.approx((math.pi / length) ** 2, rel=1e-14)
    with pytest.raises(ValueError, match="wave numbers must lie within"):
        Box(shape=(n,), lengths=(length * 10 if length > 1 else length / 10,))


def test_bad_arguments():
    with pytest.raises(TypeError, match="shape must be a number or a tuple"):
        Box(shape="256")
    with pytest.raises(TypeError, match="lengths must be a number or a tuple"):
        Box(shape=(256,), lengths=(True,))
    with pytest.raises(ValueError, match="one boundary condition for each axis; got 2 for 1"):
        Box(4, boundary=("fixed", "fixed"))
    with pytest.raises(ValueError, match=r"among no-flux, periodic, fixed; boundary\[1\] is 'open'"):
        Box((4, 4), boundary=("fixed", "open"))
    with pytest.raises(ValueError, match=r"origin must be finite; origin\[0\] = nan"):
        Box(4, origin=math.nan)
    with pytest.raises(ValueError, match="wave numbers must lie within"):
        Box(shape=(256,), lengths=(1e-200,))
    with pytest.raises(
        ValueError, match=r"u must have the domain's shape \(4,\) in its last axes; its shape is \(2, 3\)"
    ):
        Box(shape=(4,)).to_modes(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="each at least 2"):
        Box(shape=(1,))
    with pytest.raises(ValueError, match="shape must be"):
        Box(shape=())
    with pytest.raises(ValueError, match="one length for each axis; got 2 for 1"):
        Box(shape=(4,), lengths=(1, 2))
    for length in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=r"lengths\[0\]"):
            Box(shape=(4,), lengths=(length,))
    box = Box(shape=(4, 4))
    with pytest.raises(TypeError, match="2 integer"):
        box.eigenvalue(1)
    with pytest.raises(TypeError, match="2 integer"):
        box.eigenvalue((1.0, 2))
    with pytest.raises(ValueError, match=r"lie in 0..3, 0..3; got \(1, 4\)"):
        box.eigenvalue((1, 4))


@pytest.mark.parametrize("wrong", [lambda mu: None, lambda mu: mu[:3], lambda mu: mu[:, None], lambda mu: "x"])
def test_what_a_function_of_the_laplacian_returns(wrong):
    """A column would give a matrix of values for one grid function."""
    with pytest.raises((TypeError, ValueError), match=r"f\(eigenvalues\) must"):
        Box(8).apply(wrong, np.ones(8))
    np.testing.assert_allclose(Box(8).apply(lambda mu: 2, np.ones(8)), 2 * np.ones(8))


def test_axes_of_data_arrays_count_by_name():
    """Grid functions and coefficients in another order of the axes, and one taken for the other."""
    box = Box((6, 6), (1.0, 2.0))
    u = xr.DataArray(np.random.default_rng(0).standard_normal((6, 6)), dims=("x", "y"))
    c = xr.DataArray(box.to_modes(u.values), dims=("k_x", "k_y"))
    np.testing.assert_array_equal(box.to_modes(u.transpose()), c)
    np.testing.assert_array_equal(box.to_values(c.transpose()), box.to_values(c.values))
    np.testing.assert_array_equal(box.gradient(c.transpose()), box.gradient(c.values))
    np.testing.assert_array_equal(box.solve(1.0, 0.1, u.transpose()), box.solve(1.0, 0.1, u.values))
    np.testing.assert_array_equal(box.to_modes(u.rename(x="lat", y="lon")), c)
    with pytest.raises(ValueError, match=r"u must have the axes \('x', 'y'\); it has the axis 'k_x'"):
        box.to_modes(c)
    with pytest.raises(ValueError, match=r"c must have the axes \('k_x', 'k_y'\); it has the axis 'x'"):
        box.to_values(u)


@pytest.mark.parametrize("domain", [Box((4, 4)), Mask(np.ones((2, 2), dtype=bool))], ids=["box", "mask"])
def test_copies_are_read_only(domain):
    """numpy forgets that an array is read-only when it is pickled or copied deeply."""
    for same in (copy.copy(domain), copy.deepcopy(domain), pickle.loads(pickle.dumps(domain))):
        arrays = (same.eigenvalues, same.weights, same.null_modes, *([same.mask] if isinstance(same, Mask) else []))
        assert not any(array.flags.writeable for array in arrays)
