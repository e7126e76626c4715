"""The laws of perturbation sets: nearest points, ends, directions, draws, and no row that looks at another."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from potemkin.core.random import RowStreams
from potemkin.core.rows import norm
from potemkin.threat.box import Box
from potemkin.threat.sets import L1, L2, Features, Grid, Linf, Masked, PerturbationSet
from potemkin.threat.sets.base import Region
from potemkin.threat.sets.root import target_radius
from property.set_laws import BOXES, DTYPES, ROWS, SHAPES, Case, broken_laws, cases, flat, members, slack
from reference import projections

Maker = Callable[[float], PerturbationSet]
CONVEX: dict[str, Maker] = {
    "Linf": Linf,
    "L2": L2,
    "L1": L1,
    "masked L2": lambda eps: Masked(L2(eps), Features(0)),
    "masked L1": lambda eps: Masked(L1(eps), Features(0)),
}
DUAL = {"Linf": 1, "L2": 2, "L1": math.inf}
OWN = {"Linf": math.inf, "L2": 2, "L1": 1}


def examples(count: int) -> settings:
    return settings(max_examples=count, deadline=None)  # the machine's load says nothing about a set


every_set = pytest.mark.parametrize("name", CONVEX)
every_ball = pytest.mark.parametrize("name", DUAL)


@every_set
@given(data=st.data())
@examples(50)
def test_project_is_the_nearest_point(name: str, data: st.DataObject) -> None:
    case = data.draw(cases(CONVEX[name]))
    assert broken_laws(case, case.region.project) == []


@every_set
@given(data=st.data())
@examples(30)
def test_pull_in_is_feasible_and_keeps_the_interior(name: str, data: st.DataObject) -> None:
    case = data.draw(cases(CONVEX[name]))
    assert broken_laws(case, case.region.pull_in, convex=False) == []


@pytest.mark.parametrize(("name", "reference"), [("L2", projections.l2_and_box), ("L1", projections.l1_and_box)])
@given(data=st.data())
@examples(30)
def test_project_agrees_with_an_independent_one(
    name: str, reference: Callable[..., Tensor], data: st.DataObject
) -> None:
    case = data.draw(cases(CONVEX[name]))
    region, p = case.region, case.region.project(case.points)
    for row in range(ROWS):
        z, x = case.points[row].double().flatten(), region.center[row].double().flatten()
        radius = float(target_radius(region.eps)[row])  # where a wall is near, that hair moves the point by far more
        expected = reference(z, x, radius, (region.box.low, region.box.high))
        away = (flat(p[row : row + 1])[0] - expected).norm()
        assert float(away) <= float(slack(region, p)[row]) + 1e-9 * float((z - x).abs().max())


# Mutations: the same checker must reject the field's usual mistakes.


def radial_rescaling(region: Region, z: Tensor) -> Tensor:
    """What several libraries call the projection onto the L1 ball: divide by the L1 norm. Feasible, but not nearest."""
    offset = flat(z) - flat(region.center)
    length = offset.abs().sum(1, keepdim=True)
    factor = (region.eps.double().unsqueeze(1) * (1 - 1e-9) / length).clamp(max=1.0)
    pulled = (flat(region.center) + offset * factor).reshape(z.shape)
    return torch.where((factor < 1).reshape(-1, *(1,) * (z.ndim - 1)), region.box.clip(pulled).to(z.dtype), z)


def rejected(make: Maker, project: Callable[[Region, Tensor], Tensor], box: Box) -> set[str]:
    """The laws broken over some fixed cases with the centre near a corner, where the box matters."""
    broken: set[str] = set()
    for seed in range(10):
        g = torch.Generator().manual_seed(seed)
        center = torch.rand((ROWS, 6), generator=g, dtype=torch.float64) * 0.2
        region = make(0.5).around(center, box)
        points = center + torch.randn((ROWS, 6), generator=g, dtype=torch.float64)
        case = Case(region, points, g)
        assert broken_laws(case, region.project) == []
        broken |= set(broken_laws(case, lambda z, region=region: project(region, z)))
    return broken


def test_the_laws_reject_a_radial_rescaling_in_l1() -> None:
    assert "variational inequality" in rejected(L1, radial_rescaling, Box(-math.inf, math.inf))


def test_the_laws_reject_project_then_clip_in_l2() -> None:
    assert "variational inequality" in rejected(L2, lambda region, z: region.pull_in(z), Box(0, 1))


def test_the_laws_accept_project_then_clip_where_there_is_no_box() -> None:
    assert rejected(L2, lambda region, z: region.pull_in(z), Box(-math.inf, math.inf)) == set()


@pytest.mark.parametrize("make", [Linf, L2, L1], ids=["Linf", "L2", "L1"])
@pytest.mark.parametrize(
    ("mistake", "law"),
    [
        (lambda region, z: z, "feasible"),
        (lambda region, z: region.center.clone(), "interior"),
        (lambda region, z: region.center + (region.project(z) - region.center) * 0.9, "idempotent"),
        (lambda region, z: region.center - (region.project(z) - region.center), "variational inequality"),
        (lambda region, z: region.project(z) * math.nan, "finite"),
    ],
    ids=["nothing", "centre", "short", "mirrored", "nan"],
)
def test_the_laws_reject_other_mistakes(make: Maker, mistake: Callable[[Region, Tensor], Tensor], law: str) -> None:
    assert law in rejected(make, mistake, Box(-math.inf, math.inf))


# Ends, directions, draws.


@every_set
@given(data=st.data())
@examples(50)
def test_maximiser_beats_every_point_of_the_set(name: str, data: st.DataObject) -> None:
    case = data.draw(cases(CONVEX[name]))
    gradient = case.normal() * 10.0 ** data.draw(st.integers(-20, 20))
    end = case.region.maximiser(gradient)
    assert bool(case.region.contains(end).all())
    far = [case.region.center + t * case.normal().abs() * gradient.sign() for t in (0.1, 1.0, 10.0)]
    for s in (*members(case), *(case.region.project(z) for z in (*far, case.points))):
        gain = (flat(gradient) * (flat(s) - flat(end))).sum(1)
        assert bool((gain <= flat(gradient).norm(dim=1) * slack(case.region, s, end)).all())


@every_set
@given(data=st.data())
@examples(20)
def test_nothing_is_gained_or_lost_by_a_zero_gradient(name: str, data: st.DataObject) -> None:
    case = data.draw(cases(CONVEX[name]))
    zero = torch.zeros_like(case.points)
    assert torch.equal(case.region.steepest(zero), zero)
    assert torch.equal(case.region.steepest(zero, case.points, case.region.eps), zero)
    assert torch.equal(case.region.maximiser(zero), case.region.center)


@every_ball
@given(data=st.data())
@examples(30)
def test_steepest_attains_the_dual_norm(name: str, data: st.DataObject) -> None:
    case = data.draw(cases(CONVEX[name]))
    gradient = case.normal() * 10.0 ** data.draw(st.integers(-30, 30))
    u = case.region.steepest(gradient)
    tolerance = 1e-5 if u.dtype == torch.float32 else 1e-12
    torch.testing.assert_close(norm(u, OWN[name], torch.float64), torch.ones(ROWS).double(), rtol=tolerance, atol=0)
    attained = (flat(gradient) * flat(u)).sum(1)
    torch.testing.assert_close(attained, norm(gradient, DUAL[name], torch.float64), rtol=tolerance, atol=0)
    for _ in range(8):
        other = flat(case.normal())
        other = other / norm(other, OWN[name]).unsqueeze(1)
        assert bool(((flat(gradient) * other).sum(1) <= attained * (1 + tolerance)).all())


@every_set
@given(data=st.data())
@examples(30)
def test_draws_are_inside_and_finite(name: str, data: st.DataObject) -> None:
    case = data.draw(cases(CONVEX[name]))
    step = torch.arange(ROWS)
    for drawn in (case.region.sample(case.streams, step), case.region.surface(case.streams, step)):
        assert drawn.dtype == case.region.center.dtype
        assert bool(drawn.isfinite().all()) and bool(case.region.contains(drawn).all())


@every_ball
@given(data=st.data())
@examples(50)
def test_contains_agrees_with_distance(name: str, data: st.DataObject) -> None:
    case = data.draw(cases(CONVEX[name]))
    region, z = case.region, case.region.box.clip(case.points)
    distance, inside = region.distance(z), region.contains(z)
    expected = norm(z.double() - region.center.double(), OWN[name])
    torch.testing.assert_close(distance, expected, rtol=1e-12, atol=0)
    assert bool(inside[distance <= region.eps.double()].all())
    ulps = 2 * torch.finfo(z.dtype).eps * torch.maximum(flat(z).abs(), flat(region.center).abs()).sum(1)
    assert not bool(inside[distance > region.eps.double() + ulps].any())


@every_set
@given(data=st.data())
@examples(30)
def test_not_finite_is_outside_and_infinite_is_pulled_in(name: str, data: st.DataObject) -> None:
    case = data.draw(cases(CONVEX[name]))
    for value in (math.nan, math.inf, -math.inf):
        z = case.region.center.clone()
        z.view(ROWS, -1)[:, 0] = value
        assert not bool(case.region.contains(z).any())
        if not math.isnan(value):
            assert bool(case.region.contains(case.region.project(z)).all())


# Rows never look at each other.


def answers(region: Region, z: Tensor, case: Case, pick: Tensor) -> list[Tensor]:
    own, step = RowStreams(case.streams.keys[pick]), pick
    return [
        region.project(z),
        region.pull_in(z),
        region.contains(z),
        region.distance(z),
        region.steepest(z),
        region.steepest(z, z, region.eps / 4),
        region.maximiser(z),
        region.sample(own, step),
        region.surface(own, step),
    ]


@pytest.mark.parametrize("name", [*CONVEX, "grid"])
@given(data=st.data())
@examples(25)
def test_a_row_depends_on_itself_alone(name: str, data: st.DataObject) -> None:
    make: Maker = CONVEX.get(name, lambda eps: Grid(Linf(eps), 16))
    boxes = (Box(0, 1),) if name == "grid" else BOXES
    if name == "grid":
        case = data.draw(cases(lambda eps: Linf(eps), boxes))
        case.region = make(0.5).around((case.region.center * 15).round() / 15, Box(0, 1), case.region.eps)
    else:
        case = data.draw(cases(make, boxes))
    perturbation, box = make(0.5), case.region.box
    whole = answers(case.region, case.points, case, torch.arange(ROWS))
    shuffled = torch.randperm(ROWS, generator=case.generator)
    lonely = torch.full((ROWS,), int(shuffled[0]))  # one row, padded with itself
    twice = torch.arange(ROWS).repeat(2)
    for pick in (shuffled, lonely, twice):
        region = perturbation.around(case.region.center[pick], box, case.region.eps[pick])
        for ours, among in zip(answers(region, case.points[pick], case, pick), whole, strict=True):
            assert torch.equal(ours, among[pick])


# The grid is not convex: its law is that no other grid point is nearer.


@given(
    seed=st.integers(0, 2**31),
    shape=st.sampled_from(SHAPES),
    dtype=st.sampled_from(DTYPES),
    levels=st.sampled_from([2, 5, 256]),
    box=st.sampled_from([Box(0, 1), Box(-1, 1), Box(0, 255)]),
    eps=st.sampled_from([0.0, 1 / 255, 8 / 255, 0.3, 2.0]),
)
@examples(30)
def test_grid_projects_to_the_nearest_level_within_reach(
    seed: int, shape: tuple[int, ...], dtype: torch.dtype, levels: int, box: Box, eps: float
) -> None:
    g, width = torch.Generator().manual_seed(seed), box.high - box.low
    values = (torch.arange(levels, dtype=dtype) / (levels - 1)) * width + box.low
    center = values[torch.randint(0, levels, (ROWS, *shape), generator=g)]
    region = Grid(Linf(eps * width), levels).around(center, box)
    z = center + torch.randn(center.shape, generator=g, dtype=dtype) * width * 0.2
    case = Case(region, z, g)
    assert broken_laws(case, region.project, convex=False) == []
    p = region.project(z)
    allowed = (values.double() - flat(center).unsqueeze(2)).abs() <= eps * width + 3e-7 * width
    gap = (values.double() - flat(z).unsqueeze(2)).abs().masked_fill(~allowed, math.inf).amin(2)
    assert bool(((flat(p) - flat(z)).abs() <= gap + 1e-6 * width).all())
    assert bool(((flat(p).unsqueeze(2) - values.double()).abs().amin(2) <= 3e-7 * width).all())
