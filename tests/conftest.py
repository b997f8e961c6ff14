"""Hypothesis profiles: `dev` is quick, `ci` repeatable with 200 examples, `deep` for long runs. New networks repeat.

`quick` is `dev`, repeatable: with it CI measures coverage.
"""

import os

import pytest
import torch
from hypothesis import HealthCheck, settings

slow = [HealthCheck.too_slow]
settings.register_profile("dev", max_examples=30, deadline=None, suppress_health_check=slow)
settings.register_profile("quick", max_examples=30, deadline=None, derandomize=True, suppress_health_check=slow)
settings.register_profile("ci", max_examples=200, deadline=None, derandomize=True, suppress_health_check=slow)
settings.register_profile("deep", max_examples=5000, deadline=None, suppress_health_check=slow)
# The test command is everybody's: it checks as much as CI does unless HYPOTHESIS_PROFILE says otherwise.
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(autouse=True)
def _same_weights_each_time():
    """New networks take their weights from torch's own generator: the same in every test, whichever ran before."""
    torch.manual_seed(0)
