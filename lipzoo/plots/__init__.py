"""Pictures: functions that take data and a matplotlib ``Axes``, and return the ``Axes``.

Without an ``Axes`` they make a figure, ``ax.figure``. The functions that give numbers need no
matplotlib (``pip install 'lipzoo[plots]'``). ``lipzoo report`` draws all of them of one model.
"""

from lipzoo.plots.attending import attention, attention_entropy
from lipzoo.plots.calibrating import (
    ReliabilityBin,
    calibration,
    expected_calibration_error,
    reliability,
)
from lipzoo.plots.certified import certified_shares
from lipzoo.plots.confusion import confusion_counts, confusion_matrix
from lipzoo.plots.curves import mean_curve, training_curves
from lipzoo.plots.embedded import embed, embedding
from lipzoo.plots.layers import by_layer
from lipzoo.plots.neighbours import (
    Group,
    accuracy_by_degree,
    accuracy_by_homophily,
    by_degree,
    by_homophily,
    node_degrees,
    node_homophily,
)

__all__ = [
    "Group",
    "ReliabilityBin",
    "accuracy_by_degree",
    "accuracy_by_homophily",
    "attention",
    "attention_entropy",
    "by_degree",
    "by_homophily",
    "by_layer",
    "calibration",
    "certified_shares",
    "confusion_counts",
    "confusion_matrix",
    "embed",
    "embedding",
    "expected_calibration_error",
    "mean_curve",
    "node_degrees",
    "node_homophily",
    "reliability",
    "training_curves",
]
