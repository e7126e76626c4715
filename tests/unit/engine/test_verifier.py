"""The verifier: each check refuses a claim that fails only that one, and nothing but the claim decides."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import potemkin as pk
from engine_toys import Ramp, random_net
from potemkin.engine.verifier import Verdict, Verifier, eight_bit
from potemkin.models.oracle import Oracle
from potemkin.threat.box import Box
from potemkin.threat.goals import Aim
from potemkin.threat.threat_model import ThreatModel

CENTER = (0.45, 0.95, 0.3)
"""Label 0 of `Ramp(0.5)`; the second feature is near the box's upper face, and no feature but the first counts."""


def verdicts(
    claims: list[tuple[float, ...]],
    *,
    net: nn.Module | None = None,
    threat: object = pk.Linf(0.1),
    target: int = -1,
) -> list[Verdict]:
    oracle = Oracle(pk.Classifier(Ramp() if net is None else net))
    model = ThreatModel.of(threat)  # type: ignore[arg-type]
    count = len(claims)
    aim = Aim(torch.zeros(count, dtype=torch.int64), torch.full((count,), target))
    eps = torch.full((count,), model.set.eps)
    centers = torch.tensor([CENTER] * count)
    return Verifier(oracle, model, 8).verify(torch.tensor(claims), centers, aim, eps)


def why(claim: tuple[float, ...], **other: object) -> str | None:
    [verdict] = verdicts([claim], **other)  # type: ignore[arg-type]
    assert verdict.valid == (verdict.why is None)
    return verdict.why


def test_a_claim_in_the_set_and_box_that_meets_the_goal_is_valid() -> None:
    [verdict] = verdicts([(0.54, 0.9, 0.35)])
    assert verdict.valid
    assert verdict.distance == pytest.approx(0.09, abs=1e-7)
    torch.testing.assert_close(verdict.outputs, torch.tensor([0.0, 8 * 0.04]))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_not_finite(value: float) -> None:
    """In a feature that the model does not look at: its scores are fine."""
    assert why((0.54, 0.9, value)) == "has NaN or infinite values"


@pytest.mark.parametrize("second", [1.001, 1 + 2**-23])
def test_outside_the_box_even_by_the_last_bit(second: float) -> None:
    assert why((0.54, 1.0, 0.3)) is None
    assert why((0.54, second, 0.3)) == "is outside the box"


def test_outside_the_set_by_a_thousandth() -> None:
    assert why((0.54, 0.95, 0.3999)) is None
    assert why((0.54, 0.95, 0.401)) == "is outside the set (Linf distance at most 0.1)"
    assert why((0.551, 0.95, 0.3)) == "is outside the set (Linf distance at most 0.1)"


def test_scores_that_are_not_finite() -> None:
    class Breaks(Ramp):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).masked_fill(x[:, 2:] > 0.35, math.inf)

    assert why((0.54, 0.95, 0.34), net=Breaks()) is None
    assert why((0.54, 0.95, 0.36), net=Breaks()) == "gives scores that are not finite"


def test_the_goal_is_not_met() -> None:
    assert why((0.499, 0.95, 0.3)) == "does not meet the goal in the verifier's own forward pass"


def test_a_targeted_goal_wants_the_target() -> None:
    class Three(Ramp):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat((super().forward(x), x[:, 2:] - 0.32), dim=1)

    goal = pk.ThreatModel(pk.Linf(0.1), pk.Targeted(2))
    assert why((0.46, 0.95, 0.36), net=Three(), threat=goal, target=2) is None
    # Wrong class, but not the one that was wanted: it would do for an untargeted goal.
    assert why((0.54, 0.95, 0.36), net=Three()) is None
    assert "does not meet the goal" in (why((0.54, 0.95, 0.36), net=Three(), threat=goal, target=2) or "")


def test_the_round_trip_through_eight_bits() -> None:
    """The edge lies between the grey levels 130 and 131: 130.4 is beyond it and rounds back, 130.6 rounds on."""
    edge, threat = Ramp(130.3 / 255), pk.ThreatModel(pk.Linf(0.1), eight_bit=True)
    assert why((130.6 / 255, 0.9, 0.3), net=edge, threat=threat) is None
    assert why((130.4 / 255, 0.9, 0.3), net=edge) is None
    refused = why((130.4 / 255, 0.9, 0.3), net=edge, threat=threat)
    assert refused == "no longer meets the goal after the round trip through 8 bits"


def test_the_first_reason_is_the_one_that_is_told() -> None:
    assert why((0.4, 1.5, math.nan)) == "has NaN or infinite values"
    assert why((0.4, 1.5, 0.3)) == "is outside the box"


def test_each_claim_has_its_own_budget() -> None:
    oracle = Oracle(pk.Classifier(Ramp()))
    claims, centers = torch.tensor([(0.54, 0.9, 0.3)] * 2), torch.tensor([CENTER] * 2)
    aim = Aim(torch.zeros(2, dtype=torch.int64), torch.full((2,), -1))
    found = Verifier(oracle, ThreatModel(pk.Linf(0.1)), 8).verify(claims, centers, aim, torch.tensor([0.1, 0.05]))
    assert [verdict.valid for verdict in found] == [True, False]


def test_what_is_judged_is_the_float32_tensor_that_would_be_stored() -> None:
    """In float64 the claim lies beyond the edge, by 5e-13; the tensor that is stored does not."""
    net = nn.Linear(3, 2, dtype=torch.float64)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[0.0, 0, 0], [8, 0, 0]]))
        net.bias.copy_(torch.tensor([0.0, -8 * (0.5 + 5e-13)], dtype=torch.float64))
    claim = torch.tensor([(0.5 + 1e-12, 0.9, 0.3)], dtype=torch.float64)
    assert net(claim)[0, 1] > 0
    verifier = Verifier(Oracle(pk.Classifier(net)), ThreatModel(pk.Linf(0.1)), 8)
    aim = Aim(torch.tensor([0]), torch.tensor([-1]))
    [verdict] = verifier.verify(claim, torch.tensor([(0.45, 0.9, 0.3)]), aim, torch.tensor([0.1]))
    assert verdict.why == "does not meet the goal in the verifier's own forward pass"


# ---- nothing but the claim decides -----------------------------------------------------------------------------------


@pytest.fixture
def many() -> tuple[Verifier, Tensor, Tensor, Aim, Tensor]:
    net = random_net(6, 16)
    generator = torch.Generator().manual_seed(0)
    centers = torch.rand(20, 16, generator=generator)
    claims = (centers + 0.12 * (2 * torch.rand(20, 16, generator=generator) - 1)).clamp(0, 1)
    aim = Aim(net(centers).argmax(dim=1), torch.full((20,), -1))
    verifier = Verifier(Oracle(pk.Classifier(net)), ThreatModel(pk.Linf(0.115)), 8)
    return verifier, claims, centers, aim, torch.full((20,), 0.115)


def told(found: list[Verdict]) -> list[tuple[object, ...]]:
    return [(v.valid, v.why, v.distance, v.outputs.numpy().tobytes()) for v in found]


def test_padding_and_companions_do_not_matter(many: tuple[Verifier, Tensor, Tensor, Aim, Tensor]) -> None:
    verifier, claims, centers, aim, eps = many
    whole = told(verifier.verify(claims, centers, aim, eps))
    assert len({verdict[1] for verdict in whole}) >= 2  # some are valid or refused for different reasons
    for row in range(20):
        one = slice(row, row + 1)
        alone = verifier.verify(claims[one], centers[one], Aim(aim.label[one], aim.target[one]), eps[one])
        assert told(alone) == [whole[row]]
    order = torch.randperm(20, generator=torch.Generator().manual_seed(1))
    mixed = verifier.verify(claims[order], centers[order], Aim(aim.label[order], aim.target[order]), eps[order])
    assert told(mixed) == [whole[row] for row in order.tolist()]


def test_the_row_count_of_its_forward_is_fixed_and_counted(many: tuple[Verifier, Tensor, Tensor, Aim, Tensor]) -> None:
    verifier, claims, centers, aim, eps = many
    shapes: list[int] = []
    verifier.oracle.classifier.net.register_forward_pre_hook(lambda _, args: shapes.append(args[0].shape[0]))
    verifier.verify(claims, centers, aim, eps)
    assert shapes == [8, 8, 8]
    assert verifier.oracle.physical["verify"].forwards == 24
    assert verifier.oracle.physical["search"].forwards == 0


def test_the_adversarys_access_does_not_bind_the_verifier() -> None:
    oracle = Oracle(pk.Classifier(Ramp()), pk.Access("decisions", queries=1))
    threat = ThreatModel(pk.Linf(0.1), access=oracle.access)
    aim = Aim(torch.tensor([0]), torch.tensor([-1]))
    for _ in range(3):
        [verdict] = Verifier(oracle, threat, 8).verify(
            torch.tensor([(0.54, 0.9, 0.3)]), torch.tensor([CENTER]), aim, torch.tensor([0.1])
        )
        assert verdict.valid
        assert verdict.outputs[1] == pytest.approx(0.32)  # scores, not decisions


# ---- eight bits, and the box -----------------------------------------------------------------------------------------


def test_eight_bit_is_what_a_png_file_does() -> None:
    x = torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    for row, rounded in zip(x, eight_bit(x, Box()), strict=True):
        file = io.BytesIO()
        Image.fromarray((row[0] * 255).round().to(torch.uint8).numpy()).save(file, format="PNG")
        back = np.asarray(Image.open(io.BytesIO(file.getvalue()))).astype(np.float32) / np.float32(255)
        np.testing.assert_array_equal(rounded[0].numpy(), back)


@pytest.mark.parametrize("box", [Box(-1, 1), Box(0, 255), Box(0.25, 0.5)], ids=repr)
def test_eight_bit_has_256_levels_of_the_box(box: Box) -> None:
    x = torch.linspace(box.low, box.high, 5000).unsqueeze(0)
    rounded = eight_bit(x, box)
    assert rounded.dtype == torch.float32
    assert rounded.unique().numel() == 256
    assert (rounded - x).abs().max() <= (box.high - box.low) / 255 / 2 * 1.001
    torch.testing.assert_close(eight_bit(rounded, box), rounded, atol=2e-7 * box.high, rtol=0)


# ---- which check it is, and whose radius -----------------------------------------------------------------------------

FURTHER = [(pk.Linf(0.1), 0.09, 0.11), (pk.L2(0.1), 0.06, 0.09), (pk.L1(0.1), 0.04, 0.06)]
"""A set, and two coordinates' offset that is inside and one that is not: in L2 and L1 because there are two of them."""


@pytest.mark.parametrize(("perturbations", "near", "far"), FURTHER, ids=lambda value: repr(value))
def test_a_claim_that_only_leaves_the_set_is_refused_in_every_norm(
    perturbations: object, near: float, far: float
) -> None:
    """The model has no say: it calls both another class. Nor has the box: both lie in the middle of it."""

    def found(offset: float) -> Verdict:
        [verdict] = verdicts([(0.45 + offset, 0.95, 0.3 + offset)], net=Ramp(0.46), threat=perturbations)
        return verdict

    assert found(near).valid
    assert not found(far).valid
    assert (found(far).why or "").startswith("is outside the set (")


def test_a_claim_that_only_leaves_the_box_is_refused() -> None:
    """The set alone would let it through: a point one ulp outside the box counts as inside there."""
    verdict = verdicts([(0.54, 1 + 2**-23, 0.3)])[0]
    region = pk.Linf(0.1).around(torch.tensor([CENTER]), Box())
    assert region.contains(torch.tensor([(0.54, 1 + 2**-23, 0.3)])).all()
    assert not verdict.valid


@pytest.mark.parametrize("norm", [pk.Linf, pk.L2, pk.L1])
def test_every_row_is_held_to_its_own_radius_in_every_chunk(norm: type[pk.Linf]) -> None:
    """20 rows in chunks of 8, all at the same offset: each is valid exactly where its own radius allows the offset."""
    oracle = Oracle(pk.Classifier(Ramp()))
    centers = torch.tensor([CENTER] * 20)
    claims = centers + torch.tensor([0.08, 0.0, 0.0])
    eps = torch.where(torch.arange(20) % 3 == 0, 0.07, 0.09)
    eps[8:16] = eps[8:16].flip(0)  # so that no two chunks have the same radii
    aim = Aim(torch.zeros(20, dtype=torch.int64), torch.full((20,), -1))
    found = Verifier(oracle, ThreatModel(norm(0.08)), 8).verify(claims, centers, aim, eps)
    assert [verdict.valid for verdict in found] == (eps > 0.08).tolist()
    assert [verdict.distance for verdict in found] == pytest.approx([0.08] * 20, abs=1e-7)
