"""Valid values of the parameters of public functions, by their names, as small as they can be: see `tests.doors`."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import meshio
import numpy as np
import skfem
import torch

from diffmath import ddpm
from diffmath.data import load_mnist
from diffmath.ddpm import metrics
from diffmath.domains import Mask
from diffmath.gaussian import Gaussian
from diffmath.heat import HeatProcess, TerminalLaw
from diffmath.pde import Box, RenormalizedFlow
from diffmath.pde.priors import GaussianPrior
from diffmath.schedule import VarianceSchedule

__all__ = ["examples"]


@cache
def instances() -> dict[str, Any]:
    """Objects whose methods are tried."""
    domain = Box(8)
    return {
        "VarianceSchedule": VarianceSchedule.linear(4),
        "Gaussian": Gaussian([0.0, 1.0], 1.0),
        "Box": domain,
        "Mask": Mask(np.ones(8, dtype=bool)),
        "RenormalizedFlow": RenormalizedFlow(domain),
    }


@cache
def examples() -> dict[str, Any]:
    """A valid value for each parameter's name, or for that of one function."""
    rng = np.random.default_rng(0)
    schedule, domain = instances()["VarianceSchedule"], instances()["Box"]
    digits = torch.from_numpy(rng.uniform(-1, 1, (120, 1, 32, 32)).astype(np.float32))
    ds = RenormalizedFlow(domain).solve(domain.eigenfunction(2), [0.0, 0.1])
    evaluation = metrics.Evaluation(*[None] * len(metrics.Evaluation._fields))  # type: ignore[arg-type]
    network, classifier = ddpm.UNet(32, 1, 8), ddpm.Classifier().eval()
    directory = Path(tempfile.mkdtemp())
    pixels, idx = directory / "pixels.npy", directory / "idx"
    triangles = directory / "triangles.vtk"
    small = digits[:20, :, ::4, ::4]
    heat = HeatProcess.fit(small, times=[0.0, 1e-3, 0.1])
    meshio.Mesh(np.eye(3), [("triangle", np.array([[0, 1, 2]]))]).write(triangles)
    np.save(pixels, np.zeros((2, 8, 8), dtype=np.uint8))
    idx.write_bytes(bytes((0, 0, 8, 1, 0, 0, 0, 1, 7)))
    return {
        "classifier": classifier,
        "schedule": schedule,
        "process": schedule,
        "domain": domain,
        "flow": instances()["RenormalizedFlow"],
        "ds": ds,
        "model": ddpm.gaussian_denoiser(schedule, 0.0, 1.0),
        "network": network,
        "n_steps": 2,
        "n_samples": 2,
        "n_times": 2,
        "n_repeats": 1,
        "n_epochs": 1,
        "n_examples": 1,
        "n": 2,
        "batch_size": 2,
        "size": 8,
        "columns": 3,
        "images": digits,
        "reference": digits,
        "training": digits[:20],
        "samples": digits.flatten(1)[:, :3],
        "digits": np.arange(10),
        "confidences": np.linspace(0, 1, 5),
        "confidence": np.linspace(0, 1, 5),
        "labels": torch.arange(120) % 10,
        "times": [0.0, 0.1],
        "u_0": domain.eigenfunction(2),
        "u": domain.eigenfunction(2),
        "c": domain.to_modes(domain.eigenfunction(2)),
        "k": 2,
        "j": 1,
        "t": 2,
        "s": 1,
        "x": np.array([0.5, 1.0]),
        "y": np.array([0.5, 1.0]),
        "x_0": np.ones((2, 3)),
        "x_t": np.ones((2, 3)),
        "x_s": np.ones((2, 3)),
        "z": np.ones((2, 3)),
        "x_T": torch.zeros(2, 3),
        "eps": np.ones((2, 3)),
        "mean": np.array([0.0, 1.0]),
        "means": torch.zeros(2, 3),
        "points": torch.zeros(2, 3),
        "variance": 1.0,
        "variances": 1.0,
        "covariance": torch.eye(2),
        "weights": torch.full((2,), 0.5),
        "mean_1": np.zeros(2),
        "mean_2": np.zeros(2),
        "cov_1": np.eye(2),
        "cov_2": np.eye(2),
        "data": digits,
        "beta": [0.1, 0.2],
        "other": Gaussian([0.0, 1.0], 2.0),
        "scale": 2,
        "shift": 0.5,
        "shape": 8,
        "M": np.ones(3),
        "domains.catalogue.find_domain.domain": "disc",
        "refinement": 1,
        "image": np.ones((4, 4)),
        "ddpm.conditioned.decay": np.ones((4, 4)),
        "ddpm.conditioned.variance": np.ones((4, 4)),
        "ddpm.cosine_modes.images": np.ones((4, 4)),
        "SphereModel.density": lambda z: np.exp(z[0]),
        "SphereModel.density.z": np.eye(2),
        "Harmonics.basis.z": np.eye(2),
        "Harmonics.values.z": np.eye(2),
        "Harmonics.values.coefficients": np.ones(5),
        "Harmonics.advance.coefficients": np.ones(5),
        "Harmonics.advance.move": lambda z, xi, descending: z,
        "SphereModel.sample.times": [0.1, 0.0],
        "SphereModel.total_variation.times": [0.1, 0.0],
        "SphereModel.sample.start": np.eye(2),
        "rates": np.array([1.0, 4.0]),
        "D": np.array([1.0, 1.0]),
        "mesh": skfem.MeshTri(),
        "Mesh.polygon.points": [(0, 0), (1, 0), (0, 1)],
        "holes": [[(0.2, 0.2), (0.4, 0.2), (0.2, 0.4)]],
        "Mesh.read.path": triangles,
        "pde.problem.read_problem.refinement": None,
        "pde.problem.read_problem.n_modes": None,
        "K": np.diag([1.0, 2.0, 3.0]),
        "mask": np.ones(8, dtype=bool),
        "lengths": (1.0,),
        "rng": 0,
        "generator": 0,
        "split": "sample",
        "preserve": "gradient",
        "initial": "w2",
        "directory": directory,
        "root": np.eye(2),
        "amplitudes": rng.standard_normal((6, 2)),
        "u_T": domain.eigenfunction(2),
        "Classifier.features.x": digits[:2],
        "components": [GaussianPrior(np.zeros(2), np.eye(2))] * 2,
        "source": "sample",
        "expression": "w2 + w3",
        "evaluation": evaluation,
        "evaluations": {"samples": evaluation},
        "description": None,
        "metadata": {},
        "progress": False,
        "label": "(1)",
        "claim": "a claim",
        "code": (),
        "Check.method": "property",
        "verification.check.method": "property",
        "tolerance": 1e-6,
        "example": lambda rng: None,
        "film": None,
        "mu": domain.eigenvalues[1:],
        "results": [],
        "f": lambda mu: np.exp(-mu),
        "dt": 0.1,
        "path": directory / "doors.safetensors",
        "data.load_images.path": pixels,
        "data.read_idx.path": idx,
        "ddpm.squared_error.x_0": torch.ones(2, 3),
        "ddpm.squared_error.eps": torch.ones(2, 3),
        "ddpm.squared_error.t": torch.tensor([1, 2]),
        "ddpm.gaussian_decoder.x_0": torch.ones(2, 3),
        "ddpm.pixel_decoder.x_0": torch.ones(2, 3),
        "ddpm.load_checkpoint.path": None,
        "ddpm.load_checkpoint.model": None,
        "data.tile.images": digits[:6],
        "data.save_sheet.images": digits[:6],
        "data.save_sheet.path": directory / "doors.png",
        "data.to_tensor.images": load_mnist("sample").images[:2],
        "ddpm.train.model": network,
        "ddpm.train.images": digits[:4, :, :8, :8],
        "ddpm.save_checkpoint.model": network,
        "ddpm.training_cost.model": network,
        "ddpm.training_cost.images": digits[:4, :, :8, :8],
        "ddpm.forward_flop.model": network,
        "ddpm.forward_flop.shape": (1, 8, 8),
        "ddpm.train_classifier.images": digits[:4],
        "ddpm.train_classifier.labels": torch.arange(4),
        "ddpm.variational_bound.images": torch.ones(2, 3),
        "ddpm.pixel_decoder.mean": torch.ones(2, 3),
        "ddpm.gaussian_decoder.mean": torch.ones(2, 3),
        "ddpm.metrics.frechet_extrapolated.reference": digits.flatten(1)[:, :3],
        "ddpm.metrics.kernel_distance.reference": digits.flatten(1)[:, :3],
        "ddpm.metrics.precision_recall_density_coverage.reference": digits.flatten(1)[:, :3],
        "ddpm.metrics.class_balance.reference": np.arange(10),
        "UNet.for_images.shape": (1, 8, 8),
        "triples": TerminalLaw(heat.law.triples[:3]).triples,  # type: ignore[union-attr]
        "HeatProcess.shape": (8, 8),
        "HeatProcess.fit.images": small.numpy(),
        "HeatProcess.fit.times": [0.0, 1e-3, 0.1],
        "HeatProcess.fit.sigma": [0.0, 0.1, 0.2],
        "HeatProcess.times": [0.0, 1e-3, 0.1],
        "HeatProcess.sigma": [0.0, 0.1, 0.2],
        "HeatProcess.moments": heat.moments,
        "HeatProcess.law": heat.law,
        **{
            f"HeatProcess.{call}": small[:2].numpy()
            for call in (
                "flow.x_0",
                "energy.x",
                "add_noise.x_0",
                "add_noise.eps",
                "triples.x_0",
                "backward_step.x",
                "backward_step.u",
                "backward_step.increment",
                "backward_step.z",
            )
        },
        "HeatDenoiser.process": heat,
        "HeatDenoiser.width": 4,
        "HeatDenoiser.patch": 2,
        "HeatDenoiser.forward.x": torch.from_numpy(heat.start(2, rng)).float(),
        "HeatDenoiser.forward.t": torch.tensor([1, 2]),
        "ddpm.heat_loss.model": ddpm.HeatDenoiser(heat, 4),
        "ddpm.heat_loss.process": heat,
        "ddpm.heat_loss.x_0": small[:2],
        "ddpm.heat_loss.eps": small[:2],
        "ddpm.heat_loss.t": torch.tensor([1, 2]),
        "heat.heat_sigma.times": [0.0, 1e-3, 0.1],
        "LinearHeatProcess.domain": Box(3),
        "LinearHeatProcess.times": [0.0, 1e-3, 2e-3],
        "LinearHeatProcess.sigma": [0.0, 0.1, 0.2],
        "LinearHeatProcess.r": [1.0, 1.0, 1.0],
        "heat.flow_posterior.sigma": 0.5,
        "heat.flow_posterior.sigma_s": 0.5,
        "heat.flow_posterior.kappa": 0.5,
        "ddpm.guided.reference": network,
        "RenormalizedFlow.solve.mean": "project",
        "RenormalizedFlow.solve_modes.mean": "project",
        "RenormalizedFlow.evolve.mean": "project",
    }
