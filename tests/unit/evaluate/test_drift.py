"""A model with a state beside its parameters and buffers: seen by asking the same at the end as at the beginning."""

from __future__ import annotations

import pytest
from torch import Tensor

import potemkin as pk
from engine_toys import Ramp, ramp_rows


class Counting(Ramp):
    """Turns its answers round after so many calls, and nothing but a plain attribute changes."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.calls, self.left = calls, calls

    def forward(self, x: Tensor) -> Tensor:
        self.left -= 1
        return super().forward(x) * (1 if self.left >= 0 else -1)


ROWS = ramp_rows(*[0.3] * 12)


@pytest.mark.parametrize("calls", [5, 8])
def test_a_model_that_counts_its_calls_raises_an_alarm(calls: int) -> None:
    record = pk.audit(Counting(calls), ROWS, "Linf(0.05)", "pgd(steps=10)", rows=8)
    assert [smell.name for smell in record.alarms] == ["drifted"]
    with pytest.warns(UserWarning, match="drifted: After the run the model gives other scores"):
        found = pk.perturb(Counting(calls), *ROWS, "Linf(0.05)", "pgd(steps=10)", rows=8)
    assert "alarm: drifted" in str(found)


def test_one_that_does_not_raises_none_and_the_look_is_counted() -> None:
    record = pk.audit(Ramp(), ROWS, "Linf(0.05)", "pgd(steps=10)", rows=8)
    assert record.alarms == []
    assert (record.cost.by_purpose.check.forwards, record.cost.by_purpose.check.backwards) == (4 * 8, 2 * 8)
