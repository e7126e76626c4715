"""What each attack of a cascade contributed, and whether those sums can be told of one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from potemkin.core.outcomes import Outcome
from potemkin.evaluate.costs import Cost
from potemkin.evaluate.fields import Count, Plain, Text
from potemkin.evaluate.rates import Rate


class AttackSummary(Plain):
    """What one attack of the cascade contributed."""

    recipe: Text
    order: Count
    tried: Count
    jobs: Count
    broken: Count
    invalid_claims: Count = 0
    robust_accuracy_after: Rate
    cost: Cost


def contradiction(attacks: Sequence[AttackSummary], outcomes: Mapping[Outcome, int]) -> str | None:
    """Why these sums and outcomes cannot be those of one run, or None.

    An example meets the attacks in order until it falls. So those that held or whose claims were all refused met every
    attack, and each broken one those up to its own. What the outcomes leave open: an example without queries left
    stopped somewhere after the first attack began, and one in error met all attacks or none.
    """
    decided = outcomes["held"] + outcomes["broken"] + outcomes["invalid"]
    if not attacks:
        met = decided + outcomes["budget"]
        return f"attacks is empty, but {met} examples met one" if met else None
    if (broken := sum(attack.broken for attack in attacks)) != outcomes["broken"]:
        return f"the attacks broke {broken} examples, but {outcomes['broken']} are broken"
    n, left = sum(outcomes.values()), outcomes["held"] + outcomes["broken"]
    fewest, most = outcomes["budget"], outcomes["budget"] + outcomes["error"]
    for number, attack in enumerate(attacks):
        name = f"attacks.{number}"
        if attack.order != number:
            return f"{name} has the order {attack.order}"
        if not fewest <= attack.tried - decided <= most:
            return f"{name} was tried on {attack.tried} examples, but {decided + fewest} to {decided + most} met it"
        if attack.jobs < attack.tried:
            return f"{name} had {attack.jobs} jobs on {attack.tried} examples"
        most = attack.tried - decided
        if number == 0:
            fewest = most - outcomes["budget"]
        decided, left = decided - attack.broken, left - attack.broken
        if attack.robust_accuracy_after != Rate.of(left, n):
            return f"{name} leaves {Rate.of(left, n)}, but says {attack.robust_accuracy_after}"
    return None
