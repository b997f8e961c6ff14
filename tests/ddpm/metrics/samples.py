"""Samples and changes of images that the tests of metrics share."""

import math

import numpy as np
import torch
from torch.nn import functional as F
from typer.testing import CliRunner

from diffmath.__main__ import app


def repeated(estimates):
    """Mean of the values, its standard error, the values' standard deviation and the root mean square of the errors."""
    values, errors = np.transpose([e[:2] for e in estimates])
    spread = values.std(ddof=1)
    return values.mean(), spread / math.sqrt(len(values)), spread, math.sqrt(np.mean(errors**2))


def covariance(rng, d, rank=None):
    a = rng.standard_normal((d, rank or 2 * d))
    return a @ a.T


def expected_kernel(a, b):
    """E (x.y / d + 1)^3 for x ~ N(a, I), y ~ N(b, I), by the cumulants of x.y."""
    d, dot = len(a), a @ b
    mean, variance, third = dot / d + 1, (a @ a + b @ b + d) / d**2, 6 * dot / d**3
    return mean**3 + 3 * mean * variance + third


def blur(x):
    return F.avg_pool2d(F.pad(x, (1,) * 4, mode="replicate"), 3, 1)


def noisy(x, spread, seed=0):
    return x + spread * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))


X, P = -torch.ones(120, 1, 32, 32), np.zeros((120, 4))


NAN = torch.full_like(X, math.nan)


def run(*arguments):
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])
