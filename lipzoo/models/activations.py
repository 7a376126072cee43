"""Activations by name."""

from __future__ import annotations

from torch import nn

from lipzoo._names import Registry

__all__ = ["ACTIVATIONS", "INPUT_ACTIVATIONS"]

#: Names that YAML files and ``activation=`` accept.
ACTIVATIONS: Registry[nn.Module] = Registry("activation", "activation", nn.Module)
for _name, _class in {
    "elu": nn.ELU,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "gelu": nn.GELU,
    "identity": nn.Identity,
}.items():
    ACTIVATIONS.register(_name)(_class)
#: The same ones, for the activation of the input layer.
INPUT_ACTIVATIONS = ACTIVATIONS.for_argument("input_activation")
