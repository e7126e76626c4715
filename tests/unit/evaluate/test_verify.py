"""What a second look tells: refusals by reason, another model first, and the record's own alarms."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import potemkin as pk
from potemkin.evaluate.verification import Verification

X, Y = torch.rand(40, 4, generator=torch.Generator().manual_seed(0)), torch.zeros(40, dtype=torch.int64)


def net() -> nn.Module:
    made = nn.Linear(4, 2).eval()
    with torch.no_grad():
        made.weight.copy_(torch.tensor([[0.0] * 4, [1.0] * 4]))
        made.bias.copy_(torch.tensor([3.0, 0.0]))
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pk.audit(net(), (X, Y), pk.Linf(0.3), pk.fgsm(), rows=8, out=tmp_path / "run")
    return tmp_path / "run"


def test_refusals_are_told_by_reason() -> None:
    refused: dict[int | str, str] = {0: "lies", 7: "left the box"} | dict.fromkeys(range(8, 12), "left the box")
    lines = str(Verification(9, 3, refused, ["another model"], ["an alarm"])).splitlines()
    assert lines == [
        "3 of 9 claimed adversarials confirmed: in the set, in the box, goal met",
        "note: another model",
        "warning: an alarm",
        "5 refused: left the box (examples 7, 8, 9, …)",
        "1 refused: lies (example 0)",
    ]


def test_an_untouched_bundle_says_nothing_but_the_counts(folder: Path) -> None:
    found = pk.verify(folder, net(), (X, Y))
    assert found.passed and found.confirmed > 3 and 0 < found.held < 40
    assert str(found).splitlines() == [
        f"{found.claimed} of {found.claimed} claimed adversarials confirmed: in the set, in the box, goal met",
        "40 of 40 clean predictions confirmed",
        f"{found.held} held: not checked, that takes the search again",
    ]


def test_another_preprocessing_is_named(folder: Path) -> None:
    other = pk.Classifier(net(), preprocessing=pk.Preprocessing(mean=5.0))
    found = pk.verify(folder, other, (X, Y))
    assert not found.passed
    count, _, _, note, *reasons = str(found).splitlines()
    assert note.startswith("note: the model is not the one that was audited: its fingerprint differs")
    assert note.endswith("the record has the preprocessing none, this model Preprocessing(mean=5.0)")
    assert count.startswith("0 of ") and reasons[0].startswith(f"{found.claimed} refused: does not meet the goal")
    weights = net()
    weights.bias.data[0] += 1e-3
    assert pk.verify(folder, weights, (X, Y)).notes[0].endswith("its fingerprint differs")


def test_another_box_is_named(folder: Path) -> None:
    found = pk.verify(folder, pk.Classifier(net(), box=(0, 2)), (X, Y))
    assert not found.passed and not found.refused
    assert "the model's box is Box(high=2.0), the record's Box()" in found.notes


def test_the_alarms_of_the_record_are_repeated_and_fail_nothing(tmp_path: Path) -> None:
    class Probabilities(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(x).softmax(dim=1).round(decimals=3).detach() + 0 * self.net(x)

    made = Probabilities().eval()
    record = pk.audit(made, (X, Y), pk.Linf(0.3), [pk.fgsm(), pk.noise()], rows=8, out=tmp_path / "run")
    assert record.alarms
    found = pk.verify(tmp_path / "run", made, (X, Y))
    assert found.passed and len(found.warnings) == len(record.alarms)
    assert f"warning: the record carries an alarm, {record.alarms[0].name}: " in str(found)
