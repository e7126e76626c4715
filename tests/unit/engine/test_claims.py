"""Claims on their way through the verifier: many at once, some refused, none lost, and every query counted."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import potemkin as pk
from engine_toys import Done, Ramp, batch_of, ramp_rows, run
from potemkin.attacks.parts.starts import Center
from potemkin.engine.claims import ClaimQueue
from potemkin.engine.jobs import Flight, Spent
from potemkin.engine.verifier import Verdict

LINF = pk.Linf(0.1)
EIGHT_BIT = pk.ThreatModel(LINF, eight_bit=True)
EDGE = 130.3 / 255
"""Between two grey levels: 130.4 / 255 is beyond it, but rounds back to 130."""

MANY = 90
"""More than two full passes of the verifier, and not a multiple of its 32 rows."""


def crowd() -> tuple[Tensor, list[str]]:
    """Rows that FGSM at eps = 0.1 (25.5 grey levels) sends all beyond the edge at once, and how each must end.

    Two in three arrive well beyond it. The others arrive at 130.4, which the verifier refuses after its rounding.
    """
    refused = [number % 3 == 1 for number in range(MANY)]
    levels = [104.9 if no else 105.5 + 0.2 * number for number, no in enumerate(refused)]
    return torch.tensor(levels) / 255, ["invalid" if no else "broken" for no in refused]


def batches_of_verdicts(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """What the queue hands back, per call: the orders of the examples."""
    seen: list[list[int]] = []
    settle = ClaimQueue.settle

    def watched(self: ClaimQueue, device: str | torch.device) -> list[tuple[Flight, Verdict]]:
        found = settle(self, device)
        seen.append([flight.example.order for flight, _ in found])
        return found

    monkeypatch.setattr(ClaimQueue, "settle", watched)
    return seen


def all_at_once(**settings: object) -> tuple[Done, list[str]]:
    first, expected = crowd()
    data = batch_of(*ramp_rows(*first.tolist()), ids=[f"example {number}" for number in range(MANY)])
    return run(Ramp(EDGE), data, EIGHT_BIT, pk.fgsm(), rows=96, verify_rows=32, **settings), expected


def test_more_claims_than_the_verifier_has_rows_are_all_settled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = batches_of_verdicts(monkeypatch)
    done, expected = all_at_once()
    assert seen == [list(range(MANY))]  # they really came at once
    assert done.outcomes == expected
    assert [result.id for result in done.results] == [f"example {number}" for number in range(MANY)]
    assert [sum(tally.jobs for tally in result.attacks.values()) for result in done.results] == [1] * MANY
    # Three passes of 32 rows, and again after the rounding: no claim is asked about twice.
    assert done.oracle.physical["verify"].forwards == 2 * 3 * 32


def test_each_of_many_claims_gets_its_own_verdict() -> None:
    """The point that is stored is the row's own, with its own scores and distance."""
    done, expected = all_at_once()
    first, _ = crowd()
    for result, begin, ending in zip(done.results, first, expected, strict=True):
        assert result.attacks[0].refused == (ending == "invalid")
        if ending == "broken":
            assert result.point is not None
            assert result.point.inputs[0] == pytest.approx(float(begin) + 0.1, abs=1e-6)
            assert result.point.outputs[1] == pytest.approx(8 * (float(begin) + 0.1 - EDGE), abs=1e-5)
            assert result.point.distance == pytest.approx(0.1, abs=1e-6)


def test_many_claims_at_once_end_as_they_would_one_by_one() -> None:
    together, _ = all_at_once()
    first, _ = crowd()
    for number in range(0, MANY, 7):
        data = batch_of(*ramp_rows(float(first[number])), ids=[f"example {number}"])
        [alone] = run(Ramp(EDGE), data, EIGHT_BIT, pk.fgsm(), rows=96, verify_rows=32).story.values()
        assert alone == together.story[f"example {number}"]


# ---- refused claims and the budget -----------------------------------------------------------------------------------

BEFORE = pk.bim(steps=3, step_size=0.001)
"""Four queries that lead nowhere."""
REFUSED = pk.pgd(steps=40, step_size=2 / 255, start=Center())
"""From level 104.95 it is beyond the edge after 13 moves at the end of its radius, 130.45, and stays: claim by claim is
refused."""


@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("queries", [4, 17, 18, 19, 30, 44])
def test_queries_before_a_refusal_count_after_it(queries: int, stride: int) -> None:
    """The second search is refused from its query 14 on; those of the first search, too, have been spent."""
    threat = pk.ThreatModel(LINF, access=pk.Access(queries=queries), eight_bit=True)
    plan = [BEFORE, REFUSED]
    done = run(Ramp(EDGE), ramp_rows(104.95 / 255), threat, plan, retire_cycles=False, stride=stride)
    [result] = done.results
    assert (result.outcome, result.spent.queries) == ("budget", queries)
    assert result.spent.forwards == 1 + queries
    refused = sum(tally.refused for tally in result.attacks.values())
    assert refused == max(0, queries - 4 - 13)


def test_a_budget_that_is_just_enough_is_not_called_short() -> None:
    """45 queries is what both searches take: the refusals cost the adversary nothing."""
    threat = pk.ThreatModel(LINF, access=pk.Access(queries=45), eight_bit=True)
    [result] = run(Ramp(EDGE), ramp_rows(104.95 / 255), threat, [BEFORE, REFUSED], retire_cycles=False).results
    assert result.outcome == "held"  # the first search, which claimed nothing
    assert result.spent == Spent(forwards=46, backwards=43, queries=45)
