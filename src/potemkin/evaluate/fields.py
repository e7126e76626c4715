"""What the fields of a Record are made of: plain data that JSON can say. A number is never NaN or infinite: null."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _finite_or_none(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _printable(value: object) -> object:
    """Lone surrogates (undecodable file names) cannot be written as UTF-8: show them escaped."""
    return value.encode("utf-8", "backslashreplace").decode("utf-8") if isinstance(value, str) else value


def _plain(value: object) -> object:
    """Free dictionaries, at any depth: text keys, no NaN, nothing that JSON cannot say."""
    if isinstance(value, Mapping):
        return {str(_printable(str(key))): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, str | bool | int) or value is None:
        return _printable(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return _printable(str(value))


Number = Annotated[float | None, BeforeValidator(_finite_or_none)]
Text = Annotated[str, BeforeValidator(_printable)]
ExampleId = Annotated[int | str, BeforeValidator(_printable)]
Whole = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
"""What 64 bits hold: everything that is counted or numbered here goes through tensors of int64."""
Count = Annotated[int, Field(ge=0, le=2**63 - 1)]
Free = Annotated[dict[str, Any], BeforeValidator(_plain)]
Evidence = Annotated[dict[str, int | float | str], BeforeValidator(_plain)]


class Plain(BaseModel):
    """Base of all parts of a Record: frozen, and a field that is not declared is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())
