import pytest
import torch
from torch.testing import assert_close

import lipzoo
from lipzoo.datasets.convert import MAX_DENSITY, compress
from lipzoo.nn.sparse import sparse_dropout_linear


def bags(rows=60, columns=40, share=0.05, seed=0):
    """Features of which about ``share`` are nonzero, one row without any."""
    generator = torch.Generator().manual_seed(seed)
    dense = torch.rand(rows, columns, generator=generator, dtype=torch.float64)
    dense *= torch.rand(rows, columns, generator=generator) < share
    dense[3] = 0
    return dense


@pytest.fixture(scope="module")
def iris():
    return lipzoo.load_dataset("iris")


def test_equals_the_dense_layer_with_its_gradients():
    dense = bags()
    layer = torch.nn.Linear(40, 8, bias=False, dtype=torch.float64)
    expected = layer(dense)
    expected.square().sum().backward()
    gradients = [p.grad.clone() for p in layer.parameters()]
    layer.zero_grad()
    out = sparse_dropout_linear(compress(dense), layer.weight, p=0.7, training=False)
    out.square().sum().backward()
    torch.testing.assert_close(out, expected)
    for parameter, gradient in zip(layer.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("share", [0.05, 0.0])
def test_other_precisions_and_nothing_at_all(dtype, share):
    dense = bags(share=share).float()
    weight = torch.randn(3, 40, dtype=dtype, requires_grad=True)
    out = sparse_dropout_linear(dense.to_sparse_csr(), weight)
    assert out.dtype == dtype
    tolerance = {"rtol": 0.03, "atol": 0.03} if dtype != torch.float32 else {}
    assert_close(out, (dense @ weight.float().t()).to(dtype), **tolerance)
    out.float().sum().backward()
    assert_close(weight.grad, dense.sum(0).expand(3, 40).to(dtype), **tolerance)


def test_second_derivatives():
    feat = compress(bags())
    weight = torch.randn(3, 40, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda w: sparse_dropout_linear(feat, w), weight)
    assert torch.autograd.gradgradcheck(lambda w: sparse_dropout_linear(feat, w), weight)


def test_dropout_drops_its_share_and_keeps_the_mean():
    torch.manual_seed(0)
    # One output sums a row of 20,000 ones, each dropped or scaled.
    ones = torch.ones(1, 20_000).to_sparse_csr()
    weight = torch.eye(1).expand(1, 20_000).contiguous()
    out = sparse_dropout_linear(ones, weight, p=0.9, training=True)
    kept = out.item() / 10
    assert kept == pytest.approx(2000, abs=5 * (20_000 * 0.9 * 0.1) ** 0.5)


def test_dropped_elements_are_whole_or_gone_and_differ_between_draws():
    torch.manual_seed(0)
    feat = bags()
    eye = torch.eye(40, dtype=torch.float64)
    draws = [sparse_dropout_linear(compress(feat), eye, 0.5, True) for _ in range(2)]
    for draw in draws:
        assert ((draw == 0) | torch.isclose(draw, feat * 2)).all()
    assert not torch.equal(*draws)


def test_dense_features_are_not_compressed():
    assert compress(torch.ones(4, 4)) is None
    assert compress(torch.zeros(0, 4)) is None
    columns = 100
    row = (torch.arange(columns) < MAX_DENSITY * columns).float()
    assert compress(row[None]) is not None
    assert compress(torch.ones(1, columns) * (torch.arange(columns) <= 10)) is None


def test_a_model_gives_the_same_logits_on_sparse_features(iris):
    torch.manual_seed(0)
    feat = bags(iris.num_nodes).float()
    model = lipzoo.create_model("test_tiny", in_feats=40, num_classes=3).eval()
    torch.testing.assert_close(model(iris.graph, compress(feat)), model(iris.graph, feat))


@pytest.mark.parametrize("layout", ["dense", "sparse"])
def test_node_drop_zeroes_all_features_of_a_node(iris, layout):
    torch.manual_seed(0)
    feat = bags(iris.num_nodes, share=0.09).float()
    model = lipzoo.create_model("test_tiny", in_feats=40, num_classes=3, node_drop=0.4).train()
    given = feat if layout == "dense" else compress(feat)
    product = feat @ model.input.weight.T
    projected = model._project(given) - model.input.bias
    is_dropped = projected.abs().amax(1) < 1e-6
    torch.testing.assert_close(
        projected[~is_dropped], product[~is_dropped] / 0.6, rtol=1e-3, atol=1e-5
    )
    assert 0.25 < is_dropped.float().mean() < 0.55
    torch.testing.assert_close(model.eval()._project(given), product + model.input.bias)


def test_a_task_compresses_its_features_once_and_anew_for_new_ones(iris):
    assert iris.sparse_feat is None
    sparse = iris.with_ndata(feat=bags(iris.num_nodes).float())
    assert sparse.sparse_feat is sparse.sparse_feat
    torch.testing.assert_close(sparse.sparse_feat.to_dense(), sparse.feat)
    other = sparse.with_ndata(feat=bags(iris.num_nodes, seed=1).float())
    torch.testing.assert_close(other.sparse_feat.to_dense(), other.feat)
