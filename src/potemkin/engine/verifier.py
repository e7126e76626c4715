"""The verifier: it never believes an attack.

Each claim is the exact float32 tensor that would be stored. It is run again in a forward pass of the verifier's own, at
one fixed padded row count, and checked: finite, inside the set, inside the box, goal met, and, where the threat model
says so, still met after the round trip through 8 bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from potemkin.core.rows import finite, pad_rows
from potemkin.models.oracle import Meter, Oracle
from potemkin.threat.box import Box
from potemkin.threat.goals import Aim
from potemkin.threat.threat_model import ThreatModel


@dataclass
class Verdict:
    """Whether a claim counts, why not, and what was seen."""

    valid: bool
    why: str | None
    outputs: Tensor
    distance: float


@dataclass(frozen=True)
class Verifier:
    """Checks claims in chunks of exactly `rows` rows, so that a verdict depends on the claim alone.

    Cost: `rows` forwards per chunk (twice that with 8 bits), counted under "verify".
    """

    oracle: Oracle
    threat: ThreatModel
    rows: int

    def verify(self, claims: Tensor, centers: Tensor, aim: Aim, eps: Tensor) -> list[Verdict]:
        """Check (n, *shape) float32 claims around (n, *shape) centres, n at least 1."""
        verdicts: list[Verdict] = []
        for start in range(0, claims.shape[0], self.rows):
            part = slice(start, start + self.rows)
            chunk = Aim(aim.label[part], aim.target[part], None if aim.clean is None else aim.clean[part])
            verdicts += self._chunk(claims[part], centers[part], chunk, eps[part])
        return verdicts

    def _chunk(self, claims: Tensor, centers: Tensor, aim: Aim, eps: Tensor) -> list[Verdict]:
        box = self.oracle.classifier.box
        claims = claims.to(torch.float32)
        region = self.threat.set.around(centers.to(torch.float32), box, eps.to(torch.float32))
        nothing = torch.zeros((), dtype=torch.float64, device=claims.device)  # what is stored is a legal input, exactly
        checks = {
            "has NaN or infinite values": finite(claims),
            "is outside the box": box.contains(claims, nothing),
            f"is outside the set ({self.threat.set.sentence()})": region.contains(claims),
        }
        outputs = self._outputs(claims)
        checks["gives scores that are not finite"] = finite(outputs)
        checks["does not meet the goal in the verifier's own forward pass"] = self.threat.goal.is_met(outputs, aim)
        if self.threat.eight_bit:
            rounded = eight_bit(claims, box)
            checks["no longer meets the goal after the round trip through 8 bits"] = self.threat.goal.is_met(
                self._outputs(rounded), aim
            )
        distances = region.distance(claims).tolist()
        passed = torch.stack(list(checks.values())).tolist()
        names = list(checks)
        verdicts = []
        for row in range(claims.shape[0]):
            why = next((names[check] for check in range(len(names)) if not passed[check][row]), None)
            verdicts.append(Verdict(why is None, why, outputs[row], distances[row]))
        return verdicts

    def _outputs(self, points: Tensor) -> Tensor:
        count = points.shape[0]
        padded = pad_rows(points, self.rows)
        active = torch.arange(self.rows, device=points.device) < count
        meter = Meter.zeros(self.rows, points.device)
        return self.oracle.ask(padded, active=active, meter=meter, purpose="verify").outputs[:count]


def eight_bit(points: Tensor, box: Box) -> Tensor:
    """Round to the 256 levels of the box, as saving to PNG and loading again does."""
    width = box.high - box.low
    return (((points - box.low) / width * 255).round() / 255 * width + box.low).to(points.dtype)
