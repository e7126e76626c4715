"""Whether each parameter of an attack matters: change it, and see whether anything else happens."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from potemkin.attacks.laws.trial import CLASSES, rough
from potemkin.attacks.program import Attack, Program, Targeting
from potemkin.core.registry import entries
from potemkin.errors import ConfigError
from potemkin.threat.sets.base import PerturbationSet

LONG = 12
"""Moves of a trace: enough for the first checkpoint of a step-size controller."""


def inert_parameters(attack: Attack, sets: Sequence[PerturbationSet], seed: int) -> Iterator[tuple[str, str]]:
    """Yield (parameter, what was found) for each that changes neither queries, aims, number of jobs nor cost.

    A parameter matters if one change of it matters in one of the sets. One whose every change is refused by the
    attack itself cannot be inert, for it cannot be given. The numbers inside the programs that the attack composes are
    looked at as well, as "program.look.mu".
    """
    before = [_trace(attack, perturbations, seed) for perturbations in sets]
    for name, changed in _variations(attack):
        finding = _finding(name, changed, partial(_differs, sets=sets, seed=seed, before=before))
        if finding is not None:
            yield name, finding
    yield from _inert_numbers(attack, sets, seed, before)


def _inert_numbers(
    attack: Attack, sets: Sequence[PerturbationSet], seed: int, before: list[list[Tensor]]
) -> Iterator[tuple[str, str]]:
    """The same for the numbers in the parts of the programs; the attack has one program per norm."""
    found: dict[str, str | None] = {}
    for number, perturbations in enumerate(sets):
        if attack.steps_for(perturbations.eps) == 0:
            continue  # what it does is over before any part moves
        norm = perturbations.norm_name
        differs = partial(_differs, sets=[perturbations], seed=seed, before=[before[number]])
        for name, changed in _variations(attack.program(CLASSES, norm, False), only=(int, float)):
            if found.get(name, "") is not None:
                swapped = [(value, _Swapped(attack, norm, program)) for value, program in changed]
                found[name] = _finding(f"program.{name}", swapped, differs)
    yield from ((f"program.{name}", finding) for name, finding in found.items() if finding is not None)


def _finding(name: str, changed: list[tuple[Any, Any]], matters: Callable[[Any], bool]) -> str | None:
    """What is wrong with a parameter, or None."""
    tried = []
    for value, other in changed:
        try:
            if matters(other):
                return None
        except ConfigError:
            continue
        tried.append(repr(value))
    if tried:
        return f"{name} as {' or '.join(tried)} instead changes neither queries, aims, jobs nor cost"
    if not changed:
        return f"how to change {name} is not known: see to it yourself, then skip={{'parameters.{name}': '<how>'}}"
    return None


@dataclass(frozen=True)
class _Swapped(Attack):
    """An attack that runs another program in one norm."""

    base: Attack
    norm: str
    other: Program

    def program(self, classes: int, norm: str, targeted: bool) -> Program:
        return self.other if norm == self.norm else self.base.program(classes, norm, targeted)

    def steps_for(self, eps: float) -> int:
        return self.base.steps_for(eps)

    @property
    def targeting(self) -> Targeting:
        return self.base.targeting

    @property
    def runs(self) -> int:
        return self.base.runs


def _differs(attack: Attack, sets: Sequence[PerturbationSet], seed: int, before: Sequence[list[Tensor]]) -> bool:
    """Whether anything is another thing than before in any of the sets."""
    after = (_trace(attack, perturbations, seed) for perturbations in sets)
    return any(not _same(old, new) for old, new in zip(before, after, strict=True))


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


def _variations(owner: Any, only: tuple[type, ...] = ()) -> Iterator[tuple[str, list[tuple[Any, Any]]]]:
    """Per field, and per field of the parts it holds: its name, and (other value, owner with that value).

    `only`: fields that hold one of these types.
    """
    if not dataclasses.is_dataclass(owner) or isinstance(owner, type):
        return
    hints = _hints(type(owner))
    for field in dataclasses.fields(owner):
        if not field.init:
            continue
        value = getattr(owner, field.name)
        if not only or (isinstance(value, only) and not isinstance(value, bool)):
            others = [(other, _replaced(owner, field.name, other)) for other in _others(value, hints.get(field.name))]
            allowed = [(other, new) for other, new in others if new is not None]
            if allowed or not others:
                yield field.name, allowed
        for name, inner in _inside(value, only):
            changed = [(other, _replaced(owner, field.name, new)) for other, new in inner]
            yield f"{field.name}.{name}", [(other, new) for other, new in changed if new is not None]


def _inside(value: Any, only: tuple[type, ...]) -> Iterator[tuple[str, list[tuple[Any, Any]]]]:
    """Variations of what a field holds: a part, or a tuple of parts."""
    if not isinstance(value, tuple):
        yield from _variations(value, only)
        return
    for place, entry in enumerate(value):
        for name, inner in _variations(entry, only):
            yield f"{place}.{name}", [(other, (*value[:place], new, *value[place + 1 :])) for other, new in inner]


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
        return [other for other in (value / 2, value * 2, value + 0.1, 1.0) if other != value]
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
