"""The perturbation sets: where an adversarial input may lie around a clean one."""

from __future__ import annotations

from potemkin.threat.sets.base import PerturbationSet, Region
from potemkin.threat.sets.grid import Grid
from potemkin.threat.sets.l1 import L1
from potemkin.threat.sets.l2 import L2
from potemkin.threat.sets.linf import Linf
from potemkin.threat.sets.masked import Features, Masked, Rectangle

__all__ = ["L1", "L2", "Features", "Grid", "Linf", "Masked", "PerturbationSet", "Rectangle", "Region"]
