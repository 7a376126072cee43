"""Names -> YAML -> models: the architectures, how they are listed, built, loaded, extended."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pydantic
from torch import nn

from lipzoo import weights
from lipzoo._paths import packaged_folder
from lipzoo._schema import argument_names, check_arguments, required_names, validate
from lipzoo._yaml import read_yaml
from lipzoo.errors import ConfigError, UnknownNameError, did_you_mean
from lipzoo.models import DeepGAT, DeepGATv2, DeepGraphTransformer

__all__ = [
    "Architecture",
    "add_config_dir",
    "build_model",
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


# ------------------------------------------------------------------ names


def split_name(name: str) -> tuple[str, str | None]:
    """``"gat_lip_16.cora"`` -> ``("gat_lip_16", "cora")``; without a tag, ``None``."""
    architecture, _, tag = name.partition(".")
    return architecture, tag or None


def natural_key(name: str) -> list:
    """Sort key under which ``gat_2`` comes before ``gat_16``."""
    return [(int(p), "") if p.isdigit() else (-1, p) for p in re.split(r"(\d+)", name) if p]


# ------------------------------------------------------------------- YAML


class _ArchitectureFile(pydantic.BaseModel):
    """What an architecture YAML may hold."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True)

    model: str
    description: str
    source: str = ""
    args: dict[str, Any] = {}
    family: dict[str, list[Any]] | None = None
    default_tag: str | None = None


@dataclass(frozen=True)
class Architecture:
    """One named architecture.

    Parameters
    ----------
    name : str
        ``gat_lip_16``.
    model : str
        Name of the registered class.
    args : dict
        Arguments for it, all but ``in_feats`` and ``num_classes``.
    description, source : str
        For people.
    default_tag : str or None
        The tag that a bare name means.
    path : Path
        The YAML file.
    """

    name: str
    model: str
    args: dict[str, Any]
    description: str
    source: str
    default_tag: str | None
    path: Path


def _read_architectures(path: Path) -> list[Architecture]:
    file = validate(_ArchitectureFile, read_yaml(path), where=str(path))
    if file.model not in _MODEL_CLASSES:
        hint = did_you_mean(file.model, _MODEL_CLASSES)
        raise ConfigError(f"{path}: model: no registered class {file.model!r}{hint}")
    variants: list[tuple[str, dict[str, Any]]] = [(path.stem, {})]
    if file.family is not None:
        if len(file.family) != 1 or not all(file.family.values()):
            raise ConfigError(
                f"{path}: family: must name one argument and its values, "
                f"such as {{num_layers: [2, 8]}}, got {sorted(file.family)}"
            )
        [(argument, values)] = file.family.items()
        variants = [(f"{path.stem}_{value}", {argument: value}) for value in values]
    architectures = []
    for name, varied in variants:
        if "." in name:
            raise ConfigError(
                f"{path}: architecture {name!r}: the part after a dot would be read as a tag; "
                "rename the file"
            )
        args = {**file.args, **varied}
        check_arguments(_MODEL_CLASSES[file.model], args, where=f"{path}: args")
        architectures.append(
            Architecture(
                name, file.model, args, file.description, file.source, file.default_tag, path
            )
        )
    return architectures


@cache
def _architectures_in(folder: Path) -> dict[str, Architecture]:
    found: dict[str, Architecture] = {}
    for path in sorted(folder.glob("*.yaml")):
        for architecture in _read_architectures(path):
            if architecture.name in found:
                raise ConfigError(
                    f"{path}: architecture {architecture.name!r} is already defined in "
                    f"{found[architecture.name].path}; rename one of them"
                )
            found[architecture.name] = architecture
    return found


def _all_architectures() -> dict[str, Architecture]:
    merged: dict[str, Architecture] = {}
    for folder in _CONFIG_DIRS:
        merged.update(_architectures_in(folder))
    return merged


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
    if model not in _MODEL_CLASSES:
        hint = did_you_mean(model, _MODEL_CLASSES)
        raise UnknownNameError(f"{where}: no registered model class {model!r}{hint}")
    kind = _MODEL_CLASSES[model]
    check_arguments(kind, args, where)
    missing = [name for name in required_names(kind) if name not in args]
    if missing:
        raise ConfigError(f"{where}: pass {', '.join(f'{name}=...' for name in missing)}")
    return kind(**args)


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
        ``gat_lip_16.cora``, a bare ``gat_lip_16`` for its default tag, or a folder that export
        wrote.
    **overrides
        ``in_feats`` or ``num_classes`` of another size leave out the input layer or the head
        (a warning says so); others change what holds no weights, such as dropout or ``backend``.

    Returns
    -------
    torch.nn.Module
        With the attribute ``card``, what the card says.

    Raises
    ------
    UnknownNameError
        If there are no such weights.
    CheckpointError
        If they are damaged, or do not fit the model.
    """
    checkpoint = weights.read_checkpoint(find_pretrained(name))
    card = checkpoint.card
    args = {**card.architecture.args, **overrides}
    model = build_model(card.architecture.model, args, where=str(name))
    resized = {
        layer
        for layer, argument in (("input", "in_feats"), ("head", "num_classes"))
        if args[argument] != card.architecture.args.get(argument)
    }
    weights.load_weights(model, checkpoint, leave_out=resized)
    model.card = card
    return model.eval()


def find_pretrained(name: str | os.PathLike) -> Path:
    """The folder that holds the weights ``name``.

    Raises
    ------
    UnknownNameError
        If there are none of that name, or the bare name could mean several.
    """
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
