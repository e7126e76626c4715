"""Claims waiting for the verifier: gathered until its fixed row count is full."""

from __future__ import annotations

import torch

from potemkin.engine.jobs import Flight, Stage
from potemkin.engine.verifier import Verdict, Verifier
from potemkin.threat.goals import Aim


class ClaimQueue:
    """Flights that say they met the goal. Their rows have left the batch; a refused one goes back to its search."""

    def __init__(self, verifier: Verifier) -> None:
        self.verifier = verifier
        self._flights: list[Flight] = []

    @property
    def waiting(self) -> bool:
        """Whether any claim waits."""
        return bool(self._flights)

    @property
    def full(self) -> bool:
        """Whether a forward pass of the verifier would be full."""
        return len(self._flights) >= self.verifier.rows

    def add(self, flight: Flight) -> None:
        """Put a claim at the end of the queue."""
        self._flights.append(flight)

    def settle(self, device: str | torch.device) -> list[tuple[Flight, Verdict]]:
        """Verify all waiting claims, in the order in which they came."""
        flights = [flight for flight in self._flights if flight.stage is Stage.CLAIMED]
        self._flights = []
        if not flights:
            return []
        examples = [flight.example for flight in flights]
        aim = Aim(
            torch.tensor([example.label for example in examples], device=device),
            torch.tensor([example.goal_target for example in examples], device=device),
            torch.stack([example.clean_outputs for example in examples]).to(device),
        )
        verdicts = self.verifier.verify(
            torch.stack([flight.parked.claim for flight in flights if flight.parked is not None]),
            torch.stack([example.inputs for example in examples]).to(device),
            aim,
            torch.tensor([flight.job.eps for flight in flights], device=device),
        )
        return list(zip(flights, verdicts, strict=True))
