"""Whether each parameter of an attack matters: change it, and see whether anything else happens."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from potemkin.attacks.laws.trial import rough
from potemkin.attacks.program import Attack
from potemkin.core.registry import entries
from potemkin.errors import ConfigError
from potemkin.threat.sets.base import PerturbationSet

LONG = 24
"""Moves of a trace: enough for the first checkpoint of a step-size controller."""


def inert_parameters(attack: Attack, sets: Sequence[PerturbationSet], seed: int) -> Iterator[tuple[str, str]]:
    """Yield (parameter, what was found) for each that changes neither queries, aims, number of jobs nor cost.

    A parameter matters if one change of it matters in one of the sets. One whose every change is refused by the
    attack itself cannot be inert, for it cannot be given.
    """
    before = [_trace(attack, perturbations, seed) for perturbations in sets]
    for name, changed in _variations(attack):
        tried = []
        for value, other in changed:
            try:
                after = (_trace(other, perturbations, seed) for perturbations in sets)
                if any(not _same(old, new) for old, new in zip(before, after, strict=True)):
                    break
            except ConfigError:
                continue
            tried.append(repr(value))
        else:
            if tried:
                yield name, f"{name} as {' or '.join(tried)} instead changes neither queries, aims, jobs nor cost"
            elif not changed:
                yield (
                    name,
                    f"how to change {name} is not known: see to it yourself, then skip={{'parameters.{name}': …}}",
                )


def _trace(attack: Attack, perturbations: PerturbationSet, seed: int) -> list[Tensor]:
    """Everything that a parameter may change, as tensors."""
    trial = rough(attack, perturbations, seed).take(torch.arange(8))
    trial = replace(trial, steps=torch.full((8,), min(LONG, attack.steps_for(perturbations.eps))))
    aims = trial.aims()
    cost = attack.cost(perturbations.eps, trial.classes, perturbations.norm_name)
    numbers = torch.tensor([attack.runs, attack.steps_for(perturbations.eps), *cost])
    return [numbers, *(aim.label for aim in aims), *(aim.target for aim in aims), *trial.run(aims[0]).queries]


def _same(a: list[Tensor], b: list[Tensor]) -> bool:
    return len(a) == len(b) and all(torch.equal(one, other) for one, other in zip(a, b, strict=True))


def _variations(owner: Any) -> Iterator[tuple[str, list[tuple[Any, Any]]]]:
    """Per field, and per field of the parts it holds: its name, and (other value, owner with that value)."""
    if not dataclasses.is_dataclass(owner) or isinstance(owner, type):
        return
    hints = _hints(type(owner))
    for field in dataclasses.fields(owner):
        if not field.init:
            continue
        value = getattr(owner, field.name)
        others = [(other, _replaced(owner, field.name, other)) for other in _others(value, hints.get(field.name))]
        known = bool(others)
        allowed = [(other, new) for other, new in others if new is not None]
        if allowed or not known:
            yield field.name, allowed
        for name, inner in _variations(value):
            changed = [(other, _replaced(owner, field.name, new)) for other, new in inner]
            yield f"{field.name}.{name}", [(other, new) for other, new in changed if new is not None]


def _replaced(owner: Any, name: str, value: Any) -> Any | None:
    """The owner with another value, or None where it refuses that value."""
    try:
        return replace(owner, **{name: value})
    except ConfigError:
        return None


def _others(value: Any, hint: Any) -> list[Any]:
    """Other values of the same kind, the likeliest to be allowed first."""
    if value is None:
        return [0.03, 3, *_choices(hint, value)]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, 2 * value + 3, value - 1]
    if isinstance(value, float):
        return [value / 2, value * 2, value + 0.1]
    if isinstance(value, str):
        return _choices(hint, value)
    if isinstance(value, tuple):
        return [value[:-1], *_tuples(value)]
    return _alike(value)


def _tuples(value: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """The same tuple with one entry changed."""
    for place, entry in enumerate(value):
        yield from ((*value[:place], other, *value[place + 1 :]) for other in _others(entry, None))


def _choices(hint: Any, value: Any) -> list[Any]:
    """The other values of a `Literal[...]`, alone or in a union."""
    kinds = (hint, *typing.get_args(hint))
    return [v for kind in kinds if typing.get_origin(kind) is Literal for v in typing.get_args(kind) if v != value]


def _hints(owner: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(owner)
    except NameError:  # a name that only a type checker imports
        return {}


def _alike(value: Any) -> list[Any]:
    """Registered objects that have what this one has, and can be made without arguments."""
    kinds = {entry.kind for entry in entries() if entry.factory is type(value)}
    own = {field.name for field in dataclasses.fields(value)} if dataclasses.is_dataclass(value) else set()
    needed = {name for name in dir(value) if not name.startswith("_")} - own
    found = []
    for entry in entries():
        if entry.kind not in kinds or not isinstance(entry.factory, type) or entry.factory is type(value):
            continue
        if needed <= set(dir(entry.factory)):
            try:
                found.append(entry.factory())
            except TypeError:  # an argument that it cannot do without
                continue
    return found
