"""Leave-one-out in closed form against fits that leave one out."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from lipzoo.context import ridge
from lipzoo.context.ridge import ridge_with_left_out


def refitted(feat, context, target, penalty):
    """What scikit-learn's ridge says of each context node when it is not fitted on it."""
    said = []
    for k in range(len(context)):
        others = np.delete(np.arange(len(context)), k)
        model = Ridge(alpha=penalty, solver="svd").fit(feat[context[others]], target[others])
        said.append(model.predict(feat[context[[k]]])[0])
    return np.array(said)


@pytest.mark.parametrize(
    ("n", "columns", "rank"),
    [(40, 6, 6), (12, 30, 30), (12, 11, 11), (13, 12, 12), (30, 8, 3), (5, 200, 200), (2, 3, 3)],
)
@pytest.mark.parametrize("penalty", [1e-3, 1.0, 100.0])
def test_left_out_is_what_a_refit_says(n, columns, rank, penalty, monkeypatch):
    monkeypatch.setattr(ridge, "PENALTIES", (penalty,))
    rng = np.random.default_rng(n * columns)
    feat = rng.standard_normal((n + 20, rank)) @ rng.standard_normal((rank, columns))
    context = rng.permutation(n + 20)[:n]
    target = np.eye(3)[rng.integers(0, 3, n)]
    fitted, left_out = ridge_with_left_out(feat, context, target)
    rows = feat[context] - feat[context].mean(0)
    values = np.linalg.eigvalsh(rows.T @ rows)
    scale = penalty * values[values > 1e-9 * values[-1]].mean()
    np.testing.assert_allclose(left_out, refitted(feat, context, target, scale), atol=1e-7)
    model = Ridge(alpha=scale, solver="svd").fit(feat[context], target)
    np.testing.assert_allclose(fitted, model.predict(feat), atol=1e-7)


def test_the_penalty_is_that_of_the_least_left_out_error():
    rng = np.random.default_rng(0)
    feat = rng.standard_normal((60, 20))
    context, target = np.arange(30), rng.standard_normal((30, 2))
    _, chosen = ridge_with_left_out(feat, context, target)
    rows = feat[context] - feat[context].mean(0)
    mean = np.linalg.eigvalsh(rows.T @ rows).mean()
    errors = [
        ((refitted(feat, context, target, p * mean) - target) ** 2).mean() for p in ridge.PENALTIES
    ]
    assert ((chosen - target) ** 2).mean() == pytest.approx(min(errors), rel=1e-6)


@pytest.mark.parametrize("columns", [0, 3])
def test_constant_features_give_the_mean_of_the_others(columns):
    target = np.eye(3)[[0, 1, 1, 2]]
    fitted, left_out = ridge_with_left_out(np.ones((6, columns)), np.arange(4), target)
    np.testing.assert_allclose(fitted, np.tile(target.mean(0), (6, 1)))
    for k in range(4):
        np.testing.assert_allclose(left_out[k], np.delete(target, k, 0).mean(0))


def test_one_node_says_nothing_without_itself():
    fitted, left_out = ridge_with_left_out(np.eye(3), np.array([1]), np.array([[0.0, 1.0]]))
    np.testing.assert_array_equal(fitted, [[0, 1]] * 3)
    np.testing.assert_array_equal(left_out, [[0, 0]])
