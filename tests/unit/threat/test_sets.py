"""Sets by hand: what they say, what they refuse, worked examples, and that nothing waits for the device."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

import potemkin as pk
from potemkin.core.notation import parse, show
from potemkin.core.registry import lookup
from potemkin.core.rows import ulps
from potemkin.errors import ConfigError, DataError
from potemkin.threat.box import Box
from potemkin.threat.sets import L1, L2, Features, Grid, Linf, Masked, PerturbationSet, Rectangle
from property.set_laws import streams

UNIT = Box(0, 1)
OPEN = Box(-math.inf, math.inf)
STEP = torch.zeros(8, dtype=torch.int64)


def row(*values: float, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor([values], dtype=dtype)


# Words.


@pytest.mark.parametrize(
    ("perturbation", "sentence"),
    [
        (Linf(8 / 255), "Linf distance at most 8/255 (0.0314)"),
        (Linf(0.2), "Linf distance at most 0.2"),
        (Linf(1), "Linf distance at most 1"),
        (L2(0.5), "L2 distance at most 0.5"),
        (L1(12), "L1 distance at most 12"),
        (Grid(Linf(8 / 255)), "Linf distance at most 8/255 (0.0314) on a grid of 256 levels"),
        (
            Masked(Linf(0.5), Rectangle(2, 3, 5, 4)),
            "Linf distance at most 0.5 on the 5 x 4 rectangle at row 2, column 3, nothing elsewhere,",
        ),
        (Masked(L2(0.5), Features(7)), "L2 distance at most 0.5 on 1 chosen coordinate, nothing elsewhere,"),
        (Masked(L2(0.5), Features(7, 1)), "L2 distance at most 0.5 on 2 chosen coordinates, nothing elsewhere,"),
    ],
    ids=str,
)
def test_sentences(perturbation: PerturbationSet, sentence: str) -> None:
    assert perturbation.sentence() == sentence


@pytest.mark.parametrize(
    "perturbation",
    [
        Linf(8 / 255),
        L2(0.5),
        L1(12.0),
        Masked(L2(0.5), Features(5, 2, shape=(3, 4))),
        Masked(Grid(Linf(0.1), 16), Rectangle(0, 1, 2, 2)),
        Grid(Masked(Linf(4 / 255), Rectangle(0, 0, 1, 1)), levels=2),
    ],
    ids=str,
)
def test_notation_comes_back_as_an_equal_set(perturbation: PerturbationSet) -> None:
    again = parse(show(perturbation), kind="set")
    assert again == perturbation and hash(again) == hash(perturbation)
    assert repr(perturbation) == show(perturbation)


def test_the_notation_is_short() -> None:
    assert repr(Linf(8 / 255)) == "Linf(8/255)"
    assert parse("Masked(Linf(0.1), Features(3, 0))") == Masked(Linf(0.1), Features(0, 3))


@pytest.mark.parametrize("name", ["Linf", "L2", "L1", "Masked", "Grid"])
def test_sets_are_registered_with_a_summary(name: str) -> None:
    entry = lookup(name, "set")
    assert entry.summary.endswith(".") and len(entry.summary) > 20


# What is refused.


@pytest.mark.parametrize("make", [Linf, L2, L1])
@pytest.mark.parametrize("eps", [-0.1, math.inf, math.nan, "8/255", None, True])
def test_a_radius_must_be_finite_and_not_negative(make: type[Linf], eps: object) -> None:
    with pytest.raises(ConfigError, match=rf"eps of {make.__name__}.*{eps!r}"):
        make(eps)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: Grid(L2(1.0)), "eight_bit=True"),
        (lambda: Grid(Masked(L1(1.0), Features(0))), "eight_bit=True"),
        (lambda: Grid(Grid(Linf(1.0))), "separable"),
        (lambda: Grid(Linf(1.0), levels=1), "levels of Grid must be an integer at least 2"),
        (lambda: Grid("Linf"), "set of Grid"),
        (lambda: Masked(Linf(1.0), (0, 1)), "where of Masked must be Rectangle"),
        (lambda: Masked(Masked(Linf(1.0), Features(0)), Features(0)), "another Masked"),
        (lambda: Masked.from_tensor(Linf(1.0), torch.zeros(2, 2)), "False everywhere"),
        (lambda: Features(), "at least one index"),
        (lambda: Features(-1), "found -1"),
        (lambda: Rectangle(0, 0, 0, 1), "height of Rectangle"),
        (lambda: Rectangle(-1, 0, 1, 1), "top of Rectangle"),
    ],
)
def test_sets_refuse_what_they_cannot_be(build: object, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        build()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("perturbation", "shape", "says"),
    [
        (Masked(Linf(1.0), Rectangle(0, 2, 3, 3)), (1, 3, 4), "at least 3 x 5 pixels"),
        (Masked(Linf(1.0), Rectangle(0, 0, 1, 1)), (9,), r"shape \(9,\)"),
        (Masked(Linf(1.0), Features(4, 9)), (3, 3), "index 9, but inputs of shape .* have 0 to 8"),
        (Masked.from_tensor(Linf(1.0), torch.eye(3)), (9,), r"for inputs of shape \(3, 3\)"),
    ],
)
def test_a_mask_must_fit(perturbation: PerturbationSet, shape: tuple[int, ...], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        perturbation.around(torch.zeros(2, *shape), UNIT)


def test_centres_and_radii_are_checked() -> None:
    with pytest.raises(DataError, match="uint8"):
        Linf(0.1).around(torch.zeros(2, 3, dtype=torch.uint8), UNIT)
    with pytest.raises(DataError, match=r"shape \(3,\)"):
        Linf(0.1).around(torch.zeros(3), UNIT)
    with pytest.raises(ConfigError, match=r"must have shape \(2,\)"):
        Linf(0.1).around(torch.zeros(2, 3), UNIT, torch.zeros(3))


def test_a_grid_refuses_a_centre_that_no_level_is_near() -> None:
    with pytest.raises(DataError, match=r"1 coordinates have no grid point.*0\.1 \(row 0, coordinate 1\)"):
        Grid(Linf(0.01), levels=3).around(row(0.5, 0.1), UNIT)
    with pytest.raises(ConfigError, match="finite box"):
        Grid(Linf(0.01)).around(row(0.5), Box(0, math.inf))
    Grid(Linf(0.2), levels=3).around(row(0.5, 0.1), UNIT)


# Worked examples.


def test_l2_spends_what_a_wall_refuses_on_the_other_coordinates() -> None:
    region = L2(1.0).around(row(0.5, 0.0), UNIT)
    expected = row(1.0, math.sqrt(0.75))
    torch.testing.assert_close(region.project(row(2.5, 2.0)), expected, rtol=1e-11, atol=0)
    # Project, then clip: shorter than it may be, and farther from the point.
    pulled = region.pull_in(row(2.5, 2.0))
    torch.testing.assert_close(pulled, row(1.0, math.sqrt(0.5)), rtol=1e-11, atol=0)


def test_l1_shortens_by_the_same_amount() -> None:
    region = L1(1.0).around(row(0.0, 0.0, 0.0), OPEN)
    torch.testing.assert_close(region.project(row(1.0, -0.75, 0.1)), row(0.625, -0.375, 0.0), rtol=1e-11, atol=1e-15)


def test_l1_beside_a_wall() -> None:
    region = L1(1.0).around(row(0.5, 0.0), UNIT)
    torch.testing.assert_close(region.project(row(2.5, 0.75)), row(1.0, 0.5), rtol=1e-11, atol=0)


@pytest.mark.parametrize("make", [Linf, L2, L1])
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e30])
def test_one_giant_coordinate_does_not_swamp_the_radius(make: type[Linf], size: float) -> None:
    """A threshold near 1e30 found by subtraction would leave nothing of eps."""
    region = make(0.125).around(torch.zeros(1, 3), OPEN)
    p = region.project(torch.tensor([[size * 1e3, 0.0, 0.0]]))
    torch.testing.assert_close(p, torch.tensor([[0.125, 0.0, 0.0]]), rtol=2e-6, atol=0)


def test_l1_finds_its_threshold_beside_a_blocked_giant() -> None:
    region = L1(1e-6).around(row(0.0, 0.0, 0.0), UNIT)
    p = region.project(row(1e4, -3e5, 0.5))
    torch.testing.assert_close(p, row(1e-6, 0.0, 0.0), rtol=1e-9, atol=0)


@pytest.mark.parametrize("left", [0.02, 1.5e-9])
def test_l1_spends_the_last_of_a_radius_far_below_the_rounding_of_the_point(left: float) -> None:
    """The threshold is near 2e7, where neighbouring float64 numbers are 4e-9 apart."""
    region = L1(1.0 + left).around(row(0.0, 0.5), UNIT)
    p = region.project(row(4.4e7, 20638369.195552736))
    torch.testing.assert_close(p, row(1.0, 0.5 + left), rtol=0, atol=2e-12)


def by_corners(name: str, wish: np.ndarray, may: np.ndarray, eps: float) -> np.ndarray:
    """How far each coordinate goes: the corners of the piecewise linear sum in order, then the piece that holds eps."""
    squared = name == "L2"
    corners = np.unique(np.append(may**2 / wish**2 if squared else np.append(wish, (wish - may).clip(0)), 0.0))
    corners = corners if squared else -corners[::-1]  # so that the sum rises along them
    goal = eps**2 if squared else eps
    if (may**2 if squared else may).sum() <= goal:
        return may

    def moves(x: float) -> np.ndarray:
        return np.minimum(x * wish**2, may**2) if squared else np.clip(wish + x, 0, may)

    first, last = 0, len(corners) - 1
    while last - first > 1:
        middle = (first + last) // 2
        first, last = (middle, last) if moves(corners[middle]).sum() <= goal else (first, middle)
    low, high = corners[first], corners[last]
    share = (goal - moves(low).sum()) / (moves(high).sum() - moves(low).sum())
    between = moves(low) + share * (moves(high) - moves(low))
    return np.sqrt(between) if squared else between


@pytest.mark.parametrize("corner", [False, True], ids=["centre inside", "centre on corners"])
@pytest.mark.parametrize("size", [0.1, 1.0, 1000.0])
@pytest.mark.parametrize(("make", "radii"), [(L2, (1e-3, 0.5, 20.0)), (L1, (1e-3, 12.0, 200.0))], ids=["L2", "L1"])
def test_the_root_is_exact_with_thousands_of_corners(
    make: type[L2], radii: tuple[float, ...], size: float, corner: bool
) -> None:
    g = torch.Generator().manual_seed(7)
    center = torch.rand(3, 3, 32, 32, generator=g, dtype=torch.float64)
    center = center.round() if corner else center
    z = center + size * torch.randn(center.shape, generator=g, dtype=torch.float64)
    eps = torch.tensor(radii, dtype=torch.float64)
    p = make(1.0).around(center, UNIT, eps).project(z)
    for k, radius in enumerate(radii):
        wish, may = (z - center)[k].abs().flatten().numpy(), (z.clamp(0, 1) - center)[k].abs().flatten().numpy()
        expected = by_corners(make.__name__, wish, may, radius)
        np.testing.assert_allclose((p - center)[k].abs().flatten().numpy(), expected, rtol=0, atol=1e-12 * (1 + size))


@pytest.mark.parametrize("make", [Linf, L2, L1])
def test_each_row_has_its_own_radius(make: type[Linf]) -> None:
    eps = torch.tensor([0.0, 0.1, 0.2, 1e9], dtype=torch.float64)
    region = make(0.5).around(torch.zeros(4, 1, dtype=torch.float64), OPEN, eps)
    p = region.project(torch.full((4, 1), 7.0, dtype=torch.float64))
    torch.testing.assert_close(p, torch.tensor([[0.0], [0.1], [0.2], [7.0]], dtype=torch.float64), rtol=1e-12, atol=0)


@pytest.mark.parametrize("make", [Linf, L2, L1, lambda eps: Masked(L1(eps), Features(0)), lambda eps: Grid(Linf(eps))])
def test_radius_zero_is_the_centre_itself(make: type[Linf]) -> None:
    g = torch.Generator().manual_seed(0)
    center = torch.randint(0, 256, (8, 5), generator=g) / 255
    center[0] = 1.0
    region = make(0.0).around(center, UNIT)
    for point in (
        region.project(torch.nextafter(center, torch.zeros(1))),
        region.pull_in(torch.nextafter(center, torch.zeros(1))),
        region.project(center + torch.randn(8, 5, generator=g)),
        region.project(center + 6e-8),
        region.pull_in(center + torch.randn(8, 5, generator=g)),
        region.sample(streams(8), STEP),
        region.surface(streams(8), STEP),
        region.maximiser(torch.randn(8, 5, generator=g)),
    ):
        assert torch.equal(point, center)


def test_a_radius_beyond_all_numbers_still_gives_finite_points() -> None:
    for dtype in (torch.float32, torch.float64):
        for make in (Linf, L2, L1):
            eps = torch.full((8,), 1e300, dtype=torch.float64)
            region = make(1.0).around(torch.zeros(8, 3, dtype=dtype), OPEN, eps)
            assert bool(region.sample(streams(8), STEP).isfinite().all())
            assert bool(region.maximiser(torch.ones(8, 3, dtype=dtype)).isfinite().all())


def test_l1_steepest_uses_the_step_up_on_the_largest_coordinates_that_can_still_move() -> None:
    region = L1(1.0).around(row(0.5, 0.5, 0.5, 0.5), UNIT)
    gradient = row(1.0, -2.0, 2.0, 2.0)

    def moved(size: float, *at: float) -> list[float]:
        [u] = region.steepest(gradient, row(*at), torch.tensor([size])).tolist()
        return [size * share for share in u]

    assert region.steepest(gradient).tolist() == [[0.0, -1.0, 0.0, 0.0]]  # the first of equals
    assert moved(0.25, 0.5, 0.0, 0.5, 0.5) == [0.0, 0.0, 0.25, 0.0]
    assert moved(0.75, 0.5, 0.0, 0.5, 0.5) == [0.0, 0.0, 0.5, 0.25]
    assert moved(4.0, 0.5, 0.25, 0.5, 0.5) == [0.5, -0.25, 0.5, 0.5]  # all that the box leaves
    assert moved(0.25, 0.5, 0.0, 1.0, 1.0) == [0.25, 0.0, 0.0, 0.0]
    assert moved(0.25, 1.0, 0.0, 1.0, 1.0) == [0.0, 0.0, 0.0, 0.0]
    gradient = row(0.0, 0.0, 3.0, 0.0)  # where it is zero nothing moves, however much of the step is left
    assert moved(4.0, 0.5, 0.5, 0.5, 0.5) == [0.0, 0.0, 0.5, 0.0]


def test_l1_steepest_in_a_mask_sees_where_the_point_is() -> None:
    region = Masked(L1(1.0), Features(1, 2)).around(row(0.5, 0.5, 0.5, 0.5), UNIT)
    u = region.steepest(row(9.0, 3.0, 2.0, 9.0), row(0.5, 0.875, 0.5, 0.5), torch.tensor([0.25]))
    assert u.tolist() == [[0.0, 0.5, 0.5, 0.0]]


@pytest.mark.parametrize("seed", range(4))
def test_l1_ascent_in_a_box_ends_on_the_optimum_of_a_linear_model(seed: int) -> None:
    """Where the optimum lies on many faces of the box, one coordinate a step never gets there: the projection lowers
    what the step before has raised."""
    torch.manual_seed(seed)
    x, weight = torch.rand(8, 196), torch.randn(196)
    net = torch.nn.Linear(196, 2)
    with torch.no_grad():
        net.weight.copy_(torch.stack((torch.zeros(196), weight / 20)))
        net.bias.copy_(torch.tensor([3.0, 0.0]))  # never reached, and near enough for the cross-entropy to see a slope
    best = L1(4.0).around(x, UNIT).maximiser(weight.expand(8, -1)) - x
    for attack, share in ((pk.pgd(), 0.97), (pk.pgd(steps=200), 0.99), (pk.mi_fgsm(), 0.999), (pk.fgsm(), 0.999)):
        found = pk.perturb(net, x, torch.zeros(8, dtype=torch.int64), L1(4.0), attack).inputs - x
        assert bool(((found @ weight) >= share * (best @ weight)).all()), attack


@pytest.mark.parametrize("make", [Linf, L2, L1])
def test_directions_are_finite_whatever_the_gradient(make: type[Linf]) -> None:
    region = make(1.0).around(torch.zeros(5, 3), OPEN)
    tiny, huge = 1e-45, 3e38
    gradient = torch.tensor([[math.nan, 1, 0], [math.inf, 1, 0], [-math.inf, 1, 0], [tiny, 0, 0], [huge, huge, huge]])
    u = region.steepest(gradient)
    assert bool(u.isfinite().all())
    torch.testing.assert_close(region.measure(u), torch.ones(5).double(), rtol=1e-6, atol=0)
    assert u[0].tolist() == [0.0, 1.0, 0.0] and u[3].tolist() == [1.0, 0.0, 0.0]
    assert u[1, 0] == 1.0 and u[2, 0] == -1.0


def test_maximisers_of_linear_functions_by_hand() -> None:
    center, gradient = row(0.5, 0.0, 0.9, 0.3), row(1.0, -5.0, 3.0, 0.0)
    expected = {Linf(0.3): (0.8, 0.0, 1.0, 0.3), L1(0.3): (0.7, 0.0, 1.0, 0.3), L1(9.0): (1.0, 0.0, 1.0, 0.3)}
    expected[L2(0.3)] = (0.5 + math.sqrt(0.09 - 0.01), 0.0, 1.0, 0.3)
    for perturbation, point in expected.items():
        region = perturbation.around(center, UNIT)
        torch.testing.assert_close(region.maximiser(gradient), row(*point), rtol=1e-11, atol=1e-15)


# Draws.


@pytest.mark.parametrize(("make", "power"), [(Linf, 1), (L2, 3), (L1, 3)])
def test_sample_is_uniform_in_the_ball(make: type[Linf], power: int) -> None:
    """In d dimensions (distance / eps)^d is uniform for a uniform draw; both signs and both ends occur."""
    count = 4000
    region = make(2.0).around(torch.zeros(count, 3), OPEN)
    drawn = region.sample(streams(count), torch.zeros(count, dtype=torch.int64))
    share = (region.distance(drawn) / 2.0) ** 3
    ladder = (torch.arange(count).double() + 0.5) / count
    assert float((share.sort().values - ladder).abs().max()) < 1.9 / math.sqrt(count)  # Kolmogorov's 0.001 bound
    assert abs(float((drawn > 0).double().mean()) - 0.5) < 0.02
    assert abs(float(drawn[drawn > 0].mean() + drawn[drawn < 0].mean())) < 0.06  # the sign says nothing about the size
    furthest = 0.99 if make is Linf else 0.75
    assert float(drawn.max()) > furthest * 2.0 and float(drawn.min()) < -furthest * 2.0


@pytest.mark.parametrize("make", [Linf, L2])
def test_surface_reaches_the_radius(make: type[Linf]) -> None:
    region = make(0.5).around(torch.zeros(64, 7), OPEN)
    drawn = region.surface(streams(64), torch.zeros(64, dtype=torch.int64))
    torch.testing.assert_close(region.distance(drawn), torch.full((64,), 0.5).double(), rtol=2e-6, atol=0)


def test_sample_and_surface_change_with_step_and_do_not_share_bits() -> None:
    for make in (Linf, L2, L1):
        region = make(0.5).around(torch.zeros(8, 5), OPEN)
        first = region.sample(streams(8), STEP)
        assert torch.equal(first, region.sample(streams(8), STEP))
        assert not torch.equal(first, region.sample(streams(8), STEP + 1))
        assert not torch.equal(first.sign(), region.surface(streams(8), STEP).sign())


# Masks and grids.


def test_outside_a_mask_nothing_moves_and_inside_it_is_the_set() -> None:
    g = torch.Generator().manual_seed(1)
    center = torch.rand(8, 2, 4, 4, generator=g)
    where = Rectangle(1, 2, 2, 2)
    mask = where.mask((2, 4, 4))
    assert int(mask.sum()) == 8 and bool(mask[:, 1:3, 2:4].all())
    for perturbation in (Linf(0.3), L2(0.5), L1(1.0)):
        region, z = Masked(perturbation, where).around(center, UNIT), center + torch.randn(center.shape, generator=g)
        inner = perturbation.around(center[:, mask], UNIT)
        for point, own in (
            (region.project(z), inner.project(z[:, mask])),
            (region.pull_in(z), inner.pull_in(z[:, mask])),
            (region.maximiser(z), inner.maximiser(z[:, mask])),
            (region.sample(streams(8), STEP), inner.sample(streams(8), STEP)),
        ):
            assert torch.equal(point[:, ~mask], center[:, ~mask]) and torch.equal(point[:, mask], own)
        assert torch.equal(region.steepest(z)[:, ~mask], torch.zeros_like(z)[:, ~mask])


def test_a_masked_set_does_not_contain_what_moved_outside_by_the_last_bit() -> None:
    center = torch.full((1, 2), 0.5)
    region = Masked(Linf(0.25), Features(0)).around(center, UNIT)
    assert region.contains(torch.tensor([[0.75, 0.5]])).tolist() == [True]
    assert region.contains(torch.nextafter(center, torch.ones(1))).tolist() == [False]


def test_a_mask_from_a_tensor_is_the_listed_features() -> None:
    mask = torch.tensor([[True, False], [False, True]])
    assert Masked.from_tensor(L2(1.0), mask) == Masked(L2(1.0), Features(0, 3, shape=(2, 2)))
    assert Masked.from_tensor(L2(1.0), mask.float()) == Masked.from_tensor(L2(1.0), mask)


def test_a_grid_of_256_levels_is_what_an_image_file_holds() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).repeat(2).reshape(2, 256)
    center = pixels.float() / 255
    region = Grid(Linf(8 / 255)).around(center, UNIT)
    g = torch.Generator().manual_seed(0)
    p = region.project(center + 0.1 * torch.randn(2, 256, generator=g))
    stored = (p * 255).round().to(torch.uint8)
    assert torch.equal(stored.float() / 255, p)  # bit for bit
    assert int((stored.int() - pixels.int()).abs().max()) == 8  # all 8 levels are within reach, and no ninth
    assert torch.equal(region.project(center), center)


def test_a_grid_keeps_the_exact_centre_outside_its_mask() -> None:
    center = torch.tensor([[0.5, 1 / 3]])
    region = Masked(Grid(Linf(0.5), levels=3), Features(0)).around(center, UNIT)
    assert torch.equal(region.project(torch.tensor([[0.9, 0.9]])), torch.tensor([[1.0, 1 / 3]]))


def test_a_grid_gives_back_a_centre_that_is_a_level_but_for_rounding() -> None:
    center = torch.nextafter(torch.arange(1, 9).reshape(8, 1) / 255, torch.ones(1)).repeat(1, 2)
    z = torch.rand(8, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(Grid(Linf(0.0)).around(center, UNIT).project(z), center)
    region = Grid(Masked(Linf(0.1), Features(0))).around(center, UNIT)
    p = region.project(z)
    assert torch.equal(p[:, 1], center[:, 1]) and not torch.equal(p[:, 0], center[:, 0])
    assert bool(region.contains(p).all())
    p[:, 1] = torch.arange(1, 9) / 255  # the level itself, but outside the mask only the centre's own bits are allowed
    assert not bool(region.contains(p).any())


def test_a_grid_contains_its_points_only() -> None:
    region = Grid(Linf(0.3), levels=5).around(row(0.5), UNIT)
    points = {0.25: True, 0.5: True, 0.75: True, 1.0: False, 0.6: False, 0.5 + 1e-9: False}
    assert {x: bool(region.contains(row(x))) for x in points} == points


def test_grid_draws_every_level_within_reach() -> None:
    region = Grid(Linf(0.3), levels=11).around(torch.full((500, 1), 0.5), UNIT)
    drawn = region.sample(streams(500), torch.zeros(500, dtype=torch.int64))
    assert sorted({round(x, 6) for x in drawn.flatten().tolist()}) == [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]


# Costs and habits.


@pytest.mark.parametrize("perturbation", [Linf(0.1), L2(0.5), L1(2.0)], ids=str)
@pytest.mark.parametrize("box", [UNIT, OPEN], ids=str)
def test_nothing_waits_for_the_device(perturbation: PerturbationSet, box: Box) -> None:
    """On the meta device tensors have no values: whatever looked at one would raise."""
    center = torch.zeros(8, 3, 4, 4, device="meta")
    region = perturbation.around(center, box)
    for answer in (
        region.project(center),
        region.pull_in(center),
        region.steepest(center, center, region.eps),
        region.maximiser(center),
    ):
        assert answer.shape == center.shape and answer.dtype == center.dtype
    assert region.contains(center).dtype == torch.bool
    assert region.distance(center).dtype == torch.float64


@pytest.mark.parametrize("perturbation", [Linf(0.1), L2(0.5), L1(2.0), Grid(Linf(0.5))], ids=str)
def test_inputs_are_left_as_they_are_whatever_their_memory_format(perturbation: PerturbationSet) -> None:
    g = torch.Generator().manual_seed(0)
    center = torch.randint(0, 256, (8, 3, 4, 4), generator=g) / 255
    z = center + torch.randn(center.shape, generator=g)
    region, before = perturbation.around(center, UNIT), z.clone()
    plain = [region.project(z), region.pull_in(z), region.steepest(z, center, region.eps), region.maximiser(z)]
    last = z.to(memory_format=torch.channels_last)
    other = perturbation.around(center.to(memory_format=torch.channels_last), UNIT)
    again = [other.project(last), other.pull_in(last), other.steepest(last, center, other.eps), other.maximiser(last)]
    assert torch.equal(z, before) and all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))


def test_a_centre_off_the_box_by_rounding_is_forgiven() -> None:
    center = torch.nextafter(torch.ones(8, 4), torch.full((1,), 2.0))
    for make in (Linf, L2, L1):
        p = make(0.1).around(center, UNIT).project(center + 1)
        assert bool((p <= 1).all()) and bool(make(0.1).around(center, UNIT).contains(p).all())


def test_box_words_and_refusals() -> None:
    assert [Box(0, 1).sentence(), Box(-math.inf, math.inf).sentence()] == ["inside the box [0, 1]", "without a box"]
    assert Box(0, math.inf).sentence() == "with coordinates at least 0"
    assert Box(-math.inf, 2.5).sentence() == "with coordinates at most 2.5"
    assert Box.of((0, 255)) == Box(0.0, 255.0) and Box.of(UNIT) is UNIT
    assert parse(show(Box(-math.inf, 3))) == Box(-math.inf, 3.0)
    for low, high in ((1, 0), (1, 1), (math.nan, 1), ("0", 1), (math.inf, math.inf)):
        with pytest.raises(ConfigError):
            Box(low, high)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="pair"):
        Box.of(1.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("box", [Box(0, 1), Box(-4, 4), Box(0, 1e6), OPEN])
@pytest.mark.parametrize(("at", "ulp"), [(0.75, 2.0**-24), (0.01, 2.0**-30), (1e-6, 2.0**-43)])
def test_contains_gives_way_by_one_ulp_of_the_coordinate_whatever_the_box(box: Box, at: float, ulp: float) -> None:
    """An income of a million in the same table excuses nothing in a column of rates."""
    center = torch.tensor([[at]])
    edge = center * 1.25
    region = Linf(1.0).around(center, box, (edge - center).flatten())
    assert region.contains(edge).tolist() == [True] and region.contains(edge + ulp).tolist() == [True]
    assert region.contains(edge + 3 * ulp).tolist() == [False]


def test_outside_of_the_box_by_one_ulp_is_a_rounding_by_two_is_outside() -> None:
    center = torch.tensor([[0.9]])
    one = torch.tensor([[1.0]])
    region = Linf(0.25).around(center, Box(0, 1))
    assert region.contains(one + 2.0**-23).tolist() == [True] and region.contains(one + 2.0**-22).tolist() == [False]
    # Nothing rounds below zero.
    low = Linf(0.25).around(torch.zeros(1, 1), Box(0, 1))
    assert low.contains(torch.full((1, 1), -(2.0**-30))).tolist() == [False]


def test_no_point_but_itself_is_a_rounding_away_from_zero() -> None:
    x = torch.zeros(2, 3)
    assert ulps(x, x).tolist() == x.double().tolist()
    assert ulps(torch.tensor([[1000.0, 0.0]]), torch.tensor([[1.0, 3.0]])).tolist() == [[2.0**-14, 2.0**-22]]
