"""What is run, and how: fixed before the first pass, known to every part of the engine."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch

from potemkin.attacks.program import Asks, Attack
from potemkin.core.canonical import show
from potemkin.core.random import text_key
from potemkin.models.oracle import Oracle
from potemkin.threat.threat_model import ThreatModel


@dataclass(frozen=True)
class Settings:
    """How the engine runs. An outcome may depend on `rows`, `verify_rows` and `dtype`, by rounding, and on
    `retire_cycles` where queries are limited, since it leaves more of them; on the others only costs and time do."""

    rows: int = 128
    """Rows of the batch, a multiple of 8."""
    stride: int = 1
    """Steps between two looks at which rows are done; more where looking waits for a device."""
    verify_rows: int = 32
    """Row count of the verifier's own forward pass."""
    retire_cycles: bool = True
    """Retire deterministic rows that came back to a state they had been in."""
    speculate: bool = True
    """Fill the batch with later jobs when nothing else is left."""
    dtype: torch.dtype = torch.float32


@dataclass(frozen=True)
class Setup:
    """One run: who is attacked, within which threat model, with what."""

    oracle: Oracle
    threat: ThreatModel
    attacks: tuple[Attack, ...]
    seed: int
    settings: Settings

    @functools.cached_property
    def attack_keys(self) -> list[int]:
        """Part of every random key: an attack draws the same wherever it stands in the list."""
        return [text_key(show(attack)) for attack in self.attacks]

    @functools.cached_property
    def climbs(self) -> bool:
        """Whether any attack asks for gradients."""
        norm, targeted = self.threat.set.norm_name, self.threat.goal.targeted
        return any(attack.asks(norm, targeted) is Asks.GRADIENTS for attack in self.attacks)

    @property
    def device(self) -> torch.device:
        """Where the passes run."""
        return self.oracle.classifier.device
