"""What stands in a run's folder is believed only where the run can tell that it is its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from cli_run import Cli
from potemkin.errors import BundleError, ConfigError
from potemkin.training import folder as folders
from trained import checkpoints, log, pair, quick

WORDS = ("train", "models.py:good", "good.npz", "--recipe", "pgd_at(eps=0.1, steps=2)", "--batch-size", "8")
SHORT = ("--device", "cpu", "--epochs", "2", "--set", "evaluation_examples=16", "--set", "audit_examples=12")


def poke(path: Path) -> None:
    """Other weights of the same network."""
    save_file({name: tensor + 1 for name, tensor in load_file(path).items()}, path)


def drop_evaluations(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(line for line in lines if json.loads(line)["kind"] != "evaluation"), encoding="utf-8")


TAMPERED: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "other weights": ("model.safetensors", poke, "not what this run wrote"),
    "no weights": ("model.safetensors", Path.unlink, "gone"),
    "lost evaluations": ("log.jsonl", drop_evaluations, "lines were lost"),
    "no log": ("log.jsonl", Path.unlink, "log.jsonl"),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_a_folder_that_was_changed_tells_no_figures(what: str, tmp_path: Path) -> None:
    name, change, said = TAMPERED[what]
    quick(tmp_path / "run", epochs=2, audit_examples=12)
    change(tmp_path / "run" / name)
    with pytest.raises(BundleError, match=said):
        quick(tmp_path / "run", epochs=2, audit_examples=12, resume=True)


def test_a_finished_run_is_not_audited_again(here: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    first = cli(*WORDS, *SHORT, "--out", "run", "--json")
    before = log(here / "run")
    with monkeypatch.context() as patch:
        patch.setattr("potemkin.training.train.audit", None)
        again = cli("train", "--resume", "run", "--json")
        assert again.code == 0, again.err
        assert again.json["audit"] == first.json["audit"] and log(here / "run") == before
        assert "finished already" in cli("train", "--resume", "run").err
    shutil.rmtree(here / "run" / "audit")
    assert cli("train", "--resume", "run", "--json").json["audit"]["rates"] == first.json["audit"]["rates"]


def test_another_test_set_is_audited_anew(tmp_path: Path) -> None:
    x, y = pair(20)
    sets = [(x, y), (1 - x, y)]
    found = [
        quick(tmp_path / "run", audit_examples=12, test=each, resume=number > 0).record
        for number, each in enumerate([*sets, sets[1]])
    ]
    prints = [record.data.fingerprint for record in found if record is not None]
    assert prints[0] != prints[1] == prints[2] and found[1] == found[2], "and only then"


def test_what_torch_says_of_a_cut_checkpoint_reaches_nobody(here: Path, cli: Cli) -> None:
    """In a process of its own: pytest takes the root's log away."""
    assert cli(*WORDS, *SHORT, "--out", "run").code == 0
    cut = next((here / "run" / "checkpoints" / checkpoints(here / "run")[-1]).glob("*.safetensors"))
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    done = subprocess.run(
        [sys.executable, "-m", "potemkin", "train", "--resume", "run"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 3 and "cannot be read" in done.stderr
    assert "Traceback" not in done.stderr and "Falling back" not in done.stderr


def test_a_run_that_could_not_begin_leaves_its_folder_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(folders, "write_info", full)
        with pytest.raises(BundleError, match="No space left"):
            quick(tmp_path / "run")
    assert list((tmp_path / "run").iterdir()) == []
    quick(tmp_path / "run")


def flipped(data: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return data[0], (data[1] + 1) % 4


def brighter(data: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return (data[0] + 0.01).clamp(0, 1), data[1]


@pytest.mark.parametrize("change", [flipped, brighter])
def test_other_extra_data_are_noticed(change: Callable[..., tuple[Tensor, Tensor]], tmp_path: Path) -> None:
    extra = (pair(40)[0] * 0.9, pair(40)[1])
    call: dict[str, Any] = {"recipe": "pgd_at(eps=0.1, steps=2, extra=0.5)"}
    quick(tmp_path / "run", extra=extra, **call)
    with pytest.raises(ConfigError, match="the extra data arrays have other"):
        quick(tmp_path / "run", extra=change(extra), resume=True, **call)
    quick(tmp_path / "run", extra=extra, resume=True, **call)


def test_data_that_stand_twice_are_told(tmp_path: Path) -> None:
    x, y = pair(40)
    other, third = (x * 0.9, y), (x * 0.8, y)
    recipe = "pgd_at(eps=0.1, steps=2, extra=0.5)"
    pairs: dict[str, dict[str, Any]] = {
        "The test data are the extra data": {"extra": other, "test": other, "recipe": recipe},
        "The validation data are the extra data": {"extra": other, "validation": other, "recipe": recipe},
        "The test data are the validation data": {"validation": other, "test": other},
        "The validation data are the training data": {"validation": (x, y), "data": (x, y)},
    }
    for number, (said, given) in enumerate(pairs.items()):
        with pytest.warns(UserWarning, match=said):
            quick(tmp_path / str(number), **given)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        quick(tmp_path / "apart", extra=other, test=third, recipe=recipe)
    assert [str(each.message) for each in told if " data are the " in str(each.message)] == []


class Soft(torch.nn.Module):
    """Probabilities where logits belong."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = torch.nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.inside(x.flatten(1)).softmax(dim=1)


def test_probabilities_are_told_before_they_are_learnt_from(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"returns probabilities, not logits.*before the softmax"):
        quick(tmp_path / "run", model=Soft())
