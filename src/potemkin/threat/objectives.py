"""What the search climbs: one number per row, always maximised. Rows with a target use the targeted form."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from potemkin.core.notation import Noted
from potemkin.core.registry import register
from potemkin.errors import ConfigError
from potemkin.threat.goals import Aim, best_other, output_of

_TINY = 1e-12  # DLR's guard against a denominator of zero, as its authors have it


@dataclass(frozen=True, repr=False)
class Objective(Noted, ABC):
    """(outputs (B, K), aim) -> (B,), to be maximised; a row's number depends on that row alone."""

    def __call__(self, outputs: Tensor, aim: Aim) -> Tensor:
        """The objective of each row: the targeted form where the row has a target, the untargeted one elsewhere."""
        return torch.where(aim.targeted, self.toward(outputs, aim), self.away(outputs, aim))

    @abstractmethod
    def away(self, outputs: Tensor, aim: Aim) -> Tensor:
        """The untargeted form: away from `aim.label`."""

    @abstractmethod
    def toward(self, outputs: Tensor, aim: Aim) -> Tensor:
        """The targeted form: toward `aim.target`. Rows without a target get some finite number, not used."""

    def fallback(self, classes: int, targeted: bool) -> Objective:
        """The objective to use for this number of classes: itself, or a named stand-in where the formula needs more."""
        return self


@register("objective")
@dataclass(frozen=True, repr=False)
class CrossEntropy(Objective):
    """Cross-entropy of the true class; toward a target, its negative for the target.

        untargeted  log sum_j exp z_j - z_y          targeted  z_t - log sum_j exp z_j

    Shapes: outputs (B, K) logits, K >= 2 -> (B,). Range: [0, inf) untargeted, (-inf, 0] targeted, in nats. Cost: one
    pass over the logits. Errors: none. Its gradient vanishes where the softmax saturates: see Margin and DLR.

    >>> aim = Aim(label=torch.tensor([0]), target=torch.tensor([-1]))
    >>> CrossEntropy()(torch.tensor([[0.0, 0.0]]), aim)
    tensor([0.6931])

    Source: Goodfellow, Shlens and Szegedy, "Explaining and harnessing adversarial examples" (ICLR 2015), section 4.
    Differs: none.
    """

    def away(self, outputs: Tensor, aim: Aim) -> Tensor:
        return -output_of(outputs.log_softmax(dim=1), aim.label)

    def toward(self, outputs: Tensor, aim: Aim) -> Tensor:
        return output_of(outputs.log_softmax(dim=1), aim.target)


@register("objective")
@dataclass(frozen=True, repr=False)
class Margin(Objective):
    """How far the best other class leads the true one; toward a target, how far the target leads the best other.

        untargeted  max_{j != y} z_j - z_y          targeted  z_t - max_{j != t} z_j

    Shapes: outputs (B, K) logits, K >= 2 -> (B,). Range: any; positive means success. Cost: one pass over the logits.
    Errors: none.

    >>> aim = Aim(label=torch.tensor([0]), target=torch.tensor([-1]))
    >>> Margin()(torch.tensor([[-7.0, -5.0, -9.0]]), aim)
    tensor([2.])

    Source: Carlini and Wagner, "Towards evaluating the robustness of neural networks" (2017), section V.A, f6.
    Differs: not clipped at a confidence; the other classes are found with -inf, never 0, in place of the class itself.
    """

    def away(self, outputs: Tensor, aim: Aim) -> Tensor:
        return best_other(outputs, aim.label) - output_of(outputs, aim.label)

    def toward(self, outputs: Tensor, aim: Aim) -> Tensor:
        return output_of(outputs, aim.target) - best_other(outputs, aim.target)


@register("objective")
@dataclass(frozen=True, repr=False)
class DLR(Objective):
    """Difference of logits ratio: the margin in units of the spread of the greatest logits, so scale does not matter.

        untargeted  -(z_y - max_{j != y} z_j) / (z_pi1 - z_pi3 + 1e-12)
        targeted    -(z_y - z_t) / (z_pi1 - (z_pi3 + z_pi4) / 2 + 1e-12)

    where z_pi1 >= z_pi2 >= ... are the sorted logits. Shapes: outputs (B, K) -> (B,). Range: untargeted at least -1 and
    positive on success, 1 where the true class is third and without end below that; targeted any. Cost: one top-4.
    Needs three classes, four for rows with a target; `fallback` names Margin as the stand-in below that, and rows with
    a target use it at K = 3. Errors: ConfigError when called with two classes.

    >>> aim = Aim(label=torch.tensor([0]), target=torch.tensor([-1]))
    >>> DLR()(torch.tensor([[3.0, 2.0, 1.0]]), aim)
    tensor([-0.5000])

    Source: Croce and Hein, "Reliable evaluation of adversarial robustness" (ICML 2020), equations 6 and 7.
    Differs: the 1e-12 of the authors' code, which the paper's formula does not have.
    """

    def away(self, outputs: Tensor, aim: Aim) -> Tensor:
        top = self._top(outputs)
        return Margin().away(outputs, aim) / (top[:, 0] - top[:, 2] + _TINY)

    def toward(self, outputs: Tensor, aim: Aim) -> Tensor:
        if outputs.shape[1] == 3:
            return Margin().toward(outputs, aim)
        top = self._top(outputs)
        lead = output_of(outputs, aim.target) - output_of(outputs, aim.label)
        return lead / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2 + _TINY)

    def fallback(self, classes: int, targeted: bool) -> Objective:
        return Margin() if classes < (4 if targeted else 3) else self

    def _top(self, outputs: Tensor) -> Tensor:
        classes = outputs.shape[1]
        if classes < 3:
            raise ConfigError(
                f"DLR needs at least 3 classes, the model has {classes}; use Margin(), which DLR().fallback() names."
            )
        return outputs.topk(min(classes, 4), dim=1).values


@register("objective")
@dataclass(frozen=True, repr=False)
class ProbabilityMargin(Objective):
    """The margin between softmax probabilities: how far the best other class leads the true one.

        untargeted  max_{j != y} p_j - p_y          targeted  p_t - max_{j != t} p_j          p = softmax(z)

    Shapes: outputs (B, K) logits, K >= 2 -> (B,). Range: [-1, 1]; positive means success. Cost: one softmax.
    Errors: none. Its gradient vanishes where the softmax saturates.

    >>> aim = Aim(label=torch.tensor([0]), target=torch.tensor([1]))
    >>> ProbabilityMargin()(torch.tensor([[0.0, 0.0]]), aim)
    tensor([0.])

    Source: Wang et al., "Probabilistic margins for instance reweighting in adversarial training" (NeurIPS 2021).
    Differs: the sign (maximised here).
    """

    def away(self, outputs: Tensor, aim: Aim) -> Tensor:
        return Margin().away(outputs.softmax(dim=1), aim)

    def toward(self, outputs: Tensor, aim: Aim) -> Tensor:
        return Margin().toward(outputs.softmax(dim=1), aim)


@register("objective")
@dataclass(frozen=True, repr=False)
class KL(Objective):
    """Divergence of the prediction from the clean one; toward a target, minus the divergence of a sure target from it.

        untargeted  KL(p || q) = sum_j p_j (log p_j - log q_j)      targeted  -KL(1_t || q) = log q_t
        p = softmax(clean logits), q = softmax(z)

    Shapes: outputs (B, K) and `aim.clean` (B, K) logits, K >= 2 -> (B,). Range: [0, inf) untargeted, (-inf, 0]
    targeted, in nats. Cost: two softmaxes. Its gradient is zero at the clean input: start elsewhere.
    Errors: ConfigError when the aim carries no clean logits.

    >>> aim = Aim(torch.tensor([0]), torch.tensor([-1]), clean=torch.tensor([[1.0, 0.0]]))
    >>> KL()(torch.tensor([[1.0, 0.0]]), aim)
    tensor([0.])

    Source: Zhang et al., "Theoretically principled trade-off between robustness and accuracy" (ICML 2019), equation 5.
    Differs: rows with a target climb log q_t, which the paper has no need of.
    """

    def away(self, outputs: Tensor, aim: Aim) -> Tensor:
        if aim.clean is None:
            raise ConfigError("KL compares with the clean prediction: give Aim(..., clean=) the clean logits (B, K).")
        clean = aim.clean.detach().to(outputs).log_softmax(dim=1)
        return (clean.exp() * (clean - outputs.log_softmax(dim=1))).sum(dim=1)

    def toward(self, outputs: Tensor, aim: Aim) -> Tensor:
        return CrossEntropy().toward(outputs, aim)


@register("objective")
@dataclass(frozen=True, repr=False)
class Entropy(Objective):
    """Entropy of the prediction: how undecided the model is; toward a target, log q_t as in CrossEntropy.

        untargeted  H(q) = -sum_j q_j log q_j       targeted  log q_t       q = softmax(z)

    Shapes: outputs (B, K) logits, K >= 2 -> (B,). Range: [0, log K] untargeted, (-inf, 0] targeted, in nats. It uses
    no label: it may climb into a wrong class or back out of it. Cost: one softmax. Errors: none.

    >>> aim = Aim(label=torch.tensor([0]), target=torch.tensor([-1]))
    >>> Entropy()(torch.tensor([[0.0, 0.0]]), aim)
    tensor([0.6931])

    Source: Shannon, "A mathematical theory of communication" (1948), section 6.
    Differs: rows with a target climb log q_t, for entropy has no direction toward a class.
    """

    def away(self, outputs: Tensor, aim: Aim) -> Tensor:
        log_q = outputs.log_softmax(dim=1)
        return -(log_q.exp() * log_q).sum(dim=1)

    def toward(self, outputs: Tensor, aim: Aim) -> Tensor:
        return CrossEntropy().toward(outputs, aim)
