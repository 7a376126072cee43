"""The model classes that ``model:`` in an architecture file may name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, overload

from lipzoo._schema import argument_names
from lipzoo.errors import ConfigError, did_you_mean, shown
from lipzoo.registry.plugins import load_plugins
from lipzoo.registry.state import STATE

if TYPE_CHECKING:
    from torch import nn

__all__ = ["find_class", "is_registered", "register_model", "unknown_class"]


def is_registered(name: str) -> bool:
    """Whether a class of that name is known; none is imported but those of plug-ins."""
    if name not in STATE.classes:
        load_plugins()
    return name in STATE.classes


def find_class(name: str) -> type[nn.Module] | None:
    """The registered class of that name, or None."""
    return STATE.classes[name] if is_registered(name) else None


def unknown_class(name: str) -> str:
    """``"'DeepGAAT'; did you mean 'DeepGAT'? (choices: …)"``."""
    return f"'{shown(name)}'{did_you_mean(name, STATE.classes)}"


Model = TypeVar("Model", bound="type[nn.Module]")


@overload
def register_model(model: Model, *, name: str | None = None, force: bool = False) -> Model: ...


@overload
def register_model(
    model: None = None, *, name: str | None = None, force: bool = False
) -> Callable[[Model], Model]: ...


def register_model(model: Any = None, *, name: str | None = None, force: bool = False) -> Any:
    """Make a class available to ``model:`` in architecture files; also a decorator.

    Parameters
    ----------
    model : type
        A subclass of ``torch.nn.Module`` whose ``__init__`` takes ``in_feats`` and
        ``num_classes``; :class:`~lipzoo.models.DeepAttentionNet` is a good base. Any is trained,
        exported and fine-tuned; for data with other features it needs ``reset_input``, with other
        classes ``reset_classifier``, to freeze some layers ``layer_groups``, as that has them.
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
    from torch import nn

    name = name or model.__name__
    missing = {"in_feats", "num_classes"} - set(argument_names(model))
    if not (isinstance(model, type) and issubclass(model, nn.Module)) or missing:
        raise ConfigError(
            f"{name}: a model class must be a torch.nn.Module whose __init__ takes in_feats and "
            f"num_classes{f'; missing: {sorted(missing)}' if missing else ''}"
        )
    return STATE.classes.register(name, force=force)(model)
