"""What all training recipes share: the threat, how the inner attack is run, and what can be put on top of any."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from potemkin.attacks.program import Attack
from potemkin.core.canonical import show
from potemkin.core.checks import choice, number
from potemkin.core.notation import Noted
from potemkin.errors import ConfigError
from potemkin.models.classifier import Classifier
from potemkin.threat.box import Box
from potemkin.threat.sets.base import PerturbationSet
from potemkin.threat.sets.l1 import L1
from potemkin.threat.sets.l2 import L2
from potemkin.threat.sets.linf import Linf
from potemkin.training.augment import Augmentation, Cutmix, Mixup
from potemkin.training.averages import Average
from potemkin.training.examples import Attacked, Examples, Learnt
from potemkin.training.inner import Adversary
from potemkin.training.learner import Learner
from potemkin.training.radius import PerExample, is_radius

NORMS: dict[str, Any] = {"Linf": Linf, "L2": L2, "L1": L1}


@dataclass(frozen=True, repr=False, kw_only=True)
class Recipe(Noted, ABC):
    """A training recipe: a frozen configuration; `dataclasses.replace` derives another.

    Args (of every recipe, all by name):
        eps: the adversary's radius in input units: a number, or `HalfNormal`, `UniformEps`, `PerClass`, `PerExample`.
        norm: "Linf", "L2" or "L1".
        sets: perturbation sets such as `(Linf(8/255), L2(0.5))`, in place of eps and norm.
        over: several sets: "max" learns from each row's worst, "average" from all.
        inner: mode of the network while it is attacked: "eval", or "train" for batch statistics (decision 0016).
        keep: what the attack hands over: its "last" iterate, or the "best" (one forward more).
        eps_ramp: share of the run over which eps rises linearly to its full size, in [0, 1).
        label_smoothing: in [0, 1).
        augment: `Shift`, `Flip`, `Cutout`, `Mixup`, `Cutmix`, in the order in which they are applied.
        extra: share of each batch that comes from the extra data, in [0, 1).
        awp: adversarial weight perturbation: how far weights are moved, in units of each layer's norm; 0 for none.
        awp_after: share of the run before it begins, in [0, 1).
        average: `EMA(decay)` or `SWA(start)` of the weights; then these are evaluated and exported.

    Errors: ConfigError for a value out of its range, for arguments that exclude each other, and for one that the recipe
    would not look at.
    """

    ignores: ClassVar[tuple[str, ...]] = ()
    """Arguments that mean nothing to this recipe, and are refused."""
    eps: Any = 8 / 255
    norm: str = "Linf"
    sets: tuple[Any, ...] = ()
    over: str = "max"
    inner: str = "eval"
    keep: str = "last"
    eps_ramp: float = 0.0
    label_smoothing: float = 0.0
    augment: tuple[Augmentation, ...] = ()
    extra: float = 0.0
    awp: float = 0.0
    awp_after: float = 0.0
    average: Average | None = None

    def __post_init__(self) -> None:
        if not is_radius(self.eps):
            number("eps of a training recipe (the radius, in input units, such as 8/255)", self.eps, low=0.0)
        allowed = {"norm": (*NORMS,), "over": ("max", "average"), "inner": ("eval", "train"), "keep": ("last", "best")}
        for name, values in allowed.items():
            choice(f"{name} of a training recipe", getattr(self, name), values)
        for name in ("eps_ramp", "label_smoothing", "extra", "awp_after"):
            number(name, getattr(self, name), low=0.0, high=1.0, open_high=True)
        number("awp", self.awp, low=0.0)
        _check_parts(self)
        _check_idle(self)

    @property
    @abstractmethod
    def adversary(self) -> Adversary | None:
        """How adversarial examples are made; None where there is no search before the loss."""

    @abstractmethod
    def loss(self, learner: Learner, given: Examples, attacked: Attacked | None) -> Learnt:
        """The loss of a batch, attached to the weights."""

    def learn_clean(self, learner: Learner, given: Examples) -> Learnt:
        """Mean cross-entropy of clean rows: what is left of a recipe where nothing is attacked."""
        logits = learner.learn(given.x)
        return Learnt(given.cross_entropy(logits, self.label_smoothing).mean(), logits.detach(), given.y)

    @property
    def replays(self) -> int:
        """Steps taken on every batch before the next comes."""
        return 1

    @property
    def attacks(self) -> bool:
        """Whether rows are attacked while it trains."""
        return self.adversary is not None or self.replays > 1

    @property
    def defends(self) -> bool:
        """Whether it trains for robustness, so that the best weights are the most robust ones."""
        return self.attacks

    @property
    def differentiates_twice(self) -> bool:
        """Whether its loss holds gradients, which sharded weights (FSDP2) cannot be differentiated through."""
        return False

    @property
    def radius(self) -> float:
        """The largest eps of any row; robustness is evaluated there."""
        if self.sets:
            return max(float(each.eps) for each in self.sets)
        return self.eps.largest if is_radius(self.eps) else float(self.eps)

    @property
    def threats(self) -> tuple[PerturbationSet, ...]:
        """The sets that the recipe defends; their first is what robust accuracy is evaluated in."""
        return self.sets or (NORMS[self.norm](self.radius),)

    def attacked_rows(self, given: Examples) -> tuple[int, int]:
        """Which rows are attacked: first..last-1."""
        return 0, len(given)

    def attack(self, learner: Learner, given: Examples, by: Adversary | None = None) -> Attacked | None:
        """Adversarial examples from the current weights, for the rows that the recipe attacks; `by` another attack."""
        first, last = self.attacked_rows(given)
        adversary = by or self.adversary
        if adversary is None or first == last or self.radius == 0:
            return None
        chosen = given.rows(first, last)
        found = [
            adversary.search(learner, chosen, each, self.ramp(given) * self._eps(each, chosen)) for each in self.threats
        ]
        if len(found) == 1:
            return found[0]
        return _together(found) if self.over == "average" else _worst(learner, chosen, found, self.inner)

    def ramp(self, given: Examples) -> float:
        """Share of eps that is in force at this place of the run."""
        return min(1.0, given.progress / self.eps_ramp) if self.eps_ramp else 1.0

    def carry(self, learner: Learner, given: Examples, attacked: Attacked) -> Attacked | None:
        """What the backward of the loss left for the batch's next replay; None where each is attacked anew."""
        return None

    def check(self, box: Box, classes: int | None, examples: int) -> None:
        """Refuse what cannot fit the data and the model: a radius per class or example, an attack outside its norm."""
        if hasattr(self.eps, "check"):
            self.eps.check(examples)
        per_class = getattr(self.eps, "eps", None)
        if isinstance(per_class, tuple) and classes is not None and len(per_class) != classes:
            raise ConfigError(f"{self.eps!r} has {len(per_class)} radii, the model {classes} classes.")
        for each in self.threats if self.adversary else ():
            why = self.adversary.attack.misfit(each, box) if self.adversary else None
            if why is not None:
                raise ConfigError(f"{show(self)} does not fit the threat model: {why}")

    def reads(self) -> dict[str, str]:
        """What it reads beside the data, and the fingerprints: a run goes on with the same."""
        return {self.eps.file: self.eps.fingerprint} if isinstance(self.eps, PerExample) else {}

    def check_model(self, model: Classifier, input_shape: Sequence[int]) -> None:
        """Refuse a network that the recipe cannot train, and other networks that it needs and cannot use."""

    def _eps(self, each: PerturbationSet, given: Examples) -> Tensor:
        if self.sets:
            return torch.full((len(given),), float(each.eps), device=given.x.device)
        if is_radius(self.eps):
            return self.eps.draw(given.y, given.positions, given.streams).to(given.x.device)
        return torch.full((len(given),), float(self.eps), device=given.x.device)

    def _adversary(self, attack: Attack, stretch: float = 1.0) -> Adversary:
        return Adversary(attack, stretch, self.keep, self.inner)


def together(learner: Learner, given: Examples, attacked: Attacked) -> tuple[Tensor, Tensor, Examples]:
    """Logits of the clean rows and of what was made of them, from one batch, and the examples of the latter."""
    points, repeats = at(given, attacked)
    both = learner.learn(torch.cat([given.x, points]))
    return both[: len(given)], both[len(given) :], repeats


class OnAttacked(Recipe):
    """Recipes that learn from adversarial rows alone: mean cross-entropy at x'."""

    def loss(self, learner: Learner, given: Examples, attacked: Attacked | None) -> Learnt:
        if attacked is None:
            return self.learn_clean(learner, given)
        points, given = at(given, attacked)
        logits = learner.learn(points)
        loss = given.cross_entropy(logits, self.label_smoothing).mean()
        return Learnt(loss, attacked=logits.detach(), attacked_labels=given.y)


def at(given: Examples, attacked: Attacked) -> tuple[Tensor, Examples]:
    """Where to learn, and the examples there: several sets repeat them."""
    times = len(attacked.points) // len(given)
    return attacked.points, given if times == 1 else repeated(given, times)


def repeated(given: Examples, times: int) -> Examples:
    """The rows, all of them `times` times over."""

    def over(tensor: Tensor) -> Tensor:
        return tensor.repeat(times, *(1,) * (tensor.dim() - 1))

    return replace(
        given, x=over(given.x), y=over(given.y), positions=over(given.positions),
        partner=None if given.partner is None else over(given.partner),
        share=None if given.share is None else over(given.share),
    )  # fmt: skip


def _together(found: list[Attacked]) -> Attacked:
    return Attacked(
        *(torch.cat([getattr(each, name) for each in found]) for name in ("points", "dead", "eps", "moved"))
    )


@torch.no_grad()
def _worst(learner: Learner, given: Examples, found: list[Attacked], mode: str) -> Attacked:
    """Per row what has the greatest cross-entropy, whatever the attack climbs: one forward more for each set."""
    with learner.probing(mode) as logits:
        losses = torch.stack([given.cross_entropy(logits(each.points)) for each in found])
    winner = losses.argmax(dim=0)

    def pick(name: str) -> Tensor:
        stacked = torch.stack([getattr(each, name) for each in found])
        return stacked[winner, torch.arange(len(given), device=winner.device)]

    return Attacked(pick("points"), pick("dead"), pick("eps"), pick("moved"))


def _check_parts(recipe: Recipe) -> None:
    if not all(isinstance(each, PerturbationSet) for each in recipe.sets):
        raise ConfigError(f"sets={recipe.sets!r} of a training recipe: give sets, such as (Linf(8/255), L2(0.5)).")
    # Compared with the recipe's own default: a recipe whose eps is drawn may be given sets, too.
    if recipe.sets and (recipe.eps != type(recipe).eps or recipe.norm != "Linf"):
        raise ConfigError("A training recipe takes eps and norm, or sets, not both: the sets have a radius each.")
    for part in recipe.augment:
        if not isinstance(part, Noted) or not callable(getattr(part, "apply", None)):
            raise ConfigError(f"{_said(part)} is no augmentation; for example augment=(Shift(4), Flip()).")
    if sum(isinstance(part, Mixup | Cutmix) for part in recipe.augment) > 1:
        raise ConfigError(f"augment={recipe.augment!r}: a row has room for two labels; give Mixup() or Cutmix(), once.")
    if isinstance(recipe.eps, PerExample) and recipe.extra:
        raise ConfigError(f"{recipe.eps!r} has no radii for the extra data (extra={recipe.extra:g}): leave one out.")
    average = recipe.average
    if average is not None and not (isinstance(average, Noted) and callable(getattr(average, "weight", None))):
        raise ConfigError(f"average={_said(average)} is no average; for example average=EMA(0.995).")


def _said(part: object) -> str:
    return part.__name__ if isinstance(part, type) else repr(part)


def _check_idle(recipe: Recipe) -> None:
    """Refuse what would change nothing: whoever gives it expects that it does."""
    name = type(recipe).__name__
    for each in recipe.ignores:
        if getattr(recipe, each) != getattr(type(recipe), each):
            raise ConfigError(f"{name}() does not look at {each}: leave {each}={getattr(recipe, each)!r} out.")
    if recipe.over != "max" and len(recipe.sets) < 2:
        raise ConfigError(f"over={recipe.over!r} of {name}() is about several sets: give sets=(..., ...), too.")
    if recipe.awp_after and not recipe.awp:
        raise ConfigError(f"awp_after={recipe.awp_after:g} of {name}() says when awp begins: give awp=0.005, too.")
