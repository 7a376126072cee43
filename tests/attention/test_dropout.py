import pytest
import torch
from torch.testing import assert_close

import lipzoo
from lipzoo._graph import make_graph
from lipzoo.attention.dropout import dropout


@pytest.mark.parametrize("p", [0.1, 0.5, 0.6, 0.9])
def test_drops_its_share_and_keeps_the_mean(p):
    torch.manual_seed(0)
    number = 200_001  # not a multiple of the four elements that share a draw
    out = dropout(torch.ones(number), p)
    spread = (p * (1 - p) / number) ** 0.5
    assert (out == 0).double().mean().item() == pytest.approx(p, abs=5 * spread)
    assert out.unique().numel() == 2
    assert out.max().item() == pytest.approx(1 / (1 - p), rel=1e-3)


def test_each_of_the_four_lanes_is_unbiased():
    torch.manual_seed(1)
    lanes = (dropout(torch.ones(100_000, 4), 0.5) > 0).double()
    assert lanes.mean(0).tolist() == pytest.approx([0.5] * 4, abs=0.01)
    correlation = torch.corrcoef(lanes.T) - torch.eye(4)
    assert correlation.abs().max().item() < 0.02


def test_the_seed_decides():
    x = torch.rand(7, 5)

    def draw(seed):
        torch.manual_seed(seed)
        return dropout(x, 0.5)

    assert torch.equal(draw(3), draw(3))
    assert not torch.equal(draw(3), draw(4))


def test_the_gradient_has_the_mask():
    x = torch.rand(30, 3, requires_grad=True)
    out = dropout(x, 0.4)
    out.sum().backward()
    assert torch.allclose(x.grad * x.detach(), out.detach())


def test_nothing_happens_in_evaluation_or_at_rate_zero():
    x = torch.rand(4)
    assert dropout(x, 0.5, training=False) is x
    assert dropout(x, 0.0) is x


@pytest.mark.parametrize("p", [1e-12, 1e-6, 2**-17, 2**-16, 1 - 2**-16, 1 - 2**-18])
def test_rates_that_round_to_none_or_all_of_the_16_bits(p):
    """2**-17 and less once dropped everything."""
    torch.manual_seed(0)
    number = 400_000
    for x in (torch.ones(number), torch.ones(number, requires_grad=True)):
        kept = dropout(x, p).detach()
        kept = kept[kept != 0].double()
        spread = max(1.0, (number * p * (1 - p)) ** 0.5)
        assert len(kept) == pytest.approx(number * (1 - p), abs=5 * spread)
        assert torch.allclose(kept, torch.full_like(kept, 1 / (1 - p)), rtol=1e-3)


def test_vmap():
    x = torch.ones(3, 100)
    out = torch.func.vmap(lambda row: dropout(row, 0.5), randomness="different")(x)
    assert set(out.unique().tolist()) == {0.0, 2.0}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_what_is_kept_is_multiplied_and_the_rest_is_zero(dtype):
    """With a gradient or without one, to the bit."""
    x = torch.randn(501, 3, generator=torch.Generator().manual_seed(0)).to(dtype)

    def draw(rows):
        torch.manual_seed(5)
        return dropout(rows, 0.3)

    out = draw(x)
    assert torch.equal(out, draw(x.clone().requires_grad_()).detach())
    is_kept = out != 0
    assert torch.equal(out, torch.where(is_kept, x * (65536 / round(0.7 * 65536)), 0))
    assert is_kept.double().mean().item() == pytest.approx(0.7, abs=0.05)


def test_derivatives_of_higher_order():
    def cubed(x):
        torch.manual_seed(2)
        return dropout(x, 0.5) ** 3

    x = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(cubed, x, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(cubed, x)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("name", ["gat_lip_2", "gatv2_lip_2", "gt_lip_2"])
def test_dropouts_that_are_frozen_alone_drop_nothing(name, sparse):
    """Each asks its own mode, whatever the model around it is in, and however it is computed."""
    torch.manual_seed(0)
    drops = dict.fromkeys(("input_drop", "node_drop", "feat_drop", "attn_drop", "head_drop"), 0.5)
    model = lipzoo.create_model(name, in_feats=6, num_classes=3, **drops)
    graph = make_graph(torch.arange(9), torch.arange(9).roll(1), 9)
    feat = torch.rand(9, 6)
    feat = feat.to_sparse_csr() if sparse else feat
    wanted = model.eval()(graph, feat)
    model.train()
    assert not torch.allclose(model(graph, feat), wanted)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.eval()
    assert_close(model(graph, feat), wanted)
