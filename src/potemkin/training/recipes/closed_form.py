"""Logistic regression, where the worst case has a closed form: no attack is needed to train against it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from potemkin.core.canonical import show
from potemkin.core.checks import number
from potemkin.core.registry import register
from potemkin.errors import ConfigError, ModelError
from potemkin.models.classifier import Classifier
from potemkin.training.augment import Cutmix, Mixup
from potemkin.training.examples import Attacked, Examples, Learnt
from potemkin.training.inner import Adversary
from potemkin.training.learner import Learner
from potemkin.training.losses import adversarial_softplus, l1_decay
from potemkin.training.radius import is_radius
from potemkin.training.recipes.base import Recipe


@dataclass(frozen=True, repr=False, kw_only=True)
class _Logistic(Recipe):
    """Two classes, one linear layer with one or two outputs."""

    ignores: ClassVar[tuple[str, ...]] = ("over", "inner", "keep", "eps_ramp")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.label_smoothing or any(isinstance(part, Mixup | Cutmix) for part in self.augment):
            raise ConfigError(f"{show(self)}: the closed form is for whole labels: no label_smoothing, no mixed rows.")

    @property
    def adversary(self) -> Adversary | None:
        return None

    def check_model(self, model: Classifier, input_shape: Sequence[int]) -> None:
        linear_weight(model.net)

    def loss(self, learner: Learner, given: Examples, attacked: Attacked | None) -> Learnt:
        logits = learner.learn(given.x)
        loss = self.rows(logits[:, 1] - logits[:, 0], linear_weight(learner.plain), given.y).mean()
        return Learnt(loss, logits.detach(), given.y)

    @abstractmethod
    def rows(self, logit: Tensor, weight: Tensor, y: Tensor) -> Tensor:
        """(B,) losses from the (B,) logit differences and the (d,) weight."""


@register("recipe")
@dataclass(frozen=True, repr=False, kw_only=True)
class softplus(_Logistic):
    """Adversarial training of logistic regression in closed form.

        zeta(eps ||w||_1 - s (w.x + b)),   s = 2y - 1,   zeta(z) = log(1 + e^z)

    Args: see `Recipe`; Linf and one eps, a number; the box is not regarded. See `losses.adversarial_softplus`.

    Cost per row: 1 forward and its backward; no attack.
    Example:
        >>> softplus(eps=0.25).defends
        True

    Source: Goodfellow et al. 2015, section 5 (eps 0.25, MNIST 3 against 7).  Differs: see the loss.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sets or self.norm != "Linf" or is_radius(self.eps):
            raise ConfigError(f"{show(self)}: the closed form is for Linf and one eps, a number, throughout the run.")

    @property
    def defends(self) -> bool:
        return True  # the worst case is in the loss

    def check_model(self, model: Classifier, input_shape: Sequence[int]) -> None:
        super().check_model(model, input_shape)
        if model.preprocessing is not None:
            raise ModelError(
                "softplus() knows the worst case in the units of the linear layer's own inputs, and this model has a "
                "preprocessing (mean, std) before it: leave that out."
            )

    def rows(self, logit: Tensor, weight: Tensor, y: Tensor) -> Tensor:
        return adversarial_softplus(logit, weight, y, self.radius)


@register("recipe")
@dataclass(frozen=True, repr=False, kw_only=True)
class l1_logistic(_Logistic):
    """Logistic regression with L1 weight decay, to compare `softplus` with.

        zeta(-s (w.x + b)) + strength ||w||_1,   s = 2y - 1,   zeta(z) = log(1 + e^z)

    Args:
        strength: of the decay, at least 0.
        For all others see `Recipe`.

    Cost per row: 1 forward and its backward.
    Example:
        >>> l1_logistic(strength=0.01).defends
        False

    Source: Goodfellow et al. 2015, section 5 (0.0025 is too much already for MNIST's first layer).  Differs: none.
    """

    strength: float = 0.0025

    def __post_init__(self) -> None:
        super().__post_init__()
        number("strength", self.strength, low=0.0)

    def rows(self, logit: Tensor, weight: Tensor, y: Tensor) -> Tensor:
        return l1_decay(logit, weight, y, self.strength)


def linear_weight(net: nn.Module) -> Tensor:
    """(d,) the weight of the logit difference (class 1 minus class 0) of a network that is one linear layer."""
    layers = [part for part in net.modules() if isinstance(part, nn.Linear)]
    held = {id(parameter) for layer in layers for parameter in layer.parameters()}
    if len(layers) != 1 or layers[0].out_features > 2 or any(id(p) not in held for p in net.parameters()):
        raise ModelError(
            "The closed form is for logistic regression: a network with one nn.Linear of one or two outputs and no "
            "other parameters, such as nn.Sequential(nn.Flatten(), nn.Linear(784, 1))."
        )
    weight: Tensor = layers[0].weight
    return weight[0] if len(weight) == 1 else weight[1] - weight[0]
