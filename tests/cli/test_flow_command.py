"""The flow from the shell: initial conditions by name, expression and file, going on, outputs, refusals."""

import signal
import subprocess
import sys

import meshio
import numpy as np
import pytest
import xarray as xr
from PIL import Image
from typer.testing import CliRunner

from diffmath.__main__ import app
from diffmath.pde import Box, RenormalizedFlow, runs
from diffmath.pde.initial import INITIAL_CONDITIONS, step
from diffmath.pde.norms import NORMS
from diffmath.pde.problem import read_problem


def run(*arguments):
    return CliRunner().invoke(app, ["flow", *map(str, arguments)])


def done(*arguments):
    """Run a command that works, and read what it wrote."""
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    with xr.open_dataset(arguments[arguments.index("--out") + 1]) as ds:
        return ds.load()


def refused(*arguments):
    """The message of a command that is refused, in one line."""
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    return " ".join(result.output.replace("│", " ").split())


@pytest.mark.parametrize("name", INITIAL_CONDITIONS)
def test_by_name(name, tmp_path):
    out = tmp_path / "flow.nc"
    done = run(name, "-t", 0.01, "-t", 0.0, "--shape", 16, "--shape", 8, "--length", 1, "--length", 2, "--out", out)
    assert done.exit_code == 0, done.output
    with xr.open_dataset(out) as ds:
        u_0 = INITIAL_CONDITIONS[name](Box((16, 8), (1.0, 2.0)), np.random.default_rng(0))
        np.testing.assert_allclose(ds.u.sel(time=0.0), u_0 - u_0.mean(), atol=1e-14)
        assert ds.attrs["initial_condition"] == name


def test_by_expression_is_exact_for_all_times(tmp_path):
    out = tmp_path / "flow.nc"
    assert run("w5 + 1e-30 w2", "-t", 1e4, "-n", 32, "--out", out).exit_code == 0
    with xr.open_dataset(out) as ds:
        assert ds.amplitude.sel(k_x=2).item() == pytest.approx(2.5, rel=1e-14)  # sqrt(mu_5 / mu_2)
    assert run("w5 + 1e-30 w2", "-t", 0.01, "-n", 32, "--method", "finite-difference", "--out", out).exit_code == 0
    with xr.open_dataset(out) as ds:
        assert "integrator" in ds.attrs


def test_by_file_goes_on(tmp_path):
    """From an array; and from the result of a run, with its box: two short flows are one long one."""
    u_0 = np.random.default_rng(0).standard_normal(32)
    np.save(tmp_path / "u.npy", u_0)
    first, second, whole = (tmp_path / f"{name}.nc" for name in ("first", "second", "whole"))
    assert run(tmp_path / "u.npy", "-t", 0.02, "-t", 0.01, "--length", 2, "--out", first).exit_code == 0
    assert run(first, "-t", 0.05, "--out", second).exit_code == 0
    assert run(tmp_path / "u.npy", "-t", 0.07, "--length", 2, "--out", whole).exit_code == 0
    with xr.open_dataset(second) as two, xr.open_dataset(whole) as one:
        assert "[0, 2]" in two.attrs["domain"]
        np.testing.assert_allclose(two.u, one.u, atol=1e-11)


def test_options(tmp_path):
    out = tmp_path / "flow.nc"
    arguments = ["--method", "finite-difference", "--integrator", "backward-euler", "--dt", 0.001, "--keep-mean"]
    assert run("step", "-t", 0.1, "-n", 32, *arguments, "--preserve", "value", "--out", out).exit_code == 0
    with xr.open_dataset(out) as ds:
        assert (ds.attrs["integrator"], ds.attrs["mean"], ds.attrs["preserve"]) == ("backward-euler", "keep", "value")
        expected = RenormalizedFlow(Box((32,)), "value").solve(
            step(Box((32,))), 0.1, "finite-difference", mean="keep", integrator="backward-euler", dt=0.001
        )
        np.testing.assert_array_equal(ds.u, expected.u)


def test_wrong_files(tmp_path):
    np.savez(tmp_path / "u.npy", a=np.ones(3))
    (tmp_path / "u.npy.npz").rename(tmp_path / "archive.npy")
    (tmp_path / "text.nc").write_text("no NetCDF")
    (tmp_path / "empty.npy").write_bytes(b"")
    xr.Dataset({"v": ("x", [1.0, 2.0])}).to_netcdf(tmp_path / "v.nc")
    xr.Dataset({"u": (("x", "member"), np.eye(2))}, {"x": [0.5, 1.5]}).to_netcdf(tmp_path / "member.nc")
    xr.Dataset({"u": ("x", [0.0, 1.0, 3.0])}, {"x": [0.0, 1.0, 3.0]}).to_netcdf(tmp_path / "uneven.nc")
    line = RenormalizedFlow(Box(8)).solve(np.arange(8.0), [0.0])
    line.assign_coords(x=line.x + 5).to_netcdf(tmp_path / "elsewhere.nc")
    line.isel(x=slice(4)).to_netcdf(tmp_path / "half.nc")
    xr.Dataset({"u": ("time", [1.0, 2.0])}).to_netcdf(tmp_path / "point.nc")
    out = tmp_path / "flow.nc"
    for name, message in (
        ("archive.npy", "archive"),
        ("text.nc", "must be a NetCDF file"),
        ("empty.npy", "must be a .npy file of numbers"),
        ("v.nc", "must have a variable 'u'; it has v"),
        ("absent.npy", "must be a .npy file"),
        ("absent.nc", "must be a NetCDF file"),
        ("member.nc", "'member' has none"),
        ("uneven.nc", "must increase in equal steps"),
        ("half.nc", "must fill its domain"),
        ("point.nc", "must be a field, with axes of space; 'u' in"),
    ):
        assert message in refused(tmp_path / name, "-t", 1.0, "--out", out)
    result = run(tmp_path / "elsewhere.nc", "-t", 1.0, "--out", out)
    assert "the coordinate x of u_0 must be the domain's" in str(result.exception)
    np.save(tmp_path / "u.npy", np.arange(4.0))
    assert "shape must be that of" in refused(tmp_path / "u.npy", "-t", 1.0, "-n", 8)
    assert "none of step, bump" in refused("nothing", "-t", 1.0)
    assert "variable" in refused("w1", "-t", 1.0, "--variable", "v")
    assert not out.exists()


def test_outputs_are_checked_first(tmp_path):
    """Before the first step, which would take hours here."""
    out = tmp_path / "flow.nc"
    long = ("noise", "-t", 1e5, "-n", 100, "--method", "finite-difference", "--integrator", "euler", "--dt", 1e-9)
    (tmp_path / "file").touch()
    for arguments in (
        ("--plot", tmp_path / "flow"),
        ("--plot", tmp_path / "flow.gif"),
        ("--animate", tmp_path / "flow.png"),
        ("--out", tmp_path / "file" / "flow.nc"),
        ("--out", tmp_path),
        ("-n", 8, "-n", 8, "--plot", tmp_path / "flow.png"),
    ):
        refused(*long, "--out", out, *arguments)
    assert "give at least one output time" in refused("w1", "--out", out)
    for wrong in ("0:1", "0:1:0", "0:1:x", "a:1:2", "0:nan:3", "0:inf:3"):
        assert "start:stop:count" in refused("w1", "--times", wrong, "--out", out)
    batch = RenormalizedFlow(Box(8)).solve(np.eye(8)[:2], [0.0])
    batch.to_netcdf(tmp_path / "batch.nc")
    assert done(tmp_path / "batch.nc", "-t", 0.1, "--out", out).sizes["batch"] == 2
    out.unlink()
    assert "batch" in refused(tmp_path / "batch.nc", "-t", 0.1, "--out", out, "--plot", tmp_path / "flow.png")
    assert not out.exists()


def test_no_output_replaces_an_input(tmp_path):
    """Neither the state from which a run goes on, nor the picture of a domain, by a link or another spelling either."""
    done("w2", "-n", 8, "-t", 0.1, "--out", tmp_path / "flow.nc")
    (tmp_path / "link.nc").symlink_to("flow.nc")
    Image.fromarray(np.full((8, 8), 255, dtype=np.uint8)).save(tmp_path / "domain.png")
    before = [(tmp_path / name).read_bytes() for name in ("flow.nc", "domain.png")]
    for out in ("flow.nc", "link.nc"):
        assert "--out: it is the file of initial too" in refused(tmp_path / "flow.nc", "-t", 1, "--out", tmp_path / out)
    picture = ("--domain", tmp_path / "domain.png", "--n-modes", 4, "--plot", tmp_path / "domain.png")
    said = refused("noise", "-t", 0.1, "--out", tmp_path / "a.nc", *picture)
    assert "--plot: it is the file of --domain too" in said
    assert [(tmp_path / name).read_bytes() for name in ("flow.nc", "domain.png")] == before


def test_files_of_others_count_by_name(tmp_path):
    """A square field with the axes (y, x) that varies along x alone has its energy in (k_x, k_y) = (1, 0)."""
    source, out = tmp_path / "field.NC", tmp_path / "flow.nc"
    x, y = (np.arange(8) + 0.5) / 8, (np.arange(8) + 0.5) / 4
    u = xr.DataArray(np.cos(np.pi * x) + 0 * y[:, None], dims=("y", "x"), coords={"x": x, "y": y}, name="u")
    u.to_netcdf(source)
    ds = done(source, "-t", 0, "--out", out)
    assert ds.energy_fraction.sel(k_x=1, k_y=0).item() == pytest.approx(1)
    assert (ds.u.dims, ds.attrs["lengths"].tolist()) == (("time", "x", "y"), [1.0, 2.0])
    u.drop_vars(["x", "y"])[:4].to_netcdf(source)
    ds = done(source, "-t", 0, "--out", out, "--length", 1, "--length", 2)
    assert ds.attrs["domain"] == "[0, 1] in 8 cells x [0, 2] in 4 cells"
    assert ds.energy_fraction.sel(k_x=1, k_y=0).item() == pytest.approx(1)
    coords = {"lat": ("lat", 40 + y, {"units": "km"}), "lon": ("lon", x - 3, {"units": "km"}), "time": [1.0, 0.0]}
    fields = xr.DataArray(np.stack([u.values, u.values**2]), dims=("time", "lat", "lon"), coords=coords)
    fields.to_dataset(name="temperature").to_netcdf(source)
    ds = done(source, "-t", 0.1, "--variable", "temperature", "--out", out)
    assert (ds.u.dims, ds.energy_fraction.dims) == (("time", "lat", "lon"), ("time", "k_lat", "k_lon"))
    assert (ds.lat.attrs, ds.attrs["domain"]) == ({"units": "km"}, "[40, 42] in 8 cells x [-3, -2] in 8 cells")
    assert ds.energy_fraction.sel(k_lon=1, k_lat=0).item() == pytest.approx(1)
    assert "lengths must be that of" in refused(source, "-t", 0.1, "--variable", "temperature", "--length", 1)
    assert "it has temperature" in refused(source, "-t", 0.1)
    modes = xr.DataArray(np.eye(8)[1] * np.ones((1, 1)), dims=("k_y", "k_x")).isel(k_y=[0, 0]) * [[1], [0]]
    modes.to_dataset(name="c").to_netcdf(source)
    for method in ("spectral", "finite-difference"):
        ds = done(source, "-t", 0.1, "--variable", "c", "--method", method, "--out", out)
        assert ds.energy_fraction.sel(k_x=1, k_y=0).item() == pytest.approx(1)


def test_going_on(tmp_path):
    """The file's equation, box, mean, amplitudes and time are taken up."""
    first, second = tmp_path / "r1.nc", tmp_path / "r2.nc"
    one = done("w3", "-n", 64, "-t", 1, "--out", first)
    done("w3", "-n", 64, "-t", 0.5, "--out", first)
    two = done(first, "-t", 0.5, "--out", second)
    assert two.multiplier.item() == one.multiplier.item() == pytest.approx(9 * np.pi**2, rel=1e-14)
    assert two.attrs["start_time"] == 0.5
    options = ("--preserve", "value", "--keep-mean", "--length", 2, "-n", 16)
    one = done("bump", *options, "-t", 0.1, "-t", 0.3, "--out", first)
    done("bump", *options, "-t", 0.1, "--out", first)
    two = done(first, "-t", 0.2, "--out", second)
    assert {two.attrs[k] == one.attrs[k] for k in ("preserve", "mean", "domain")} == {True}
    np.testing.assert_allclose(two.u[-1], one.u[-1], rtol=0, atol=1e-13)
    done(first, "-t", 0.2, *options, "--out", second)  # what the file has may be said again
    for contradiction, message in (
        (("--preserve", "gradient"), "preserve must be that of r1.nc, value; it is gradient"),
        (("--remove-mean",), "mean must be that of r1.nc, keep; it is project"),
        (("--length", 1), "lengths must be that of r1.nc, (2.0,); it is (1.0,)"),
        (("-n", 8), "shape must be that of r1.nc, (16,); it is (8,)"),
    ):
        shown = refused(first, "-t", 0.2, *contradiction, "--out", second)
        assert message in shown.replace(f"{tmp_path}/", "").replace(str(tmp_path), "")
    method = ("--method", "finite-difference", "--integrator", "pade02", "--dt", 0.01)
    one = done("noise", "-n", 16, *method, "-t", 0.1, "-t", 0.3, "--out", first)
    done("noise", "-n", 16, *method, "-t", 0.1, "--out", first)
    two = done(first, "-t", 0.2, "--out", second)
    assert (two.attrs["integrator"], two.attrs["dt"]) == ("pade02", 0.01)
    np.testing.assert_allclose(two.u[-1], one.u[-1], rtol=0, atol=1e-12)


def test_boundaries_and_norms(tmp_path):
    """For each axis or for all, also when the run goes on."""
    first, second = tmp_path / "first.nc", tmp_path / "second.nc"
    ds = done("noise", "-n", 8, "-n", 6, "--boundary", "periodic", "--boundary", "fixed", "-t", 0.01, "--out", first)
    assert ds.attrs["boundary"] == "periodic, fixed"
    assert done(first, "-t", 0.01, "--out", second).attrs["domain"] == ds.attrs["domain"]
    assert "boundary must be that of" in refused(first, "-t", 0.01, "--boundary", "no-flux", "--out", second)
    ds = done("noise", "-n", 8, "-n", 6, "--boundary", "periodic", "-t", 0.01, "--out", first)
    assert ds.attrs["boundary"] == "periodic, periodic"
    done(first, "-t", 0.01, "--boundary", "periodic", "--out", second)
    assert "must be among no-flux, periodic, fixed" in refused("w1", "-t", 1, "--boundary", "open")
    for name in NORMS:
        assert name in refused("w1", "-t", 1, "--preserve", "nothing")
        assert done("w1", "-n", 8, "-t", 1, "--preserve", name, "--out", second).attrs["preserve"] == name


def test_films_paths_and_suffixes(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    pictures = ("--plot", "~/flow.PNG", "--animate", "~/flow.GIF")
    assert run("w2 + w1", "--times", "0:0.2:5", "-n", 8, "--out", "~/flow.nc", *pictures).exit_code == 0
    with xr.open_dataset(tmp_path / "flow.nc") as ds:
        np.testing.assert_allclose(ds.time, np.linspace(0, 0.2, 5))
    with Image.open(tmp_path / "flow.GIF") as film:
        assert film.n_frames == 5
    with Image.open(tmp_path / "flow.PNG") as picture:
        assert picture.format == "PNG"
    assert read_problem("~/flow.nc").previous is not None


def test_noise(tmp_path):
    """One path with the energy kept, another for another seed, readings that differ; it goes on without noise."""
    out = tmp_path / "flow.nc"
    command = ("w1", "-n", 16, "-t", 0, "-t", 0.1, "--noise", 20, "--out", out)
    ds = done(*command, "--plot", tmp_path / "flow.png")
    assert ds.u.dims == ("time", "x")
    np.testing.assert_allclose(ds.energy, np.pi**2, rtol=1e-13)
    assert ds.energy_fraction.sel(k_x=1)[1] < 0.99
    for change in (("--seed", 1), ("--dt", 0.01), ("--reading", "force", "--preserve", "value")):
        assert np.abs(done(*command, *change).u[1] - ds.u[1]).max() > 1e-3
    assert "dt must be positive" in refused(*command, "--dt", 0)
    assert "dt must be at most" in refused("w1", "-n", 16, "-t", 0.1, "--noise", 1e300, "--out", out)
    assert "only --dt" in refused(*command, "--integrator", "pade02")
    assert "rescale, stratonovich, force" in refused(*command, "--reading", "ito")
    assert "--reading" in refused("w1", "-t", 1, "--reading", "force")
    assert done(out, "-t", 0, "--out", tmp_path / "next.nc").attrs["method"].startswith("spectral")


def test_ctrl_c_keeps_what_is_finished(tmp_path, monkeypatch):
    """The states at the times that were reached, and the last one, from which the run goes on; exit status 130."""
    out, checked = tmp_path / "flow.nc", runs.Record._is_steady

    def interrupting(record, t, *arguments):
        if t > 2e-5:
            signal.raise_signal(signal.SIGINT)
        return checked(record, t, *arguments)

    steps = ("--method", "finite-difference", "--integrator", "pade02", "--dt", 1e-6)
    with monkeypatch.context() as patch:
        patch.setattr(runs.Record, "_is_steady", interrupting)
        result = run("noise", "-n", 16, *steps, "-t", 0, "-t", 1e-5, "-t", 1e3, "--out", out)
    assert result.exit_code == 130
    with xr.open_dataset(out) as ds:
        start = ds.time.values[-1]
        np.testing.assert_allclose(ds.time, [0, 1e-5, 2e-5], rtol=1e-6)  # equal steps to 1e3, a little below dt
    assert done(out, "-t", 1e-6, "--out", tmp_path / "next.nc").attrs["start_time"] == start


def test_errors_of_the_solver_are_one_line(tmp_path):
    method = ["--method", "finite-difference", "--integrator", "euler", "--dt", "1"]
    command = [sys.executable, "-m", "diffmath", "flow", "w1", "-t", "1", *method, "--out", str(tmp_path / "flow.nc")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith('error: "euler" needs dt <')
    assert done.stderr.count("\n") == 1


def test_domains_by_name_picture_and_mesh(tmp_path):
    """The flow ends in the slowest mode of the domain that was asked for."""
    out = tmp_path / "flow.nc"
    ds = done("noise", "--domain", "disc", "--refinement", 2, "-t", 0.01, "-t", 5, "--out", out)
    slowest = 1.8411837813**2  # J_1'(x) = 0
    assert ds.multiplier.values[-1] == pytest.approx(slowest, rel=1e-3)
    picture = np.zeros((8, 12), dtype=np.uint8)
    picture[2:5, 1:11] = 255
    Image.fromarray(picture).save(tmp_path / "bar.png")
    ds = done(
        "w1", "--domain", tmp_path / "bar.png", "--n-modes", 5, "-t", 0, "--out", out, "--plot", tmp_path / "a.png"
    )
    assert ds.sizes["cell"] == 30
    assert (ds.x.values.min() * 12, ds.y.values.max() * 12) == pytest.approx((1.5, 5.5))  # y upwards
    # Ten cells of width 1 / 12 in a row.
    assert ds.multiplier.item() == pytest.approx((24 * np.sin(np.pi / 20)) ** 2)
    points = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    meshio.Mesh(points, [("triangle", np.array([[0, 1, 2]]))]).write(tmp_path / "mesh.vtk")
    assert done("step", "--domain", tmp_path / "mesh.vtk", "-t", 0.1, "--out", out).sizes["node"] == 6
    np.save(tmp_path / "u.npy", np.arange(6.0))
    ds = done(tmp_path / "u.npy", "--domain", tmp_path / "mesh.vtk", "-t", 0, "--out", out)
    assert ds.u.values[0] == pytest.approx(np.arange(6) - 4.0)  # the mean of a quadratic is that of the middles


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bump", "--domain", "cube"], "there is no file 'cube'"),
        (["bump", "--domain", "disc", "-n", 9], "shape must be left out"),
        (["bump", "--domain", "disc", "--n-modes", 0], "n_modes must be at least 1"),
        (["bump", "--refinement", 2], "no domain is named"),
        (["wave", "--domain", "disc"], "none of step, bump, noise, modes"),
    ],
)
def test_refusals_of_domains(arguments, message):
    result = run(*arguments, "-t", 1)
    assert result.exit_code == 2
    assert message in " ".join(result.output.replace("│", "").split())
