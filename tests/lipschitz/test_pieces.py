"""Constants of activations, feature norms and linear maps, against their Jacobians."""

import math

import pytest
import torch
from graph_zoo import homogeneous
from torch import nn

from lipzoo.attention import as_structure
from lipzoo.lipschitz import spectral
from lipzoo.lipschitz.pieces import constant_of
from lipzoo.lipschitz.search import local_constants
from lipzoo.lipschitz.spectral import spectral_norm
from lipzoo.models.base import ACTIVATIONS
from lipzoo.nn import BatchNorm, LayerNorm, NeighborNorm, PairNorm
from lipzoo.nn.conv import IdentityMappedLinear

STRUCTURE = as_structure(homogeneous())

ELEMENTWISE = {
    **{name: kind() for name, kind in ACTIVATIONS.items()},
    "gelu tanh": nn.GELU(approximate="tanh"),
    "elu 2": nn.ELU(alpha=2.0),
    "celu": nn.CELU(alpha=0.5),
    "leaky_relu 3": nn.LeakyReLU(3.0),
    "selu": nn.SELU(),
    "silu": nn.SiLU(),
    "sigmoid": nn.Sigmoid(),
    "tanh": nn.Tanh(),
    "softplus": nn.Softplus(),
}


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_the_steepest_slope_is_the_constant(name):
    x = torch.linspace(-8, 8, 400_001, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(ELEMENTWISE[name](x).sum(), x)
    constant = constant_of(ELEMENTWISE[name], STRUCTURE)
    steepest = slope.abs().max().item()
    assert constant.frobenius == constant.per_node
    assert steepest <= constant.frobenius * (1 + 1e-12)
    assert steepest == pytest.approx(constant.frobenius, rel=2e-3), "and no looser than need be"


NORMS = {
    "pairnorm": PairNorm(3, scale=2.0, eps=1e-4),
    "pairnorm_si": PairNorm(3, individually=True, eps=1e-4),
    "layernorm": LayerNorm(3, eps=1e-3),
    "batchnorm": BatchNorm(3),
}


@pytest.mark.parametrize("scale", [0.0, 1e-3, 1e-2, 1.0, 1e3])
@pytest.mark.parametrize("name", NORMS)
def test_feature_norms_stay_below_their_constant(name, scale):
    module = NORMS[name].double().eval()
    generator = torch.Generator().manual_seed(0)
    if name in ("layernorm", "batchnorm"):
        nn.init.uniform_(module.norm.weight, -2, 2, generator=generator)
    if name == "batchnorm":
        nn.init.uniform_(module.norm.running_var, 0.1, 2, generator=generator)
    feat = torch.randn(10, 3, generator=generator, dtype=torch.float64) * scale
    matrix = torch.func.jacrev(lambda x: module(STRUCTURE, x))(feat)
    constant = constant_of(module, STRUCTURE)
    frobenius, per_node = local_constants(matrix.detach())
    assert frobenius <= constant.frobenius * (1 + 1e-9)
    assert per_node <= constant.per_node * (1 + 1e-9)
    if scale == 0:
        assert frobenius == pytest.approx(constant.frobenius, rel=0.5), "steepest at zero"


def test_neighbor_norm_has_none():
    module = NeighborNorm(3)
    assert "NeighborNorm is not Lipschitz" in constant_of(module, STRUCTURE).reason

    def local(scale):
        feat = torch.zeros(10, 3, dtype=torch.float64)
        feat[0] = scale
        neighbours = STRUCTURE.src[(STRUCTURE.dst == 0) & (STRUCTURE.src != 0)]
        feat[neighbours] = scale + 0.1
        matrix = torch.func.jacrev(lambda x: module(STRUCTURE, x))(feat)
        return local_constants(matrix)[0]

    assert local(1e4) > 10 * local(10.0)


def test_an_identity_mapped_weight_is_the_one_in_use():
    linear = IdentityMappedLinear(4, 0.1)
    weight = 0.9 * torch.eye(4) + 0.1 * linear.weight
    wanted = torch.linalg.matrix_norm(weight.double(), 2).item()
    assert constant_of(linear, STRUCTURE).frobenius == pytest.approx(wanted, rel=1e-6)


# --------------------------------------------------------------------------- spectral norms


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("shape", [(1, 1), (40, 17), (17, 40), (30, 30)])
@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e150])
def test_spectral_norms_are_never_too_small(shape, exact, scale, monkeypatch):
    if not exact:
        monkeypatch.setattr(spectral, "_EXACT", 0)
    generator = torch.Generator().manual_seed(0)
    for kind in ("random", "orthogonal", "rank one"):
        matrix = torch.randn(*shape, generator=generator, dtype=torch.float64)
        if kind == "orthogonal":
            u, _, v = torch.linalg.svd(matrix, full_matrices=False)
            matrix = u @ v
        elif kind == "rank one":
            matrix = matrix[:, :1] * matrix[:1]
        wanted = torch.linalg.svdvals(matrix)[0].item() * scale
        got = spectral_norm(matrix * scale)
        assert wanted <= got <= wanted * 1.003


def test_rows_can_be_scaled_and_oddities_have_an_answer():
    matrix, rows = torch.randn(5, 3), torch.rand(5)
    wanted = torch.linalg.matrix_norm((rows[:, None] * matrix).double(), 2).item()
    assert spectral_norm(matrix, rows) == pytest.approx(wanted, rel=1e-6)
    assert spectral_norm(torch.zeros(3, 4)) == 0
    assert spectral_norm(torch.zeros(0, 4)) == 0
    assert spectral_norm(torch.full((2, 2), math.inf)) == math.inf
    with pytest.raises(ValueError, match="needs a matrix"):
        spectral_norm(torch.zeros(3))
