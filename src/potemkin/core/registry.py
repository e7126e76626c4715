"""The register of everything that has a name in the notation: attacks, sets, goals, objectives, parts, data, models.

Rooms above enter their classes and functions with `@register(kind)`. They are imported when a name is first looked up,
by name, so this floor knows none of them.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from potemkin.core.canonical import default_text, name_class
from potemkin.errors import ConfigError, suggest

KINDS = ("attack", "set", "goal", "objective", "part", "access", "threat", "model", "data", "recipe")

BUILTIN_MODULES = (
    "potemkin.threat.sets",
    "potemkin.threat.goals",
    "potemkin.threat.objectives",
    "potemkin.threat.access",
    "potemkin.threat.threat_model",
    "potemkin.attacks.recipes",
    "potemkin.attacks.parts",
    "potemkin.data.builtin",
    "potemkin.data.shards",
    "potemkin.data.parquet",
    "potemkin.models.builtin",
    "potemkin.training.recipes",
)

Factory = TypeVar("Factory", bound=Callable[..., object])


@dataclass(frozen=True)
class Entry:
    """A registered name: what it is, one line about it, and what makes it."""

    name: str
    kind: str
    summary: str
    factory: Callable[..., object]

    @property
    def signature(self) -> str:
        """The arguments with their defaults in the notation, such as "(steps=40, restarts=1)"."""
        try:
            parameters = inspect.signature(self.factory).parameters.values()
        except ValueError:
            return "(...)"
        return f"({', '.join(_parameter_text(p) for p in parameters)})"

    @property
    def usage(self) -> str:
        """Name and arguments, such as "pgd(steps=40, restarts=1)"."""
        return self.name + self.signature


class Registry:
    """Names and what they make; `modules` are imported, once, before the first look that needs them."""

    def __init__(self, modules: Sequence[str] = ()) -> None:
        self._entries: dict[str, Entry] = {}
        self._modules = tuple(modules)
        self._loaded = False

    def register(self, kind: str, name: str | None = None, summary: str | None = None) -> Callable[[Factory], Factory]:
        """Decorator: enter a frozen dataclass, or a function that returns one, under its own name or `name`."""
        _check_kind(kind)

        def enter(factory: Factory) -> Factory:
            key = name if name is not None else factory.__name__
            old = self._entries.get(key)
            # The same definition may come twice, when its module is loaded again.
            if old is not None and _origin(old.factory) != _origin(factory):
                raise ConfigError(
                    f"The name '{key}' is taken: {old.kind} {_origin(old.factory)}; register it under another name."
                )
            if isinstance(factory, type):
                name_class(factory, key)
            self._entries[key] = Entry(key, kind, _first_line(factory) if summary is None else summary, factory)
            return factory

        return enter

    def load(self) -> None:
        """Import the modules that register; a second call does nothing."""
        if self._loaded:
            return
        self._loaded = True  # before the imports: a module may look a name up while it is imported
        try:
            for module in self._modules:
                importlib.import_module(module)
        except BaseException:
            self._loaded = False
            raise

    def entries(self, kind: str | None = None) -> list[Entry]:
        """All entries (of one kind), sorted by name."""
        if kind is not None:
            _check_kind(kind)
        self.load()
        found = (entry for entry in self._entries.values() if kind in (None, entry.kind))
        return sorted(found, key=lambda entry: (entry.name.lower(), entry.name))

    def find(self, name: str) -> Entry | None:
        """The entry of this name, or None."""
        if name not in self._entries:
            self.load()
        return self._entries.get(name)

    def lookup(self, name: str, kind: str | Sequence[str] | None = None) -> Entry:
        """The entry of this name; ConfigError with the allowed names if there is none (of the wanted kinds)."""
        kinds = as_kinds(kind)
        entry = self.find(name)
        if entry is None:
            allowed = [e.name for e in self.entries() if not kinds or e.kind in kinds]
            raise ConfigError(f"There is no {said_kinds(kinds)} '{name}'.{suggest(name, allowed)} {_listed(allowed)}")
        if kinds and entry.kind not in kinds:
            allowed = [e.name for e in self.entries() if e.kind in kinds]
            raise ConfigError(
                f"'{name}' is {with_article(entry.kind)}, but {with_article(said_kinds(kinds))} is wanted here. "
                f"{_listed(allowed)}"
            )
        return entry


_DEFAULT = Registry(BUILTIN_MODULES)


def default_registry() -> Registry:
    """The register of the package, which `register`, `entries`, `find` and `lookup` work on."""
    return _DEFAULT


def register(kind: str, name: str | None = None, summary: str | None = None) -> Callable[[Factory], Factory]:
    """Decorator: enter a frozen dataclass, or a function that returns one, into the package's register."""
    return _DEFAULT.register(kind, name, summary)


def entries(kind: str | None = None) -> list[Entry]:
    """All registered entries (of one kind), sorted by name."""
    return _DEFAULT.entries(kind)


def find(name: str) -> Entry | None:
    """The entry of this name, or None."""
    return _DEFAULT.find(name)


def lookup(name: str, kind: str | Sequence[str] | None = None) -> Entry:
    """The entry of this name; ConfigError with the allowed names if there is none (of the wanted kinds)."""
    return _DEFAULT.lookup(name, kind)


def as_kinds(kind: str | Sequence[str] | None) -> tuple[str, ...]:
    """One kind, several or none as a tuple; each is checked."""
    kinds = () if kind is None else (kind,) if isinstance(kind, str) else tuple(kind)
    for item in kinds:
        _check_kind(item)
    return kinds


def said_kinds(kinds: Iterable[str]) -> str:
    """Kinds in words: "set or threat", and "registered name" for none."""
    return " or ".join(kinds) or "registered name"


def with_article(noun: str) -> str:
    """The noun behind "a" or "an"."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise ConfigError(f"There is no kind '{kind}'.{suggest(kind, KINDS)} Kinds: {', '.join(KINDS)}.")


def _listed(names: Sequence[str]) -> str:
    return f"Allowed: {', '.join(names)}." if names else "None is registered."


def _origin(factory: Callable[..., object]) -> str:
    return f"{factory.__module__}.{factory.__qualname__}"


def _first_line(factory: Callable[..., object]) -> str:
    text = inspect.cleandoc(factory.__doc__ or "")
    # A dataclass without a docstring is given its signature for one, which says nothing.
    generated = isinstance(factory, type) and text.startswith(f"{factory.__name__}(")
    return "" if generated or not text else text.splitlines()[0].strip()


def _parameter_text(parameter: inspect.Parameter) -> str:
    if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
        return f"*{parameter.name}"
    if parameter.kind is inspect.Parameter.VAR_KEYWORD:
        return f"**{parameter.name}"
    if parameter.default is inspect.Parameter.empty:
        return parameter.name
    return f"{parameter.name}={default_text(parameter.default)}"
