"""Formulas as MathML, which every current browser draws: no script, and no font from elsewhere."""

import re

from docutils import nodes
from docutils.utils.math import latex2mathml


def setup(app):
    """Register the renderer ``mathml``."""
    app.add_html_math_renderer("mathml", (_inline, None), (_display, None))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def _inline(writer, node):
    writer.body.append(_mathml(node))
    raise nodes.SkipNode


def _display(writer, node):
    # Reached with the keyboard too, for long ones scroll.
    formula = _mathml(node, as_block=True)
    writer.body.append(f'<div class="math" tabindex="0">{formula}</div>')
    raise nodes.SkipNode


def _mathml(node, **options):
    # Sizes of brackets by hand, which docutils does not know; MathML stretches them by itself.
    formula = re.sub(r"\\[bB]igg?[lrm]?(?![A-Za-z])", "", node.astext())
    return latex2mathml.tex2mathml(formula, **options)
