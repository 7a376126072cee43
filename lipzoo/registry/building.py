"""From architectures and cards to models; the only place that turns them into arguments."""

from __future__ import annotations

import os
import warnings
from typing import Any

from torch import nn

from lipzoo._paths import is_path
from lipzoo._schema import check_arguments, required_names
from lipzoo.errors import ConfigError, LipzooError, UnknownNameError, shown
from lipzoo.registry.classes import find_class, unknown_class
from lipzoo.registry.files import Architecture
from lipzoo.registry.names import add_folder, get_architecture, split_name
from lipzoo.registry.pretrained import find_checkpoint, mark_loaded
from lipzoo.weights import Checkpoint, load_weights
from lipzoo.weights.fitting import check_fit

__all__ = [
    "add_config_dir",
    "build_model",
    "build_pretrained",
    "check_architecture",
    "create_model",
    "load_pretrained",
]


def add_config_dir(folder: str | os.PathLike, force: bool = False) -> list[str]:
    """Add the architectures that the YAML files of ``folder`` give.

    Parameters
    ----------
    folder : path
        A folder of architecture files, as in ``zoo_configs/``.
    force : bool
        Let them override architectures of the same name.

    Returns
    -------
    list of str
        The names that were added.

    Raises
    ------
    ConfigError
        If the folder does not exist, holds no YAML file, a file is wrong, or a name is taken.
        Nothing is added then.
    """
    return add_folder(folder, force, check_architecture)


def check_architecture(architecture: Architecture) -> None:
    """Check the class and the arguments in an architecture file.

    Raises
    ------
    ConfigError
        Which names all faults, and the file.
    """
    kind = find_class(architecture.model)
    if kind is None:
        hint = unknown_class(architecture.model)
        raise ConfigError(f"{architecture.path}: model: no registered class {hint}")
    check_arguments(kind, architecture.args, where=f"{architecture.path}: args")


def build_model(model: str, args: dict[str, Any], where: str = "create_model") -> nn.Module:
    """An instance of the registered class ``model``.

    Raises
    ------
    UnknownNameError
        If no class of that name is registered.
    ConfigError
        If an argument is unknown, missing, or of the wrong type.
    """
    kind = find_class(model)
    if kind is None:
        raise UnknownNameError(f"{where}: no registered model class {unknown_class(model)}")
    args = check_arguments(kind, args, where)
    missing = [name for name in required_names(kind) if name not in args]
    if missing:
        raise ConfigError(f"{where}: pass {', '.join(f'{name}=...' for name in missing)}")
    try:
        return kind(**args)
    except LipzooError:
        raise
    except Exception as fault:  # a size that no machine has shows in many ways
        words = " ".join(f"{type(fault).__name__}: {fault}".split())
        raise ConfigError(
            f"{where}: {model} cannot be built with these arguments ({words[:200]}); change them"
        ) from fault


def create_model(name: str, pretrained: bool = False, **overrides: Any) -> nn.Module:
    """A model by name.

    Parameters
    ----------
    name : str
        ``gat_lip_16``, or with a tag ``gat_lip_16.cora``; a tag needs ``pretrained=True``.
    pretrained : bool
        Load trained weights: those of the tag, or of the default tag.
    **overrides
        Arguments of the model class, over those of the YAML file (or of the card). Without
        ``pretrained``, ``in_feats`` and ``num_classes`` are needed.

    Returns
    -------
    torch.nn.Module
        In training mode, as PyTorch does; :func:`load_pretrained` returns it in evaluation mode.

    Raises
    ------
    UnknownNameError
        If there is no such architecture or tag.
    ConfigError
        If an override is unknown, missing, or of the wrong type.
    CheckpointError
        If the weights are damaged or do not fit.
    """
    if pretrained:
        return load_pretrained(name, **overrides).train()
    if not isinstance(name, str) or is_path(name):
        raise ConfigError(
            f"'{shown(name)}': is a path, not the name of an architecture; load_pretrained takes "
            "the folder of trained weights"
        )
    architecture, tag = split_name(name)
    if tag is not None:
        get_architecture(architecture)
        raise ConfigError(
            f"{name!r} names trained weights: pass pretrained=True, or {architecture!r} for an "
            "untrained model"
        )
    found = get_architecture(architecture)
    check_architecture(found)
    return build_model(found.model, {**found.args, **overrides}, where=name)


def load_pretrained(
    name: str | os.PathLike | nn.Module | Checkpoint, **overrides: Any
) -> nn.Module:
    """A trained model, in evaluation mode.

    Parameters
    ----------
    name : str, path, torch.nn.Module or Checkpoint
        ``gat_lip_16.cora``, a bare ``gat_lip_16`` for its default tag, a folder that export
        wrote, ``hf-hub:user/name[@revision]``, or the ``https://`` or ``file://`` URL of such a
        folder (see :mod:`lipzoo.hub`); or what was loaded before, without ``overrides``, and not
        changed.
    **overrides
        ``in_feats`` or ``num_classes`` of another size leave out the input layer or the head
        (a warning says so); others change what holds no weights, such as dropout or ``backend``.

    Returns
    -------
    torch.nn.Module
        With the attributes ``card``, what the card says of the weights as they were trained, not
        of ``overrides`` (without its figures where a layer was left out), and
        ``pretrained_folder``, where it is.

    Raises
    ------
    UnknownNameError
        If there are no such weights.
    CheckpointError
        If they are damaged, or do not fit the model.
    """
    checkpoint = find_checkpoint(name)
    model, left_out = build_pretrained(checkpoint, **overrides)
    if left_out:
        layers = sorted({key.split(".")[0] for key in left_out})
        warnings.warn(
            f"{checkpoint.folder.name}: {' and '.join(layers)} left out, because another size was "
            f"asked for; freshly initialised: {', '.join(left_out)}",
            stacklevel=2,
        )
    return model


def build_pretrained(checkpoint: Checkpoint, **overrides: Any) -> tuple[nn.Module, list[str]]:
    """What :func:`load_pretrained` returns; the keys of the weights that were left out."""
    card = checkpoint.card
    args = {**card.architecture.args, **overrides}
    resized = {
        layer
        for layer, argument in (("input", "in_feats"), ("head", "num_classes"))
        if argument in args and args[argument] != card.architecture.args.get(argument)
    }

    def build() -> nn.Module:
        return build_model(card.architecture.model, args, where=checkpoint.name)

    check_fit(build, checkpoint, leave_out=resized)
    model = build()
    left_out = load_weights(model, checkpoint, leave_out=resized)
    model.card = card.without_figures(args) if resized else card
    mark_loaded(model, checkpoint.folder, overrides)
    return model.eval(), left_out
