"""The flow, the schedule and the Gaussians work where torch is not installed."""

import subprocess
import sys

import pytest

BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
import numpy as np
"""

USES = {
    "schedule": """
from diffmath.schedule import VarianceSchedule
schedule = VarianceSchedule.linear(10, 1e-3, 0.1)
x_0, eps = np.ones((2, 3)), np.zeros((2, 3))
x_t = schedule.add_noise(x_0, eps, 7)
assert np.allclose(x_t, schedule.alpha_bar[7] ** 0.5)
assert np.allclose(schedule.predict_x_0(x_t, eps, 7), x_0)
assert schedule.backward_step(x_t, eps, eps, 7).shape == x_0.shape
""",
    "gaussian": """
from diffmath.gaussian import Gaussian
assert Gaussian([0.0], 1.0).push(2.0, 1.0).variance == 5.0
""",
    "flow": """
from diffmath.pde import Box, RenormalizedFlow
flow = RenormalizedFlow(Box((8, 6), (1.0, 2.0)))
u_0 = np.random.default_rng(0).normal(size=(8, 6))
exact, differences = flow.solve(u_0, 0.1), flow.solve(u_0, 0.1, method="finite-difference")
assert np.isfinite(exact.u.values).all() and np.isfinite(differences.u.values).all()
""",
    "heat": """
from diffmath.heat import HeatProcess
x_0 = np.random.default_rng(0).uniform(-1, 1, (20, 1, 8, 8))
process = HeatProcess.fit(x_0)
assert process.add_noise(x_0, np.zeros_like(x_0), process.n_steps).shape == (20, 3, 8, 8)
assert process.start(2, np.random.default_rng(0)).shape == (2, 3, 8, 8)
""",
    "stability": """
from diffmath.pde import Box, RenormalizedFlow
from diffmath.pde.stability import check_stability
ds = check_stability(RenormalizedFlow(Box(8)), 2, solvers=["spectral"])
other = ds.isel(mode=ds.j_x.values != 2)
assert np.allclose(other.measured.values[0], other.theory.values)
""",
    "rooms": """
import diffmath
for room in ("domains", "gaussian", "heat", "pde", "schedule", "verification"):
    getattr(diffmath, room)
try:
    diffmath.ddpm
except ModuleNotFoundError as error:
    assert error.name == "torch"
else:
    raise AssertionError("torch is not blocked")
""",
}


@pytest.mark.parametrize("name", USES)
def test_it_works_without_torch(name):
    code = BLOCKED + USES[name] + "assert 'torch' not in sys.modules\n"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
