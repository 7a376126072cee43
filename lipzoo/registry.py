"""Names -> YAML -> models: the architectures, how they are listed, built, loaded, extended."""

from __future__ import annotations

import fnmatch
import os
import re
import threading
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from torch import nn

from lipzoo import hub, weights
from lipzoo._architecture import Architecture, read_architectures
from lipzoo._paths import packaged_folder
from lipzoo._plugins import CONFIG_PATH, config_folders, plugins
from lipzoo._schema import argument_names, check_arguments, required_names
from lipzoo.errors import ConfigError, LipzooError, UnknownNameError, did_you_mean
from lipzoo.models import DeepGAT, DeepGATv2, DeepGraphTransformer
from lipzoo.weights import Checkpoint

__all__ = [
    "Architecture",
    "add_config_dir",
    "build_model",
    "build_pretrained",
    "create_model",
    "get_architecture",
    "list_models",
    "load_pretrained",
    "register_model",
    "split_name",
]

_MODEL_CLASSES: dict[str, type[nn.Module]] = {
    model.__name__: model for model in (DeepGAT, DeepGATv2, DeepGraphTransformer)
}
_CONFIG_DIRS: list[Path] = [packaged_folder("zoo_configs")]
_plugins_are_loaded = False
_LOADING = threading.RLock()


# ------------------------------------------------------------------ names


def split_name(name: str) -> tuple[str, str | None]:
    """``"gat_lip_16.cora"`` -> ``("gat_lip_16", "cora")``; without a tag, ``None``."""
    architecture, _, tag = name.partition(".")
    return architecture, tag or None


def natural_key(name: str) -> list:
    """Sort key under which ``gat_2`` comes before ``gat_16``."""
    return [(int(p), "") if p.isdigit() else (-1, p) for p in re.split(r"(\d+)", name) if p]


# ------------------------------------------------------------------- YAML


def _class_for_file(name: str, where: str) -> type[nn.Module]:
    kind = _find_class(name)
    if kind is None:
        hint = did_you_mean(name, _MODEL_CLASSES)
        raise ConfigError(f"{where}: no registered class {name!r}{hint}")
    return kind


@cache
def _architectures_in(folder: Path) -> dict[str, Architecture]:
    found: dict[str, Architecture] = {}
    for path in sorted(folder.glob("*.yaml")):
        for architecture in read_architectures(path, _class_for_file):
            if architecture.name in found:
                raise ConfigError(
                    f"{path}: architecture {architecture.name!r} is already defined in "
                    f"{found[architecture.name].path}; rename one of them"
                )
            found[architecture.name] = architecture
    return found


def _added_architectures() -> dict[str, Architecture]:
    merged: dict[str, Architecture] = {}
    for folder in _CONFIG_DIRS:
        merged.update(_architectures_in(folder))
    return merged


def _all_architectures() -> dict[str, Architecture]:
    _load_extensions()
    return _added_architectures()


def _load_extensions() -> None:
    """Add what ``LIPZOO_CONFIG_PATH`` names and what installed packages offer.

    Called where all names are wanted, or one that is not known yet.
    """
    _load_plugins()
    for folder in config_folders():
        if folder not in _CONFIG_DIRS:
            try:
                add_config_dir(folder)
            except ConfigError as fault:
                raise ConfigError(f"{CONFIG_PATH}: {fault}") from None


def _load_plugins() -> None:
    """Add the models of installed packages, once; of each all or nothing."""
    global _plugins_are_loaded
    with _LOADING:
        if _plugins_are_loaded:
            return
        _plugins_are_loaded = True  # before they run, for they may ask for names
        for package, add_models in plugins():
            classes, folders = dict(_MODEL_CLASSES), list(_CONFIG_DIRS)
            try:
                add_models()
            except (Exception, SystemExit) as fault:
                _MODEL_CLASSES.clear()
                _MODEL_CLASSES.update(classes)
                _CONFIG_DIRS[:] = folders
                _architectures_in.cache_clear()
                warnings.warn(
                    f"the installed package {package} offers models, but adding them failed "
                    f"({type(fault).__name__}: {fault}); they are left out. Update the package, "
                    "or uninstall it",
                    stacklevel=2,
                )


def _find_class(name: str) -> type[nn.Module] | None:
    if name not in _MODEL_CLASSES:
        _load_plugins()
    return _MODEL_CLASSES.get(name)


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
    path = Path(folder).expanduser().resolve()
    if not path.is_dir():
        raise ConfigError(f"{path}: is no folder; name one that holds architecture YAML files")
    _architectures_in.cache_clear()  # files may have changed since they were read
    added = _architectures_in(path)
    if not added:
        raise ConfigError(f"{path}: holds no .yaml file; put architecture files there")
    others = [known for known in _CONFIG_DIRS if known != path]
    taken = {name for known in others for name in _architectures_in(known)} & set(added)
    if taken and not force:
        raise ConfigError(
            f"{path}: {', '.join(sorted(taken))} already exist; rename the file, or pass "
            "force=True to override"
        )
    _CONFIG_DIRS[:] = [*others, path]
    return sorted(added, key=natural_key)


def get_architecture(name: str) -> Architecture:
    """The architecture of that name (without tag).

    Raises
    ------
    UnknownNameError
        If there is none.
    """
    known = _added_architectures()
    if name not in known:
        known = _all_architectures()
    if name not in known:
        raise UnknownNameError(f"no architecture {name!r}{did_you_mean(name, known)}")
    return known[name]


def list_models(pattern: str = "*", pretrained: bool = False) -> list[str]:
    """Names in natural order.

    Parameters
    ----------
    pattern : str
        fnmatch pattern, such as ``"gat_lip*"``.
    pretrained : bool
        List the trained variants (``gat_lip_16.cora``) instead of the architectures.
    """
    names = weights.list_checkpoints() if pretrained else _all_architectures()
    return sorted((name for name in names if fnmatch.fnmatch(name, pattern)), key=natural_key)


# ---------------------------------------------------------------- classes


def register_model(
    model: type[nn.Module] | None = None, *, name: str | None = None, force: bool = False
) -> type[nn.Module] | Callable:
    """Make a class available to ``model:`` in architecture files; also a decorator.

    Parameters
    ----------
    model : type
        A subclass of ``torch.nn.Module`` whose ``__init__`` takes ``in_feats`` and
        ``num_classes``; :class:`~lipzoo.models.DeepAttentionNet` is a good base.
    name : str, optional
        The name, by default that of the class.
    force : bool
        Override a class of that name.

    Raises
    ------
    ConfigError
        If the name is taken, or the class does not take ``in_feats`` and ``num_classes``.
    """
    if model is None:
        return lambda cls: register_model(cls, name=name, force=force)
    name = name or model.__name__
    if name in _MODEL_CLASSES and _MODEL_CLASSES[name] is not model and not force:
        raise ConfigError(
            f"a model class {name!r} is already registered; choose another name, or pass force=True"
        )
    missing = {"in_feats", "num_classes"} - set(argument_names(model))
    if not (isinstance(model, type) and issubclass(model, nn.Module)) or missing:
        raise ConfigError(
            f"{name}: a model class must be a torch.nn.Module whose __init__ takes in_feats and "
            f"num_classes{f'; missing: {sorted(missing)}' if missing else ''}"
        )
    _MODEL_CLASSES[name] = model
    return model


def build_model(model: str, args: dict[str, Any], where: str = "create_model") -> nn.Module:
    """An instance of the registered class ``model``.

    Raises
    ------
    UnknownNameError
        If no class of that name is registered.
    ConfigError
        If an argument is unknown, missing, or of the wrong type.
    """
    kind = _find_class(model)
    if kind is None:
        hint = did_you_mean(model, _MODEL_CLASSES)
        raise UnknownNameError(f"{where}: no registered model class {model!r}{hint}")
    check_arguments(kind, args, where)
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


# ----------------------------------------------------------------- models


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
    architecture, tag = split_name(name)
    if pretrained:
        return load_pretrained(name, **overrides).train()
    if tag is not None:
        get_architecture(architecture)
        raise ConfigError(
            f"{name!r} names trained weights: pass pretrained=True, or {architecture!r} for an "
            "untrained model"
        )
    found = get_architecture(architecture)
    return build_model(found.model, {**found.args, **overrides}, where=name)


def load_pretrained(name: str | os.PathLike, **overrides: Any) -> nn.Module:
    """A trained model, in evaluation mode.

    Parameters
    ----------
    name : str or path
        ``gat_lip_16.cora``, a bare ``gat_lip_16`` for its default tag, a folder that export
        wrote, ``hf-hub:user/name[@revision]``, or the ``https://`` or ``file://`` URL of such a
        folder (see :mod:`lipzoo.hub`).
    **overrides
        ``in_feats`` or ``num_classes`` of another size leave out the input layer or the head
        (a warning says so); others change what holds no weights, such as dropout or ``backend``.

    Returns
    -------
    torch.nn.Module
        With the attributes ``card``, what the card says (without its figures where a layer was
        left out), and ``pretrained_folder``, where it is.

    Raises
    ------
    UnknownNameError
        If there are no such weights.
    CheckpointError
        If they are damaged, or do not fit the model.
    """
    return build_pretrained(weights.read_checkpoint(find_pretrained(name)), str(name), **overrides)


def build_pretrained(checkpoint: Checkpoint, where: str, **overrides: Any) -> nn.Module:
    """:func:`load_pretrained` for a checkpoint that was read; ``where`` stands before errors."""
    card = checkpoint.card
    args = {**card.architecture.args, **overrides}
    resized = {
        layer
        for layer, argument in (("input", "in_feats"), ("head", "num_classes"))
        if argument in args and args[argument] != card.architecture.args.get(argument)
    }

    def build() -> nn.Module:
        return build_model(card.architecture.model, args, where=where)

    weights.check_fit(build, checkpoint, leave_out=resized)
    model = build()
    weights.load_weights(model, checkpoint, leave_out=resized)
    model.card = card.without_figures(args) if resized else card
    model.pretrained_folder = checkpoint.folder
    return model.eval()


def find_pretrained(name: str | os.PathLike) -> Path:
    """The folder that holds the weights ``name``; a URL or a Hub name is fetched.

    Raises
    ------
    UnknownNameError
        If there are none of that name, or the bare name could mean several.
    """
    if hub.is_remote(name):
        return hub.fetch(name)
    text = os.fspath(name)
    if os.sep in text or Path(text).is_file() or Path(text, weights.CARD_FILE).is_file():
        return Path(text)
    available = weights.list_checkpoints()
    if text in available:
        return available[text]
    architecture, tag = split_name(text)
    known = _all_architectures()
    tags = sorted(split_name(n)[1] or "" for n in available if split_name(n)[0] == architecture)
    if architecture not in known and not tags:
        raise UnknownNameError(f"no architecture {architecture!r}{did_you_mean(text, known)}")
    if tag is not None or not tags:
        offered = [f"{architecture}.{t}" for t in tags] or list(available)
        raise UnknownNameError(f"no pretrained weights {text!r}{did_you_mean(text, offered)}")
    default = known[architecture].default_tag if architecture in known else None
    if default not in tags and len(tags) > 1:
        raise UnknownNameError(
            f"{text!r} has several trained variants and no default: pass one of "
            + ", ".join(f"{architecture}.{t}" for t in tags)
        )
    return available[f"{architecture}.{default if default in tags else tags[0]}"]
