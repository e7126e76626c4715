"""The public `check_attack`: whether an attack, of ours or of anyone's, does what every attack must."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from potemkin.attacks.laws.claims import best, cost, longer, recurrence
from potemkin.attacks.laws.dependence import invariance, randomness, shapes
from potemkin.attacks.laws.manners import hostile_models, side_effects
from potemkin.attacks.laws.parameters import inert_parameters
from potemkin.attacks.laws.search import closed_form, inside, interior, moves, targeted, zero_budget
from potemkin.attacks.laws.subject import Subject
from potemkin.attacks.program import Attack
from potemkin.core.canonical import show
from potemkin.core.checks import instance
from potemkin.core.notation import parse
from potemkin.errors import ConfigError, ConformanceError, suggest
from potemkin.threat.sets.base import PerturbationSet
from potemkin.threat.sets.l1 import L1
from potemkin.threat.sets.l2 import L2
from potemkin.threat.sets.linf import Linf

SETS: tuple[PerturbationSet, ...] = (Linf(0.1), L2(0.5), L1(1.0))
CHECKS: dict[str, Callable[[Subject], Iterator[str]]] = {
    check.__name__: check
    for check in (
        inside, zero_budget, moves, closed_form, interior, targeted, best, cost, longer, recurrence, invariance,
        randomness, shapes, hostile_models, side_effects,
    )
}  # fmt: skip
"""The checks that are made in each set, by the name under which they are skipped."""
NAMES = (*CHECKS, "parameters", "notation")


@dataclass
class Conformance:
    """What `check_attack` looked at."""

    attack: str
    passed: list[str] = field(default_factory=list)
    """Checks, as "inside/Linf" where they were made in one set."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Check -> why it was not made."""

    def __str__(self) -> str:
        lines = [f"{self.attack}: {len(self.passed)} checks passed"]
        return "\n".join(lines + [f"  skipped {name}: {why}" for name, why in self.skipped.items()])


def check_attack(
    attack: Attack,
    *,
    sets: Sequence[PerturbationSet] = SETS,
    seed: int = 0,
    skip: Mapping[str, str] | None = None,
) -> Conformance:
    """Check that an attack does what every attack must; run it on your own before you trust it.

    It is tried on toy models with known optima, and on hostile ones, on the CPU, in seconds. In each set:

    - inside, zero_budget: every claimable query is in set and box; eps = 0 gives the input back
    - closed_form, moves, interior, targeted: it ends at the optimum of linear logits, one move goes uphill, a peak
      inside the set is found, opposite targets lead opposite ways
    - best, longer: the best point is the best claimable query, the last one included; more moves are never worse
    - cost, recurrence: counted passes and jobs are the declared ones; what `recurrence` returns decides the future
    - invariance, randomness, shapes: a row's queries depend on no other row, on its own random streams, and not on the
      form in which its input came
    - hostile_models, side_effects: no NaN and nothing outside the set whatever the model answers; nothing is written to

    and once: parameters (every one matters, those of its programs' parts included) and notation
    (`parse(show(attack)) == attack`).

    Args:
        attack: the recipe with its settings.  sets: where it is tried; their inputs are (2, 4, 4) in the box [0, 1].
        seed: of its random draws.
        skip: check -> reason, for what this attack cannot pass; "closed_form/L2" in sets of that norm only,
            "parameters.mu" for one parameter. A recipe declares its own under `Attack.exempt`.

    Returns:
        `Conformance`: which checks passed, which were skipped and why.

    Raises:
        ConformanceError: some failed; the message lists each with what was found. ConfigError: an unknown check is
        skipped, or one without a reason.

    Example:
        >>> import potemkin as pk
        >>> print(pk.check_attack(pk.fgsm(), sets=[pk.Linf(0.1)]))
        fgsm(): 16 checks passed
          skipped interior: one move of the whole budget cannot stop half-way

    Source: design rules of this project; what the field's libraries got wrong.  Differs: none.
    """
    instance("attack", attack, Attack, "an attack with its settings such as pgd(steps=50)")
    skip = {**attack.exempt, **(skip or {})}
    _check_skips(skip)
    _check_sets(sets)
    found = Conformance(repr(attack))
    failed: list[str] = []
    for place, where, check in _all_checks(attack, sets, seed, skip):
        name = place.split("/")[0]
        if name in skip or place in skip:
            found.skipped[name if name in skip else place] = skip.get(name) or skip[place]
            continue
        findings = _findings(check)
        failed += [f"{where}: {finding}" for finding in findings]
        found.passed += [] if findings else [place]
    found.skipped |= {name: why for name, why in skip.items() if name.startswith("parameters.")}
    if failed:
        raise ConformanceError(f"{attack!r} fails {len(failed)} checks:\n- " + "\n- ".join(failed))
    return found


def _all_checks(
    attack: Attack, sets: Sequence[PerturbationSet], seed: int, skip: Mapping[str, str]
) -> Iterator[tuple[str, str, Callable[[], Iterator[str]]]]:
    """Every check with its place, such as "inside/Linf", and that place in words."""
    for perturbations in sets:
        subject = Subject(attack, perturbations, seed)
        for name, check in CHECKS.items():
            yield f"{name}/{perturbations.norm_name}", f"{name} in {perturbations!r}", partial(check, subject)
    yield "parameters", "parameters", partial(_parameters, attack, sets, seed, skip)
    yield "notation", "notation", partial(_notation, attack)


def _findings(check: Callable[[], Iterator[str]]) -> list[str]:
    """What a check found; a program that crashes is a finding, too."""
    try:
        return list(check())
    except Exception as error:  # noqa: BLE001  (whatever somebody's attack raises belongs into the list)
        return [f"it raises {type(error).__name__}: {error}"]


def _parameters(attack: Attack, sets: Sequence[PerturbationSet], seed: int, skip: Mapping[str, str]) -> Iterator[str]:
    for name, finding in inert_parameters(attack, sets, seed):
        if f"parameters.{name}" not in skip:
            yield finding


def _notation(attack: Attack) -> Iterator[str]:
    """It is a frozen dataclass whose repr is its notation, and the notation reads back as an equal attack."""
    if not getattr(getattr(type(attack), "__dataclass_params__", None), "frozen", False):
        yield f"{type(attack).__name__} is not a frozen dataclass"
        return
    try:
        text = show(attack)
        again = parse(text, kind="attack")
    except ConfigError as error:
        yield f"the notation does not read back; is it registered, with @register('attack')? {error}"
        return
    if again != attack or repr(attack) != text:
        yield f"repr is {attack!r}, the notation {text}, which reads back as {again!r}"


def _check_skips(skip: Mapping[str, str]) -> None:
    for name, why in skip.items():
        check = name.split("/")[0].split(".")[0]
        if check not in NAMES:
            raise ConfigError(
                f"There is no check {name!r} to skip.{suggest(check, NAMES)} Checks: {', '.join(NAMES)}; in one norm "
                "'closed_form/L2', for one parameter 'parameters.mu'."
            )
        if not str(why or "").strip():
            raise ConfigError(f"skip={{{name!r}: {why!r}}}: say why this attack need not pass it.")


def _check_sets(sets: Sequence[PerturbationSet]) -> None:
    if not sets or min(perturbations.eps for perturbations in sets) <= 0:
        raise ConfigError(f"sets={list(sets)!r}: give at least one set with eps above 0, such as Linf(8/255).")
