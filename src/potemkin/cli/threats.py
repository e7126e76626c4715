"""From the words after --threat, --goal, --access and --attack to the adversary."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, cast

from cyclopts import Parameter

from potemkin.cli.options import ADVERSARY, Switch
from potemkin.errors import ConfigError
from potemkin.evaluate.defaults import DEFAULT_ATTACKS

if TYPE_CHECKING:
    from potemkin.attacks.program import Attack
    from potemkin.threat.access import Access
    from potemkin.threat.goals import Goal
    from potemkin.threat.sets.base import PerturbationSet
    from potemkin.threat.threat_model import ThreatModel

_ATTACK = (
    "A recipe such as 'pgd(steps=50, restarts=5)'; may be repeated, the cheapest runs first. "
    f"Default: {' and '.join(map(repr, DEFAULT_ATTACKS))}."
)


@Parameter(name="*", group=ADVERSARY)
@dataclass(frozen=True)
class AdversaryOptions:
    """Who attacks: what the adversary may do, what it wants, what it sees, and how it searches."""

    threat: str
    """What the adversary may do: a set such as 'Linf(8/255)', 'L2(0.5)', 'L1(12)', or a whole 'ThreatModel(...)'."""
    attack: Annotated[list[str] | None, Parameter(negative="", help=_ATTACK)] = None
    goal: str | None = None
    """What it wants: 'Untargeted()' (the default), 'Targeted(3)', 'LeastLikely()', 'RandomTarget()'."""
    access: str | None = None
    """What it sees: gradients (the default), scores, decisions, or 'Access("scores", queries=5000)'."""
    eight_bit: Annotated[bool, Switch] = False
    """An adversarial counts only if it survives rounding to the 256 levels of an image file."""

    def threat_model(self) -> ThreatModel:
        """The threat model; ConfigError where something is said twice, or is no such thing."""
        from potemkin.core.notation import parse
        from potemkin.threat.threat_model import ThreatModel

        found = parse(self.threat, kind=("set", "threat"))
        whole = isinstance(found, ThreatModel)
        threat = ThreatModel.of(cast("ThreatModel | PerturbationSet", found))
        given = {
            "goal": None if self.goal is None else parse(self.goal, kind="goal"),
            "access": None if self.access is None else _access(self.access),
        }
        if whole and (self.eight_bit or any(value is not None for value in given.values())):
            raise ConfigError(
                f"--threat {self.threat!r} is a whole threat model: say goal, access and eight_bit inside it, or give "
                "--threat a set and say them as --goal, --access and --eight-bit."
            )
        goal, access = cast("Goal | None", given["goal"]), cast("Access | None", given["access"])
        eight_bit = threat.eight_bit or self.eight_bit
        return replace(threat, goal=goal or threat.goal, access=access or threat.access, eight_bit=eight_bit)

    def attacks(self, threat: ThreatModel) -> list[Attack]:
        """The attacks, or the usual ones where none was named."""
        from potemkin.core.notation import parse

        if self.attack is None and not threat.access.allows("gradients"):
            raise ConfigError(
                f"No --attack is given, and the usual ones ({', '.join(DEFAULT_ATTACKS)}) need gradients, which "
                f"{threat.access!r} hides: name an attack, or give --access gradients."
            )
        return [cast("Attack", parse(text, kind="attack")) for text in self.attack or DEFAULT_ATTACKS]


def _access(text: str) -> Access:
    from potemkin.core.notation import parse
    from potemkin.threat.access import LEVELS, Access

    return Access(text) if text in LEVELS else cast("Access", parse(text, kind="access"))
