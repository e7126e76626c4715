"""Which label or class an attack steers by, one job per target."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from potemkin.core.checks import number
from potemkin.core.notation import Noted
from potemkin.core.random import RowStreams
from potemkin.core.registry import register
from potemkin.threat.goals import NO_TARGET, LeastLikely, RandomTarget


class _OneJob(Noted):
    from_clean = False

    def count(self, classes: int) -> int:
        return 1


@register("part")
@dataclass(frozen=True, repr=False)
class TrueLabel(_OneJob):
    """Steer away from the true class. As a *training* attack in one step this leaks the label.

    Source: Goodfellow et al. 2015, section 4.  Differs: none.
    """

    def aims(self, clean: Tensor, label: Tensor, streams: RowStreams) -> tuple[Tensor, Tensor]:
        return label.unsqueeze(1), torch.full_like(label, NO_TARGET).unsqueeze(1)


@register("part")
@dataclass(frozen=True, repr=False)
class PredictedLabel(_OneJob):
    """Steer away from the class predicted on the clean input: no true label is needed.

    Source: Kurakin et al. 2017, appendix A (FGSM-pred).  Differs: none.
    """

    from_clean = True

    def aims(self, clean: Tensor, label: Tensor, streams: RowStreams) -> tuple[Tensor, Tensor]:
        return clean.argmax(dim=1).unsqueeze(1), torch.full_like(label, NO_TARGET).unsqueeze(1)


@register("part")
@dataclass(frozen=True, repr=False)
class LeastLikelyClass(_OneJob):
    """Steer towards the class with the lowest clean score, the true class excluded.

    Source: Kurakin et al. 2017, section 2 (step l.l., iter. l.l.).  Differs: the true class is excluded even where the
    model ranks it last.
    """

    from_clean = True

    def aims(self, clean: Tensor, label: Tensor, streams: RowStreams) -> tuple[Tensor, Tensor]:
        return label.unsqueeze(1), LeastLikely().targets(clean, label, streams).unsqueeze(1)


@register("part")
@dataclass(frozen=True, repr=False)
class RandomClass(_OneJob):
    """Steer towards a class drawn uniformly among the wrong ones, from the example's own stream.

    Source: Kurakin et al. 2017, section 2 (step rnd.).  Differs: none.
    """

    def aims(self, clean: Tensor, label: Tensor, streams: RowStreams) -> tuple[Tensor, Tensor]:
        return label.unsqueeze(1), RandomTarget().targets(clean, label, streams).unsqueeze(1)


@register("part")
@dataclass(frozen=True, repr=False)
class TopClasses(Noted):
    """Steer towards each of the `n` wrong classes with the highest clean scores, one job each, likeliest first.

    Args:
        n: number of targets, at least 1; fewer where the model has fewer wrong classes.

    Source: Croce and Hein 2020, section 4 (multi-targeted APGD).  Differs: targets come once from the clean scores,
    where the published code recomputes them for every target.
    """

    n: int = 9
    from_clean = True

    def __post_init__(self) -> None:
        number("n", self.n, low=1, integer=True)

    def count(self, classes: int) -> int:
        return min(self.n, classes - 1)

    def aims(self, clean: Tensor, label: Tensor, streams: RowStreams) -> tuple[Tensor, Tensor]:
        wrong = clean.scatter(1, label.unsqueeze(1), -torch.inf)
        target = wrong.topk(self.count(clean.shape[1]), dim=1).indices
        return label.unsqueeze(1).expand_as(target), target
