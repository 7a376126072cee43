"""One registry for everything that a YAML file or an argument gives by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any, Generic, TypeVar

from lipzoo.errors import ConfigError, did_you_mean

__all__ = ["Registry"]

T = TypeVar("T")


class Registry(Mapping[str, Callable[..., T]], Generic[T]):
    """Names and what they stand for; a mapping from name to class.

    A class may stand there as ``"module:Class"``: it is imported when it is asked for.

    >>> SCORE_NORMS = Registry("score norm", "score_norm", ScoreNorm)
    >>> @SCORE_NORMS.register("lipschitz")
    ... class LipschitzNorm(ScoreNorm): ...
    >>> SCORE_NORMS.make({"name": "lipschitz", "alpha": 1.0})

    Parameters
    ----------
    what : str
        What the names are of, in words, such as ``"score norm"``.
    argument : str
        The argument or key that names one, for messages.
    kind : type, optional
        What all of them are; :meth:`make` takes an instance as it is.
    """

    def __init__(self, what: str, argument: str, kind: type[T] | tuple[()] = ()) -> None:
        self.what, self.argument, self.kind = what, argument, kind
        self._entries: dict[str, tuple[Callable[..., T] | str, dict[str, Any]]] = {}

    def copy(self) -> Registry[T]:
        """Another registry of the same names."""
        other = Registry(self.what, self.argument, self.kind)
        other._entries = dict(self._entries)
        return other

    def for_argument(self, argument: str) -> Registry[T]:
        """The very same names, now and later, that another argument gives; for messages."""
        other = Registry(self.what, argument, self.kind)
        other._entries = self._entries
        return other

    def register(self, name: str, *, force: bool = False, **defaults: Any) -> Callable:
        """Decorate a class (or a function that makes one) to make it known by ``name``.

        Parameters
        ----------
        name : str
            What users write.
        force : bool
            Replace what has that name.
        **defaults
            Arguments that the name stands for.

        Raises
        ------
        ConfigError
            If the name is taken by something else.
        """

        def keep(make: Callable[..., T] | str) -> Callable[..., T] | str:
            if not force and name in self._entries and self[name] is not make:
                raise ConfigError(
                    f"the {self.what} {name!r} is already registered; choose another name, or "
                    "pass force=True to replace it"
                )
            self._entries[name] = make, defaults
            return make

        return keep

    def classes(self) -> tuple[type[T], ...]:
        """The classes among what the names stand for, as ``isinstance`` takes them: a name may
        stand for a function that makes one, too."""
        return tuple(make for make in self.values() if isinstance(make, type))

    def remove(self, name: str) -> None:
        """Forget a name."""
        del self._entries[name]

    def make(self, spec: str | Mapping | type[T] | T, *arguments: Any) -> T:
        """What ``spec`` describes.

        Parameters
        ----------
        spec : str, mapping, class or instance
            A name; ``{"name": …, **arguments}``; a class of the kind; or an instance, which is
            returned as it is.
        *arguments
            Come first, before those of ``spec``.

        Raises
        ------
        ConfigError
            If the name or an argument is unknown.
        """
        if isinstance(spec, self.kind):
            return spec
        if isinstance(spec, type) and issubclass(spec, self.kind):
            return self._call(spec, spec.__name__, arguments, {})
        options = dict(spec) if isinstance(spec, Mapping) else {"name": spec}
        name = options.pop("name", None)
        make, defaults = self._find(name)
        return self._call(make, name, arguments, {**defaults, **options})

    def _find(self, name: object) -> tuple[Callable[..., T], dict[str, Any]]:
        if not isinstance(name, str) or name not in self._entries:
            hint = did_you_mean(name, self)
            raise ConfigError(f"{self.argument}: no {self.what} {name!r}{hint}")
        return self[name], self._entries[name][1]

    def _call(self, make, name: str, arguments: tuple, options: dict[str, Any]) -> T:
        try:
            return make(*arguments, **options)
        except TypeError as fault:
            raise ConfigError(f"{self.argument} {name!r}: {fault}") from None

    def __getitem__(self, name: str) -> Callable[..., T]:
        make, defaults = self._entries[name]
        if isinstance(make, str):
            module, _, attribute = make.partition(":")
            make = getattr(import_module(module), attribute)
            self._entries[name] = make, defaults
        return make

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
