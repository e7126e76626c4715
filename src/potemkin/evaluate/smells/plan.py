"""What the threat model and the attacks give away by themselves: an audit that could not have found anything."""

from __future__ import annotations

from collections.abc import Sequence

from potemkin.attacks.program import Attack
from potemkin.core.canonical import show
from potemkin.evaluate.record import Smell
from potemkin.threat.box import Box
from potemkin.threat.threat_model import ThreatModel


def suspect_plan(attacks: Sequence[Attack], threat: ThreatModel, box: Box) -> list[Smell]:
    """Smells of the threat model and of the attacks chosen against it; no model call."""
    return wide_set(threat, box) + _only_controls(attacks) + _short_of_the_edge(attacks, threat)


def wide_set(threat: ThreatModel, box: Box) -> list[Smell]:
    """A set that reaches across the whole box: somebody may have meant grey levels."""
    eps, width = threat.set.eps, box.high - box.low
    # With a mask it is a patch without a limit: a threat of its own, and meant so.
    if threat.set.norm_name != "Linf" or not threat.set.any_shape or not eps > width:
        return []
    meant = f"Did you mean {eps:g}/255?" if 1 < eps < 256 and width == 1 else "Is eps in the units of the inputs?"
    return [
        Smell(
            name="eps_wider_than_box",
            severity="warning",
            message=f"eps = {eps:g} is more than the width of the box, {width:g}: any input is allowed.",
            advice=f"No model holds against that. {meant}",
            evidence={"eps": eps, "width": width},
        )
    ]


def _only_controls(attacks: Sequence[Attack]) -> list[Smell]:
    if not all(attack.control for attack in attacks):
        return []
    return [
        Smell(
            name="only_controls",
            severity="warning",
            message="Only random-noise controls ran: nothing searched for an adversarial input.",
            advice="Add an attack, for example pgd() or apgd(): what withstands noise alone is not robust.",
        )
    ]


def _short_of_the_edge(attacks: Sequence[Attack], threat: ThreatModel) -> list[Smell]:
    """Attacks whose steps, all in one direction, do not add up to eps: they search a smaller set than was named.

    An alarm where no other attack searched the whole set: then the robust accuracy is not one at this eps.
    """
    eps, norm, targeted = threat.set.eps, threat.set.norm_name, threat.goal.targeted
    searches = [attack for attack in attacks if not attack.control]
    # Steps of eps / N add up to eps but for rounding.
    short = [attack for attack in searches if attack.reach(eps, norm, targeted) < eps * (1 - 1e-6)]
    reached = max((attack.reach(eps, norm, targeted) for attack in short), default=0.0)
    if not short:
        return []
    told = " and ".join(show(attack) for attack in short[:3]) + (f" and {len(short) - 3} more" if short[3:] else "")
    return [
        Smell(
            name="short_of_the_edge",
            severity="alarm" if len(short) == len(searches) else "warning",
            message=(
                f"{told} can not cross the set: all steps together go {reached:.3g} at most, and eps is {eps:.3g}."
            ),
            advice="Make steps or step_size larger, leave step_size to its default, or use apgd(), which has none.",
            evidence={"reach": reached, "eps": eps},
        )
    ]
