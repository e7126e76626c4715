"""Finds the façades in a model, measures them honestly.

    import potemkin as pk

    model = pk.Classifier(net, box=(0, 1))
    threat = pk.ThreatModel(pk.Linf(8 / 255))
    record = pk.audit(model, data, threat, attacks=[pk.pgd(steps=50, restarts=5), pk.apgd()], seed=0)

The names in `__all__` are the public ones. Each is loaded when it is first used (PEP 562), so that importing the
package costs nothing: neither torch nor any other heavy library is loaded.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from potemkin.attacks.conformance import check_attack
    from potemkin.attacks.parts.starts import Center, Inside
    from potemkin.attacks.parts.variables import Blocks
    from potemkin.attacks.program import Attack
    from potemkin.attacks.recipes.apgd import apgd
    from potemkin.attacks.recipes.bim import bim, iterative_ll
    from potemkin.attacks.recipes.fgsm import fast_entropy, fast_gradient, fgsm, r_fgsm, step_ll, step_rnd
    from potemkin.attacks.recipes.mi_fgsm import mi_fgsm, ni_fgsm
    from potemkin.attacks.recipes.noise import noise
    from potemkin.attacks.recipes.pgd import pgd
    from potemkin.core.notation import parse
    from potemkin.data.load import load_data
    from potemkin.evaluate.audit import audit
    from potemkin.evaluate.bundle import read_bundle
    from potemkin.evaluate.compare import compare
    from potemkin.evaluate.perturb import perturb
    from potemkin.evaluate.record import Record
    from potemkin.evaluate.verify import verify
    from potemkin.models.classifier import Classifier
    from potemkin.models.loaders import load_model
    from potemkin.models.preprocessing import Preprocessing
    from potemkin.threat.access import Access
    from potemkin.threat.box import Box
    from potemkin.threat.goals import LeastLikely, RandomTarget, Targeted, Untargeted
    from potemkin.threat.objectives import DLR, KL, CrossEntropy, Entropy, Margin, ProbabilityMargin
    from potemkin.threat.sets.grid import Grid
    from potemkin.threat.sets.l1 import L1
    from potemkin.threat.sets.l2 import L2
    from potemkin.threat.sets.linf import Linf
    from potemkin.threat.sets.masked import Features, Masked, Rectangle
    from potemkin.threat.threat_model import ThreatModel
    from potemkin.training import recipes
    from potemkin.training.train import train

__all__ = [
    "DLR",
    "KL",
    "L1",
    "L2",
    "Access",
    "Attack",
    "Blocks",
    "Box",
    "Center",
    "Classifier",
    "CrossEntropy",
    "Entropy",
    "Features",
    "Grid",
    "Inside",
    "LeastLikely",
    "Linf",
    "Margin",
    "Masked",
    "Preprocessing",
    "ProbabilityMargin",
    "RandomTarget",
    "Record",
    "Rectangle",
    "Targeted",
    "ThreatModel",
    "Untargeted",
    "__version__",
    "apgd",
    "audit",
    "bim",
    "check_attack",
    "compare",
    "fast_entropy",
    "fast_gradient",
    "fgsm",
    "iterative_ll",
    "load_data",
    "load_model",
    "mi_fgsm",
    "ni_fgsm",
    "noise",
    "parse",
    "perturb",
    "pgd",
    "r_fgsm",
    "read_bundle",
    "recipes",
    "step_ll",
    "step_rnd",
    "train",
    "verify",
]

_NAMES_BY_MODULE = {
    "attacks.conformance": "check_attack",
    "attacks.parts.starts": "Center Inside",
    "attacks.parts.variables": "Blocks",
    "attacks.program": "Attack",
    "attacks.recipes.apgd": "apgd",
    "attacks.recipes.bim": "bim iterative_ll",
    "attacks.recipes.fgsm": "fast_entropy fast_gradient fgsm r_fgsm step_ll step_rnd",
    "attacks.recipes.mi_fgsm": "mi_fgsm ni_fgsm",
    "attacks.recipes.noise": "noise",
    "attacks.recipes.pgd": "pgd",
    "core.notation": "parse",
    "data.load": "load_data",
    "evaluate.audit": "audit",
    "evaluate.bundle": "read_bundle",
    "evaluate.compare": "compare",
    "evaluate.perturb": "perturb",
    "evaluate.record": "Record",
    "evaluate.verify": "verify",
    "models.classifier": "Classifier",
    "models.loaders": "load_model",
    "models.preprocessing": "Preprocessing",
    "threat.access": "Access",
    "threat.box": "Box",
    "threat.goals": "LeastLikely RandomTarget Targeted Untargeted",
    "threat.objectives": "DLR KL CrossEntropy Entropy Margin ProbabilityMargin",
    "threat.sets.grid": "Grid",
    "threat.sets.l1": "L1",
    "threat.sets.l2": "L2",
    "threat.sets.linf": "Linf",
    "threat.sets.masked": "Features Masked Rectangle",
    "threat.threat_model": "ThreatModel",
    "training.train": "train",
}
_ROOMS = {"recipes": "potemkin.training.recipes"}
_HOME = {name: f"potemkin.{module}" for module, names in _NAMES_BY_MODULE.items() for name in names.split()}


def __getattr__(name: str) -> object:
    if name in _ROOMS:
        return importlib.import_module(_ROOMS[name])
    if name not in _HOME:
        from potemkin.errors import suggest

        raise AttributeError(f"module 'potemkin' has no attribute {name!r}.{suggest(name, __all__)}")
    value: object = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value  # found once, then an ordinary attribute
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
