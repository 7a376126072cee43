"""lipzoo for scikit-learn: a classifier of the nodes of a graph, of a feature matrix and labels."""

from lipzoo.sklearn.classifier import NodeClassifier
from lipzoo.sklearn.validation import cross_val_score_nodes

__all__ = ["NodeClassifier", "cross_val_score_nodes"]
