"""The models that ship with potemkin, registered by name."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources

from safetensors.torch import load
from torch import nn

from potemkin.core.notation import Noted
from potemkin.core.registry import register
from potemkin.models.digits_cnn import DigitsCNN


@register("model", "digits-cnn")
@dataclass(frozen=True, repr=False)
class BuiltinDigitsCNN(Noted):
    """Small CNN for 8x8 digits, 15,338 parameters, not hardened; takes (B, 1, 8, 8) in [0, 1].

    Trained on the first 1,297 of the data `digits`; right on 98 % of the last 500, which other people wrote.
    `python -m potemkin.models.digits_cnn --out FILE` trains it anew.
    """

    def open(self) -> nn.Module:
        """The network with the weights that ship."""
        net = DigitsCNN()
        stored = resources.files("potemkin.models").joinpath("digits_cnn.safetensors").read_bytes()
        net.load_state_dict(load(stored))
        return net.eval()
