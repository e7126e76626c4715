"""No lie gets through: attacks, models and searches with one fault each, run through `audit` and `perturb`.

Each test says by what the fault is caught: the verifier (`invalid`, with the reason), the engine (`error`, with the
reason), the guard around the model, or a smell. `check_attack` has its own mutants, in tests/conformance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import potemkin as pk
from engine_toys import Ramp, ramp_rows
from potemkin.attacks.ascent import Ascent, AscentState
from potemkin.attacks.parts.step_sizes import Constant
from potemkin.attacks.program import Asks, Attack, Program, Reply, Rows, Targeting
from potemkin.attacks.recipes.base import Recipe
from potemkin.core.random import RowStreams
from potemkin.core.rows import spread
from potemkin.engine import engine as engine_module
from potemkin.engine.batch import Batch
from potemkin.errors import ModelChangedError
from potemkin.evaluate.perturb import Perturbed
from potemkin.models.oracle import Answer, Oracle
from potemkin.threat.objectives import CrossEntropy

LINF = pk.Linf(0.1)


@dataclass(frozen=True, repr=False)
class _Mutant(Recipe):
    """BIM whose loop has a fault."""

    steps: int = 6

    Loop = Ascent

    def steps_for(self, eps: float) -> int:
        return self.steps

    def program(self, classes: int, norm: str, targeted: bool) -> Program:
        return self.Loop(CrossEntropy(), step_size=Constant(relative=0.25))


def smells(record: pk.Record) -> dict[str, str]:
    return {smell.name: smell.severity for smell in record.smells}


def audited(net: nn.Module, data: tuple[Tensor, Tensor], attack: Attack, threat: object = LINF) -> pk.Record:
    return pk.audit(net, data, threat, attack, rows=8)  # type: ignore[arg-type]


# ---- attacks that lie -----------------------------------------------------------------------------------------------


def test_returning_the_clean_input_is_an_error_not_a_held_example() -> None:
    class returns_clean(_Mutant):
        class Loop(Ascent):
            def step(self, rows: Rows, state: AscentState, reply: Reply) -> AscentState:
                return replace(super().step(rows, state, reply), query=rows.x, point=rows.x)

    data = ramp_rows(0.3, 0.47)
    assert pk.perturb(Ramp(), *data, LINF, _Mutant()).outcome == ["held", "broken"]
    found = pk.perturb(Ramp(), *data, LINF, returns_clean())
    assert found.outcome == ["error", "error"]
    assert found.why[0] == "returns_clean(): nothing moved: every point that was asked about is the input itself"
    record = audited(Ramp(), data, returns_clean())
    assert record.rates.robust_accuracy.value == 0
    assert record.rates.robust_accuracy_upper.value == 1
    assert smells(record)["error_examples"] == "alarm"


def beyond(how: Callable[[Rows, Tensor], Tensor]) -> Attack:
    """An attack that asks about `how` of the honest query, and says that it may be claimed."""

    class goes_beyond(_Mutant):
        class Loop(Ascent):
            def step(self, rows: Rows, state: AscentState, reply: Reply) -> AscentState:
                after = super().step(rows, state, reply)
                return replace(after, query=how(rows, after.point))

    return goes_beyond()


def check_invalid(net: nn.Module, data: tuple[Tensor, Tensor], attack: Attack, reason: str) -> None:
    """The first row is claimed and refused for this reason; the second, which falls to the honest part, is broken."""
    found = pk.perturb(net, *data, LINF, attack)
    assert found.outcome == ["invalid", "broken"], found.why
    assert reason in (found.why[0] or "")
    record = audited(net, data, attack)
    assert (record.outcomes["invalid"], record.outcomes["broken"], record.outcomes["held"]) == (1, 1, 0)
    assert record.rates.attack_success_rate.value == 0.5
    assert record.attacks[0].invalid_claims >= 1
    assert smells(record)["invalid_examples"] == "warning"


def test_leaving_the_set_by_a_thousandth_is_invalid() -> None:
    """The edge lies just beyond what 0.1 can reach, and within what 0.101 can."""
    attack = beyond(lambda rows, point: point + 1e-3 * (point - rows.x).sign())
    assert pk.perturb(Ramp(0.5005), *ramp_rows(0.4), LINF, _Mutant()).outcome == ["held"]
    check_invalid(Ramp(0.5005), ramp_rows(0.4, 0.44), attack, "is outside the set (Linf distance at most 0.1)")


def test_leaving_the_box_is_invalid() -> None:
    attack = beyond(lambda rows, point: rows.x + spread(rows.region.eps, point) * (point > rows.x))
    net = Edges(low=0.6, high=1.05)
    assert pk.perturb(net, *ramp_rows(0.98), LINF, _Mutant()).outcome == ["held"]
    check_invalid(net, ramp_rows(0.98, 0.55), attack, "is outside the box")


class Edges(Ramp):
    """Class 1 between 0.6 and 0.9, and beyond 1.05."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.low, self.high = low, high

    def forward(self, x: Tensor) -> Tensor:
        first = x[:, 0]
        score = torch.where(first < 0.9, first - self.low, first - self.high)
        return torch.stack((torch.zeros_like(score), 8 * score), dim=1)


def test_nan_that_the_model_passes_on_is_an_error() -> None:
    attack = beyond(lambda rows, point: point * torch.nan)
    found = pk.perturb(Ramp(), *ramp_rows(0.3), LINF, attack)
    assert found.outcome == ["error"]
    assert "became NaN or infinite during the search" in (found.why[0] or "")


def test_nan_that_the_model_swallows_is_invalid() -> None:
    """NaN in a feature that does not count: the model answers numbers, and the wrong class."""

    def poison(rows: Rows, point: Tensor) -> Tensor:
        return torch.cat((point[:, :-1], torch.where(point[:, :1] < 0.45, torch.nan, point[:, -1:])), dim=1)

    class Trigger(Ramp):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + x[:, -1:].isnan() * torch.tensor([0.0, 9.0])

    check_invalid(Trigger(), ramp_rows(0.3, 0.44), beyond(poison), "has NaN or infinite values")


def test_writing_into_the_input_moves_nobodys_goalposts() -> None:
    """The program drags its own centre along; the verifier measures from the data's."""

    class drags_the_centre(_Mutant):
        class Loop(Ascent):
            def step(self, rows: Rows, state: AscentState, reply: Reply) -> AscentState:
                rows.x.add_(0.02)
                region = rows.set.around(rows.x, rows.region.box, rows.region.eps)
                return super().step(replace(rows, region=region), state, reply)

    data = ramp_rows(0.35)
    before = data[0].clone()
    found = pk.perturb(Ramp(), *data, LINF, drags_the_centre(steps=12))
    assert found.outcome == ["invalid"]
    assert "is outside the set" in (found.why[0] or "")
    assert torch.equal(data[0], before)


@dataclass(frozen=True)
class OtherLabel:
    """Steers away from class `label` whatever the true class is."""

    label: int

    def aims(self, clean: Tensor, label: Tensor, streams: RowStreams) -> tuple[Tensor, Tensor]:
        return torch.full_like(label, self.label).unsqueeze(1), torch.full_like(label, -1).unsqueeze(1)

    def count(self, classes: int) -> int:
        return 1


class wrong_label(_Mutant):
    @property
    def targeting(self) -> Targeting:
        return OtherLabel(1)


def test_steering_at_the_wrong_class_is_no_success_and_costs_no_claim() -> None:
    """The attack's own aim decides where it steers, never what counts: from its point of view the goal is met."""
    assert pk.perturb(Ramp(), *ramp_rows(0.45), LINF, _Mutant()).outcome == ["broken"]
    record = audited(Ramp(), ramp_rows(0.45), wrong_label())
    assert record.outcomes["held"] == 1
    assert record.attacks[0].invalid_claims == 0


def test_success_counts_whichever_class_the_attack_steered_away_from() -> None:
    """Fleeing from class 1, it meets class 1 on the way: wrong for the model, so broken, whatever the attack wanted."""

    class Pit(Ramp):
        def forward(self, x: Tensor) -> Tensor:
            low = x[:, 0] < 0.4
            return super().forward(x) + torch.stack((torch.zeros_like(x[:, 0]), 9 * low), dim=1)

    assert pk.perturb(Pit(), *ramp_rows(0.45), LINF, wrong_label()).outcome == ["broken"]


def test_asking_for_nothing_but_decisions_does_not_hide_that_nothing_moved() -> None:
    class sleeps(_Mutant):
        class Loop(Ascent):
            @property
            def asks(self) -> Asks:
                return Asks.DECISIONS

    assert pk.perturb(Ramp(), *ramp_rows(0.3), LINF, sleeps()).outcome == ["error"]


# ---- searches that lie ----------------------------------------------------------------------------------------------


def test_a_search_that_thinks_every_goal_is_met_breaks_nothing_that_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    class Always:
        def is_met(self, outputs: Tensor, aim: Any) -> Tensor:
            return torch.ones(outputs.shape[0], dtype=torch.bool)

    class Credulous(Batch):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self.goal = Always()

    monkeypatch.setattr(engine_module, "Batch", Credulous)
    check_invalid(Ramp(), ramp_rows(0.3, 0.44), _Mutant(), "does not meet the goal in the verifier's own forward pass")


def test_a_search_in_bfloat16_breaks_only_what_float32_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Around 100, bfloat16 knows halves only: a lead of 0.1 looks like a tie, and ties count as met."""

    class Coarse(Oracle):
        def ask(self, query: Tensor, **how: Any) -> Answer:
            answer = super().ask(query, **how)
            if how.get("purpose", "search") == "search":
                answer.outputs = answer.outputs.bfloat16().float()
            return answer

    class Close(Ramp):
        def forward(self, x: Tensor) -> Tensor:
            return 100 + super().forward(x) / 10

    fast, sure = Close(), ramp_rows(0.3, 0.44)
    assert pk.perturb(fast, *sure, LINF, _Mutant()).outcome == ["held", "broken"]
    for module in ("potemkin.evaluate.audit", "potemkin.evaluate.perturb"):
        monkeypatch.setattr(f"{module}.Oracle", Coarse)
    check_invalid(fast, sure, _Mutant(), "does not meet the goal in the verifier's own forward pass")


def test_a_refused_claim_is_not_asked_again_and_is_told() -> None:
    """The row has made its next step when it claims, so a refusal costs the search nothing; the record says why."""
    data = ramp_rows(104.95 / 255)
    threat = pk.ThreatModel(LINF, eight_bit=True)
    record = pk.audit(Ramp(130.3 / 255), data, threat, pk.fgsm(), rows=8)
    assert record.outcomes["invalid"] == 1
    assert record.cost.useful.forwards == 1 + 2
    assert "8 bits" in next(smell.message for smell in record.smells if smell.name == "invalid_examples")


# ---- models that are not what they seem -----------------------------------------------------------------------------


class Shaky(nn.Module):
    """A ramp behind dropout and batch normalisation: in train mode it is another model for every batch."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.drop = nn.Dropout(0.5)
        self.ramp = Ramp()

    def forward(self, x: Tensor) -> Tensor:
        return self.ramp(self.drop(self.norm(x)))


@pytest.mark.parametrize(
    ("left", "severity", "said"), [("", "note", "came in train mode"), ("norm", "warning", "norm (BatchNorm1d)")]
)
def test_a_model_left_in_train_mode_is_judged_in_eval_mode_and_given_back(left: str, severity: str, said: str) -> None:
    """All of it, as it is forgotten, or a part of it, as somebody may have meant it."""
    data = ramp_rows(*(0.3 + 0.01 * n for n in range(20)))
    judged = audited(Shaky().eval(), data, pk.pgd(steps=5))
    assert "train_mode" not in smells(judged)
    net = Shaky().eval()
    net.get_submodule(left).train()
    modes = [part.training for part in net.modules()]
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    record = audited(net, data, pk.pgd(steps=5))
    [smell] = [smell for smell in record.smells if smell.name == "train_mode"]
    assert smell.severity == severity
    assert said in smell.message
    assert record.outcomes == judged.outcomes
    assert {"held", "broken"} <= {name for name, count in record.outcomes.items() if count}
    assert [part.training for part in net.modules()] == modes
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in net.parameters())


def test_a_model_that_drops_out_whatever_its_mode_is_called_randomised() -> None:
    class Random(Ramp):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(nn.functional.dropout(x, 0.2, training=True))

    state = torch.get_rng_state()
    record = audited(Random(), ramp_rows(*[0.3] * 16), pk.pgd(steps=5))
    assert smells(record)["randomised"] == "alarm"
    assert record.settings.retire_cycles is False  # a random row that comes back to a point may still do something new
    assert torch.equal(torch.get_rng_state(), state)


def test_a_claim_that_comes_true_only_while_a_gradient_is_taken_is_invalid() -> None:
    """A model that answers otherwise under autograd, as fused kernels or a defence may: the verifier takes none."""

    class TwoFaced(Ramp):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + (1.5 * x[:, :1] > 0.5) * torch.tensor([0.0, 9.0]) * torch.is_grad_enabled()

    found = pk.perturb(TwoFaced(), *ramp_rows(0.3, 0.31, 0.45), LINF, _Mutant(steps=9))
    assert found.outcome == ["invalid", "invalid", "broken"]
    assert "does not meet the goal in the verifier's own forward pass" in (found.why[0] or "")


class Counting(Ramp):
    """Writes to itself whenever it is asked."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))
        self.shift = nn.Parameter(torch.zeros(1))
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        moving = self.seen if self.kind == "buffer" else self.shift
        with torch.no_grad():
            moving += 1
        return super().forward(x) + 0 * self.shift


@pytest.mark.parametrize(("kind", "name"), [("buffer", "seen"), ("parameter", "shift")])
def test_a_model_that_changes_while_it_is_judged(kind: str, name: str) -> None:
    with pytest.raises(ModelChangedError, match=name):
        pk.perturb(Counting(kind), *ramp_rows(0.3, 0.47), LINF, pk.fgsm())
    record = audited(Counting(kind), ramp_rows(0.3, 0.47), pk.fgsm())
    assert smells(record)["model_changed"] == "alarm"
    [smell] = [smell for smell in record.smells if smell.name == "model_changed"]
    assert name in smell.message
    assert "No outcome of this run can be trusted" in smell.advice


def test_a_model_without_a_gradient_is_not_robust_but_undecided() -> None:
    class Masked(Ramp):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward((x * 64).round() / 64)

    record = audited(Masked(), ramp_rows(0.3, 0.47), pk.apgd(steps=5))
    assert record.outcomes["held"] == 0
    assert record.outcomes["error"] >= 1
    assert smells(record)["zero_gradients"] == "alarm"
    # Noise finds what the gradient hid; where it finds nothing either, that still says nothing.
    both = pk.audit(Masked(), ramp_rows(0.3, 0.48), LINF, [pk.apgd(steps=5), pk.noise(draws=20)], rows=8)
    assert (both.outcomes["error"], both.outcomes["broken"], both.outcomes["held"]) == (1, 1, 0)


# ---- what comes back is what was verified ---------------------------------------------------------------------------


def test_every_adversarial_that_comes_back_stands_up_to_the_plainest_check() -> None:
    """No machinery: the tensor, its distance, its range, and the model."""
    x, y = ramp_rows(*(0.3 + 0.01 * n for n in range(20)))
    net = Ramp()
    found: Perturbed = pk.perturb(net, x, y, LINF, [pk.fgsm(), pk.pgd(steps=10)])
    broken = found.broken
    assert 5 <= int(broken.sum()) < 20
    adversarial = found.inputs[broken]
    assert adversarial.dtype == torch.float32
    assert (adversarial - x[broken]).abs().max() <= 0.1 + 1e-7
    assert adversarial.min() >= 0
    assert adversarial.max() <= 1
    assert (net(adversarial)[:, 1] >= net(adversarial)[:, 0]).all()  # a tie is not right
    distance = (adversarial.double() - x[broken].double()).abs().amax(dim=1)
    torch.testing.assert_close(found.distance[broken], distance, atol=0, rtol=0)
    assert found.distance[~broken].isnan().all()
    wrong = torch.tensor([outcome == "clean_wrong" for outcome in found.outcome])
    assert torch.equal(found.inputs[wrong], x[wrong])
