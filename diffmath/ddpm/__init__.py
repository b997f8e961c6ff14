"""The denoising diffusion model: the network, Algorithm 1 (`train`), Algorithm 2 (`sample`), exact denoisers."""

from diffmath.ddpm._environment import choose_device
from diffmath.ddpm._processes import joined
from diffmath.ddpm.checkpoints import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from diffmath.ddpm.classifier import Classifier, classify, load_classifier, save_classifier, train_classifier
from diffmath.ddpm.conditioning import conditioned, cosine_modes
from diffmath.ddpm.cost import TrainingCost, forward_flop, training_cost
from diffmath.ddpm.denoisers import gaussian_denoiser, mixture_denoiser, points_denoiser
from diffmath.ddpm.guidance import guided
from diffmath.ddpm.heat import HeatDenoiser, heat_loss
from diffmath.ddpm.likelihood import VariationalBound, bound_weight, gaussian_decoder, pixel_decoder, variational_bound
from diffmath.ddpm.metrics import Evaluation, evaluate
from diffmath.ddpm.mlp import MLP
from diffmath.ddpm.sampling import sample
from diffmath.ddpm.starts import matched_start, moments
from diffmath.ddpm.training import TrainingDivergedError, TrainingResult, squared_error, train
from diffmath.ddpm.unet import UNet

__all__ = [
    "MLP",
    "Checkpoint",
    "CheckpointError",
    "Classifier",
    "Evaluation",
    "HeatDenoiser",
    "TrainingCost",
    "TrainingDivergedError",
    "TrainingResult",
    "UNet",
    "VariationalBound",
    "bound_weight",
    "choose_device",
    "classify",
    "conditioned",
    "cosine_modes",
    "evaluate",
    "forward_flop",
    "gaussian_decoder",
    "gaussian_denoiser",
    "guided",
    "heat_loss",
    "joined",
    "load_checkpoint",
    "load_classifier",
    "matched_start",
    "mixture_denoiser",
    "moments",
    "pixel_decoder",
    "points_denoiser",
    "sample",
    "save_checkpoint",
    "save_classifier",
    "squared_error",
    "train",
    "train_classifier",
    "training_cost",
    "variational_bound",
]
