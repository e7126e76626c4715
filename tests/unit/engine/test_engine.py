"""The engine: who pays for what, in which order results come, and what an outcome may depend on."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import potemkin as pk
from engine_toys import Done, Ramp, Zoo, batch_of, ramp_rows, random_net, random_rows, run
from potemkin.attacks.parts.starts import Center
from potemkin.engine.jobs import Spent
from potemkin.errors import AccessError, ModelError

LINF = pk.Linf(0.1)
EDGE = 130.3 / 255
"""Between two grey levels: 130.4 / 255 is beyond it, but rounds back to 130."""


# ---- what an example pays -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [8, 24])
def test_an_example_that_falls_to_the_first_attack_never_pays_for_the_second(rows: int) -> None:
    data = ramp_rows(0.47, 0.3)
    done = run(Ramp(), data, LINF, [pk.fgsm(), pk.pgd(steps=3)], rows=rows, retire_cycles=False)
    fallen, held = done.results
    assert (fallen.outcome, fallen.broken_by.attack) == ("broken", 0)  # type: ignore[union-attr]
    # The clean pass; the query at x with its gradient; the query that falls.
    assert fallen.spent == Spent(forwards=3, backwards=1, queries=2)
    assert set(fallen.attacks) == {0}
    assert held.outcome == "held"
    assert held.spent == Spent(forwards=1 + 2 + 4, backwards=1 + 3, queries=2 + 4)
    assert {number: tally.jobs for number, tally in held.attacks.items()} == {0: 1, 1: 1}


def test_an_example_that_is_wrong_before_the_attack_pays_the_clean_pass_only() -> None:
    done = run(Ramp(), ramp_rows(0.6, 0.3), LINF, pk.fgsm())
    assert done.results[0].outcome == "clean_wrong"
    assert done.results[0].spent == Spent(forwards=1)
    assert done.results[0].attacks == {}


def test_jobs_that_ran_ahead_are_charged_to_nobody_when_an_earlier_one_succeeds() -> None:
    """The row falls in the last move of the first attack, when the second, which ran ahead, was half-way."""
    data = ramp_rows(0.415)
    attacks = [pk.bim(steps=9, step_size=0.01), pk.pgd(steps=30, relative_step_size=0.001, start=Center())]
    ahead = run(Ramp(), data, LINF, attacks, rows=16)
    without = run(Ramp(), data, LINF, attacks, rows=16, speculate=False)
    assert ahead.outcomes == ["broken"]
    assert ahead.results[0].spent.forwards == 1 + 10
    assert ahead.story == without.story
    # It began one step later, and was called off while the claim waited for its verification.
    assert ahead.engine.dispatch.speculative.forwards >= 9
    assert without.engine.dispatch.speculative == Spent()
    assert set(ahead.results[0].attacks) == {0}


def test_the_winner_is_the_first_job_in_the_plan_that_succeeds_not_the_fastest() -> None:
    """The second job would fall at once; the first needs ten moves. It wins all the same; nobody pays the second."""
    data = ramp_rows(0.42)
    slow, fast = pk.bim(steps=12, step_size=0.01), pk.fgsm()
    done = run(Ramp(), data, LINF, [slow, fast], rows=16)
    assert done.results[0].broken_by is not None
    assert done.results[0].broken_by.attack == 0
    assert done.results[0].spent.forwards == 1 + 10
    assert done.engine.dispatch.speculative.forwards == 2


def test_physical_passes_are_all_rows_that_were_computed() -> None:
    done = run(Ramp(), ramp_rows(0.47, 0.3, 0.6), LINF, pk.fgsm(), rows=8, verify_rows=16)
    physical = done.oracle.physical
    assert physical["clean"].forwards == 8
    assert physical["search"].forwards == 8 * done.engine.batch.steps
    assert physical["verify"].forwards == 16
    assert 0 < done.engine.fill <= 2 / 8


def test_the_last_query_of_a_row_pays_no_backward() -> None:
    done = run(Ramp(), ramp_rows(0.3, 0.31), LINF, pk.pgd(steps=4), retire_cycles=False)
    assert [result.spent for result in done.results] == [Spent(6, 4, 5)] * 2


# ---- order ----------------------------------------------------------------------------------------------------------


def test_nor_is_a_backward_computed_in_a_step_where_no_row_climbs() -> None:
    done = run(Ramp(), ramp_rows(0.3), LINF, pk.bim(steps=3), retire_cycles=False)
    assert done.oracle.physical["search"].forwards == 8 * 4
    assert done.oracle.physical["search"].backwards == 8 * 3


def test_results_come_in_the_order_of_the_data_whenever_they_are_known() -> None:
    first = [0.3] + [0.47] * 30
    waiting = []
    data = batch_of(*ramp_rows(*first), ids=[f"example {n}" for n in range(31)])
    done = run(Ramp(), data, LINF, pk.pgd(steps=40), retire_cycles=False)
    assert [result.id for result in done.results] == data.ids
    assert [result.order for result in done.results] == list(range(31))
    assert done.outcomes == ["held"] + ["broken"] * 30

    model = pk.Classifier(Ramp())
    with model.guest():
        engine = done.engine.__class__(
            done.oracle, pk.ThreatModel(LINF), [pk.pgd(steps=40)], settings=done.engine.setup.settings
        )
        engine.on_step = lambda: waiting.append(engine.dispatch.waiting)
        list(engine.run([data]))
    assert max(waiting) > 20  # the others were known long before


# ---- outcomes -------------------------------------------------------------------------------------------------------


def zoo_rows() -> tuple[Tensor, Tensor]:
    x = torch.tensor(
        [[0.6, 0.5, 0.0], [0.47, 0.5, 0.0], [0.3, 0.5, 0.0], [0.3, 0.5, 0.5], [0.3, 0.5, 1.0], [104.95 / 255, 0.5, 0.0]]
    )
    return x, torch.zeros(6, dtype=torch.int64)


def test_all_six_outcomes() -> None:
    threat = pk.ThreatModel(LINF, eight_bit=True)
    done = run(Zoo(EDGE), zoo_rows(), threat, pk.fgsm())
    assert done.outcomes == ["clean_wrong", "broken", "held", "error", "error", "invalid"]
    whys = [result.why for result in done.results]
    assert whys[:3] == [None, None, None]
    assert "all gradients were zero or not finite" in (whys[3] or "")
    assert "NaN or infinite" in (whys[4] or "")
    assert "1 claim refused; the last one no longer meets the goal after the round trip" in (whys[5] or "")

    limited = pk.ThreatModel(LINF, access=pk.Access(queries=1))
    done = run(Zoo(EDGE), zoo_rows(), limited, pk.fgsm())
    assert done.outcomes == ["clean_wrong", "budget", "budget", "budget", "budget", "budget"]
    assert "1 query per example" in (done.results[1].why or "")


def test_only_the_verified_count_as_broken() -> None:
    """The refused row never becomes an adversarial: its best point is shown as an attempt, without a distance."""
    done = run(Zoo(EDGE), zoo_rows(), pk.ThreatModel(LINF, eight_bit=True), pk.fgsm())
    refused = done.results[5]
    assert refused.broken_by is None
    assert refused.point is not None
    assert refused.point.distance != refused.point.distance
    assert refused.attacks[0].refused == 1


def test_a_job_that_held_outweighs_one_whose_claims_were_refused() -> None:
    """`invalid` is for rows that end with refused claims only."""
    data = ramp_rows(104.95 / 255)
    threat = pk.ThreatModel(LINF, eight_bit=True)
    gentle = pk.pgd(steps=2, step_size=0.001, start=Center())
    assert run(Ramp(EDGE), data, threat, [pk.fgsm()]).outcomes == ["invalid"]
    assert run(Ramp(EDGE), data, threat, [pk.fgsm(), gentle]).outcomes == ["held"]


def test_scores_that_are_not_finite_on_the_clean_input_are_an_error() -> None:
    class Nan(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.masked_fill(x > 0.9, torch.nan)

    x = torch.tensor([[0.95, 0.1], [0.4, 0.1]])
    done = run(Nan(), (x, torch.zeros(2, dtype=torch.int64)), LINF, pk.fgsm())
    assert done.outcomes == ["error", "held"]
    assert "clean input are not finite" in (done.results[0].why or "")
    assert done.results[0].spent == Spent(forwards=1)


def test_an_example_of_the_target_class_itself_is_an_error() -> None:
    done = run(Ramp(), ramp_rows(0.3), pk.ThreatModel(LINF, pk.Targeted(0)), pk.fgsm())
    assert done.outcomes == ["error"]
    assert "the true class is the target itself" in (done.results[0].why or "")


def test_labels_that_the_model_has_no_class_for_are_refused() -> None:
    with pytest.raises(ModelError, match="labels go from 0 to 2, but the model has 2 outputs"):
        run(Ramp(), (torch.rand(3, 3), torch.arange(3)), LINF, pk.fgsm())


def test_eps_zero_holds_without_a_move() -> None:
    done = run(Ramp(), ramp_rows(0.3, 0.6), pk.Linf(0.0), pk.pgd(steps=3))
    assert done.outcomes == ["held", "clean_wrong"]


# ---- signal ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stride", [1, 5])
@pytest.mark.parametrize("others", [0, 5])
def test_a_row_without_a_gradient_is_never_held_whatever_else_is_in_the_batch(others: int, stride: int) -> None:
    """It asks about points other than x, from its random start on: that is no signal."""
    x = torch.tensor([[0.3, 0.5, 0.5]] + [[0.3, 0.5, 0.0]] * others)
    done = run(Zoo(), (x, torch.zeros(len(x), dtype=torch.int64)), LINF, pk.apgd(steps=5), stride=stride)
    assert done.outcomes == ["error"] + ["held"] * others


def test_noise_needs_no_gradient_to_hold() -> None:
    x = torch.tensor([[0.3, 0.5, 0.5]])
    done = run(Zoo(), (x, torch.zeros(1, dtype=torch.int64)), LINF, pk.noise(draws=2))
    assert done.outcomes == ["held"]
    assert done.results[0].spent == Spent(forwards=3, backwards=0, queries=2)


def test_noise_decides_nothing_where_the_search_was_blind() -> None:
    x = torch.tensor([[0.3, 0.5, 0.5]])
    done = run(Zoo(), (x, torch.zeros(1, dtype=torch.int64)), LINF, [pk.fgsm(), pk.noise()])
    assert done.outcomes == ["error"]


def test_nor_where_it_met_nan() -> None:
    """Only the search reaches the corner where the model has no answer; noise inside of the set does not."""

    class Hole(Ramp):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).masked_fill(((x[:, :1] - 0.3).abs() > 0.0999), torch.nan)

    data = ramp_rows(0.3)
    assert run(Hole(), data, LINF, pk.noise(kind="uniform")).outcomes == ["held"]
    assert run(Hole(), data, LINF, [pk.noise(kind="uniform"), pk.fgsm()]).outcomes == ["error"]


def test_a_later_attack_with_a_signal_makes_it_held() -> None:
    """Logits so large that the cross-entropy has no gradient left; the margin has."""
    steep, blind, sees = Ramp(slope=1e6), pk.fgsm(), pk.pgd(steps=3, objective=pk.Margin())
    assert run(steep, ramp_rows(0.3), LINF, blind).outcomes == ["error"]
    assert run(steep, ramp_rows(0.3), LINF, [blind, sees]).outcomes == ["held"]
    assert run(steep, ramp_rows(0.3), LINF, [sees, blind]).outcomes == ["held"]


# ---- budget ---------------------------------------------------------------------------------------------------------


def test_the_query_budget_ends_a_search_and_is_never_exceeded() -> None:
    attacks = [pk.fgsm(), pk.bim(steps=9, step_size=0.01)]
    data = ramp_rows(0.47, 0.3, 0.45)
    for queries in range(1, 14):
        threat = pk.ThreatModel(LINF, access=pk.Access(queries=queries))
        done = run(Ramp(), data, threat, attacks, rows=16, retire_cycles=False)
        assert max(result.spent.queries for result in done.results) <= queries
        fallen, held, _ = done.results
        assert fallen.outcome == ("broken" if queries >= 2 else "budget")
        assert held.outcome == ("held" if queries >= 12 else "budget")
        assert held.spent.queries == min(queries, 12)
        assert held.spent.forwards == held.spent.queries + 1
        # The job that met the end of the budget is the last that was begun.
        assert sum(tally.jobs for tally in held.attacks.values()) == (1 if queries < 2 else 2)


def test_the_query_budget_outlives_refused_claims() -> None:
    """Every claim of this row is refused, and every query counts, before and after."""
    data = ramp_rows(104.95 / 255)
    attack = pk.bim(steps=40, step_size=2 / 255)
    for queries in (14, 16, 20, 40):
        threat = pk.ThreatModel(LINF, access=pk.Access(queries=queries), eight_bit=True)
        [result] = run(Ramp(EDGE), data, threat, attack, retire_cycles=False).results
        assert (result.outcome, result.spent.queries) == ("budget", queries)
        assert result.spent.forwards == queries + 1


def test_what_the_access_does_not_allow_is_not_asked() -> None:
    with pytest.raises(AccessError, match="gradient"):
        run(Ramp(), ramp_rows(0.3), pk.ThreatModel(LINF, access=pk.Access("scores")), pk.fgsm())


# ---- refused claims -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stride", [1, 4])
def test_a_refused_claim_goes_back_to_its_search_and_may_succeed_later(stride: int) -> None:
    """Steps of 0.4 grey levels from level 120: 130.4 is beyond the edge but rounds to 130; 130.8 rounds to 131."""
    data = ramp_rows(120 / 255)
    threat = pk.ThreatModel(LINF, eight_bit=True)
    attack = pk.bim(steps=60, step_size=0.4 / 255)
    done = run(Ramp(EDGE), data, threat, attack, stride=stride)
    [result] = done.results
    assert result.outcome == "broken"
    assert result.attacks[0].refused == 1
    assert result.point is not None
    assert result.point.inputs[0] * 255 == pytest.approx(130.8, abs=1e-3)
    # The clean pass, queries 0 to 26, the last of them refused, and query 27, which falls: nothing is asked twice.
    assert result.spent == Spent(forwards=1 + 27 + 1, backwards=28, queries=28)


def test_a_row_can_be_refused_many_times_and_still_ends() -> None:
    """All of the last points are beyond the edge and round back: each is claimed, and each is refused.

    The row rests at the end of its budget: the watch for circles outlives refusals and retires it long before 40 moves.
    """
    data = ramp_rows(104.95 / 255)
    done = run(Ramp(EDGE), data, pk.ThreatModel(LINF, eight_bit=True), pk.bim(steps=40, step_size=2 / 255))
    assert done.outcomes == ["invalid"]
    assert 2 <= done.results[0].attacks[0].refused <= 10
    assert done.results[0].spent.forwards <= 1 + 20
    patient = run(
        Ramp(EDGE), data, pk.ThreatModel(LINF, eight_bit=True), pk.bim(steps=40, step_size=2 / 255), retire_cycles=False
    )
    assert patient.outcomes == ["invalid"]
    assert patient.results[0].attacks[0].refused > 20
    assert patient.results[0].spent.forwards == 1 + 41  # a refusal costs the search nothing


# ---- what an outcome may depend on ----------------------------------------------------------------------------------

WIDTH = 16
ATTACKS = (pk.pgd(steps=3, restarts=4, relative_step_size=0.15), pk.apgd(steps=12, objective=pk.DLR(), targets=2))
"""The first is weak, so that the second, and later restarts, have something left to do."""


@pytest.fixture(scope="module")
def hills() -> nn.Module:
    return random_net(6, WIDTH)


@pytest.fixture(scope="module")
def rows(hills: nn.Module) -> tuple[Tensor, Tensor]:
    return random_rows(hills, 5, 44, WIDTH)


@pytest.fixture(scope="module")
def plain(hills: nn.Module, rows: tuple[Tensor, Tensor]) -> Done:
    done = run(hills, rows, pk.Linf(0.06), ATTACKS)
    counts = {outcome: done.outcomes.count(outcome) for outcome in set(done.outcomes)}
    assert min(counts[name] for name in ("clean_wrong", "broken", "held")) >= 5, counts
    jobs = {(result.broken_by.attack, result.broken_by.restart) for result in done.results if result.broken_by}
    assert len(jobs) >= 3, jobs  # some fall to a later restart, some to the second attack
    return done


@pytest.mark.parametrize(
    "settings",
    [
        {"stride": 3},
        {"stride": 8},
        {"speculate": False},
        {"stride": 3, "speculate": False},
        {"verify_rows": 32},
    ],
    ids=str,
)
def test_outcome_adversarial_and_cost_do_not_depend_on_the_schedule(
    settings: dict[str, object], hills: nn.Module, rows: tuple[Tensor, Tensor], plain: Done
) -> None:
    assert run(hills, rows, pk.Linf(0.06), ATTACKS, **settings).story == plain.story


@pytest.mark.parametrize("seed", [0, 1])
def test_nor_on_the_order_of_the_data(seed: int, hills: nn.Module, rows: tuple[Tensor, Tensor], plain: Done) -> None:
    order = torch.randperm(len(rows[0]), generator=torch.Generator().manual_seed(seed))
    data = batch_of(rows[0][order], rows[1][order], ids=order.tolist())
    assert run(hills, data, pk.Linf(0.06), ATTACKS, stride=1 + 2 * seed).story == plain.story


@pytest.mark.parametrize("keep", [slice(0, 9), slice(1, None, 3)], ids=str)
def test_nor_on_what_else_is_evaluated(keep: slice, hills: nn.Module, rows: tuple[Tensor, Tensor], plain: Done) -> None:
    ids = list(range(len(rows[0])))[keep]
    part = run(hills, batch_of(rows[0][keep], rows[1][keep], ids=ids), pk.Linf(0.06), ATTACKS).story
    assert part == {name: plain.story[name] for name in ids}


def test_nor_on_how_the_data_are_cut_into_batches(hills: nn.Module, rows: tuple[Tensor, Tensor], plain: Done) -> None:
    cuts = [batch_of(rows[0][at], rows[1][at], ids=at.tolist()) for at in torch.arange(len(rows[0])).split(5)]
    assert run(hills, cuts, pk.Linf(0.06), ATTACKS).story == plain.story


def test_another_seed_is_another_search(hills: nn.Module, rows: tuple[Tensor, Tensor], plain: Done) -> None:
    """So that the tests above cannot pass because nothing is random."""
    assert run(hills, rows, pk.Linf(0.06), ATTACKS, seed=1).story != plain.story


def test_an_attack_finds_the_same_whichever_other_attacks_are_in_the_plan(
    hills: nn.Module, rows: tuple[Tensor, Tensor]
) -> None:
    """Draws belong to the attack, not to its number: what comes before it only takes examples away."""
    attack = pk.pgd(steps=4, relative_step_size=0.3)
    alone = {result.id: result for result in run(hills, rows, pk.Linf(0.06), attack).results}
    after = run(hills, rows, pk.Linf(0.06), [pk.noise(kind="uniform"), attack]).results
    left = [result for result in after if 1 in result.attacks]
    assert len({result.outcome for result in left}) == 2
    for result in left:
        once = alone[result.id]
        assert result.attacks[1].spent == once.attacks[0].spent
        assert result.outcome == once.outcome
        if result.outcome == "broken":
            assert result.point is not None
            assert once.point is not None
            assert torch.equal(result.point.inputs, once.point.inputs)


@pytest.mark.parametrize("rows_of_batch", [8, 16, 64])
def test_random_draws_do_not_depend_on_row_count_order_or_companions(rows_of_batch: int) -> None:
    """Noise on a model that never falls: what comes back is the draw itself. Exact across row counts, too."""
    x = torch.full((21, 40), 0.5)
    x[:, 0] = 0.1
    y = torch.zeros(21, dtype=torch.int64)
    kinds = [pk.noise(kind="uniform"), pk.noise(kind="normal"), pk.noise(draws=2)]

    def draws(index: Tensor, rows: int) -> dict[object, bytes]:
        found: dict[object, bytes] = {}
        for attack in kinds:
            done = run(Ramp(0.9), batch_of(x[index], y[index], ids=index.tolist()), LINF, attack, rows=rows)
            assert set(done.outcomes) == {"held"}
            found |= {(attack, r.id): r.point.inputs.numpy().tobytes() for r in done.results if r.point}
        return found

    whole = draws(torch.arange(21), 8)
    assert len(set(whole.values())) == len(whole)  # no two examples, and no two attacks, draw the same
    assert draws(torch.randperm(21, generator=torch.Generator().manual_seed(0)), rows_of_batch) == whole
    few = draws(torch.tensor([17, 4]), rows_of_batch)
    assert few == {key: whole[key] for key in few}


# ---- cycles ---------------------------------------------------------------------------------------------------------


def without_cost(done: Done) -> dict[object, object]:
    return {name: (story[0], story[1], story[2], story[4], story[5], story[6]) for name, story in done.story.items()}


@pytest.mark.parametrize(
    "attack",
    [
        pk.pgd(steps=60, relative_step_size=0.4, restarts=2),
        pk.mi_fgsm(steps=50, mu=0.5, relative_step_size=0.5),
        pk.ni_fgsm(steps=50, mu=0.5, relative_step_size=0.5),
        pk.apgd(steps=20),
    ],
    ids=repr,
)
def test_retired_cycles_end_exactly_as_they_would_have(
    attack: pk.pgd, hills: nn.Module, rows: tuple[Tensor, Tensor]
) -> None:
    threat = pk.Linf(0.05)
    on = run(hills, rows, threat, attack)
    off = run(hills, rows, threat, attack, retire_cycles=False)
    assert without_cost(on) == without_cost(off)
    spent = [sum(result.spent.forwards for result in done.results) for done in (on, off)]
    if isinstance(attack, pk.pgd):
        held = [sum(r.spent.forwards for r in done.results if r.outcome == "held") for done in (on, off)]
        assert held[0] < 0.7 * held[1]
    assert spent[0] <= spent[1]


def test_when_a_cycle_is_noticed_does_not_depend_on_who_sat_there_before() -> None:
    """All restarts end in the same corner; alone, each has the seat of the one before, in company it has not."""
    attack = pk.pgd(steps=60, restarts=4, relative_step_size=0.3)
    data = ramp_rows(*(0.3 + 0.001 * n for n in range(11)))
    whole = run(Ramp(), data, LINF, attack, speculate=False).story
    for row in range(11):
        one = batch_of(data[0][row : row + 1], data[1][row : row + 1], ids=[row])
        assert run(Ramp(), one, LINF, attack, speculate=False).story[row] == whole[row]


def test_a_look_ahead_outside_of_the_set_claims_nothing() -> None:
    """It is beyond the edge, where no point of the set is: the engine does not even ask the verifier."""
    attack = pk.ni_fgsm(steps=6, mu=1.0, relative_step_size=1.0)
    done = run(Ramp(0.54), ramp_rows(0.42), LINF, attack)
    assert done.outcomes == ["held"]
    assert done.results[0].attacks[0].refused == 0
    assert done.oracle.physical["verify"].forwards == 0


def test_a_model_need_not_answer_where_no_input_can_be() -> None:
    """NaN beyond what the set reaches: the look-ahead gets no gradient there; the search goes on by its momentum."""

    class Cliff(Ramp):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).masked_fill(x[:, :1] > 0.56, torch.nan)

    attack = pk.ni_fgsm(steps=6, mu=1.0, relative_step_size=0.5)
    assert run(Cliff(0.53), ramp_rows(0.45), LINF, attack).outcomes == ["broken"]
    assert run(Cliff(0.555), ramp_rows(0.45), LINF, attack).outcomes == ["held"]


def test_a_look_ahead_that_falls_at_its_very_last_query_is_not_retired_before_it() -> None:
    """Outside of the set from the first move on, the look-ahead points cannot be claimed; the last query, the iterate
    itself, can. A row whose look-ahead stands still is not going in circles."""
    attack = pk.ni_fgsm(steps=30, mu=0.5, relative_step_size=1.0)
    data = ramp_rows(0.45)
    on, off = (run(Ramp(0.54), data, LINF, attack, retire_cycles=cycles) for cycles in (True, False))
    assert off.outcomes == ["broken"]
    assert on.story == off.story


# ---- what a breaker's mutants showed to be missing ------------------------------------------------------------------


def test_a_targeted_goal_is_verified_at_its_target() -> None:
    """Three classes on a line: the target is reached only by passing through another class."""

    class Line(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 20 * torch.stack((0.4 - x[:, 0], torch.zeros(len(x)), x[:, 0] - 0.5), dim=1)

    goal = pk.ThreatModel(pk.Linf(0.2), goal=pk.Targeted(2))
    done = run(Line(), ramp_rows(0.35), goal, pk.pgd(steps=20, start=pk.parse("Center()")))
    [result] = done.results
    assert result.outcome == "broken"
    assert result.point is not None
    assert int(result.point.outputs.argmax()) == 2
    near = run(Line(), ramp_rows(0.35), pk.ThreatModel(pk.Linf(0.1), goal=pk.Targeted(2)), pk.pgd(steps=20))
    assert near.outcomes == ["held"]  # the class between is reached, the target is not


def test_an_example_of_the_target_class_was_right_all_the_same() -> None:
    data = (ramp_rows(0.3, 0.7)[0], torch.tensor([0, 1]))
    done = run(Ramp(), data, pk.ThreatModel(LINF, goal=pk.Targeted(1)), pk.fgsm())
    assert [result.outcome for result in done.results][1] == "error"
    assert [result.right for result in done.results] == [True, True]


def test_every_pair_of_target_and_restart_is_tried_once() -> None:
    torch.manual_seed(0)
    net = torch.nn.Linear(3, 5)
    x = torch.rand(4, 3)
    y = net(x).argmax(1)
    attack = pk.apgd(steps=2, restarts=3, targets=2)
    done = run(net, (x, y), pk.Linf(1e-4), attack)
    for result in done.results:
        assert result.outcome == "held"
        assert result.attacks[0].jobs == 6
        assert result.spent.forwards == 1 + 6 * 3
    example_aims = attack.targeting.aims(net(x), y, None)[1]  # type: ignore[arg-type]
    assert all(len(set(row)) == 2 for row in example_aims.tolist())


def test_momentum_is_part_of_the_state_that_must_come_back() -> None:
    """MI-FGSM moves on where the point alone has returned: cycles on and off agree."""
    torch.manual_seed(1)
    net = torch.nn.Sequential(torch.nn.Linear(3, 24), torch.nn.Tanh(), torch.nn.Linear(24, 3))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(4)
    x = torch.rand(24, 3)
    y = net(x).argmax(1)
    attack = pk.mi_fgsm(steps=60, relative_step_size=0.5)
    watched, unwatched = (run(net, (x, y), LINF, attack, retire_cycles=on) for on in (True, False))
    assert watched.outcomes == unwatched.outcomes


def test_a_seat_remembers_nothing_of_who_sat_there_before() -> None:
    """A blind row (huge logits) behind a row with a signal, in the same seat, is still an error."""
    steep = torch.tensor([[0.3, 0.5, 0.0]] * 8 + [[0.3, 0.5, 1.0]] * 8)

    class Uneven(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            z = (x[:, 0] - 0.5) * torch.where(x[:, 2] > 0.5, 1e6, 4.0)
            return torch.stack((torch.zeros_like(z), z), dim=1)

    # From a random start, so that the blind ones move, too.
    done = run(Uneven(), (steep, torch.zeros(16, dtype=torch.int64)), pk.Linf(0.05), pk.pgd(steps=2), rows=8)
    assert done.outcomes == ["held"] * 8 + ["error"] * 8


def test_nor_that_the_row_before_it_moved() -> None:
    """A step that rounding swallows is no move: the rows at 0.3 stay where they are, those near 0 do not."""
    x = torch.cat((torch.full((8, 3), 1e-6), torch.full((8, 3), 0.3)))
    done = run(Ramp(), (x, torch.zeros(16, dtype=torch.int64)), pk.Linf(1e-9), pk.fgsm(), rows=8)
    assert done.outcomes == ["held"] * 8 + ["error"] * 8
    assert "nothing moved" in (done.results[-1].why or "")
