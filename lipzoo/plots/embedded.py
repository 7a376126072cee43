"""Where a model puts the nodes, in two dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lipzoo.errors import ConfigError, DataError, did_you_mean
from lipzoo.plots.arrays import as_numbers
from lipzoo.plots.style import COLOURS, GREY, INK, MARKERS, PAPER, drawing, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["METHODS", "embed", "embedding"]

METHODS = ("tsne", "pca")

#: Columns that t-SNE is given: of more, the principal components, as is usual.
_WIDTH = 50
#: t-SNE looks at three times as many neighbours as the perplexity says.
_PERPLEXITY, _FEWEST = 30.0, 8


def embed(feat: Any, method: str = "tsne", seed: int = 0) -> tuple[np.ndarray, str]:
    """Rows in two dimensions, float64 (n, 2), and how: t-SNE, or PCA.

    Parameters
    ----------
    feat : Tensor or array (n, D)
        Finite numbers. More than 50 columns are brought to 50 principal components first.
    method : {"tsne", "pca"}
        Of fewer than 8 rows, or rows that are all the same, PCA is made whatever is asked for.
    seed : int
        Of t-SNE.

    Raises
    ------
    ConfigError
        If there is no such method.
    DataError
        If there are no rows, or a number is not finite.

    References
    ----------
    van der Maaten, Hinton, "Visualizing Data using t-SNE", JMLR 2008; scikit-learn computes it.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    if method not in METHODS:
        raise ConfigError(f"embedding: no method {method!r}{did_you_mean(method, METHODS)}")
    feat = as_numbers(feat, "features", 2).astype(np.float64)
    if not feat.size or not np.isfinite(feat).all():
        raise DataError(f"features are {feat.shape}, and must be finite numbers of some nodes")
    # Large numbers would overflow where they are squared; no picture depends on the scale.
    feat = feat / max(np.abs(feat).max(), np.finfo(float).tiny)
    feat = feat - feat.mean(0)
    spread = np.linalg.norm(feat)
    if len(feat) < 3 or feat.shape[1] < 2 or spread < 1e-12:
        points = np.zeros((len(feat), 2))
        points[:, : min(2, feat.shape[1])] = feat[:, :2] if spread >= 1e-12 else 0.0
        return points, "pca"
    if method == "tsne" and len(feat) >= _FEWEST:
        width = min(_WIDTH, *feat.shape)
        reduced = PCA(width, svd_solver="full").fit_transform(feat)
        reduced /= reduced[:, 0].std()
        perplexity = min(_PERPLEXITY, (len(feat) - 1) / 3)
        made = TSNE(2, perplexity=perplexity, init="pca", random_state=seed, n_jobs=1)
        return made.fit_transform(reduced.astype(np.float32)).astype(np.float64), "tsne"
    return PCA(2, svd_solver="full").fit_transform(feat), "pca"


def embedding(
    points: Any,
    classes: Any = None,
    names: Sequence[str] = (),
    ax: Axes | None = None,
    *,
    right: Any = None,
) -> Axes:
    """A point a node, its colour and marker the class; a cross where it is predicted wrong.

    Of more than eight classes the eight with the most nodes have colours; the others are grey.

    Parameters
    ----------
    points : array (n, 2)
        What :func:`embed` gives.
    classes : Tensor or array (n,), optional
        Classes; -1 for none.
    names : sequence of str, optional
        Of all classes.
    ax : matplotlib Axes, optional
        To draw on; by default those of a new figure, ``ax.figure``.
    right : Tensor or array (n,), optional
        Whether each is predicted right.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    DataError
        If they are not as many.
    ConfigError
        If matplotlib is not installed.
    """
    points = as_numbers(points, "points", 2)
    classes = np.full(len(points), -1) if classes is None else as_numbers(classes, "classes", 1)
    is_right = np.ones(len(points)) if right is None else as_numbers(right, "right", 1)
    if not len(points) == len(classes) == len(is_right) or points.shape[1] != 2:
        raise DataError(
            f"points {points.shape}, classes {classes.shape} and outcomes {is_right.shape} do not "
            "belong together"
        )
    classes = classes.astype(int)
    known, counts = np.unique(classes[classes >= 0], return_counts=True)
    largest = sorted(known[np.argsort(-counts, kind="stable")][: len(COLOURS)])
    words = tidy(names, max(len(names), int(classes.max(initial=-1)) + 1))
    size = 24 if len(points) <= 400 else 14
    groups = [
        (classes == number, colour, marker, words[number])
        for number, colour, marker in zip(largest, COLOURS, MARKERS)
    ]
    rest = ~np.isin(classes, largest)
    if rest.any():
        label = "other classes" if len(known) > len(largest) else None
        groups.insert(0, (rest, GREY, ".", label))
    with drawing(ax, 5.2, 4.6) as ax:
        for chosen, colour, marker, label in groups:
            style = {"s": size, "marker": marker, "color": colour, "linewidths": 0.2}
            ax.scatter(*points[chosen].T, edgecolors=PAPER, label=label, **style)
        wrong = is_right == 0
        if wrong.any():
            cross = {"s": 1.6 * size, "marker": "x", "color": INK, "linewidths": 0.7}
            ax.scatter(*points[wrong].T, label="predicted wrong", **cross)
        ax.set(xticks=[], yticks=[], xlabel="first coordinate", ylabel="second coordinate")
        ax.margins(0.05)
        if any(label for *_, label in groups) or wrong.any():
            columns = 3 if max(map(len, words), default=0) <= 12 else 2
            place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.08)}
            ax.legend(ncols=columns, markerscale=1.3, handletextpad=0.3, **place)
    return ax
