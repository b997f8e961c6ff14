"""Small runs of training, and what the tests look at in their directories."""

import csv

import torch
from torch import nn

from diffmath.ddpm import (
    UNet,
)
from diffmath.schedule import VarianceSchedule

SCHEDULE = VarianceSchedule.linear(20, 1e-3, 0.3)


QUICK = {"batch_size": 4, "learning_rate": 1e-3, "log_every": 2, "progress": False, "device": "cpu"}


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return UNet(width=32, image_size=8)


def same(a, b):
    """Bit for bit the same parameters."""
    return all(torch.equal(p, q) for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def entries(path, *, all_of_it=False):
    """Of a log, without what is measured."""
    with open(path, newline="") as file:
        return [{k: v for k, v in r.items() if all_of_it or k != "images_per_second"} for r in csv.DictReader(file)]


def left(directory):
    """The names of a run's files, but for the one that keeps others out."""
    return sorted(path.name for path in directory.iterdir() if path.name != ".lock")


def rows(path):
    """The log's steps and losses."""
    return [(int(entry["step"]), float(entry["loss"])) for entry in entries(path)]


class Scalar(nn.Module):
    """The noise predictor a x + b at one noise level: linear regression."""

    def __init__(self):
        super().__init__()
        self.slope, self.shift = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))

    def forward(self, x, t):
        return self.slope * x + self.shift
