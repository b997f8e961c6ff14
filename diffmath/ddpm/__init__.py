"""The paper's denoising diffusion model: the network, Algorithm 1 (`train`) and Algorithm 2 (`sample`)."""

from diffmath.ddpm.checkpoints import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from diffmath.ddpm.training import TrainingDiverged, TrainingResult, train
from diffmath.ddpm.unet import UNet

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "TrainingDiverged",
    "TrainingResult",
    "UNet",
    "load_checkpoint",
    "save_checkpoint",
    "train",
]
