"""The transcriptions themselves: closed forms on linear models, runs followed by hand, step counts, feasibility."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from . import apgd, apgd_l1, bim, fgsm, losses, mi_fgsm, ni_fgsm, pgd, projections
from .trace import Trace

B, D, K = 6, 12, 4
EPS, STEPS = 0.3, 12

# name -> (the norm of its set, the transcription with its steps and step size)
RUNS: dict[str, tuple[str, Callable[..., Trace]]] = {
    "fgsm": ("linf", partial(fgsm.run, norm="linf")),
    "fgm_l2": ("l2", partial(fgsm.run, norm="l2")),
    "fgm_l1": ("l1", partial(fgsm.run, norm="l1")),
    "bim": ("linf", partial(bim.run, steps=STEPS, step_size=0.05)),
    "pgd_linf": ("linf", partial(pgd.run, steps=STEPS, step_size=0.05, norm="linf")),
    "pgd_l2": ("l2", partial(pgd.run, steps=STEPS, step_size=0.1, norm="l2")),
    "pgd_l2_exact": ("l2", partial(pgd.run, steps=STEPS, step_size=0.1, norm="l2", exact=True)),
    "mi_fgsm": ("linf", partial(mi_fgsm.run, steps=STEPS)),
    "ni_fgsm": ("linf", partial(ni_fgsm.run, steps=STEPS)),
    "apgd_linf": ("linf", partial(apgd.run, steps=STEPS, norm="linf")),
    "apgd_linf_box": ("linf", partial(apgd.run, steps=STEPS, norm="linf", as_released=False)),
    "apgd_l2": ("l2", partial(apgd.run, steps=STEPS, norm="l2")),
    "apgd_l2_box": ("l2", partial(apgd.run, steps=STEPS, norm="l2", as_released=False)),
    "apgd_l1": ("l1", partial(apgd_l1.run, steps=STEPS)),
    "apgd_l1_zeros": ("l1", partial(apgd_l1.run, steps=STEPS, as_released=False)),
}
ORDER = {"linf": torch.inf, "l2": 2, "l1": 1}
DUAL = {"linf": 1, "l2": 2, "l1": torch.inf}
every = pytest.mark.parametrize("name", RUNS)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def two_class(weights: Tensor) -> Callable[[Tensor], Tensor]:
    """Logits (0, w x): for label 0 cross-entropy is softplus(w x), which rises exactly with w x."""
    return lambda x: torch.stack([torch.zeros(len(x), dtype=x.dtype), x.flatten(1) @ weights], dim=1)


def rugged(x: Tensor) -> Tensor:
    """A small network with large weights, so that nothing about a run on it is trivial."""
    first, second = 6 * draw(D, 16, seed=1) - 3, 6 * draw(16, K, seed=2) - 3
    hidden: Tensor = torch.tanh((x.flatten(1) - 0.5) @ first)
    return hidden @ second


def along(f: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Logits (0, f(x)) for a scalar function of a row."""
    return lambda x: torch.stack([torch.zeros(len(x), dtype=x.dtype), f(x)], dim=1)


def size(delta: Tensor, norm: str) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(delta.flatten(1), ord=ORDER[norm], dim=1)
    return length


# Every run


@every
def test_a_linear_loss_without_a_box_is_driven_to_its_closed_form_optimum(name: str) -> None:
    norm, run = RUNS[name]
    w = 4 * draw(D, seed=3) - 2
    x = draw(B, 3, 4)
    trace = run(two_class(w), x, torch.zeros(B, dtype=torch.long), EPS, box=None)
    gain = (trace.best - x).flatten(1) @ w
    optimum = EPS * torch.linalg.vector_norm(w, ord=DUAL[norm])
    if name.startswith("apgd_l1"):  # its k goes down to ceil(s / 1.5), and that of 2 is 2: it never narrows to one
        optimum = EPS * w.abs().topk(2).values.mean()
    assert torch.allclose(gain, optimum.expand(B), rtol=1e-9)


@every
def test_every_iterate_lies_in_the_ball_and_in_the_box(name: str) -> None:
    norm, run = RUNS[name]
    x = draw(B, 3, 4)
    x[0], x[1] = 0.0, 1.0
    trace = run(rugged, x, torch.arange(B) % K, EPS)
    for point in trace.iterates:
        assert torch.all(size(point - x, norm) <= EPS * (1 + 1e-12) + 1e-15)
        assert point.min() >= 0 and point.max() <= 1
    assert torch.all(size(trace.final - x, norm)[2:] > 0)


@every
def test_the_best_point_is_the_first_with_the_largest_loss(name: str) -> None:
    x, labels = draw(B, 3, 4), torch.arange(B) % K
    trace = RUNS[name][1](rugged, x, labels, EPS)
    table = torch.stack(trace.losses)
    assert torch.equal(trace.best_loss, table.max(0).values)
    first = (table == trace.best_loss).int().argmax(0)
    assert torch.equal(trace.best, torch.stack([trace.iterates[t][row] for row, t in enumerate(first.tolist())]))
    assert torch.allclose(losses.cross_entropy(rugged(trace.best), labels, None), trace.best_loss)
    assert torch.all(trace.best_loss > trace.losses[0])


@every
def test_the_walk_has_as_many_points_as_steps_and_one_more(name: str) -> None:
    x, labels = draw(B, 3, 4), torch.arange(B) % K
    trace = RUNS[name][1](rugged, x, labels, EPS)
    steps = 1 if name.startswith("fg") else STEPS
    assert len(trace.iterates) == len(trace.losses) == len(trace.predictions) == steps + 1
    assert len(trace.queries) == (steps + 1 if name.startswith("apgd") else steps)
    assert torch.equal(trace.final, trace.iterates[-1]) and torch.equal(trace.iterates[0], x)
    if name != "ni_fgsm":
        assert all(torch.equal(q, p) for q, p in zip(trace.queries, trace.iterates, strict=False))


@every
def test_rows_do_not_see_each_other_and_take_numbers_of_their_own(name: str) -> None:
    run = RUNS[name][1]
    x, labels = draw(B, 3, 4), torch.arange(B) % K
    radii = [0.05 * (row + 1) for row in range(B)]
    together = run(rugged, x, labels, radii)
    for row in (0, 3, 5):
        alone = run(rugged, x[row : row + 1], labels[row : row + 1], radii[row])
        assert torch.allclose(alone.final[0], together.final[row], atol=1e-9)
        assert torch.allclose(alone.best_loss[0], together.best_loss[row], atol=1e-9)


@every
def test_the_given_start_is_the_first_iterate_and_targets_are_approached(name: str) -> None:
    run = RUNS[name][1]
    x, labels = draw(B, 3, 4), torch.zeros(B, dtype=torch.long)
    start, targets = (x + 0.002).clamp(0, 1), torch.full((B,), 2)
    trace = run(rugged, x, labels, 0.05, start=start, targets=targets)
    assert torch.equal(trace.iterates[0], start)
    log_p = torch.log_softmax(rugged(trace.best), 1)[:, 2]
    assert torch.all(log_p > torch.log_softmax(rugged(start), 1)[:, 2])
    assert torch.allclose(trace.best_loss, log_p)


def test_what_a_trace_says_about_misclassification() -> None:
    logits = two_class(torch.ones(1, dtype=torch.float64))
    x = torch.tensor([[-0.25], [-2.0]], dtype=torch.float64)
    labels = torch.zeros(2, dtype=torch.long)
    trace = bim.run(logits, x, labels, 1.0, 3, 0.2, box=None)
    assert trace.fooled(labels).tolist() == [True, False]
    assert trace.last_fooling(labels).flatten().tolist() == pytest.approx([0.35, -2.0])


# Fast gradient, basic iterative


def test_fast_gradient_methods_by_hand() -> None:
    w = torch.tensor([3.0, -4.0, 0.0], dtype=torch.float64)
    x, label = torch.tensor([[0.5, 0.5, 0.5]], dtype=torch.float64), torch.tensor([0])
    step = {n: (fgsm.run(two_class(w), x, label, 0.25, norm=n, box=None).final - x)[0].tolist() for n in ORDER}
    assert step["linf"] == pytest.approx([0.25, -0.25, 0.0])
    assert step["l2"] == pytest.approx([0.15, -0.2, 0.0])
    assert step["l1"] == pytest.approx([0.0, -0.25, 0.0])
    assert fgsm.run(two_class(w), x, label, 0.75).final[0].tolist() == [1.0, 0.0, 0.5]


@pytest.mark.parametrize("norm", ORDER)
def test_a_zero_gradient_is_no_step(norm: str) -> None:
    x = draw(1, D)
    flat = two_class(torch.zeros(D, dtype=torch.float64))
    assert torch.equal(fgsm.run(flat, x, torch.tensor([0]), 0.2, norm=norm).final, x)


@pytest.mark.parametrize("run", [mi_fgsm.run, ni_fgsm.run])
def test_momentum_survives_a_zero_gradient(run: Callable[..., Trace]) -> None:
    """A gradient of zero from the second point on: the first direction is kept instead of becoming NaN."""
    plateau = along(lambda x: x.clamp(max=0.05).sum(1))
    trace = run(plateau, torch.zeros(1, 2, dtype=torch.float64), torch.tensor([0]), 0.4, 4)
    assert trace.final[0].tolist() == pytest.approx([0.4, 0.4])


@pytest.mark.parametrize(("eps", "steps"), [(2, 2), (4, 5), (8, 10), (12, 15), (16, 20), (20, 24), (32, 36)])
def test_iterations_of_the_basic_iterative_method(eps: int, steps: int) -> None:
    w = 2 * draw(D) - 1
    x = torch.full((1, D), 0.5, dtype=torch.float64)
    trace = bim.run(two_class(w), x, torch.tensor([0]), eps / 255)
    assert len(trace.iterates) == steps + 1
    assert torch.allclose(trace.iterates[1], x + w.sign() / 255)
    assert torch.allclose(trace.final, x + w.sign() * min(eps, steps) / 255)


def test_iterative_least_likely_descends_to_the_class_that_was_least_likely_at_x() -> None:
    x = draw(B, D)
    trace = bim.run(rugged, x, torch.zeros(B, dtype=torch.long), 8 / 255, least_likely=True)
    least = rugged(x).argmin(1)
    assert torch.equal(bim.least_likely_class(rugged, x), least)
    gain = torch.log_softmax(rugged(trace.final), 1) - torch.log_softmax(rugged(x), 1)
    assert torch.all(gain[torch.arange(B), least] > 0)


# Momentum


def test_momentum_accumulates_gradients_over_their_l1_norm_and_not_signs() -> None:
    """Gradients are along (1, .1), then along (1, -.2): their sum is negative in the second place, that of signs 0."""
    alpha = 0.1
    bent = along(lambda x: x[:, 0] + 0.1 * x[:, 1] - 0.15 / alpha * x[:, 1] ** 2)
    x = torch.zeros(1, 2, dtype=torch.float64)
    trace = mi_fgsm.run(bent, x, torch.tensor([0]), 1.0, 2, alpha, box=None)
    assert trace.iterates[1][0].tolist() == pytest.approx([0.1, 0.1])
    assert trace.iterates[2][0].tolist() == pytest.approx([0.2, 0.0])
    without = mi_fgsm.run(bent, x, torch.tensor([0]), 1.0, 2, alpha, box=None, momentum=0.5)
    assert without.iterates[2][0].tolist() == pytest.approx([0.2, 0.0])
    heavy = mi_fgsm.run(bent, x, torch.tensor([0]), 1.0, 2, alpha, box=None, momentum=2.0)
    assert heavy.iterates[2][0].tolist() == pytest.approx([0.2, 0.2])  # 2 / 11 > 1 / 6


def test_nesterov_asks_where_the_momentum_leads() -> None:
    w = torch.tensor([3.0, -1.0], dtype=torch.float64)
    x = torch.full((1, 2), 0.5, dtype=torch.float64)
    trace = ni_fgsm.run(two_class(w), x, torch.tensor([0]), 0.4, 4, momentum=0.5)
    g = torch.zeros(2, dtype=torch.float64)
    for query, iterate in zip(trace.queries, trace.iterates, strict=False):
        assert torch.allclose(query, iterate + 0.1 * 0.5 * g)
        g = 0.5 * g + w / 4
    assert not torch.allclose(trace.queries[1], trace.iterates[1])


@pytest.mark.parametrize("run", [mi_fgsm.run, ni_fgsm.run])
def test_without_momentum_it_is_the_basic_iterative_method(run: Callable[..., Trace]) -> None:
    x, labels = draw(B, D), torch.arange(B) % K
    plain = bim.run(rugged, x, labels, EPS, STEPS, 0.05)
    assert torch.equal(run(rugged, x, labels, EPS, STEPS, 0.05, momentum=0.0).final, plain.final)
    assert not torch.equal(run(rugged, x, labels, EPS, STEPS, 0.05, momentum=1.0).final, plain.final)


# Auto-PGD


def test_checkpoints() -> None:
    hundred = [22, 41, 57, 70, 80, 87, 93, 99]
    assert apgd.checkpoints(100) == apgd.released_checkpoints(100) == hundred
    assert apgd.checkpoints(20) == [5, 9, 12, 14, 16, 18, 19, 20]
    assert apgd.released_checkpoints(20) == [4, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]
    assert apgd.released_checkpoints(3) == [1, 2, 3]


def peak(x: Tensor) -> Tensor:
    """Logits (0, -|x - 0.3|), for runs on a line that can be followed by hand."""
    return along(lambda x: -(x[:, 0] - 0.3).abs())(x)


def test_the_released_run_by_hand() -> None:
    """eta = 2 and x = 0, then 1 (too far), then back: f_max is still that of 0, so halve and go on from 0.

    0 + .75 (1 - 0) + .25 (0 - 1) = .5: the heavy ball of the first step after the return still looks back at 1.
    Then .5 + .75 (-.5 - .5) + .25 (.5 - 0) = -.125: no rise, so halve again and go on from .5.
    """
    trace = apgd.run(peak, torch.zeros(1, 1, dtype=torch.float64), torch.tensor([0]), 1.0, 8, box=None)
    assert [float(p) for p in trace.iterates[:5]] == pytest.approx([0, 1, -0.25, 0.5, -0.125])
    assert [float(s) for s in trace.step_sizes[:5]] == [2, 2, 1, 1, 0.5]


def test_algorithm_1_by_hand() -> None:
    """The first checkpoint is at k = 2: one rise of two is less than 1.5, so halve, and x^(3) is x_max already."""
    trace = apgd.run(
        peak, torch.zeros(1, 1, dtype=torch.float64), torch.tensor([0]), 1.0, 8, box=None, as_released=False
    )
    assert [float(p) for p in trace.iterates[:5]] == pytest.approx([0, 1, -0.25, 0.375, -0.21875])
    assert [float(s) for s in trace.step_sizes[:4]] == [2, 2, 2, 1]


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("objective", ["ce", "dlr"])
def test_the_step_only_ever_halves_and_only_at_checkpoints(norm: str, objective: str) -> None:
    x, labels = draw(B, D), rugged(draw(B, D)).argmax(1)
    trace = apgd.run(rugged, x, labels, EPS, 40, norm=norm, objective=objective)
    sizes = torch.stack(trace.step_sizes)
    assert torch.all(sizes[0] == 2 * EPS) and sizes.shape == (40, B)
    after = [w for w in apgd.released_checkpoints(40) if w < 40]
    ratio = sizes[1:] / sizes[:-1]
    assert torch.all((ratio == 1) | (ratio == 0.5)) and torch.any(ratio == 0.5)
    changes = {step + 1 for step in range(39) if torch.any(ratio[step] != 1)}
    assert changes <= set(after)


def test_the_box_and_the_released_run_part_ways() -> None:
    x, labels = draw(B, D), torch.arange(B) % K
    released = apgd.run(rugged, x, labels, EPS, 40)
    literal = apgd.run(rugged, x, labels, EPS, 40, as_released=False)
    assert torch.equal(released.iterates[1], literal.iterates[1])
    assert not torch.equal(released.final, literal.final)


def test_dlr_by_hand() -> None:
    z = torch.tensor([[5.0, 2.0, 4.0, 1.0]], dtype=torch.float64)
    assert float(losses.dlr(z, torch.tensor([0]), None)) == pytest.approx(-1 / 3)
    assert float(losses.dlr(z, torch.tensor([1]), None)) == pytest.approx(3 / 3)
    assert float(losses.dlr(z, torch.tensor([0]), torch.tensor([3]))) == pytest.approx(-4 / 3.5)


# Auto-PGD for L1


def test_the_sparse_step_moves_the_largest_coordinates() -> None:
    g = torch.tensor([0.1, -5.0, 2.0, 0.0, -3.0])
    assert apgd_l1.largest(g, 0.4).tolist() == [0, -1, 0, 0, -1]
    assert apgd_l1.largest(g, 0.0).tolist() == [0, -1, 0, 0, 0]


def test_the_schedule_narrows_the_ball_in_thirds() -> None:
    x, labels = draw(B, 30), torch.zeros(B, dtype=torch.long)
    w = 2 * draw(30, seed=4) - 1
    stages = apgd_l1.schedule(two_class(w), x, labels, 0.5, 20, start=x + draw(B, 30, seed=5) - 0.5)
    assert [len(stage.iterates) - 1 for stage in stages] == [6, 6, 8]
    for stage, radius in zip(stages, (1.5, 1.0, 0.5), strict=True):
        assert all(torch.all(size(point - x, "l1") <= radius * (1 + 1e-12)) for point in stage.iterates)
    assert torch.all(size(stages[0].best - x, "l1") > 1.0)
    assert torch.all(stages[-1].best_loss > losses.cross_entropy(two_class(w)(x), labels, None))


def test_the_sparse_step_is_shortened_by_half_again_and_reset_when_the_best_point_gets_sparser() -> None:
    x, labels = draw(B, 60), torch.arange(B) % 2
    trace = apgd_l1.run(two_class(2 * draw(60, seed=4) - 1), x, labels, 0.5, 30)
    sizes = torch.stack(trace.step_sizes)
    assert float(sizes.max()) == 0.5 and float(sizes.min()) == pytest.approx(0.05)
    ratio = sizes[1:] / sizes[:-1]
    resets = sizes[1:] == 0.5
    shortened = torch.isclose(ratio, torch.tensor(2 / 3, dtype=ratio.dtype)) | torch.isclose(
        sizes[1:], torch.tensor(0.05, dtype=sizes.dtype)
    )
    assert torch.all(resets | shortened) and torch.any(resets) and torch.any(shortened)


# Projections


PROJECTIONS = {"linf": projections.linf, "l2": projections.l2_and_box, "l1": projections.l1_and_box}


@pytest.mark.parametrize("norm", PROJECTIONS)
@pytest.mark.parametrize("eps", [0.05, 0.5, 2.0])
def test_a_projection_is_the_nearest_point(norm: str, eps: float) -> None:
    """p is the projection of z exactly if <z - p, q - p> <= 0 for every q of the set."""
    project = PROJECTIONS[norm]
    for seed in range(20):
        x, z = draw(D, seed=seed), 3 * draw(D, seed=seed + 100) - 1
        x[:3] = torch.tensor([0.0, 1.0, 0.5])
        p = project(z, x, eps, (0.0, 1.0))
        assert float(size((p - x)[None], norm)) <= eps * (1 + 1e-9) and p.min() >= 0 and p.max() <= 1
        corners = torch.cat([torch.eye(D), -torch.eye(D), 2 * draw(50, D, seed=seed + 200).double() - 1])
        corners = corners / size(corners, norm)[:, None] * eps
        others = torch.cat([x + corners, p + 0.1 * (x + corners - p)]).clamp(0, 1)
        inside = [q for q in others if float(size((q - x)[None], norm)) <= eps * (1 + 1e-9)]
        assert len(inside) > 50
        assert all(float((z - p) @ (q - p)) <= 1e-7 for q in inside)
        assert torch.allclose(project(p, x, eps, (0.0, 1.0)), p, atol=1e-9)


def test_scaling_then_clipping_is_feasible_but_not_the_nearest_point() -> None:
    x = torch.tensor([0.0, 0.5], dtype=torch.float64)
    z = torch.tensor([-3.0, 0.9], dtype=torch.float64)
    clipped = projections.l2_then_box(z, x, 0.3, (0.0, 1.0))
    nearest = projections.l2_and_box(z, x, 0.3, (0.0, 1.0))
    assert nearest.tolist() == pytest.approx([0.0, 0.8])
    assert float((clipped - x).norm()) < 0.3
    assert float((z - nearest).norm()) < float((z - clipped).norm()) - 0.01


# The folder


def test_no_transcription_knows_the_package_that_it_checks() -> None:
    for path in Path(__file__).parent.glob("*.py"):
        if path.name.startswith("test_"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
            assert all(name.split(".")[0] != "potemkin" for name in names), path.name


def test_steps_and_radii_must_fit() -> None:
    x, labels = draw(2, D), torch.zeros(2, dtype=torch.long)
    with pytest.raises(ValueError, match="one step"):
        fgsm.run(rugged, x, labels, EPS, 2)
    with pytest.raises(ValueError, match="3 numbers for 2 rows"):
        pgd.run(rugged, x, labels, [EPS] * 3, 2, 0.1)
    assert math.isclose(float(pgd.run(rugged, x, labels, 0.0, 2, 0.1).final.sub(x).abs().max()), 0.0)
