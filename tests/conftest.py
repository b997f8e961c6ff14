"""Hypothesis profiles: `dev` is quick, `ci` repeatable with 200 examples, `deep` for long runs."""

import os

from hypothesis import HealthCheck, settings

slow = [HealthCheck.too_slow]
settings.register_profile("dev", max_examples=30, deadline=None, suppress_health_check=slow)
settings.register_profile("ci", max_examples=200, deadline=None, derandomize=True, suppress_health_check=slow)
settings.register_profile("deep", max_examples=5000, deadline=None, suppress_health_check=slow)
# The test command is everybody's: it checks as much as CI does unless HYPOTHESIS_PROFILE says otherwise.
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
