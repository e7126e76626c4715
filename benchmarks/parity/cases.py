"""What is compared. Imported on both sides: standard library only."""

from __future__ import annotations

from dataclasses import dataclass

EPS = {"linf": 0.1, "l2": 0.8, "l1": 5.0}


@dataclass(frozen=True)
class Case:
    """One attack with everything fixed that a library would otherwise choose for itself."""

    name: str
    method: str
    norm: str
    steps: int
    peers: tuple[str, ...]
    share: float = 1.0
    """Step size in multiples of eps."""
    objective: str = "ce"
    double: bool = False
    """In float64, for runs in which a rounding of float32 grows until it can be seen: L2 and L1. ART has no float64."""

    @property
    def eps(self) -> float:
        return EPS[self.norm]

    @property
    def step_size(self) -> float:
        return self.share * self.eps


FOOLBOX, TORCHATTACKS, ART, AUTOATTACK = "foolbox", "torchattacks", "art", "pyautoattack"
THREE = (FOOLBOX, TORCHATTACKS, ART)

CASES = (
    Case("FGSM", "fgm", "linf", 1, THREE),
    Case("FGM-L2", "fgm", "l2", 1, (FOOLBOX, ART)),
    Case("BIM-10", "bim", "linf", 10, THREE, share=0.2),
    Case("PGD-40", "pgd", "linf", 40, THREE, share=0.1),
    Case("PGD-40-L2", "pgd", "l2", 40, (FOOLBOX, TORCHATTACKS), share=0.1, double=True),
    Case("PGD-40-L2-float32", "pgd", "l2", 40, (ART,), share=0.1),
    Case("MI-FGSM-10", "mi", "linf", 10, THREE, share=0.1),
    Case("MI-FGSM-10-fast", "mi", "linf", 10, THREE, share=0.3),
    Case("NI-FGSM-10", "ni", "linf", 10, (TORCHATTACKS,), share=0.1),
    Case("APGD-CE-20", "apgd", "linf", 20, (AUTOATTACK, TORCHATTACKS, ART), share=2.0),
    Case("APGD-CE-100", "apgd", "linf", 100, (AUTOATTACK, TORCHATTACKS, ART), share=2.0),
    Case("APGD-DLR-100", "apgd", "linf", 100, (AUTOATTACK, TORCHATTACKS), share=2.0, objective="dlr"),
    Case("APGD-T-100", "apgd", "linf", 100, (AUTOATTACK,), share=2.0, objective="targeted dlr"),
    Case("APGD-CE-100-L2", "apgd", "l2", 100, (AUTOATTACK, TORCHATTACKS), share=2.0, double=True),
    Case("APGD-CE-100-L1", "apgd", "l1", 100, (AUTOATTACK,), share=1.0, double=True),
)

# Runs that exist only to show why something differs.
PROBES = (
    Case("plateau", "mi", "linf", 10, THREE, share=0.1),
    Case("ART-default-step", "apgd", "linf", 100, (ART,), share=0.1 / EPS["linf"]),
)
