"""Every equation of the paper, checked by other means: ``python -m diffmath verify``.

For each of the equations (1)-(23) and the two algorithms there is a check. It states a claim, a method and a tolerance,
names the objects of the package that are the equation, tries random examples, and reports the worst relative error and
its example. (22) and (23) have further checks for the finite differences. The other means are the printed formulas in
exact or 50-digit arithmetic, the general rules of `diffmath.gaussian`, numerical integration, computer algebra, exact
solutions of the differential equation, and for Algorithm 1 a training with a known minimiser.

Each part of the paper has a module, whose docstring explains its tolerances: ``forwards``, ``backwards``,
``algorithms``, ``flow`` and ``stability``. ``beyond`` has the equations (24)-(29), which the paper does not have, and
``heat`` those of the heat model, (31)-(35).
"""

from diffmath.verification.checks import Check, Example, check
from diffmath.verification.report import table, terminal_table
from diffmath.verification.runner import CHECKS, Result, verify

__all__ = ["CHECKS", "Check", "Example", "Result", "check", "table", "terminal_table", "verify"]
