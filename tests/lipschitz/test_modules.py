"""Constants of activations, feature norms and linear maps, against their Jacobians."""

import math
import re

import pytest
import torch
from graph_zoo import homogeneous
from torch import nn

from adversary.measure import Slope, local_constants
from lipzoo.attention import as_structure
from lipzoo.lipschitz import Constant, bound
from lipzoo.lipschitz.modules import constant_of
from lipzoo.lipschitz.spectral import spectral_norm
from lipzoo.models.activations import ACTIVATIONS
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
    "softplus": nn.Softplus(threshold=40.0),
    "softplus -3": nn.Softplus(beta=-3.0, threshold=40.0),
    "elu -2": nn.ELU(alpha=-2.0),
    "hardtanh": nn.Hardtanh(-3.0, 0.5),
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


@pytest.mark.many
@pytest.mark.parametrize("shape", [(1, 1), (40, 17), (17, 40), (30, 30), (200, 300)])
@pytest.mark.parametrize("scale", [1e-300, 1e-200, 1.0, 1e150, 1e300])
def test_spectral_norms_are_never_too_small(shape, scale):
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
        assert wanted * (1 - 1e-13) <= got <= wanted * (1 + 1e-9)


def test_a_norm_that_was_guessed_too_small_is_not_taken(monkeypatch):
    """The factorisation, not the eigenvalue, is the proof."""
    matrix = torch.randn(9, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    wanted = torch.linalg.svdvals(matrix)[0].item()
    exact = torch.linalg.eigvalsh
    for factor in (0.2, 0.9, 0.999999, 1 - 1e-11):
        monkeypatch.setattr(torch.linalg, "eigvalsh", lambda g, f=factor: f * exact(g))
        got = spectral_norm(matrix)
        assert wanted <= got <= torch.linalg.matrix_norm(matrix).item() * (1 + 1e-12)


def test_rows_can_be_scaled_and_oddities_have_an_answer():
    matrix, rows = torch.randn(5, 3), torch.rand(5)
    wanted = torch.linalg.matrix_norm((rows[:, None] * matrix).double(), 2).item()
    assert spectral_norm(matrix, rows) == pytest.approx(wanted, rel=1e-6)
    assert spectral_norm(torch.zeros(3, 4)) == 0
    assert spectral_norm(torch.zeros(0, 4)) == 0
    assert spectral_norm(torch.full((2, 2), math.inf)) == math.inf
    with pytest.raises(ValueError, match="needs a matrix"):
        spectral_norm(torch.zeros(3))


# ----------------------------------------------------------------- what has no constant, and why


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (nn.Softplus(threshold=0.0), "Softplus jumps by 0.69 at its threshold 0"),
        (nn.Softplus(), "Softplus jumps by 2.1e-09 at its threshold 20"),
        (nn.Softplus(beta=0.0), "beta must be a number other than 0"),
        (nn.CELU(alpha=-1.0), "CELU with alpha=-1.0 grows without limit"),
        (nn.ELU(alpha=math.inf), "ELU's alpha: must be a finite number"),
        (nn.LeakyReLU(math.nan), "negative_slope: must be a finite number, got nan"),
        (nn.GELU(approximate="erf"), "GELU has no approximation 'erf'"),
        (PairNorm(3, eps=0.0), "PairNorm with eps=0 .* it needs eps > 0"),
        (PairNorm(3, eps=-1.0, individually=True), "PairNorm with eps=-1"),
        (PairNorm(3, scale=math.inf), "a gain of inf"),
        (LayerNorm(3, eps=0.0), "LayerNorm with eps=0"),
        (LayerNorm(3, eps=-1.0), "LayerNorm with eps=-1"),
        (LayerNorm(3, eps=math.nan), "LayerNorm with eps=nan"),
        (BatchNorm(3, eps=-2.0), "BatchNorm divides by the root"),
        (nn.Linear(2, 2).requires_grad_(False), ""),
    ],
    ids=lambda value: str(value)[:40],
)
def test_arguments_that_leave_no_constant_say_so(module, reason):
    if isinstance(module, nn.Linear):
        module.weight[0, 0] = math.nan
        reason = "Linear: the weights hold NaN or infinity"
    limit = bound(module, STRUCTURE)
    assert limit.frobenius == limit.per_node == math.inf
    assert re.search(reason, limit.reason)


def test_the_jumps_and_slopes_that_are_refused_are_there():
    points = torch.linspace(-40, 40, 801, dtype=torch.float64)
    for module in (nn.Softplus(threshold=0.0), nn.Softplus(), nn.CELU(-1.0)):
        near = Slope("", module, points)
        assert module_slope(near) > 10
    assert module_slope(Slope("", nn.Softplus(threshold=40.0), points)) <= 1


def module_slope(case):
    """Steepest, whatever the constant: ratios to a constant of 1."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("adversary.measure.constant_of", lambda *_: Constant(1.0, 1.0))
        return max(case.ratios())


class _Callable(nn.ReLU):
    def __call__(self, x):
        return 9 * super().__call__(x)


def test_a_call_of_ones_own_may_do_anything():
    assert "nothing is known about _Callable" in bound(_Callable(), STRUCTURE).reason
    module = nn.ReLU()
    module.forward = lambda x: 9 * x
    assert "a forward of its own" in bound(module, STRUCTURE).reason
