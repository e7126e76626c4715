"""Training recipes: frozen configurations from the papers; the repr is the notation.

>>> from potemkin.training import recipes
>>> recipes.trades(eps=8 / 255, beta=6.0, awp=0.005)
trades(awp=0.005)
"""

from potemkin.training.augment import Cutmix, Cutout, Flip, Mixup, Shift
from potemkin.training.averages import EMA, SWA
from potemkin.training.optimisers import SGD, AdamW, Cosine, Cyclic, Flat, RMSProp, Stepwise
from potemkin.training.radius import HalfNormal, PerClass, PerExample, UniformEps
from potemkin.training.recipes.base import Recipe
from potemkin.training.recipes.closed_form import l1_logistic, softplus
from potemkin.training.recipes.ensemble import ensemble_at
from potemkin.training.recipes.free import free
from potemkin.training.recipes.mixtures import goodfellow, kurakin
from potemkin.training.recipes.multi_step import mart, pgd_at, trades
from potemkin.training.recipes.one_step import fast, grad_align, n_fgsm
from potemkin.training.recipes.standard import standard

__all__ = [
    "EMA",
    "SGD",
    "SWA",
    "AdamW",
    "Cosine",
    "Cutmix",
    "Cutout",
    "Cyclic",
    "Flat",
    "Flip",
    "HalfNormal",
    "Mixup",
    "PerClass",
    "PerExample",
    "RMSProp",
    "Recipe",
    "Shift",
    "Stepwise",
    "UniformEps",
    "ensemble_at",
    "fast",
    "free",
    "goodfellow",
    "grad_align",
    "kurakin",
    "l1_logistic",
    "mart",
    "n_fgsm",
    "pgd_at",
    "softplus",
    "standard",
    "trades",
]
