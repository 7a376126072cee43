"""Sampled training of a recipe by DistDGL: see `distdgl_trainers` for what is computed."""

from __future__ import annotations

import os
from typing import Any

from lipzoo._dgl import need_dgl
from lipzoo.training.distdgl_launch import launch
from lipzoo.training.distdgl_trainers import Trainers, check_distdgl
from lipzoo.training.ranks import check_several
from lipzoo.training.ranks_parts import Parts
from lipzoo.training.recipe import Recipe, make_recipe
from lipzoo.training.run import train
from lipzoo.training.run_seed import build_from_recipe, follow

__all__ = ["train_distdgl"]


def train_distdgl(
    recipe: Recipe,
    out: str | os.PathLike,
    parts: str | os.PathLike,
    *,
    ip_config: str | os.PathLike | None = None,
    **options: Any,
) -> dict[str, Any] | None:
    """Train a recipe by DistDGL: start servers and trainers here, and wait for them.

    Parameters
    ----------
    recipe : Recipe
    out : path
        The run's folder, which the first trainer writes.
    parts : path
        What ``lipzoo partition --engine distdgl`` wrote.
    ip_config : path, optional
        A line ``IP [PORT]`` a part; those of this host are started. By default all are, on
        loopback.
    **options
        Of :func:`~lipzoo.training.run.train`.

    Returns
    -------
    dict or None
        What :func:`~lipzoo.training.run.train` gives; None where the first trainer is elsewhere.

    Raises
    ------
    ConfigError, DataError
        If the parts are not there or not of the recipe's data, or it is not for DistDGL.
    OutputError
        If there is no room for the features in shared memory.
    LipzooError
        If a server or trainer ends, or does not answer.
    """
    need_dgl("--engine distdgl")
    found = Parts(parts, None, None, "distdgl")
    unfit = {key: options[key] for key in ("jobs", "device", "baselines") if key in options}
    check_several(found.content["parts"], True, **unfit)
    seed = (options.get("seeds") or recipe.seeds)[0]
    task = found(recipe, None, seed)
    check_distdgl(build_from_recipe(recipe, task), recipe.batching)
    arguments = (recipe.to_dict(), os.fspath(out), options)
    return launch(found, _train, arguments, ip_config)


def _train(trainers: Trainers, content: dict, out: str, options: dict[str, Any]) -> Any:
    """What each trainer does."""
    recipe = make_recipe(content, where="the recipe")
    trainers.agree(recipe.full_name, content)
    if not trainers.is_first:
        follow(trainers)
        return None
    return train(recipe, out, ranks=trainers, **options)
