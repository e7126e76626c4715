"""The inner search: what it costs, what it leaves behind, and where its points lie."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from potemkin.attacks.parts.starts import Center
from potemkin.attacks.program import Asks, Attack
from potemkin.attacks.recipes.apgd import apgd
from potemkin.attacks.recipes.bim import bim, iterative_ll
from potemkin.attacks.recipes.fgsm import fgsm, r_fgsm, step_ll, step_rnd
from potemkin.attacks.recipes.mi_fgsm import mi_fgsm
from potemkin.attacks.recipes.noise import noise
from potemkin.attacks.recipes.pgd import pgd
from potemkin.errors import ModelError
from potemkin.threat.box import Box
from potemkin.threat.objectives import KL
from potemkin.threat.sets.base import PerturbationSet
from potemkin.threat.sets.l1 import L1
from potemkin.threat.sets.l2 import L2
from potemkin.threat.sets.linf import Linf
from potemkin.training.examples import Attacked, Examples
from potemkin.training.inner import Adversary, _rows
from potemkin.training.learner import Learner, held
from potemkin.training.recipes import ensemble_at, pgd_at, trades
from training_steps import SHAPE, examples

B, K, EPS = 9, 4, 0.1
MODES = pytest.mark.parametrize("mode", ["eval", "train"])


@dataclass
class Count:
    """What a network was asked for: rows of each forward, rows of each backward through its input."""

    forwards: list[int] = field(default_factory=list)
    backwards: list[int] = field(default_factory=list)
    points: list[Tensor] = field(default_factory=list)


class Counted(nn.Module):
    """Counts what goes through it in both directions, and can fail on purpose at one call."""

    def __init__(self) -> None:
        super().__init__()
        self.count = Count()
        self.fails_at: int | None = None

    def forward(self, x: Tensor) -> Tensor:
        if len(self.count.forwards) == self.fails_at:
            raise RuntimeError("on purpose")
        self.count.forwards.append(len(x))
        self.count.points.append(x.detach().clone())
        out = x.flatten(1) * 1.0
        if out.requires_grad:
            out.register_hook(lambda gradient: self.count.backwards.append(len(gradient)))
        return out


def network(seed: int = 0) -> nn.Sequential:
    """With batch normalisation and dropout; its first layer counts."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(
            Counted(), nn.Linear(math.prod(SHAPE), 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Dropout(0.2), nn.Linear(16, K)
        )
        with torch.no_grad():
            net[1].weight.mul_(4)
            net[2].running_mean.uniform_(-0.5, 0.5)
            net[2].running_var.uniform_(0.5, 2.0)
    return net


def learner(net: nn.Module, box: Box | None = None) -> Learner:
    return Learner(net, net, box or Box(0, 1), classes=K)


def search(
    attack: Attack, net: nn.Module, given: Examples, within: PerturbationSet | None = None, **how: Any
) -> tuple[Attacked, Learner]:
    teacher = learner(net)
    within = within or Linf(EPS)
    eps = how.pop("eps", torch.full((len(given),), within.eps))
    with torch.random.fork_rng():
        torch.manual_seed(1)  # of dropout
        return Adversary(attack, **how).search(teacher, given, within, eps), teacher


# Cost ---------------------------------------------------------------------------------------------------------------


COSTS: dict[str, tuple[Attack, int, int]] = {
    "fgsm": (fgsm(), 1, 1),
    "fgsm, predicted label": (fgsm(label="predicted"), 1, 1),
    "step_ll": (step_ll(), 1, 1),
    "step_rnd": (step_rnd(), 1, 1),
    "r_fgsm": (r_fgsm(), 1, 1),
    "bim": (bim(steps=4), 4, 4),
    "iterative_ll": (iterative_ll(steps=4), 4, 4),
    "pgd": (pgd(steps=5), 5, 5),
    "pgd, many restarts": (pgd(steps=5, restarts=3), 5, 5),
    "mi_fgsm": (mi_fgsm(steps=3), 3, 3),
    "apgd": (apgd(steps=6), 6, 6),
    "trades": (pgd(steps=5, objective=KL()), 6, 5),
    "noise": (noise(), 0, 0),
}


@MODES
@pytest.mark.parametrize("name", COSTS)
def test_n_steps_cost_n_forwards_and_n_backwards(name: str, mode: str) -> None:
    attack, forwards, backwards = COSTS[name]
    net = network()
    _, teacher = search(attack, net, examples(B), mode=mode)
    count = net[0].count
    assert count.forwards == [B] * forwards and count.backwards == [B] * backwards
    assert teacher.meter.attack == [B * forwards, B * backwards]
    assert teacher.meter.learning == teacher.meter.evaluation == [0, 0]


def test_step_ll_reads_its_target_off_the_one_pass_that_it_makes() -> None:
    net, given = network(), examples(B)
    found, _ = search(step_ll(), net, given)
    assert len(net[0].count.forwards) == 1 and torch.equal(net[0].count.points[0], given.x)
    point = given.x.clone().requires_grad_()
    logits = net.eval()(point)
    least = logits.detach().scatter(1, given.y[:, None], math.inf).argmin(dim=1)
    nn.functional.cross_entropy(logits, least, reduction="sum").backward()
    assert torch.allclose(found.points, (given.x - EPS * point.grad.sign()).clamp(0, 1), atol=1e-6)


def test_the_best_iterate_costs_one_forward_more_and_is_the_one_with_the_greatest_loss() -> None:
    net, given = network(), examples(200)
    attack = pgd(steps=4, relative_step_size=0.9)  # so long that many a row ends worse than it was before
    found, teacher = search(attack, net, given, keep="best")
    assert net[0].count.forwards == [200] * 5 and teacher.meter.attack == [1000, 800]
    asked = torch.stack(net[0].count.points)
    net.eval()
    with torch.no_grad():
        losses = torch.stack([nn.functional.cross_entropy(net(x), given.y, reduction="none") for x in asked])
        values = nn.functional.cross_entropy(net(found.points), given.y, reduction="none")
    assert torch.allclose(values, losses.max(dim=0).values, atol=1e-6)
    last, _ = search(attack, network(), given)
    assert torch.equal(last.points, asked[-1])
    winner = losses.argmax(dim=0)
    assert 10 < int((winner < 4).sum()) < 190, "the last iterate is the best for some rows and not for others"


@pytest.mark.parametrize("keep", ["last", "best"])
def test_backwards_are_counted_as_they_are_made(keep: str) -> None:
    net = network()
    _, teacher = search(pgd(steps=3), net, examples(B), keep=keep)
    assert teacher.meter.attack == [sum(net[0].count.forwards), sum(net[0].count.backwards)]


@pytest.mark.parametrize("recipe", [pgd_at(steps=3), trades(steps=3)], ids=repr)
def test_an_attack_and_the_learning_are_counted_apart(recipe: Any) -> None:
    net, given = network().train(), examples(B)
    teacher = learner(net)
    loss = recipe.loss(teacher, given, recipe.attack(teacher, given)).loss
    clean = isinstance(recipe, trades)
    assert teacher.meter.attack == [B * (3 + clean), B * 3]
    assert teacher.meter.learning == [B * (1 + clean), 2 * B * (1 + clean)]
    assert sum(net[0].count.forwards) == teacher.meter.attack[0] + teacher.meter.learning[0]
    loss.backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


# What it leaves behind ----------------------------------------------------------------------------------------------


def fingerprint(net: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def assert_unmoved(net: nn.Module, before: dict[str, Tensor], flags: list[bool]) -> None:
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in net.parameters())
    assert [part.training for part in net.modules()] == flags
    assert net[2].track_running_stats


@MODES
@pytest.mark.parametrize("keep", ["last", "best"])
@pytest.mark.parametrize("attack", [pgd(steps=3), step_ll(), pgd(steps=3, objective=KL())], ids=repr)
def test_the_network_is_as_it_was(attack: Attack, mode: str, keep: str) -> None:
    net, given = network().train(), examples(B)
    net[4].eval()  # frozen by its owner: one flag unlike the others
    before, flags, x = fingerprint(net), [part.training for part in net.modules()], given.x.clone()
    found, _ = search(attack, net, given, mode=mode, keep=keep)
    assert_unmoved(net, before, flags)
    assert torch.equal(given.x, x) and not given.x.requires_grad and not found.points.requires_grad
    assert int(net[2].num_batches_tracked) == 0


@MODES
@pytest.mark.parametrize("call", [0, 2])
def test_the_network_is_as_it_was_after_an_exception(mode: str, call: int) -> None:
    net = network().train()
    before, flags = fingerprint(net), [part.training for part in net.modules()]
    net[0].fails_at = call
    with pytest.raises(RuntimeError, match="on purpose"):
        search(pgd(steps=3), net, examples(B), mode=mode)
    assert_unmoved(net, before, flags)


def test_gradients_that_wait_for_the_optimiser_are_left_alone() -> None:
    net, given = network().train(), examples(B)
    nn.functional.cross_entropy(net(given.x), given.y).backward()
    waiting = [parameter.grad.clone() for parameter in net.parameters()]
    search(pgd(steps=2), net, given, mode="train")
    assert all(torch.equal(p.grad, kept) for p, kept in zip(net.parameters(), waiting, strict=True))


def test_the_mode_is_that_of_every_pass() -> None:
    seen: list[bool] = []
    net = network().train()
    net[2].register_forward_pre_hook(lambda part, _: seen.append(part.training))
    search(pgd(steps=2), net, examples(B), mode="eval")
    search(pgd(steps=2), net, examples(B), mode="train")
    assert seen == [False, False, True, True]


def test_train_mode_attacks_with_the_batchs_own_statistics() -> None:
    net, given = network().train(), examples(B)
    net[4].p = 0.0
    found, _ = search(fgsm(), net, given, mode="train")
    point = given.x.clone().requires_grad_()
    nn.functional.cross_entropy(net(point), given.y, reduction="sum").backward()  # in train mode
    assert torch.allclose(found.points, (given.x + EPS * point.grad.sign()).clamp(0, 1), atol=1e-6)
    other, _ = search(fgsm(), net, given, mode="eval")
    assert not torch.allclose(found.points, other.points)


def test_a_layer_without_running_statistics_stays_without() -> None:
    net = nn.Sequential(Counted(), nn.BatchNorm1d(12, track_running_stats=False), nn.Linear(12, K)).train()
    for mode in (False, True):
        with held(net, training=mode):
            net(torch.rand(4, 12))
        assert not net[1].track_running_stats and net[1].training


def test_what_answers_in_another_form_is_refused_with_the_network_restored() -> None:
    net = nn.Sequential(Counted(), nn.Linear(12, K + 1)).train()
    with pytest.raises(ModelError, match="5 classes"):
        search(fgsm(), net, examples(B))
    assert net.training


# Where its points lie -----------------------------------------------------------------------------------------------


SETS = {"Linf": Linf(0.2), "L2": L2(0.6), "L1": L1(1.5)}
SEARCHES: dict[str, Callable[[], Attack]] = {
    "fgsm": fgsm,
    "pgd": lambda: pgd(steps=4),
    "step_ll": step_ll,
    "apgd": lambda: apgd(steps=5),
    "noise": noise,
}


def network_free_start(attack: Attack, given: Examples, within: PerturbationSet, eps: Tensor) -> Tensor:
    """Where its search begins, which no network is asked about; noise begins at the clean input."""
    program = attack.program(K, within.norm_name, targeted=False)
    if program.asks is not Asks.GRADIENTS:
        return given.x
    region = within.around(given.x, Box(0, 1), eps)
    return program.start(_rows(given, within, region, attack.steps_for(within.eps))).query


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("attack", SEARCHES)
@pytest.mark.parametrize("keep", ["last", "best"])
def test_points_lie_in_set_and_box_at_each_rows_own_radius(name: str, attack: str, keep: str) -> None:
    given, within = examples(30), SETS[name]
    given.x[:5], given.x[5:10] = 0.0, 1.0  # corners of the box
    given.x.clamp_(0, 1)
    eps = torch.linspace(0.0, within.eps, 30)
    found, _ = search(SEARCHES[attack](), network(), given, within, eps=eps, keep=keep)
    offset = (found.points - given.x).double().flatten(1)
    order = {"Linf": math.inf, "L2": 2, "L1": 1}[name]
    length = torch.linalg.vector_norm(offset, order, dim=1)
    assert torch.all(length <= eps.double() * (1 + 1e-5) + 1e-6)
    assert torch.all(within.around(given.x, Box(0, 1), eps).contains(found.points))
    assert found.points.min() >= 0 and found.points.max() <= 1
    assert torch.equal(found.points[0], given.x[0]) and torch.equal(found.eps, eps)
    begins = network_free_start(SEARCHES[attack](), given, within, eps)
    walked = torch.linalg.vector_norm((found.points - begins).double().flatten(1), order, dim=1)
    assert torch.allclose(found.moved.double()[1:], (walked / eps)[1:], atol=1e-4), "from where the search began"
    assert float(length[10:].max()) > 0.3 * within.eps, "it moved"


def test_a_stretched_set_is_searched_at_the_declared_eps() -> None:
    given = examples(30)
    found, _ = search(pgd(steps=3, relative_step_size=1.0, start=Center()), network(), given, Linf(0.1), stretch=3.0)
    length = (found.points - given.x).abs().amax(dim=(1, 2, 3))
    assert 0.2 < float(length.max()) <= 0.3 + 1e-6
    assert torch.allclose(found.moved, length / 0.1, atol=1e-4) and torch.all(found.eps == torch.tensor(0.1))


def test_more_steps_find_more_loss() -> None:
    given, values = examples(100), []
    for steps in (1, 10):
        net = network()
        found, _ = search(pgd(steps=steps, start=Center()), net, given)
        with torch.no_grad():
            values.append(nn.functional.cross_entropy(net.eval()(found.points), given.y).item())
    clean = nn.functional.cross_entropy(network().eval()(given.x), given.y).item()
    assert clean + 0.1 < values[0] < values[1]


ALIKE = [(name, pgd(steps=2)) for name in SETS]
ALIKE += [("L2", pgd(steps=2, objective=KL()))]
ALIKE += [("Linf", attack) for attack in (step_ll(), step_rnd(), apgd(steps=3), pgd(steps=3, objective=KL()))]


@pytest.mark.parametrize(("name", "attack"), ALIKE)
def test_a_row_does_not_depend_on_the_others_in_eval_mode(name: str, attack: Attack) -> None:
    given, within, keep = examples(24), SETS[name], "best" if name == "L2" else "last"
    eps = torch.linspace(0.3, 1.0, 24) * within.eps
    whole, _ = search(attack, network(), given, within, eps=eps, keep=keep)
    for first, last in ((0, 8), (5, 24)):
        part, _ = search(attack, network(), given.rows(first, last), within, eps=eps[first:last], keep=keep)
        # To float32's rounding: a product of matrices with other row counts may end in another last bit.
        assert torch.allclose(part.points, whole.points[first:last], atol=2e-6)
        assert torch.equal(part.dead, whole.dead[first:last])


def test_rows_with_other_keys_start_elsewhere() -> None:
    given = examples(4)
    first, _ = search(pgd(steps=1), network(), given)
    again, _ = search(pgd(steps=1), network(), given)
    other, _ = search(pgd(steps=1), network(), replace(given, streams=examples(4, seed=1).streams))
    assert torch.equal(first.points, again.points) and not torch.allclose(first.points, other.points, atol=0.01)


# Rows that see no gradient ------------------------------------------------------------------------------------------


class Deaf(nn.Module):
    """Rows whose first number is above 1/2 have a gradient of zero, or of NaN."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.linear, self.factor = nn.Linear(12, K), factor

    def forward(self, x: Tensor) -> Tensor:
        rows = x.flatten(1)
        return self.linear(rows) * torch.where(rows[:, :1] > 0.5, self.factor, 1.0)


@pytest.mark.parametrize("factor", [0.0, math.nan])
@pytest.mark.parametrize("attack", [fgsm(), step_ll(), pgd(steps=3)], ids=repr)
def test_rows_that_never_saw_a_usable_gradient_are_dead(attack: Attack, factor: float) -> None:
    given = examples(40)
    given.x[:, 0, 0, 0] = torch.tensor([0.1, 0.9]).repeat(20)  # too far from 1/2 to cross it
    found, _ = search(attack, Deaf(factor), given)
    assert found.dead.tolist() == [False, True] * 20
    assert torch.isfinite(found.points).all()
    if not isinstance(attack, pgd):
        assert torch.equal(found.points[1::2], given.x[1::2]), "a dead row stays where it began"
        assert torch.all(found.moved[1::2] == 0) and torch.all(found.moved[::2] > 0.99)


def test_an_infinite_gradient_is_none() -> None:
    given = examples(40)
    given.x[:, 0, 0, 0] = torch.tensor([0.1, 0.9]).repeat(20)

    class Steep(Deaf):
        def forward(self, x: Tensor) -> Tensor:
            if x.requires_grad:
                steep = x.detach()[:, :1, :1, :1] > 0.5
                x.register_hook(lambda gradient: torch.where(steep, math.inf, gradient))
            return super().forward(x)

    found, _ = search(fgsm(), Steep(1.0), given)
    assert found.dead.tolist() == [False, True] * 20 and torch.isfinite(found.points).all()


def test_an_attack_in_train_mode_leaves_every_buffer_as_it_was() -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(12, K)
            self.register_buffer("seen", torch.zeros(1))

        def forward(self, x: Tensor) -> Tensor:
            if self.training:
                self.seen += len(x)
            return self.linear(x.flatten(1))

    net = Counts()
    teacher = Learner(net, net, Box(0, 1), classes=K)
    with teacher.probing("train") as logits:
        logits(examples(4).x)
        assert net.seen.item() == 4
    assert net.seen.item() == 0


def test_one_usable_gradient_is_enough() -> None:
    """A row that begins where the gradient is zero, and steps out of there at random, is not dead."""

    class Plateau(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.calls, self.linear = 0, nn.Linear(12, K)

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return self.linear(x.flatten(1)) * (self.calls == 2)

    found, _ = search(pgd(steps=3), Plateau(), examples(5))
    assert not found.dead.any()


def test_noise_is_never_dead() -> None:
    found, _ = search(noise(), Deaf(0.0), examples(10))
    assert not found.dead.any() and torch.all(found.moved > 0.5)


# Several networks ---------------------------------------------------------------------------------------------------


def test_the_inner_module_is_asked_not_its_wrapper() -> None:
    """A wrapper (DDP, compiled) would synchronise gradients that nobody wants."""
    plain = network()

    class Wrapper(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise AssertionError("the wrapper was asked")

    teacher = Learner(Wrapper(), plain, Box(0, 1), classes=K)
    given = examples(B)
    assert (
        Adversary(pgd(steps=2)).search(teacher, given, Linf(EPS), torch.full((B,), EPS)).points.shape == given.x.shape
    )
    with pytest.raises(AssertionError, match="wrapper"):
        teacher.learn(given.x)


def test_preprocessing_is_looked_through_and_eps_stays_in_input_units() -> None:
    class Halve(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x - 0.5) * 2

    given = examples(B)
    teacher = Learner(net := network(), net, Box(0, 1), Halve(), K)
    found = Adversary(fgsm()).search(teacher, given, Linf(EPS), torch.full((B,), EPS))
    assert float((found.points - given.x).abs().max()) <= EPS + 1e-6 and not found.dead.any()
    assert torch.allclose(net[0].count.points[0], (given.x - 0.5) * 2)


def test_targets_at_random_go_to_all_classes_before_the_number_of_classes_is_known() -> None:
    """A network whose classes nobody declared: the first batch must not take it for one of two."""
    given = examples(200)
    given.y.zero_()
    teacher = Learner(net := network(), net, Box(0, 1))
    found = Adversary(step_rnd()).search(teacher, given, Linf(EPS), torch.full((200,), EPS))
    again = Adversary(step_rnd()).search(teacher, given, Linf(EPS), torch.full((200,), EPS))
    assert teacher.classes == K and torch.equal(found.points, again.points)


def test_an_ensembles_source_is_asked_in_its_place() -> None:
    assert ensemble_at(sources=("a",)).adversary.attack == fgsm()
