"""Ensemble adversarial training: adversarial examples from networks that do not learn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from potemkin.core.random import RowStreams, row_keys, text_key
from potemkin.core.registry import register
from potemkin.errors import ConfigError, ModelError
from potemkin.models.classifier import Classifier
from potemkin.models.loaders import load_model, try_out
from potemkin.training.examples import Attacked, Examples
from potemkin.training.inner import Adversary
from potemkin.training.learner import Learner
from potemkin.training.recipes.mixtures import goodfellow


@register("recipe")
@dataclass(frozen=True, repr=False, kw_only=True)
class ensemble_at(goodfellow):
    """Each batch's adversarial rows come from one network, drawn from the one that learns and the static ones.

        w J(x) + (1 - w) J(x'),   w the clean weight,   x' made against a network drawn anew for every batch

    Args:
        sources: the static networks, as `load_model` reads them: folders of training runs, registered names.
        clean_weight, attack_by: as in `goodfellow`.
        For all others see `Recipe`.

    Cost per row: as `goodfellow`; passes through static networks count as the attack's.
    Example:
        >>> ensemble_at(eps=0.1, sources=("digits-cnn",))
        ensemble_at(eps=0.1, sources=('digits-cnn',))

    Source: Tramèr et al. 2018, section 3.3.  Differs: all rows are attacked, half of the loss is clean.
    """

    sources: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.sources or not all(isinstance(source, str) for source in self.sources):
            raise ConfigError(
                f"ensemble_at(sources={self.sources!r}) needs static networks, for example the folders of other "
                "training runs: sources=('runs/a', 'runs/b')."
            )

    def check_model(self, model: Classifier, input_shape: Sequence[int]) -> None:
        vars(self).pop("_open", None)  # what stands there now
        for source in self.sources:
            static = self._opened(source, model.device)
            try_out(static, input_shape)
            if static.classes != model.classes:
                raise ModelError(
                    f"The source {source} tells {static.classes} classes apart, the network that learns "
                    f"{model.classes}: give networks for the same data."
                )

    def attack(self, learner: Learner, given: Examples, by: Adversary | None = None) -> Attacked | None:
        none = torch.tensor(0)
        draw = RowStreams(row_keys(given.seed, torch.tensor([given.step]), text_key("source"), none, none))
        chosen = int(draw.integers(0, len(self.sources) + 1))
        if chosen == len(self.sources):
            return super().attack(learner, given, by)
        static = self._opened(self.sources[chosen], given.x.device)
        # Nobody has asked the static network yet, so it may not know its classes; they are the learner's.
        classes = static.classes or learner.classes
        away = Learner(static.net, static.net, learner.box, static.preprocessing, classes, learner.bf16)
        away.meter = learner.meter
        # A static network is asked as it answers: its batch statistics are nobody's business here.
        return super().attack(away, given, replace(by or self.adversary, mode="eval"))

    def reads(self) -> dict[str, str]:
        cpu = torch.device("cpu")
        return super().reads() | {source: self._opened(source, cpu).fingerprint() for source in self.sources}

    def _opened(self, source: str, device: torch.device) -> Classifier:
        if "_open" not in vars(self):
            object.__setattr__(self, "_open", {})
        opened: dict[tuple[str, torch.device], Classifier] = vars(self)["_open"]
        if (source, device) not in opened:
            classifier = load_model(source, device=str(device))
            classifier.net.eval().requires_grad_(False)
            opened[source, device] = classifier
        return opened[source, device]
