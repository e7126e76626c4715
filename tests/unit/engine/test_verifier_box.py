"""The verifier at the box: a claim outside it by next to nothing is no legal input, and is refused."""

from __future__ import annotations

import pytest
import torch

import potemkin as pk
from engine_toys import Ramp
from potemkin.engine.verifier import Verdict, Verifier
from potemkin.models.oracle import Oracle
from potemkin.threat.goals import Aim
from potemkin.threat.threat_model import ThreatModel


def verdict(second: float, box: tuple[float, float]) -> Verdict:
    """On a claim that meets the goal by its first feature, and has its second at a face of the box."""
    oracle = Oracle(pk.Classifier(Ramp(), box=box))
    face = min(max(second, box[0]), box[1])
    claim = torch.tensor([[0.54, second, 0.3]], dtype=torch.float32)
    center = torch.tensor([[0.45, face, 0.3]], dtype=torch.float32)
    aim = Aim(torch.zeros(1, dtype=torch.int64), torch.full((1,), -1))
    [found] = Verifier(oracle, ThreatModel(pk.Linf(0.1)), 8).verify(claim, center, aim, torch.full((1,), 0.1))
    return found


@pytest.mark.parametrize(
    ("box", "face", "outwards"), [((0.0, 1.0), 1.0, 1.2e-7), ((0.0, 1.0), 0.0, -1e-7), ((-1.0, 2.0), -1.0, -1.2e-7)]
)
def test_a_claim_a_ten_millionth_outside_the_box_is_refused(
    box: tuple[float, float], face: float, outwards: float
) -> None:
    assert verdict(face, box).valid
    outside = verdict(face + outwards, box)
    assert not outside.valid and outside.why == "is outside the box"
