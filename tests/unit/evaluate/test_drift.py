"""A model with a state beside its parameters and buffers: seen by asking the same at the end as at the beginning."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
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


def test_a_random_model_is_told_once_and_a_row_that_is_no_number_is_not_taken_for_another_answer() -> None:
    class Noisy(Ramp):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + 0.01 * torch.randn(len(x), 1)

    class Hole(Ramp):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).masked_fill(x[:, :1] < 0.1, torch.nan)

    assert [smell.name for smell in pk.audit(Noisy(), ROWS, "Linf(0.05)", "fgsm()", rows=8).alarms] == ["randomised"]
    record = pk.audit(Hole(), ramp_rows(*[0.3] * 150, 0.05), "Linf(0.05)", "fgsm()", rows=8)
    assert record.outcomes["error"] == 1 and "drifted" not in [smell.name for smell in record.smells]
    first = pk.audit(Hole(), ramp_rows(0.05, *[0.3] * 150), "Linf(0.05)", "fgsm()", rows=8)
    assert "drifted" not in [smell.name for smell in first.smells]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("out of memory")], ids=repr)
def test_what_goes_wrong_in_the_last_look_loses_nothing(error: BaseException, tmp_path: Path) -> None:
    class Failing(Ramp):
        left = 0

        def forward(self, x: Tensor) -> Tensor:
            self.left -= 1
            if self.left == 0:
                raise error
            return super().forward(x)

    net = Failing()
    pk.audit(net, ROWS, "Linf(0.05)", "fgsm()", rows=8)
    net.left = calls = -net.left
    record = pk.audit(net, ROWS, "Linf(0.05)", "fgsm()", rows=8, out=tmp_path / "run")
    assert calls > 5 and net.left == 0
    assert record.complete and record.n == 12 and pk.read_bundle(tmp_path / "run").record.n == 12
    assert [smell.name for smell in record.alarms] == ["not_looked_at_again"]
