"""What an evaluation checks before it starts: the model, the attacks, and whether they fit the threat model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from potemkin.attacks.program import Asks, Attack
from potemkin.core.canonical import show
from potemkin.core.checks import number
from potemkin.core.notation import parse
from potemkin.core.rows import round_up
from potemkin.engine.setup import Settings
from potemkin.errors import ConfigError
from potemkin.models.classifier import Classifier
from potemkin.threat.box import Box
from potemkin.threat.threat_model import ThreatModel


def as_classifier(model: object) -> Classifier:
    """The classifier itself, or a network that takes inputs in [0, 1]."""
    if isinstance(model, Classifier):
        return model
    if isinstance(model, torch.nn.Module):
        return Classifier(model)
    raise ConfigError(
        f"model is a {type(model).__name__}; pass pk.Classifier(net, box=(low, high)) or an nn.Module that maps inputs "
        "in [0, 1] to logits. For a name or a file use pk.load_model(...)."
    )


def as_attack(attack: object) -> Attack:
    """The attack itself, or the one that a notation such as "pgd(steps=50)" means."""
    if isinstance(attack, str):
        attack = parse(attack, kind="attack")
    if isinstance(attack, Attack):
        return attack
    if isinstance(attack, type) and issubclass(attack, Attack):
        return as_attack(attack())
    raise ConfigError(f"{attack!r} is not an attack; for example pk.pgd(steps=50) or pk.apgd().")


MOST_ROWS = 2**20
"""More examples than most test sets have, so that no batch could be fuller; and a million rows of even a small picture
fill all the memory there is. Beyond it a row count is a slip, and is told as one rather than as memory that ran out."""


def check_rows(rows: int) -> None:
    """Refuse a row count that is no positive multiple of 8."""
    number("rows", rows, low=8, high=MOST_ROWS, integer=True)
    if rows % 8:
        raise ConfigError(f"rows={rows}: row counts are multiples of 8, for example {round_up(rows)}.")


def settings_for(
    classifier: Classifier, rows: int, stride: int | None = None, retire_cycles: bool = True, speculate: bool = True
) -> Settings:
    """How the engine runs on this classifier's device: on a CPU looking costs nothing, elsewhere it waits."""
    on_cpu = torch.device(classifier.device).type == "cpu"
    return Settings(rows, stride or (1 if on_cpu else 8), min(rows, 32), retire_cycles, speculate)


def check_plan(attacks: Sequence[Attack | str] | Attack | str, threat: ThreatModel, box: Box) -> tuple[Attack, ...]:
    """The attacks as a tuple, refused where they or the set do not fit the threat model."""
    listed = list(attacks) if isinstance(attacks, Iterable) and not isinstance(attacks, str | type) else [attacks]
    if not listed:
        raise ConfigError("No attack is given; for example attacks=[pk.pgd(steps=50)].")
    plan = tuple(as_attack(attack) for attack in listed)
    names = [show(attack) for attack in plan]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(
            f"{twice} is given twice: it would draw the same random numbers. Use restarts, or another setting."
        )
    for attack in plan:
        _check_access(attack, threat)
        why = attack.misfit(threat.set, box)
        if why is not None:
            raise ConfigError(f"{show(attack)} does not fit the threat model: {why}")
    if threat.eight_bit and not box.bounded:
        raise ConfigError(f"eight_bit=True needs a bounded box to put 256 levels into, and this one is {box!r}.")
    return plan


def _check_access(attack: Attack, threat: ThreatModel) -> None:
    asks = attack.asks(threat.set.norm_name, threat.goal.targeted)
    if not threat.access.allows(asks.value):
        instead = "noise()" if asks is Asks.GRADIENTS else "an attack that asks for less"
        raise ConfigError(
            f"{show(attack)} asks for {asks.value}, but the threat model allows {threat.access.sentence()}. "
            f"Declare Access('{asks.value}'), or use {instead}."
        )


def cheapest_first(attacks: tuple[Attack, ...], threat: ThreatModel, classes: int) -> tuple[Attack, ...]:
    """The cascade's order: by declared passes per example that never falls; equals stay as given."""

    def passes(attack: Attack) -> int:
        return sum(attack.cost(threat.set.eps, classes, threat.set.norm_name, threat.goal.targeted))

    return tuple(sorted(attacks, key=passes))
