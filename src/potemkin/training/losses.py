"""The losses of adversarial training as plain functions of logits: B rows, K classes, cross-entropies in nats."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from potemkin.core.rows import flat
from potemkin.threat.goals import best_other, output_of


def mixed_loss(clean: Tensor, adversarial: Tensor, weight: float) -> Tensor:
    """The weighted mean of m - k clean and k adversarial losses.

        L = (sum_clean L_i + weight * sum_adv L_i) / ((m - k) + weight * k)

    Args:
        clean, adversarial: (m - k,) and (k,) losses; either may be empty.
        weight: the paper's lambda, above 0.

    Source: Kurakin et al. 2017, section 3 (recalled).  Differs: none.

    >>> import torch
    >>> float(mixed_loss(torch.tensor([1.0]), torch.tensor([3.0]), weight=1.0))
    2.0
    """
    return (clean.sum() + weight * adversarial.sum()) / (len(clean) + weight * len(adversarial))


def alpha_mix(clean: Tensor, adversarial: Tensor, alpha: float) -> Tensor:
    """alpha * mean J(x) + (1 - alpha) * mean J(x + eps sign grad J).

    Args:
        clean, adversarial: (B,) losses of the same rows.
        alpha: in [0, 1]; the paper uses 1/2 throughout.

    Source: Goodfellow et al. 2015, section 6.  Differs: none.
    """
    return alpha * clean.mean() + (1 - alpha) * adversarial.mean()


def trades_divergence(clean: Tensor, adversarial: Tensor) -> Tensor:
    """KL(p(x) || p(x')) per row, with gradients through both sides: (B, K) logits twice -> (B,).

    Source: Zhang et al. 2019, equation (5).  Differs: none.
    """
    return F.kl_div(adversarial.log_softmax(dim=1), clean.log_softmax(dim=1), reduction="none", log_target=True).sum(
        dim=1
    )


def mart_rows(clean: Tensor, adversarial: Tensor, y: Tensor, weight: float) -> Tensor:
    """Boosted cross-entropy of the adversarial logits, and the divergence weighted by how wrong the clean row is.

        BCE = -log p_y(x') - log(1 - max_{j != y} p_j(x'))
        L_i = BCE + weight * KL(p(x) || p(x')) * (1 - p_y(x))

    Args:
        clean, adversarial: (B, K) logits.  y: (B,) labels.
        weight: the paper's lambda.

    Returns: (B,) losses.
    Source: Wang et al. 2020 (MART), equations (8) to (11).
    Differs: guards as in the authors' code (1.0001 + 1e-12 in the second logarithm, 1.0000001 in the weight), but for
    that in the divergence, where we take log-softmax.
    """
    p, q = adversarial.softmax(dim=1), clean.softmax(dim=1)
    boosted = F.cross_entropy(adversarial, y, reduction="none") - (1.0001 - best_other(p, y) + 1e-12).log()
    return boosted + weight * trades_divergence(clean, adversarial) * (1.0000001 - output_of(q, y))


def alignment(gradient: Tensor, other: Tensor) -> Tensor:
    """The cosine between two gradients per row, (B, ...) twice -> (B,); 0 where one of them is 0.

    Source: Andriushchenko and Flammarion 2020, equation (6).  Differs: per row, then averaged, as in the authors' code.
    """
    return F.cosine_similarity(flat(gradient), flat(other), dim=1, eps=1e-20)


def adversarial_softplus(logit: Tensor, weight: Tensor, y: Tensor, eps: float) -> Tensor:
    """The worst case of logistic regression within Linf(eps), in closed form; per row.

        max_{|d| <= eps} zeta(-s (w.(x + d) + b)) = zeta(eps ||w||_1 - s (w.x + b)),  s = 2y - 1, zeta(z) = log(1 + e^z)

    Args:
        logit: (B,) w.x + b.  weight: (d,) w.  y: (B,) labels 0 or 1.
        eps: input units, at least 0. The box is not regarded.

    Source: Goodfellow et al. 2015, section 5.
    Differs: as printed, s multiplies eps ||w||_1, too, which is right for s = +1 only.

    >>> import torch
    >>> float(adversarial_softplus(torch.zeros(1), torch.tensor([1.0, -1.0]), torch.tensor([1]), 0.0))
    0.6931471824645996
    """
    sign = 2 * y.to(logit.dtype) - 1
    return F.softplus(eps * weight.abs().sum() - sign * logit)


def l1_decay(logit: Tensor, weight: Tensor, y: Tensor, strength: float) -> Tensor:
    """Logistic regression with L1 weight decay, which adversarial training is often taken for; per row.

        zeta(-s (w.x + b)) + strength ||w||_1

    The decay stays where the margin is large; in `adversarial_softplus` it vanishes, for it stands inside the softplus.
    Source: Goodfellow et al. 2015, section 5.  Differs: none.
    """
    sign = 2 * y.to(logit.dtype) - 1
    return F.softplus(-sign * logit) + strength * weight.abs().sum()
