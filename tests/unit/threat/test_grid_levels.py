"""How far from a level a point may lie and still count as on it: one unit in the last place, and no more."""

from __future__ import annotations

import pytest
import torch

from potemkin.threat.box import Box
from potemkin.threat.sets.grid import Grid
from potemkin.threat.sets.linf import Linf


@pytest.mark.parametrize("level", [0.25, 0.75])
@pytest.mark.parametrize(("units", "inside"), [(0, True), (1, True), (-1, True), (2, False), (-2, False), (4, False)])
def test_a_point_off_its_level_by_more_than_rounding_is_outside(level: float, units: int, inside: bool) -> None:
    """Well within the set itself: it is the level alone that it misses."""
    region = Grid(Linf(0.4), levels=5).around(torch.full((1, 2), 0.5), Box(0, 1))
    z = torch.tensor([[level, level + units * 2**-23]])
    assert region.contains(z).tolist() == [inside]
