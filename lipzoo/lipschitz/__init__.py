"""Lipschitz bounds, estimates, certified radii and the flow of gradients of attention networks."""

from lipzoo.lipschitz import attention as _attention  # noqa: F401  (registers its rules)
from lipzoo.lipschitz.attack import Attack, attack
from lipzoo.lipschitz.certificate import Certificate, certify
from lipzoo.lipschitz.constant import Constant
from lipzoo.lipschitz.flow import GradientFlow, GradientFlowLog, gradient_flow
from lipzoo.lipschitz.modules import constant_of, register_bound
from lipzoo.lipschitz.network import Bound, LayerBound, bound
from lipzoo.lipschitz.power_method import Estimate, estimate
from lipzoo.lipschitz.radii import Robustness, robustness
from lipzoo.lipschitz.spectral import spectral_norm

__all__ = [
    "Attack",
    "Bound",
    "Certificate",
    "Constant",
    "Estimate",
    "GradientFlow",
    "GradientFlowLog",
    "LayerBound",
    "Robustness",
    "attack",
    "bound",
    "certify",
    "constant_of",
    "estimate",
    "gradient_flow",
    "register_bound",
    "robustness",
    "spectral_norm",
]
