"""What every set must obey, as functions that name the laws that a projection breaks. Shared by the tests here."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import Tensor

from potemkin.core.random import RowStreams, row_keys
from potemkin.threat.box import Box
from potemkin.threat.sets.base import PerturbationSet, Region

ROWS = 8
SHAPES = ((1,), (2,), (5,), (17,), (3, 4), (2, 3, 3))
BOXES = (Box(0, 1), Box(-1, 1), Box(0, 255), Box(0.1, 0.7), Box(-math.inf, math.inf), Box(0, math.inf))
DTYPES = (torch.float32, torch.float64)


@dataclass
class Case:
    """Rows bound to a set: `points` to project, among them far, near, inside and wild ones."""

    region: Region
    points: Tensor
    generator: torch.Generator

    @property
    def streams(self) -> RowStreams:
        return streams(self.points.shape[0], seed=self.generator.initial_seed())

    def normal(self) -> Tensor:
        return torch.randn(self.points.shape, generator=self.generator, dtype=self.points.dtype)


def streams(count: int, seed: int = 0) -> RowStreams:
    none = torch.tensor(0)
    return RowStreams(row_keys(seed, torch.arange(count), 0, none, none))


def centers(box: Box, shape: tuple[int, ...], dtype: torch.dtype, g: torch.Generator) -> Tensor:
    """Rows inside the box: some in the middle, some with half of the coordinates on a corner, some on corners only."""
    low, high = max(box.low, -3.0), min(box.high, box.low + 3.0 if math.isinf(box.high) and box.low > -3 else 3.0)
    if box.bounded:
        low, high = box.low, box.high
    inner = torch.rand((ROWS, *shape), generator=g, dtype=dtype) * (high - low) + low
    corner = torch.where(torch.rand((ROWS, *shape), generator=g) < 0.5, low, high).to(dtype)
    share = torch.tensor([0.0, 0.5, 1.0, 0.0, 0.5, 1.0, 0.2, 0.8]).reshape(-1, *(1,) * len(shape))
    return box.clip(torch.where(torch.rand((ROWS, *shape), generator=g) < share, corner, inner))


def offsets(scale: float, shape: tuple[int, ...], dtype: torch.dtype, g: torch.Generator) -> Tensor:
    """Changes of all sizes, some rows with magnitudes spread over many powers of ten, some sparse, some with ties."""
    x = torch.randn((ROWS, *shape), generator=g, dtype=dtype) * scale
    wild = x * 10.0 ** (torch.rand((ROWS, *shape), generator=g, dtype=dtype) * 16 - 8)
    ties = x.sign() * scale
    sparse = x * (torch.rand((ROWS, *shape), generator=g) < 0.3)
    kind = torch.randint(0, 5, (ROWS, *(1,) * len(shape)), generator=g)
    for number, other in ((1, wild), (2, ties), (3, sparse), (4, 100 * x)):
        x = torch.where(kind == number, other, x)
    return x


@st.composite
def cases(draw: st.DrawFn, perturbation: Callable[[float], PerturbationSet], boxes: tuple[Box, ...] = BOXES) -> Case:
    """Rows of rank 1 to 3 in float32 or float64, radii of 0, tiny, usual, huge or one per row, in all boxes."""
    g = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    shape, dtype, box = draw(st.sampled_from(SHAPES)), draw(st.sampled_from(DTYPES)), draw(st.sampled_from(boxes))
    width = box.high - box.low if box.bounded else 1.0
    radii = width * torch.tensor([0.0, 1e-6, 0.03, 0.3, 1.0, 3.0, 20.0, 1e6], dtype=dtype)
    eps = radii[draw(st.integers(0, 7))].expand(ROWS) if draw(st.booleans()) else radii[torch.randperm(8, generator=g)]
    center = centers(box, shape, dtype, g)
    region = perturbation(0.5).around(center, box, eps)
    usual = float(eps.median()) * draw(st.sampled_from([0.3, 1.0, 1.7])) if draw(st.booleans()) else width
    return Case(region, center + offsets(usual, shape, dtype, g), g)


def flat(x: Tensor) -> Tensor:
    return x.flatten(1).double()


def members(case: Case) -> list[Tensor]:
    """Points of the set: drawn ones, and the far ends in random directions."""
    step = torch.arange(ROWS)
    found = [case.region.center, case.region.sample(case.streams, step), case.region.surface(case.streams, step)]
    return found + [case.region.maximiser(case.normal()) for _ in range(4)]


def slack(region: Region, *points: Tensor) -> Tensor:
    """(B,): what rounding and the hair by which a projection stays inside the radius may move a point."""
    dtype = region.center.dtype
    hair = 3e-6 if dtype == torch.float32 else 1e-11
    size = torch.stack([flat(p).abs().amax(1) for p in (region.center, *points)]).amax(0)
    reach = torch.stack([(flat(p) - flat(region.center)).norm(dim=1) for p in points]).amax(0)
    width = flat(region.center).shape[1]
    return hair * reach + 8 * torch.finfo(dtype).eps * size * math.sqrt(width)


def broken_laws(case: Case, project: Callable[[Tensor], Tensor], convex: bool = True) -> list[str]:
    """The names of the laws that `project` breaks as the nearest-point map of `case.region`."""
    region, z = case.region, case.points
    p, others = project(z), members(case)
    if not bool(p.isfinite().all()):
        return ["finite"]
    broken = []
    if not bool(region.contains(p).all()):
        broken.append("feasible")
    if not all(torch.equal(project(s), s) for s in others):
        broken.append("interior")
    if not torch.equal(project(p), p):
        broken.append("idempotent")
    if not convex:
        return broken
    near = z + 0.1 * case.normal() * flat(p - region.center).abs().amax(1).to(z.dtype).reshape(-1, *(1,) * (z.ndim - 1))
    q = project(near)
    apart, before = (flat(p) - flat(q)).norm(dim=1), (flat(z) - flat(near)).norm(dim=1)
    if not bool((apart <= before * (1 + 1e-12) + 2 * slack(region, p, q)).all()):
        broken.append("non-expansive")
    normal = flat(z) - flat(p)
    steep = region.maximiser(normal.reshape(z.shape).to(z.dtype))
    for s in (*others, steep):
        aside = flat(s) - flat(p)
        allowed = slack(region, p, s) * (normal.norm(dim=1) + aside.norm(dim=1))
        if not bool(((normal * aside).sum(1) <= allowed).all()):
            return [*broken, "variational inequality"]
    return broken
