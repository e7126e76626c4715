"""Attacks that count in the units of one threat model refuse the others, instead of doing something meaningless."""

from __future__ import annotations

import pytest
import torch

import potemkin as pk
from potemkin.errors import ConfigError

X, Y = torch.full((4, 3), 0.5), torch.zeros(4, dtype=torch.int64)


@pytest.mark.parametrize("recipe", [pk.bim, pk.iterative_ll])
@pytest.mark.parametrize(
    ("attacked", "box", "said"),
    [
        (pk.L2(0.5), (0, 1), r"this is L2 inside the box \[0, 1\].*steps=10, step_size=0.125"),
        (pk.L1(12.0), (0, 1), "this is L1.*step_size=3"),
        (pk.Linf(8.0), (0, 255), r"this is Linf inside the box \[0, 255\].*step_size=2"),
        (pk.Linf(0.1), (float("-inf"), float("inf")), "this is Linf without a box"),
    ],
)
def test_a_count_in_grey_levels_needs_grey_levels(recipe, attacked, box, said) -> None:
    net = torch.nn.Linear(3, 2)
    with pytest.raises(ConfigError, match=f"does not fit the threat model.*{said}"):
        pk.perturb(pk.Classifier(net, box=box), X, Y, pk.ThreatModel(attacked), recipe())
    counted = recipe(steps=3, step_size=attacked.eps / 2)
    assert len(pk.perturb(pk.Classifier(net, box=box), X, Y, pk.ThreatModel(attacked), counted).outcome) == 4


def test_kurakins_count_is_for_linf_in_the_unit_box() -> None:
    found = pk.perturb(pk.Classifier(torch.nn.Linear(3, 2)), X, Y, pk.ThreatModel(pk.Linf(8 / 255)), pk.bim())
    assert len(found.outcome) == 4


def test_blocks_and_single_coordinates_exclude_each_other() -> None:
    """In L1 the steepest step moves one pixel, and what is searched would no longer be constant on blocks."""
    x = torch.full((4, 1, 4, 4), 0.5)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2))
    attack = pk.pgd(steps=3, variable=pk.Blocks(2))
    with pytest.raises(ConfigError, match=r"L1 moves single coordinates.*Blocks\(size=2\).*Use Linf or L2"):
        pk.perturb(net, x, Y, pk.L1(2.0), attack)
    for near in (pk.Linf(0.1), pk.L2(0.5)):
        moved = pk.perturb(net, x, Y, near, attack).inputs - x
        blocks = moved.reshape(4, 2, 2, 2, 2).transpose(2, 3).flatten(3)
        assert float((blocks - blocks.mean(dim=3, keepdim=True)).abs().max()) < 1e-6
