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
from potemkin.errors import BundleError, ConfigError, TrainingError
from potemkin.training import checkpoint
from potemkin.training import folder as folders
from potemkin.training.evaluation import Evaluator, Subset
from potemkin.training.journal import EvaluationLine
from potemkin.training.telling import Ears
from trained import Interrupted, checkpoints, log, pair, quick, same, stop_at

WORDS = ("train", "models.py:good", "good.npz", "--recipe", "pgd_at(eps=0.1, steps=2)", "--batch-size", "8")
ATTACKS = ("--attack", "apgd()", "--attack", "apgd(objective=DLR(), targets=9)")
SHORT = ("--device", "cpu", "--epochs", "2", "--set", "evaluation_examples=16", "--set", "audit_examples=12")


def poke(path: Path) -> None:
    """Other weights of the same network."""
    save_file({name: tensor + 1 for name, tensor in load_file(path).items()}, path)


def drop_evaluations(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(line for line in lines if json.loads(line)["kind"] != "evaluation"), encoding="utf-8")


TAMPERED: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "other weights": ("model.safetensors", poke, "not what this run wrote"),
    "no weights": ("model.safetensors", Path.unlink, "is gone"),
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


def test_better_weights_wait_for_their_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it cannot be written, the run goes on from the old one, whose best weights are still there."""
    folder, real = tmp_path / "run", checkpoint.save

    def save_until(place: Path, step: int, *rest: Any) -> None:
        if step == 14:
            raise TrainingError("the disk is full")
        real(place, step, *rest)

    scores = iter([3, 5, 1, 1])

    def judge(self: Evaluator, part: Subset, step: int, epoch: float, weights: Any) -> EvaluationLine:
        robust = next(scores) if part.part == "validation" else 0
        return EvaluationLine(
            step=step, epoch=epoch, part=part.part, weights=weights, n=6, clean=6, training_attack=6, one_step=6,
            robust=robust,
        )  # fmt: skip

    monkeypatch.setattr(Evaluator, "judge", judge)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", save_until)
        with pytest.raises(TrainingError, match="full"):
            quick(folder, epochs=3)
    first = load_file(folder / "model.safetensors")
    run = quick(folder, epochs=3, resume=True)  # in which no later evaluation is as good
    best = run.journal.best()
    assert best is not None and best.step == 7
    assert same(load_file(folder / "model.safetensors"), first)
    assert [path.name for path in folder.glob(".next*")] == []


def test_where_the_best_weights_are_gone_the_best_is_sought_anew(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(Interrupted):
        quick(folder, epochs=3, progress=stop_at(16))
    poke(folder / "model.safetensors")
    run = quick(folder, epochs=3, resume=True)
    best = run.journal.best()
    assert best is not None and best.step == 21
    assert [mark.what for mark in run.journal.marks() if mark.step == 14][-2:] == ["lost", "resumed"]
    quick(folder, epochs=3, resume=True)  # and again, at its end
    stored, newest = load_file(folder / "model.safetensors"), run.model.net.state_dict()
    assert same(stored, dict(newest))


def test_another_audit_in_the_folder_is_not_taken_for_the_runs_own(here: Path, cli: Cli) -> None:
    first = cli(*WORDS, *SHORT, "--out", "run", "--test", "good.npz", "--json").json["audit"]
    words = ("audit", "run", "good.npz", "--examples", "12", "--seed", "0", "--out", "run/audit", "--overwrite")
    for threat, attacks in (("Linf(0.001)", ATTACKS), ("Linf(0.1)", ("--attack", "fgsm()"))):
        assert cli(*words, "--threat", threat, *attacks).code in (0, 1)
        again = cli("train", "--resume", "run", "--json").json["audit"]
        assert (again["threat"], again["rates"]) == (first["threat"], first["rates"])
        assert [each["recipe"] for each in again["attacks"]] == [each["recipe"] for each in first["attacks"]]


def test_an_audit_that_was_interrupted_is_made_whole(tmp_path: Path) -> None:
    whole = quick(tmp_path / "run", audit_examples=6).record
    record = tmp_path / "run" / "audit" / "record.json"
    assert whole is not None and whole.complete
    again = quick(tmp_path / "run", audit_examples=6, resume=True).record
    assert again == whole
    shutil.rmtree(record.parent)
    asked = iter([False] * 2 + [True] * 99)
    task_ears = Ears(stop_asked=lambda: next(asked))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("potemkin.training.train.Ears", lambda *given: task_ears)
        cut = quick(tmp_path / "run", audit_examples=6, resume=True).record
    assert cut is not None and not cut.complete
    made = quick(tmp_path / "run", audit_examples=6, resume=True).record
    assert made is not None and made.complete and made.rates == whole.rates


def test_a_finished_run_is_not_audited_again(here: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    first = cli(*WORDS, *SHORT, "--out", "run", "--json")
    before = log(here / "run")
    with monkeypatch.context() as patch:
        patch.setattr("potemkin.training.train.audit", None)
        again = cli("train", "--resume", "run", "--json")
        assert again.code == 0, again.err
        assert again.json["audit"] == first.json["audit"] and log(here / "run") == before
        assert "done already" in cli("train", "--resume", "run").err
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
