"""How a run is carried out: what the recipe does not say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from potemkin.core.checks import choice, flag, number
from potemkin.core.notation import Noted, parse
from potemkin.core.registry import find
from potemkin.errors import ConfigError
from potemkin.training.alarms import ALARMS
from potemkin.training.optimisers import SGD, Cyclic, Optimiser, Schedule


@dataclass(frozen=True, repr=False, kw_only=True)
class Settings(Noted):
    """Length, optimiser, precision, processes, and what is watched.

    Args:
        epochs: sweeps over the training data; may be a fraction.
        batch_size: rows per step, all processes together.
        optimiser: `SGD(learning_rate=0.1)`, `AdamW(...)` or `RMSProp(...)`, or the notation as a text.
        schedule: of the learning rate: `Cyclic()`, `Cosine()`, `Stepwise()` or `Flat()`, or the notation as a text.
        clip: largest norm of the gradient; None for any.
        seed: of the order, the augmentation, the attack, dropout, and new weights.
        precision: "float32", or "bf16" (autocast; weights, losses and gradients of weights stay float32).
        channels_last: pictures lie in memory as fast convolutions read them.
        compile: the network goes through `torch.compile`, which costs half a minute and does not always gain.
        fold: batch normalisation into the layer before it while the network is attacked in eval mode, where that is
            shown to be the same function; not with `compile` or "fsdp".
        accumulate: parts into which each batch is cut to save memory.
        parallel: "ddp" or "fsdp", where several processes run.
        sync_batchnorm: batch statistics over all processes.
        workers: processes that read ahead, for each process of the run.
        holdout: validation examples taken out of the training data where none are given; None: a tenth, at most 1,000.
        evaluate_every: steps from one evaluation to the next; None: an epoch.
        checkpoint_every: steps from one checkpoint to the next; None: an epoch.
        log_every: steps that a line of the log is the mean of; None: 50.
        evaluation_examples: size of the fixed subsets of training and validation data that are evaluated.
        evaluation_steps: of the PGD audit there.
        patience: evaluations on validation without better weights before the run stops; None: never.
        keep_checkpoints: how many are kept.
        stop_on: names of alarms that stop the run.
        rollback: after catastrophic overfitting or NaN, back to the last good weights, and PGD for an epoch; at most 3
            times, and not at the last step.
        audit_examples: of the audit at the end; 0 for none.
    """

    epochs: float = 10
    batch_size: int = 128
    optimiser: Any = SGD()
    schedule: Any = Cyclic()
    clip: float | None = None
    seed: int = 0
    precision: str = "float32"
    channels_last: bool = True
    compile: bool = False
    fold: bool = True
    accumulate: int = 1
    parallel: str = "ddp"
    sync_batchnorm: bool = False
    workers: int = 0
    holdout: int | None = None
    evaluate_every: int | None = None
    checkpoint_every: int | None = None
    log_every: int | None = None
    evaluation_examples: int = 512
    evaluation_steps: int = 10
    patience: int | None = None
    keep_checkpoints: int = 2
    stop_on: tuple[str, ...] = ()
    rollback: bool = False
    audit_examples: int = 1000

    def __post_init__(self) -> None:
        number("epochs", self.epochs, low=0.0, open_low=True)
        for name in ("batch_size", "accumulate", "evaluation_examples", "evaluation_steps", "keep_checkpoints"):
            number(name, getattr(self, name), low=1, integer=True)
        for name in ("workers", "audit_examples", "seed"):
            number(name, getattr(self, name), low=0, integer=True)
        for name in ("evaluate_every", "checkpoint_every", "log_every", "patience", "holdout"):
            if getattr(self, name) is not None:
                number(name, getattr(self, name), low=1, integer=True)
        if self.clip is not None:
            number("clip", self.clip, low=0.0, open_low=True)
        choice("precision", self.precision, ("float32", "bf16"))
        choice("parallel", self.parallel, ("ddp", "fsdp"))
        for name in ("channels_last", "compile", "fold", "sync_batchnorm", "rollback"):
            flag(name, getattr(self, name))
        if not isinstance(self.stop_on, tuple | list):
            raise ConfigError(f"stop_on={self.stop_on!r}: give names of alarms in a tuple, such as ('dead_attack',).")
        for alarm in self.stop_on:
            choice("stop_on", alarm, tuple(ALARMS))
        object.__setattr__(self, "stop_on", tuple(self.stop_on))  # as run.json will say it, so that a resume agrees
        self._check_parts()

    def _check_parts(self) -> None:
        for name in ("optimiser", "schedule"):
            object.__setattr__(self, name, _part(name, getattr(self, name)))
        if self.batch_size % self.accumulate:
            raise ConfigError(
                f"batch_size={self.batch_size} cannot be cut into accumulate={self.accumulate} equal parts: take a "
                f"multiple, for example batch_size={-(-self.batch_size // self.accumulate) * self.accumulate}."
            )


PARTS: dict[str, tuple[type, str]] = {
    "optimiser": (Optimiser, "SGD(learning_rate=0.1), AdamW(learning_rate=0.002) or RMSProp(learning_rate=0.045)"),
    "schedule": (Schedule, "Cyclic(), Cosine(), Stepwise() or Flat()"),
}


def _part(name: str, value: Any) -> Any:
    """An optimiser or a schedule, from its notation, too."""
    kind, given = PARTS[name]
    if isinstance(value, str):
        entry = find(value.partition("(")[0].strip())
        if entry is not None and isinstance(entry.factory, type) and issubclass(entry.factory, kind):
            value = parse(value, kind="part")
    if not isinstance(value, kind):
        raise ConfigError(f"{name}={value!r} is none; give {given}.")
    return value
