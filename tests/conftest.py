"""Hypothesis profiles, chosen by HYPOTHESIS_PROFILE.

The default, `quick`, is repeatable and tries 30 examples of each law. `dev` tries 30 random ones, `ci` 200 repeatable
ones, and `deep` 5,000 random ones. `few` tries 5 repeatable ones, enough to try other dependencies.
"""

import os

import pytest
from hypothesis import HealthCheck, settings

if "PYTEST_XDIST_WORKER" in os.environ:  # several processes, whose threads would wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")

try:
    import torch
except ModuleNotFoundError:  # `schedule`, `gaussian`, `domains` and `pde` are tested without it as well
    torch = None

options = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("few", max_examples=5, derandomize=True, **options)
settings.register_profile("quick", max_examples=30, derandomize=True, **options)
settings.register_profile("dev", max_examples=30, **options)
settings.register_profile("ci", max_examples=200, derandomize=True, **options)
settings.register_profile("deep", max_examples=5000, **options)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


@pytest.fixture(autouse=True)
def _same_weights_each_time():
    """Seed torch's own generator before each test: new networks have the same weights, whichever test ran first."""
    if torch is not None:
        torch.manual_seed(0)
