"""Reference models: small robust networks for benchmarks and tutorials, each with the command that makes it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from potemkin.errors import ConfigError, DataError, suggest
from potemkin.training.augment import Flip, Shift
from potemkin.training.averages import EMA
from potemkin.training.optimisers import SGD, AdamW, Cosine
from potemkin.training.recipes.base import Recipe
from potemkin.training.recipes.multi_step import pgd_at
from potemkin.training.recipes.one_step import n_fgsm
from potemkin.training.settings import Settings


@dataclass(frozen=True)
class Reference:
    """A reference run: network, data, recipe, settings."""

    model: str
    train: str
    test: str
    recipe: Recipe
    settings: Settings

    def open(self) -> tuple[str, str]:
        """Where the training and the test data are; DataError where they are missing."""
        return _found(self.train), _found(self.test)


REFERENCES: dict[str, Reference] = {
    "digits": Reference(
        "digits-cnn",
        "digits(part='train')",
        "digits",
        pgd_at(eps=0.1, steps=7, augment=(Shift(1),), average=EMA(0.99)),
        Settings(epochs=60, batch_size=64, optimiser=AdamW(learning_rate=4e-3), schedule=Cosine(), evaluate_every=90),
    ),
    "mnist": Reference(
        "small_cnn(width=16)",
        "$POTEMKIN_DATA/mnist/train.npz",
        "$POTEMKIN_DATA/mnist/test.npz",
        pgd_at(eps=0.3, stretch=1.1, steps=10, relative_step_size=0.2, eps_ramp=0.2, average=EMA(0.999)),
        Settings(epochs=16, batch_size=128, optimiser=AdamW(learning_rate=2e-3), schedule=Cosine(), precision="bf16"),
    ),
    "fashion": Reference(
        "resnet(width=16, channels=1)",
        "$POTEMKIN_DATA/fashion_mnist/train.npz",
        "$POTEMKIN_DATA/fashion_mnist/test.npz",
        pgd_at(eps=0.1, steps=5, average=EMA(0.998)),
        Settings(epochs=14, optimiser=SGD(learning_rate=0.2, nesterov=True), precision="bf16"),
    ),
    "cifar10": Reference(
        "resnet",
        "$POTEMKIN_DATA/cifar10/train.npz",
        "$POTEMKIN_DATA/cifar10/test.npz",
        n_fgsm(eps=8 / 255, augment=(Shift(4), Flip()), average=EMA(0.998)),
        Settings(epochs=30, optimiser=SGD(learning_rate=0.2, nesterov=True), precision="bf16", evaluate_every=296),
    ),
}


def reference(name: str) -> Reference:
    """The reference of this name; ConfigError with the names there are."""
    if name not in REFERENCES:
        raise ConfigError(
            f"There is no reference '{name}'.{suggest(name, REFERENCES)} There are: {', '.join(REFERENCES)}."
        )
    return REFERENCES[name]


def _found(spec: str) -> str:
    if "$POTEMKIN_DATA" not in spec:
        return spec
    root = os.environ.get("POTEMKIN_DATA")
    path = Path(spec.replace("$POTEMKIN_DATA", root or "."))
    if root is None or not path.is_file():
        what = "is not set" if root is None else f"has no {path.relative_to(root)}"
        raise DataError(
            f"POTEMKIN_DATA {what}: set it to a folder with {spec.removeprefix('$POTEMKIN_DATA/')} in it, arrays "
            "images (uint8) and labels saved with np.savez_compressed."
        )
    return str(path)
