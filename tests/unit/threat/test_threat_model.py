"""Access and threat model: the sentence that every report prints, and what is refused."""

from __future__ import annotations

import math

import pytest

from potemkin.core.notation import parse, show
from potemkin.errors import ConfigError
from potemkin.threat.access import LEVELS, Access
from potemkin.threat.box import Box
from potemkin.threat.goals import LeastLikely, Targeted, Untargeted
from potemkin.threat.sets import L2, Features, Linf, Masked
from potemkin.threat.threat_model import ThreatModel


@pytest.mark.parametrize(
    ("threat", "box", "sentence"),
    [
        (
            ThreatModel(Linf(8 / 255)),
            Box(0, 1),
            "untargeted; Linf distance at most 8/255 (0.0314) inside the box [0, 1]; "
            "gradients visible, unlimited queries",
        ),
        (
            ThreatModel(L2(0.5), Targeted(3), Access("scores", 5000)),
            Box(-math.inf, math.inf),
            "targeted at class 3; L2 distance at most 0.5 without a box; "
            "scores visible, no gradients, at most 5,000 queries per example",
        ),
        (
            ThreatModel(Masked(Linf(0.5), Features(3)), LeastLikely(), Access("decisions", 1), eight_bit=True),
            Box(0, 1),
            "targeted at the least likely class; Linf distance at most 0.5 on 1 chosen coordinate, nothing elsewhere, "
            "inside the box [0, 1], and still so after rounding to 8 bits; "
            "only decisions visible, at most 1 query per example",
        ),
    ],
    ids=["usual", "targeted", "narrow"],
)
def test_the_sentence(threat: ThreatModel, box: Box, sentence: str) -> None:
    assert threat.sentence(box) == sentence
    assert parse(show(threat), kind="threat") == threat


def test_a_bare_set_is_an_untargeted_adversary_with_gradients() -> None:
    threat = ThreatModel.of(Linf(0.1))
    assert threat == ThreatModel(Linf(0.1), Untargeted(), Access("gradients", None), False)
    assert ThreatModel.of(threat) is threat
    assert repr(threat) == "ThreatModel(Linf(0.1))"


@pytest.mark.parametrize(
    "threat", [Linf(8 / 255), ThreatModel(L2(0.5), Targeted(3), Access("scores", 5000), eight_bit=True)], ids=repr
)
def test_a_text_is_the_notation_of_a_threat(threat: ThreatModel | Linf) -> None:
    """As for attacks, and as on the command line."""
    assert ThreatModel.of(show(threat)) == ThreatModel.of(threat)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: ThreatModel(0.1), "set of ThreatModel must be a perturbation set such as Linf"),
        (lambda: ThreatModel(Linf(0.1), goal="untargeted"), "goal of ThreatModel"),
        (lambda: ThreatModel(Linf(0.1), access="scores"), "access of ThreatModel"),
        (lambda: ThreatModel(Linf(0.1), eight_bit=8), "eight_bit of ThreatModel must be True or False"),
        (lambda: ThreatModel.of("Linff(0.1)"), "no set or threat 'Linff'. Did you mean 'Linf'"),
        (lambda: ThreatModel.of("pgd()"), "pgd"),
        (lambda: ThreatModel.of(0.1), "its notation as a text, found 0.1 of type float"),
        (lambda: Access("gradient"), "found 'gradient'. Did you mean 'gradients'"),
        (lambda: Access("scores", queries=0), "queries of Access .* found 0"),
        (lambda: Access("scores", queries=1.5), "queries of Access .* found 1.5"),
        (lambda: Access().allows("logits"), "What an attack asks for"),
    ],
)
def test_what_is_refused(build: object, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        build()  # type: ignore[operator]


def test_each_level_of_access_includes_those_after_it() -> None:
    allowed = {level: [asks for asks in LEVELS if Access(level).allows(asks)] for level in LEVELS}
    assert allowed == {
        "gradients": ["gradients", "scores", "decisions"],
        "scores": ["scores", "decisions"],
        "decisions": ["decisions"],
    }
