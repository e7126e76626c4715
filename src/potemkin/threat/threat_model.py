"""The threat model: set, goal and access in one sentence that every report prints."""

from __future__ import annotations

from dataclasses import dataclass

from potemkin.core.checks import flag, instance
from potemkin.core.notation import Noted, parse
from potemkin.core.registry import register
from potemkin.errors import ConfigError
from potemkin.threat.access import Access
from potemkin.threat.box import Box
from potemkin.threat.goals import Goal, Untargeted
from potemkin.threat.sets.base import PerturbationSet

_UNTARGETED = Untargeted()
_WHITE_BOX = Access()


@register("threat")
@dataclass(frozen=True, repr=False)
class ThreatModel(Noted):
    """A perturbation set with the adversary's goal and access, and whether the result must survive 8-bit rounding.

    `eight_bit=True`: an adversarial input counts only if it still is one after rounding to the 256 values of a PNG.
    Errors: ConfigError where a part is of the wrong kind.

    >>> from potemkin.threat.sets.linf import Linf
    >>> ThreatModel(Linf(8 / 255)).sentence(Box(0, 1))
    'untargeted; Linf distance at most 8/255 (0.0314) inside the box [0, 1]; gradients visible, unlimited queries'
    """

    set: PerturbationSet
    goal: Goal = _UNTARGETED
    access: Access = _WHITE_BOX
    eight_bit: bool = False

    def __post_init__(self) -> None:
        instance("The set of ThreatModel", self.set, PerturbationSet, "a perturbation set such as Linf(8/255)")
        instance("The goal of ThreatModel", self.goal, Goal, "a goal such as Untargeted() or Targeted(3)")
        instance("The access of ThreatModel", self.access, Access, 'an access such as Access("scores", queries=5000)')
        flag("eight_bit of ThreatModel", self.eight_bit)

    @classmethod
    def of(cls, threat: object) -> ThreatModel:
        """The threat model itself, or an untargeted adversary with gradients in the given set.

        A text is notation, as on the command line and as for attacks: `ThreatModel.of("Linf(8/255)")`.
        Errors: ConfigError for anything else.
        """
        found = parse(threat, kind=("set", "threat")) if isinstance(threat, str) else threat
        if isinstance(found, ThreatModel):
            return found
        if isinstance(found, PerturbationSet):
            return cls(found)
        raise ConfigError(
            f"A threat is ThreatModel(...), a perturbation set such as Linf(8/255), or its notation as a text, found "
            f"{threat!r} of type {type(threat).__name__}."
        )

    def sentence(self, box: Box) -> str:
        """The threat model in one sentence."""
        rounded = ", and still so after rounding to 8 bits" if self.eight_bit else ""
        where = f"{self.set.sentence()} {box.sentence()}{rounded}"
        return f"{self.goal.sentence()}; {where}; {self.access.sentence()}"
