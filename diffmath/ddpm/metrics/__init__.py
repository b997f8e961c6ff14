r"""How good are samples? Distances of law, pixels and copies, each with its error.

Features are those of the shipped classifier, which was trained apart from the generator; their distances say whether
the samples are such digits as MNIST's, in the right proportions, and as varied. That classifier was trained to overlook
a slightly grey or noisy background, so pixels have statistics of their own, and so has memorisation.

Every number comes with its standard error over repetitions with new images on both sides. Compare it with the one for
an equal number of real images, as `evaluate_beside_real` and the command ``evaluate`` do. (These are taken from the
training set, which was the classifier's as well: it is a little surer of them than of new ones.)

Images have shape (N, 1, 32, 32), pixels in [-1, 1]; values outside are clipped, as a picture of them would be. Only
`evaluate` refuses what is plainly on another scale, such as [0, 1]. Results are float64. All functions raise ValueError
where images or points are not finite, too few, or of another shape, and TypeError where they are not floating numbers.
"""

from diffmath.ddpm.metrics.estimates import Estimate, Interval
from diffmath.ddpm.metrics.evaluation import Evaluation, evaluate, evaluate_beside_real
from diffmath.ddpm.metrics.frechet import Extrapolation, frechet_distance, frechet_extrapolated
from diffmath.ddpm.metrics.images import (
    Background,
    ClassBalance,
    Confidence,
    Features,
    Memorisation,
    background,
    class_balance,
    confidence,
    features,
    memorisation,
)
from diffmath.ddpm.metrics.kernel import energy_distance, kernel_distance
from diffmath.ddpm.metrics.neighbours import Neighbours, precision_recall_density_coverage
from diffmath.ddpm.metrics.report import FEW, describe, summary, table

__all__ = [
    "FEW",
    "Background",
    "ClassBalance",
    "Confidence",
    "Estimate",
    "Evaluation",
    "Extrapolation",
    "Features",
    "Interval",
    "Memorisation",
    "Neighbours",
    "background",
    "class_balance",
    "confidence",
    "describe",
    "energy_distance",
    "evaluate",
    "evaluate_beside_real",
    "features",
    "frechet_distance",
    "frechet_extrapolated",
    "kernel_distance",
    "memorisation",
    "precision_recall_density_coverage",
    "summary",
    "table",
]
