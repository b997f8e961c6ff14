"""Algorithm 1: training the noise predictor.

All randomness of step k (which images, which times, which noise) is a function of the seed and of k alone. So there is
no generator's state to save, and a run that was interrupted and resumed is the run that was not.

``algorithm`` is Algorithm 1 itself; ``batches`` draws its minibatches; ``state`` is what a run is after some step, and
its way into a checkpoint and back; ``hooks`` are what else happens at a step; ``log`` is what they write; ``held_out``
is the loss on other images; ``settings`` are the arguments, checked; ``compiled`` holds a compiled network to the
network; ``run`` puts them together.
"""

from diffmath.ddpm.training.algorithm import squared_error
from diffmath.ddpm.training.run import TrainingResult, steps_done, train
from diffmath.ddpm.training.state import TrainingDivergedError

__all__ = ["TrainingDivergedError", "TrainingResult", "squared_error", "steps_done", "train"]
