"""One-step attacks: the fast gradient sign method and its relatives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from potemkin.attacks.ascent import Ascent
from potemkin.attacks.parts.directions import Chain, Direction, Normalize, Steepest
from potemkin.attacks.parts.starts import SignStep
from potemkin.attacks.parts.step_sizes import Constant
from potemkin.attacks.parts.targets import LeastLikelyClass, PredictedLabel, RandomClass, TrueLabel
from potemkin.attacks.program import Program, Targeting
from potemkin.attacks.recipes.base import OneStep
from potemkin.core.checks import choice, number
from potemkin.core.registry import register
from potemkin.errors import ConfigError
from potemkin.threat.objectives import CrossEntropy, Entropy


@register("attack")
@dataclass(frozen=True, repr=False)
class fgsm(OneStep):
    """Fast gradient sign method: one step of length eps along the sign of the gradient.

        x' = P(x + eps * sign(grad_x J(x, y)))

    In an L2 or L1 set the sign becomes that norm's steepest direction: the same idea, see `fast_gradient`.

    Args:
        label: "true", or "predicted" where no label may be used (it cannot leak the label).

    Cost: 2 forwards, 1 backward.  Exact on linear models in Linf.
    Example:
        >>> fgsm(label="predicted")
        fgsm(label='predicted')

    Source: Goodfellow et al. 2015, section 4; predicted label: Kurakin et al. 2017, appendix A.
    Differs: the result is projected into the box, which the paper does not mention.
    """

    label: Literal["true", "predicted"] = "true"

    def __post_init__(self) -> None:
        _check_label(self.label)

    @property
    def targeting(self) -> Targeting:
        return TrueLabel() if self.label == "true" else PredictedLabel()

    def program(self, classes: int, norm: str, targeted: bool) -> Program:
        return Ascent(CrossEntropy())


@register("attack")
@dataclass(frozen=True, repr=False)
class fast_gradient(OneStep):
    """Fast gradient method in the set's own norm, or scaled by the largest entry.

        "steepest":  L2: x' = P(x + eps * g / ||g||_2)   L1: x' = P(x + eps * e_i sign(g_i)), i = argmax |g_i|
        "max":       x' = P(x + eps * g / ||g||_inf)

    Args:
        scale: which of the two.
        label: "true" or "predicted".

    Cost: 2 forwards, 1 backward.
    Source: Kurakin et al. 2017, appendix A (fast grad. L2, fast grad. Linf; recalled); Miyato et al. 2016.
    Differs: projected into set and box.
    """

    scale: Literal["steepest", "max"] = "steepest"
    label: Literal["true", "predicted"] = "true"

    def __post_init__(self) -> None:
        _check_label(self.label)
        choice("scale of fast_gradient", self.scale, ("steepest", "max"))

    @property
    def exact(self) -> frozenset[str]:
        return super().exact if self.scale == "steepest" else frozenset()

    @property
    def exempt(self) -> Mapping[str, str]:
        if self.scale == "steepest":
            return super().exempt
        why = "scaled by its largest entry, the gradient is no steepest direction of this norm"
        return {**super().exempt, "closed_form/Linf": why, "closed_form/L1": why}

    @property
    def targeting(self) -> Targeting:
        return TrueLabel() if self.label == "true" else PredictedLabel()

    def program(self, classes: int, norm: str, targeted: bool) -> Program:
        direction: Direction = Steepest() if self.scale == "steepest" else Chain((Normalize(p=float("inf")),))
        return Ascent(CrossEntropy(), direction=direction)


@register("attack")
@dataclass(frozen=True, repr=False)
class step_ll(OneStep):
    """One step towards the least likely class: no true label is used, so a model trained on it cannot leak labels.

        x' = P(x - eps * sign(grad_x J(x, y_ll))),   y_ll = argmin_y p(y | x)

    Cost: 2 forwards, 1 backward.
    Source: Kurakin et al. 2017, section 2.  Differs: the true class is never chosen as the least likely one.
    """

    @property
    def targeting(self) -> Targeting:
        return LeastLikelyClass()

    def program(self, classes: int, norm: str, targeted: bool) -> Program:
        return Ascent(CrossEntropy())


@register("attack")
@dataclass(frozen=True, repr=False)
class step_rnd(OneStep):
    """One step towards a wrong class drawn at random.

        x' = P(x - eps * sign(grad_x J(x, y_rnd)))

    Cost: 2 forwards, 1 backward.
    Source: Kurakin et al. 2017, section 2.  Differs: none.
    """

    @property
    def targeting(self) -> Targeting:
        return RandomClass()

    def program(self, classes: int, norm: str, targeted: bool) -> Program:
        return Ascent(CrossEntropy())


@register("attack")
@dataclass(frozen=True, repr=False)
class fast_entropy(OneStep):
    """One step that makes the prediction as uncertain as it can; uses no label at all.

        x' = P(x + eps * sign(grad_x H(p(. | x))))

    Cost: 2 forwards, 1 backward.
    Source: Kurakin et al. 2017, appendix A (fast entropy; recalled).  Differs: none known.
    """

    def program(self, classes: int, norm: str, targeted: bool) -> Program:
        if targeted:
            raise ConfigError(
                "fast_entropy() steers at no class; a targeted goal needs another attack, for example pgd()."
            )
        return Ascent(Entropy())


@register("attack")
@dataclass(frozen=True, repr=False)
class r_fgsm(OneStep):
    """A random sign step first, then the gradient step with what is left of the budget: escapes masked gradients at x.

        x_1 = P(x + fraction * eps * sign(n));   x' = P(x_1 + (1 - fraction) * eps * sign(grad J(x_1, y)))

    Args:
        fraction: share of eps spent at random, in [0, 1).
        restarts: independent repetitions, at least 1.

    Cost: 2 forwards, 1 backward per restart.
    Source: Tramèr et al. 2018, section 4.1 (fraction 1/2).  Differs: none.
    """

    fraction: float = 0.5
    restarts: int = 1

    def __post_init__(self) -> None:
        number("fraction", self.fraction, low=0.0, high=1.0, open_high=True)
        number("restarts", self.restarts, low=1, integer=True)

    @property
    def exact(self) -> frozenset[str]:
        return frozenset()

    @property
    def exempt(self) -> Mapping[str, str]:
        return {**super().exempt, "closed_form": "what is spent at random does not go where the gradient points"}

    @property
    def runs(self) -> int:
        return self.restarts

    def program(self, classes: int, norm: str, targeted: bool) -> Program:
        return Ascent(CrossEntropy(), start_at=SignStep(self.fraction), step_size=Constant(relative=1 - self.fraction))


def _check_label(label: str) -> None:
    choice("label", label, ("true", "predicted"))
