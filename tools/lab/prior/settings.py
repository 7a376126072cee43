"""What synthetic tasks are drawn from: sizes, and how often which kind."""

from __future__ import annotations

from typing import Annotated

import pydantic

from lab.settings import STRICT

__all__ = ["DEFAULT", "Prior"]

#: Among fewer nodes one would hardly find a context of many classes, and nodes to ask for.
MIN_NODES = 50

Share = Annotated[float, pydantic.Field(ge=0, le=1)]


def _in_order(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError("the lower bound is above the upper one")
    return bounds


def _range(kind: type, least: float, most: float) -> object:
    """Two numbers in order, both between ``least`` and ``most``; a list of YAML will do."""
    number = Annotated[kind, pydantic.Field(ge=least, le=most)]
    return Annotated[
        tuple[number, number], pydantic.Field(strict=False), pydantic.AfterValidator(_in_order)
    ]


Nodes = _range(int, MIN_NODES, 100_000)
Classes = _range(int, 2, 20)
Degrees = _range(float, 1, 100)
Shots = _range(int, 1, 1000)
ContextShares = _range(float, 0.01, 0.8)


class Prior(pydantic.BaseModel, **STRICT):
    """The distribution of synthetic tasks; ranges are log-uniform unless it says otherwise.

    Sizes: ``nodes`` and the mean ``degree``, where a graph model has one; ``large_share`` of the
    tasks have ``large_nodes`` and ``large_degree``. Classes: 2 and an exponential number of mean
    3 besides, ``max_classes`` at most; of ``many_classes_share`` of the tasks uniformly
    ``many_classes``.

    Kinds: ``block_share`` of the graphs are stochastic block models, ``board_share`` of the tasks
    are mines on a board, ``class_share`` of the tasks whose communities speak in the graph ask for
    these, ``constant_share`` have no features but a constant, ``noise_share`` some wrong labels.

    Context: ``per_class_share`` of the tasks have ``shots`` nodes a class; the others have
    ``context_share`` (uniformly) of all nodes, of ``clump_share`` of these in clumps.
    """

    nodes: Nodes = (150, 600)
    large_share: Share = 0.04
    large_nodes: Nodes = (1500, 4000)
    degree: Degrees = (2.0, 30.0)
    large_degree: Degrees = (2.0, 12.0)
    max_classes: Annotated[int, pydantic.Field(ge=2, le=20)] = 10
    many_classes_share: Share = 0.05
    many_classes: Classes = (10, 20)
    block_share: Share = 0.6
    board_share: Share = 0.04
    class_share: Share = 0.7
    constant_share: Share = 0.07
    noise_share: Share = 0.4
    per_class_share: Share = 0.5
    shots: Shots = (1, 30)
    context_share: ContextShares = (0.08, 0.6)
    clump_share: Share = 0.15


DEFAULT = Prior()
