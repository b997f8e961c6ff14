"""Initial conditions, the command line that takes them, and the pictures it draws."""

import subprocess
import sys

import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

from diffmath.__main__ import app
from diffmath.pde import Box, RenormalizedFlow
from diffmath.pde.initial import INITIAL_CONDITIONS, bump, modes_from, noise, random_modes, step


def run(*arguments):
    return CliRunner().invoke(app, ["flow", *map(str, arguments)])


@pytest.mark.parametrize("position", [0.5, 0.3, 0.123456, 0.999])
def test_step_is_cell_averages(position):
    """So that its mean is that of the step itself, wherever that lies within a cell."""
    u = step(Box(shape=(7, 3)), position)
    assert u.shape == (7, 3)
    assert u.mean() == pytest.approx(1 - 2 * position, abs=1e-15)
    assert ((u == -1) | (u == 1)).sum() >= 6 * 3
    assert (np.diff(u, axis=0) >= 0).all()


def test_bump_and_noise():
    box = Box(shape=(200, 100), lengths=(1.0, 3.0))
    u = bump(box, 0.5, 0.05)
    x, y = box.coordinates
    i, j = 120, 60
    assert u[i, j] == pytest.approx(np.exp(-((x[i] - 0.5) ** 2 + (y[j] / 3 - 0.5) ** 2) / (2 * 0.05**2)), rel=1e-12)
    np.testing.assert_array_equal(noise(box, np.random.default_rng(3)), noise(box, np.random.default_rng(3)))
    box = Box(shape=(2000,))
    share = box.eigenvalues * box.to_modes(random_modes(box, np.random.default_rng(0))) ** 2
    # 1000 squares of Gaussians in each half: the halves agree within 5 standard errors.
    assert share[1:1001].sum() == pytest.approx(share[1000:].sum(), rel=5 * np.sqrt(4 / 1000))
    assert share.sum() == pytest.approx(1, abs=5 * np.sqrt(2 / 2000))


def test_modes_from():
    assert modes_from("w5 + 1e-4 w2 - 3*w1") == {(5,): 1.0, (2,): 1e-4, (1,): -3.0}
    assert modes_from(" -.5w_1,0+ 2.w0,12 ") == {(1, 0): -0.5, (0, 12): 2.0}
    assert modes_from("w1 + w1") == {(1,): 2.0}
    for wrong in ("", "w", "5", "w1 w2", "w1 +", "w1 + v2", "w1,2 + w3", "w1.5", "1e999x", "w1 * 2"):
        with pytest.raises(ValueError, match="expected"):
            modes_from(wrong)


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
    for name, message in (
        ("archive.npy", "archive"),
        ("text.nc", "NetCDF"),
        ("empty.npy", "npy"),
        ("v.nc", "variable"),
        ("absent.npy", "npy"),
    ):
        done = run(tmp_path / name, "-t", 1.0, "--out", tmp_path / "flow.nc")
        assert done.exit_code == 2
        assert message in done.output
    assert "Traceback" not in done.output
    assert not (tmp_path / "flow.nc").exists()
    box = Box((8,))
    batch = RenormalizedFlow(box).solve(np.eye(8)[:2], [0.0])
    batch.to_netcdf(tmp_path / "batch.nc")
    line = batch.isel(batch=0)
    line.assign_coords(x=line.x + 5).to_netcdf(tmp_path / "elsewhere.nc")
    line.assign_coords(x=np.linspace(0, 1, 8)).to_netcdf(tmp_path / "nodes.nc")
    for name in ("batch", "elsewhere", "nodes"):
        done = run(tmp_path / f"{name}.nc", "-t", 1.0, "--out", tmp_path / "flow.nc")
        assert done.exit_code == 2
        assert "is no axis of cell centres" in " ".join(done.output.replace("│", " ").split())
    for option, ending in (("--plot", "flow"), ("--plot", "flow.gif"), ("--animate", "flow.png")):
        assert run("w1", "-t", 1.0, option, tmp_path / ending, "--out", tmp_path / "flow.nc").exit_code == 2
    assert not (tmp_path / "flow.nc").exists()
    np.save(tmp_path / "u.npy", np.arange(4.0))
    assert run(tmp_path / "u.npy", "-t", 1.0, "-n", 8).exit_code == 2
    assert run("nothing", "-t", 1.0).exit_code == 2


def test_errors_of_the_solver_are_one_line(tmp_path):
    command = [sys.executable, "-m", "diffmath", "flow", "w1", "-t", "nan", "--out", str(tmp_path / "flow.nc")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: times must be numbers")
