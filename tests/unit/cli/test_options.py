"""Options as text: lists of numbers, sizes, the box, and what is typed again for `potemkin verify`."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from potemkin.cli.options import ModelOptions, numbers, sizes
from potemkin.cli.session import Session
from potemkin.cli.threats import DEFAULT_ATTACKS, AdversaryOptions
from potemkin.core.notation import parse
from potemkin.errors import ConfigError
from potemkin.threat.access import Access
from potemkin.threat.box import Box
from potemkin.threat.goals import LeastLikely
from potemkin.threat.sets.l2 import L2
from potemkin.threat.sets.linf import Linf
from potemkin.threat.threat_model import ThreatModel

SESSION = Session.of(["--json"])


def test_numbers_and_sizes() -> None:
    assert numbers("--mean", "0.5, -1,1e-3") == (0.5, -1.0, 0.001)
    assert sizes("--crop", "224") == (224,)
    assert sizes("--resize", "32, 48") == (32, 48)
    assert numbers("--mean", None) is sizes("--crop", None) is None


@pytest.mark.parametrize("text", ["", ",", "1,,2", "one", "1;2"])
def test_what_is_no_list_of_numbers_names_the_option(text: str) -> None:
    for read in (numbers, sizes):
        with pytest.raises(ConfigError, match="--option"):
            read("--option", text)
    with pytest.raises(ConfigError, match="--option"):
        sizes("--option", "1.5")


def test_a_model_is_brought_with_its_preprocessing() -> None:
    options = ModelOptions(box="-1,inf", mean="0.25", std="0.5", crop="8", device="cpu")
    model, source = options.bring(SESSION, "digits-cnn", "digits")
    assert model.box == Box(-1.0, float("inf"))
    assert (model.classes, source.input_shape) == (10, (1, 8, 8))
    x = next(iter(source.batches(8))).inputs
    bare, _ = ModelOptions(device="cpu").bring(SESSION, "digits-cnn", "digits")
    assert torch.allclose(model(x), bare((x - 0.25) / 0.5), atol=1e-5)


def test_the_box_is_left_to_the_model_that_declares_one() -> None:
    assert ModelOptions(device="cpu").bring(SESSION, "digits-cnn", "digits")[0].box == Box(0.0, 1.0)


def test_options_can_be_typed_again() -> None:
    assert ModelOptions().again("net.py:make", "x.npz") == ["--model", "net.py:make", "--data", "x.npz"]
    options = ModelOptions(weights="a b.pt", mean="-0.5", image_size=32)
    typed = ["--weights", "a b.pt", "--mean", "-0.5", "--image-size", "32"]
    assert options.again("net", "x")[4:] == typed


def test_every_option_that_brings_the_model_is_typed_again() -> None:
    """All but the device: a new one that `again` leaves out would have `potemkin verify` ask another model."""
    given = {field.name: "7" for field in dataclasses.fields(ModelOptions)} | {"image_size": 7}
    said = ModelOptions(**given).again("net", "x")  # type: ignore[arg-type]
    assert {"--" + name.replace("_", "-") for name in given} - {"--device"} == set(said[4::2])


def test_the_adversary_in_parts() -> None:
    told = AdversaryOptions("L2(0.5)", goal="LeastLikely()", access="scores", eight_bit=True)
    assert told.threat_model() == ThreatModel(L2(0.5), LeastLikely(), Access("scores"), eight_bit=True)
    assert AdversaryOptions("L2(0.5)").threat_model() == ThreatModel(L2(0.5))
    whole = AdversaryOptions("ThreatModel(L2(0.5), eight_bit=True)")
    assert whole.threat_model() == ThreatModel(L2(0.5), eight_bit=True)
    with_budget = AdversaryOptions("L2(0.5)", access='Access("decisions", queries=7)')
    assert with_budget.threat_model().access == Access("decisions", 7)


@pytest.mark.parametrize("more", [{"goal": "Untargeted()"}, {"access": "scores"}, {"eight_bit": True}])
def test_a_whole_threat_model_takes_no_second_word(more: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="whole threat model"):
        AdversaryOptions("ThreatModel(L2(0.5))", **more).threat_model()  # type: ignore[arg-type]


def test_the_usual_attacks_need_gradients() -> None:
    threat = ThreatModel(Linf(0.1))
    assert AdversaryOptions("Linf(0.1)").attacks(threat) == [parse(text) for text in DEFAULT_ATTACKS]
    assert AdversaryOptions("Linf(0.1)", ["noise", "fgsm()"]).attacks(threat) == [parse("noise()"), parse("fgsm()")]
    with pytest.raises(ConfigError, match="No --attack is given"):
        AdversaryOptions("Linf(0.1)").attacks(ThreatModel(Linf(0.1), access=Access("decisions")))
