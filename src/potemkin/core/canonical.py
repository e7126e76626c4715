"""Objects as text: the canonical notation of frozen dataclasses, their repr."""

from __future__ import annotations

import dataclasses
import math

from potemkin.errors import ConfigError

_NAMES: dict[type, str] = {}


def name_class(cls: type, name: str) -> None:
    """Make `name` what the notation calls instances of `cls`: the registry does. Else it is the class's own name.

    The first name stays when a class is registered under several; one that the notation cannot read is no such name.
    """
    if name.isidentifier():
        _NAMES.setdefault(cls, name)


def show(obj: object) -> str:
    """The notation of `obj`: what `parse` reads back as an equal object.

    Frozen dataclasses print as `Name(value, field=value, ...)`: leading fields without a default by position, the
    others by name where they differ from their default; floats that are
    k/255 in float64 print so where that is the shorter form. Anything that the notation cannot say is a ConfigError.

    >>> show((8 / 255, 0.2, -1, "a", None))
    "(8/255, 0.2, -1, 'a', None)"
    """
    return _text(obj, strict=True)


class Noted:
    """Mixin for frozen dataclasses (declared with repr=False): the repr is the notation.

    A field that has no notation (a tensor) prints as <its type>, which `parse` refuses; a repr must never fail.
    """

    def __repr__(self) -> str:
        return _text(self, strict=False)


def default_text(value: object) -> str:
    """Like `show`, but what has no notation prints as <its type>: for signatures."""
    return _text(value, strict=False)


def _text(obj: object, strict: bool) -> str:
    if obj is None or isinstance(obj, bool):
        return repr(obj)
    if isinstance(obj, int):
        return int.__repr__(obj)
    if isinstance(obj, float):
        return _float_text(float(obj), strict)
    if isinstance(obj, str):
        return str.__repr__(obj)
    if type(obj) is tuple or type(obj) is list:
        inner = ", ".join(_text(item, strict) for item in obj)
        if isinstance(obj, list):
            return f"[{inner}]"
        return f"({inner},)" if len(obj) == 1 else f"({inner})"
    if dataclasses.is_dataclass(obj) and not isinstance(obj, type):
        return _dataclass_text(obj, strict)
    if strict:
        raise ConfigError(
            f"{obj!r} (of type {type(obj).__name__}) has no notation; what has: None, truth values, numbers, strings, "
            "tuples, lists and the registered frozen dataclasses of these."
        )
    return f"<{type(obj).__name__}>"


def _float_text(x: float, strict: bool) -> str:
    if math.isnan(x):
        if strict:
            raise ConfigError("nan has no notation: an object that holds it does not equal itself. Pass a number.")
        return "<nan>"
    plain = repr(x)
    if 0.0 < x <= 1.0:
        levels = round(x * 255)
        fraction = f"{levels}/255"
        if levels / 255 == x and len(fraction) < len(plain):
            return fraction
    return plain


def _dataclass_text(obj: object, strict: bool) -> str:
    said: list[str] = []
    leading = True
    for field in dataclasses.fields(obj):  # type: ignore[arg-type]
        value = getattr(obj, field.name)
        # What has no default says itself, as people write it: Linf(8/255), not Linf(eps=8/255).
        leading = leading and field.init and not field.kw_only and not _has_default(field)
        if field.init and not _is_default(field, value):
            text = _text(value, strict)
            said.append(text if leading else f"{field.name}={text}")
    return f"{_NAMES.get(type(obj), type(obj).__name__)}({', '.join(said)})"


def _has_default(field: dataclasses.Field[object]) -> bool:
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


def _is_default(field: dataclasses.Field[object], value: object) -> bool:
    if field.default is not dataclasses.MISSING:
        default = field.default
    elif field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    else:
        return False
    # The same type too: 1 == 1.0 == True, but a recipe should say which one it was given.
    return value is default or (type(value) is type(default) and (value == default) is True)
