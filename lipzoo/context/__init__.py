"""Predictions of a graph's labels from its labelled nodes in closed form: evidence and its stack.

The *context* of a graph are its labelled (training) nodes. *Evidence* is what a predictor with a
closed form says of every node, fitted on the context alone; at a context node it says what it would
say without that node's label. The *stack* weighs the evidence.
"""

from lipzoo.context.evidence import Evidence, closed_form_evidence
from lipzoo.context.rows import NUM_CHANNELS, context_rows, encode_context
from lipzoo.context.stack import ClosedFormStack
from lipzoo.context.start import hidden_parts, num_start_columns, start_columns

__all__ = [
    "NUM_CHANNELS",
    "ClosedFormStack",
    "Evidence",
    "closed_form_evidence",
    "context_rows",
    "encode_context",
    "hidden_parts",
    "num_start_columns",
    "start_columns",
]
