"""Named compositions from papers: one paper, one short file. Importing this package registers them all."""

from potemkin.attacks.recipes import apgd, bim, fgsm, mi_fgsm, noise, pgd

__all__ = ["apgd", "bim", "fgsm", "mi_fgsm", "noise", "pgd"]
