"""Synthetic node classification tasks, which a network that reads labels in context learns from."""

from lab.prior.settings import Prior
from lab.prior.task import draw_task

__all__ = ["Prior", "draw_task"]
