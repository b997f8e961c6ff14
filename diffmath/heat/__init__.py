"""The generative model whose forward process is the renormalised heat flow; no torch.

`HeatProcess` carries an image along its own flow (22), to the first eigenspace, and says how to walk back. Three
numbers are left of the image there, whose law is `TerminalLaw`. `LinearHeatProcess` is its linear sibling, a
`diffmath.process.ForwardProcess`. Networks, loss and sampler are in `diffmath.ddpm`: `HeatDenoiser`, `heat_loss` and
`sample`.
"""

from diffmath.heat.grid import heat_sigma, heat_times
from diffmath.heat.law import TerminalLaw
from diffmath.heat.linear import LinearHeatProcess
from diffmath.heat.moments import Moments
from diffmath.heat.process import HeatProcess, flow_posterior

__all__ = [
    "HeatProcess",
    "LinearHeatProcess",
    "Moments",
    "TerminalLaw",
    "flow_posterior",
    "heat_sigma",
    "heat_times",
]
