"""Check names and types of arguments; turn a schema's complaints into words to act on."""

from __future__ import annotations

import functools
import inspect
import reprlib
import typing
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import pydantic

from lipzoo.errors import ConfigError, did_you_mean, shown

__all__ = [
    "argument_names",
    "check_arguments",
    "checked",
    "describe_faults",
    "required_names",
    "validate",
]

Function = TypeVar("Function", bound=Callable)


def _named_parameters(function: Callable) -> list[inspect.Parameter]:
    kinds = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p for p in inspect.signature(function).parameters.values() if p.kind in kinds]


def argument_names(function: Callable) -> list[str]:
    """Names that ``function`` (or the constructor of a class) takes."""
    return [p.name for p in _named_parameters(function)]


def required_names(function: Callable) -> list[str]:
    """Those of them that have no default."""
    return [p.name for p in _named_parameters(function) if p.default is p.empty]


def check_arguments(function: Callable, args: dict[str, Any], where: str) -> dict[str, Any]:
    """``args``, with names and types checked against a signature; nothing need be complete.
    NumPy's numbers in them become Python's.

    Parameters
    ----------
    function : callable
        A function or a class; its annotations say what is valid.
    args : dict
        Keyword arguments.
    where : str
        The file or the call that they come from.

    Raises
    ------
    ConfigError
        Which names all faults at once, with the nearest valid names.
    """
    try:
        hints = typing.get_type_hints(function.__init__ if inspect.isclass(function) else function)
    except NameError:  # annotations that exist for type checkers only: names are still checked
        hints = {}
    is_open = any(p.kind is p.VAR_KEYWORD for p in inspect.signature(function).parameters.values())
    schema = pydantic.create_model(
        "Arguments",
        __config__=pydantic.ConfigDict(
            extra="allow" if is_open else "forbid", strict=True, arbitrary_types_allowed=True
        ),
        **{name: (hints.get(name, Any), None) for name in argument_names(function)},
    )
    args = _of_python(args)
    try:
        schema.model_validate(args)
    except pydantic.ValidationError as error:
        raise ConfigError(describe_faults(error, where, argument_names(function))) from None
    return args


def checked(function: Function) -> Function:
    """Let a function refuse options of wrong types by :func:`check_arguments`, which names them
    beside its first argument."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        first = next(iter(signature.bind(*args, **options).arguments.values()), function.__name__)
        return function(*args, **check_arguments(function, options, where=shown(first)))

    return typing.cast(Function, call)


Schema = TypeVar("Schema", bound=pydantic.BaseModel)


def validate(schema: type[Schema], content: dict[str, Any], where: str) -> Schema:
    """An instance of a schema from a mapping that was read from ``where``; NumPy's numbers in it
    count as Python's.

    Raises
    ------
    ConfigError
        Which names all faults at once, with the nearest valid names.
    """
    try:
        return schema.model_validate(_of_python(content))
    except pydantic.ValidationError as error:
        raise ConfigError(describe_faults(error, where, schema.model_fields)) from None


def _of_python(value: Any) -> Any:
    # Without importing NumPy, which takes longer than a help text.
    if type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0:
        return value.item()
    if type(value) is dict:
        return {key: _of_python(each) for key, each in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(_of_python, value))
    return value


def describe_faults(error: pydantic.ValidationError, where: str, known: Iterable[str]) -> str:
    """All faults that a schema found, on one line, with the nearest valid names.

    Parameters
    ----------
    error : pydantic.ValidationError
        What the schema complains about.
    where : str
        The file or the call, put in front.
    known : iterable of str
        The valid names at the top level.
    """
    faults: list[str] = []
    for fault in error.errors(include_url=False, include_context=False)[: 10 * _MAX_FAULTS]:
        place = ".".join(_word(part) for part in fault["loc"] if not _is_branch(part))
        if fault["type"] == "extra_forbidden":
            hint = did_you_mean(fault["loc"][0], known) if len(fault["loc"]) == 1 else ""
            faults.append(f"unknown key {place!r}{hint}")
        elif fault["type"] == "missing":
            faults.append(f"key {place!r} is missing")
        else:
            message = fault["msg"].removeprefix("Value error, ")
            got = _SHORT.repr(fault["input"])
            place = f"{place}: " if place else ""  # else it is of the whole
            faults.append(f"{place}{message[0].lower()}{message[1:]}, got {got}")
    faults = list(dict.fromkeys(faults))
    more = error.error_count() - _MAX_FAULTS if len(faults) > _MAX_FAULTS else 0
    more = [f"and {more} more"] if more else []
    return f"{where}: " + "; ".join([*faults[:_MAX_FAULTS], *more])


#: A message is for people: of a file full of faults, the first ones.
_MAX_FAULTS = 20
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80
_SHORT.maxdict = _SHORT.maxlist = 8
_SHORT.maxlevel = 3


def _word(part: object) -> str:
    """A key as it stands in the file, if that is one short word."""
    text = str(part)
    return text if text.isprintable() and len(text) <= 80 else _SHORT.repr(text)


def _is_branch(part: object) -> bool:
    # pydantic names the branch of a union ("int", "dict[str,any]") in the location.
    return isinstance(part, str) and (part in {"str", "int", "float", "bool"} or "[" in part)
