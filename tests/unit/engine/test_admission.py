"""Admission: what rounding left outside the box is clipped into it; the rest was refused before the engine saw it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import potemkin as pk
from engine_toys import Ramp, run
from potemkin.errors import DataError

ABOVE, BELOW = 1 + 2.0**-23, -(2.0**-149)
"""The float32 numbers next to 1 and to 0."""
LINF = pk.Linf(0.1)


class Watchful(Ramp):
    """Remembers the least and the greatest value that it was ever asked about."""

    def __init__(self, edge: float = 0.5) -> None:
        super().__init__(edge)
        self.least, self.greatest = 0.5, 0.5

    def forward(self, x: Tensor) -> Tensor:
        least, greatest = (float(end) for end in x.detach().aminmax())
        self.least, self.greatest = min(self.least, least), max(self.greatest, greatest)
        return super().forward(x)


def data(second: float) -> tuple[Tensor, Tensor]:
    return torch.tensor([[0.45, second, 0.5], [0.2, second, 0.5]]), torch.zeros(2, dtype=torch.int64)


@pytest.mark.parametrize(("second", "end"), [(ABOVE, 1.0), (BELOW, 0.0)], ids=["above", "below"])
def test_an_input_one_ulp_outside_the_box_is_clipped_into_it(second: float, end: float) -> None:
    """From the clean pass on: neither the model nor the record ever sees the value outside."""
    net = Watchful()
    done = run(net, data(second), LINF, pk.pgd(steps=3))
    assert done.outcomes == ["broken", "held"]  # not `invalid`: the claim lies in the box
    for result in done.results:
        assert result.inputs[1] == end
        assert result.point is not None
        assert 0 <= result.point.inputs.min() <= result.point.inputs.max() <= 1
    assert end in (net.least, net.greatest)
    assert 0 <= net.least <= net.greatest <= 1


@pytest.mark.parametrize("second", [ABOVE, BELOW], ids=["above", "below"])
def test_the_distance_is_measured_from_the_clipped_input(second: float) -> None:
    """A set around a centre outside of the box would reach less far into it."""
    clipped = data(second)[0].clamp(0, 1)
    outside, inside = (run(Ramp(), (x, data(second)[1]), LINF, pk.pgd(steps=3)) for x in (data(second)[0], clipped))
    assert outside.story == inside.story


@pytest.mark.parametrize("second", [ABOVE, BELOW], ids=["above", "below"])
def test_a_rounding_outside_is_let_in(second: float) -> None:
    x, y = data(second)
    assert pk.perturb(Ramp(), x, y, LINF, pk.fgsm()).outcome == ["broken", "held"]


@pytest.mark.parametrize("second", [1.001, -0.001, 1 + 3e-6])
def test_an_input_clearly_outside_is_refused(second: float) -> None:
    class Untouched(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise AssertionError("the model must not be asked")

    x, y = data(second)
    with pytest.raises(DataError, match=r"outside .*the box \[0, 1\] in 2 of the 2 examples looked at: ids 0, 1"):
        pk.perturb(pk.Classifier(Untouched()), x, y, LINF, pk.fgsm())
