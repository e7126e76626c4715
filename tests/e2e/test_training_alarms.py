"""Each alarm on a small run in which adversarial training really fails that way, and none on a healthy one.

The detectors on made-up numbers are in tests/unit/training/test_alarms.py.
"""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import potemkin as pk
from cli_run import Cli, run
from potemkin.attacks.parts.starts import Center
from potemkin.training.journal import AlarmLine, EvaluationLine
from potemkin.training.optimisers import SGD, AdamW, Flat
from potemkin.training.train import Run

USUAL: dict[str, Any] = {"batch_size": 64, "optimiser": AdamW(3e-3), "schedule": Flat(), "audit_examples": 0}
USUAL |= {"evaluation_examples": 256, "evaluation_steps": 5}


def dense(width: int = 128, *, first: nn.Module | None = None, last: nn.Module | None = None) -> nn.Sequential:
    """Two hidden layers on the digits, always with the same new weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
        layers += [nn.Linear(width, 10)]
    return nn.Sequential(*([first] if first else []), *layers, *([last] if last else []))


def digits() -> tuple[Tensor, Tensor]:
    """The training part, in memory."""
    [batch] = pk.load_data("digits(part='train')").batches(1297)
    return batch.inputs, batch.labels


def go(out: Path, model: nn.Module, recipe: object, data: object = "digits(part='train')", **other: Any) -> Run:
    return pk.train(model, data, recipe, out=out, **(USUAL | other))  # type: ignore[arg-type]


def names(run: Run) -> list[str]:
    return sorted({alarm.name for alarm in run.journal.alarms()})


def first(run: Run, name: str) -> AlarmLine:
    """The alarm of this name, which log.jsonl holds as it stands."""
    alarm = next(alarm for alarm in run.journal.alarms() if alarm.name == name)
    lines = [json.loads(line) for line in (run.folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    [stored] = [
        line for line in lines if line["kind"] == "alarm" and (line["name"], line["step"]) == (name, alarm.step)
    ]
    assert stored == alarm.model_dump(mode="json")
    return alarm


def at(run: Run, part: str, step: int) -> EvaluationLine:
    return next(line for line in run.journal.evaluations(part) if line.step == step)


@pytest.mark.parametrize(
    "recipe", ["pgd_at(eps=0.1, steps=3)", "n_fgsm(eps=0.1)", "trades(eps=0.1, steps=3)", "standard(eps=0.1)"]
)
def test_a_healthy_run_raises_none(recipe: str, tmp_path: Path) -> None:
    run = go(tmp_path / "run", dense(), recipe, epochs=3)
    assert run.journal.alarms() == []
    last = run.journal.evaluations("validation")[-1]
    assert last.clean > 0.8 * last.n and last.robust > 0.3 * last.n, "it learnt something that could have failed"


# ---- each of them ---------------------------------------------------------------------------------------------------


def test_label_leaking(tmp_path: Path) -> None:
    """FGSM with the true label, far out: the network answers to the perturbation, and to it alone."""
    recipe = pk.recipes.fast(eps=0.5, start=Center(), relative_step_size=1)
    run = go(tmp_path / "run", dense(), recipe, epochs=40, holdout=800, evaluate_every=70, evaluation_examples=192)
    alarm = first(run, "label_leaking")
    line = at(run, "train", alarm.step)
    assert line.training_attack > line.clean
    assert alarm.evidence == {"attacked": line.training_attack, "clean": line.clean, "n": line.n}
    assert alarm.action == "told" and run.journal.marks()[-1].what == "finished"


@pytest.fixture(scope="module")
def robust(tmp_path_factory: pytest.TempPathFactory) -> nn.Module:
    """A network with some robustness to lose: PGD training at eps 0.15."""
    model = dense()
    go(tmp_path_factory.mktemp("robust") / "run", model, "pgd_at(eps=0.15, steps=4, eps_ramp=0.5)", epochs=14)
    return model


COLLAPSES = pk.recipes.fast(eps=0.15, start=Center(), relative_step_size=0.05)
"""One step that is far too short: soon nobody withstands anything but this step."""
HARD: dict[str, Any] = {"evaluate_every": 2, "optimiser": AdamW(1e-2)}


def test_catastrophic_overfitting(robust: nn.Module, tmp_path: Path) -> None:
    run = go(tmp_path / "run", copy.deepcopy(robust), COLLAPSES, epochs=4, **HARD)
    alarm = first(run, "catastrophic_overfitting")
    before = max(line.robust for line in run.journal.evaluations("train") if line.step < alarm.step)
    line = at(run, "train", alarm.step)
    assert line.robust < line.training_attack / 2 and line.robust < 0.8 * before
    assert line.training_attack > 0.8 * line.n
    assert names(run) == ["catastrophic_overfitting"]
    last = run.journal.evaluations("train")[-1]
    assert last.robust < last.training_attack / 2, "and it stays that way"


def test_a_collapse_that_no_evaluation_saw_coming_is_told(robust: nn.Module, tmp_path: Path) -> None:
    run = go(tmp_path / "run", copy.deepcopy(robust), COLLAPSES, epochs=4, optimiser=AdamW(1e-2))
    assert first(run, "catastrophic_overfitting").step == run.journal.evaluations("train")[0].step


def test_nothing_goes_back_at_the_last_step(robust: nn.Module, tmp_path: Path) -> None:
    """No step would be left to recover in."""
    chosen = HARD | {"evaluate_every": 3, "rollback": True}
    run = go(tmp_path / "run", copy.deepcopy(robust), COLLAPSES, epochs=4 / 18, **chosen)
    assert run.journal.info.steps == 4
    assert first(run, "catastrophic_overfitting").action == "told"
    assert run.journal.marks()[-1].what == "finished"


def test_robust_overfitting(tmp_path: Path) -> None:
    """200 examples, a third of their labels wrong, learnt by heart."""
    x, y = digits()
    draws = torch.Generator().manual_seed(0)
    wrong = torch.rand(200, generator=draws) < 0.3
    labels = torch.where(wrong, torch.randint(0, 10, (200,), generator=draws), y[:200])
    run = go(
        tmp_path / "run", dense(256), pk.recipes.pgd_at(eps=0.08, steps=2), (x[:200], labels),
        validation=(x[300:812], y[300:812]), epochs=60, batch_size=50, evaluate_every=40, evaluation_examples=512,
        optimiser=AdamW(5e-3),
    )  # fmt: skip
    alarm = first(run, "robust_overfitting")
    curve = [line.robust for line in run.journal.evaluations("validation")]
    assert alarm.evidence["best"] == max(curve) > 1.2 * curve[-1]
    assert names(run) == ["robust_overfitting"]
    best = run.journal.best()
    assert best is not None and best.robust == max(curve), "what is kept is the best, not the last"


class Ripple(nn.Module):
    """A ripple too small to see: its slope is the same at all grey levels of the digits, and anything in between."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.01 * torch.sin(2 * math.pi * 128 * x)


@pytest.mark.parametrize("recipe", ["standard(eps=0.1)", "pgd_at(eps=0.1, steps=2)"])
def test_gradient_masking(recipe: str, tmp_path: Path) -> None:
    """One step sees the right way; many steps are lost in the ripple."""
    run = go(tmp_path / "run", dense(first=Ripple()), recipe, epochs=1)
    alarm = first(run, "gradient_masking")
    line = at(run, "validation", alarm.step)
    assert line.one_step < line.robust
    assert names(run) == ["gradient_masking"]


class Detached(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.detach()


class Rounded(nn.Module):
    """Quantisation: its gradient is zero everywhere."""

    def forward(self, x: Tensor) -> Tensor:
        return (x * 16).round() / 16


class Saturated(nn.Module):
    """So sure of everything that float32 has no gradient left."""

    def forward(self, logits: Tensor) -> Tensor:
        return logits * 1e4


DEAD = {"detached": {"first": Detached()}, "quantised": {"first": Rounded()}, "saturated": {"last": Saturated()}}


@pytest.mark.parametrize("why", DEAD)
def test_a_dead_inner_attack(why: str, tmp_path: Path) -> None:
    run = go(tmp_path / "run", dense(**DEAD[why]), "pgd_at(eps=0.01, steps=2)", epochs=2)
    alarm = first(run, "dead_attack")
    line = next(line for line in run.journal.steps() if line.step == alarm.step)
    assert line.dead is not None and line.dead > 0.5
    assert "label_leaking" not in names(run) and "catastrophic_overfitting" not in names(run)


@pytest.mark.parametrize(
    "recipe",
    [
        pk.recipes.fast(eps=0.1, start=Center(), relative_step_size=1e-3),
        pk.recipes.pgd_at(eps=0.1, steps=3, relative_step_size=1e-6),
        pk.recipes.trades(eps=0.1, steps=3, relative_step_size=1e-6),
    ],
)
def test_a_step_of_nothing_is_a_dead_attack(recipe: Any, tmp_path: Path) -> None:
    """Also where it begins at random: what the start moved, the attack has not."""
    run = go(tmp_path / "run", dense(), recipe, epochs=0.5)
    assert first(run, "dead_attack").evidence["dead"] == 0.0


def test_not_a_number(tmp_path: Path) -> None:
    """It stops at once, without weights worth keeping, and says so instead of failing at the audit."""
    run = go(tmp_path / "run", dense(), "pgd_at(eps=0.1, steps=1)", optimiser=SGD(1e30), log_every=4, audit_examples=9)
    alarm = first(run, "not_a_number")
    assert (alarm.step, alarm.action) == (4, "stopped")
    [mark] = run.journal.marks()
    assert (mark.what, mark.step) == ("stopped", 4) and "not_a_number" in mark.message
    assert run.record is None
    assert not (run.folder / "model.safetensors").exists()
    chosen: dict[str, Any] = {"optimiser": SGD(1e30), "log_every": 4, "audit_examples": 9}
    again = go(tmp_path / "run", dense(), "pgd_at(eps=0.1, steps=1)", resume=True, **chosen)
    assert [alarm.step for alarm in again.journal.alarms() if alarm.name == "not_a_number"] == [4]
    assert again.journal.marks()[-1].what == "stopped", (
        "spoilt weights are no checkpoint: it began anew, and fell again"
    )


class OffTheGrid(nn.Module):
    """In eval mode no number for whatever is not one of the digits' 17 grey levels: all that an attack makes."""

    def forward(self, x: Tensor) -> Tensor:
        off = ((16 * x - (16 * x).round()).abs() > 1e-3).flatten(1).any(dim=1)
        return x if self.training else torch.where(off[:, None, None, None], torch.full_like(x, math.nan), x)


def test_what_could_not_be_judged_is_counted_apart(tmp_path: Path) -> None:
    run = go(tmp_path / "run", dense(first=OffTheGrid()), "standard(eps=0.1)", epochs=2)
    line = run.journal.evaluations("validation")[-1]
    assert line.clean > 0.5 * line.n
    assert line.undecided > 0.5 * line.n and line.robust + line.undecided <= line.n
    assert line.robust_upper.value == (line.robust + line.undecided) / line.n
    healthy = go(tmp_path / "healthy", dense(), "standard(eps=0.1)", epochs=1).journal.evaluations("validation")[-1]
    assert healthy.undecided == 0 and healthy.robust_upper == healthy.robust_accuracy


# ---- what is done about them ----------------------------------------------------------------------------------------


def test_stop_on_stops_and_a_resume_goes_on(tmp_path: Path) -> None:
    chosen: dict[str, Any] = {"epochs": 2, "log_every": 3, "stop_on": ("dead_attack", "label_leaking")}
    model = dense(first=Detached())
    run = go(tmp_path / "run", copy.deepcopy(model), "pgd_at(eps=0.1, steps=1)", **chosen)
    alarm = first(run, "dead_attack")
    assert (alarm.step, alarm.action) == (3, "stopped")
    assert run.journal.marks()[-1].what == "stopped" and "alarm dead_attack" in run.journal.marks()[-1].message
    assert run.journal.steps()[-1].step == 3
    again = go(tmp_path / "run", copy.deepcopy(model), "pgd_at(eps=0.1, steps=1)", resume=True, **chosen)
    assert again.journal.marks()[-1].what == "finished"
    assert again.journal.steps()[-1].step == again.journal.info.steps == 36


def test_rollback_goes_back_and_the_run_goes_on(robust: nn.Module, tmp_path: Path) -> None:
    run = go(tmp_path / "run", copy.deepcopy(robust), COLLAPSES, epochs=2, **HARD, rollback=True)
    alarm = first(run, "catastrophic_overfitting")
    assert alarm.action == "rolled back"
    mark = next(mark for mark in run.journal.marks() if mark.what == "rolled back")
    assert mark.step == alarm.step and f"to the weights of step {alarm.step - 2}" in mark.message
    later = [line for line in run.journal.evaluations("train") if line.step > alarm.step]
    assert max(line.robust for line in later[:9]) > 1.3 * at(run, "train", alarm.step).robust
    assert run.journal.steps()[-1].step == run.journal.info.steps
    assert run.journal.marks()[-1].what == "finished"
    moved = {line.step: line.moved for line in run.journal.steps()}
    recovered = [k for k, far in moved.items() if far is not None and far > 0.5]
    epoch = run.journal.info.steps_per_epoch
    assert recovered == [k for k in moved if alarm.step < k <= alarm.step + epoch], "PGD for an epoch, and no longer"


class Fails(nn.Module):
    """Answers NaN in some of its learning passes, and is well before and after."""

    def __init__(self, first: int, last: int) -> None:
        super().__init__()
        self.inner, self.first, self.last, self.passes = dense(), first, last, 0

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inner(x)
        if self.training:
            self.passes += 1
            if self.first <= self.passes <= self.last:
                return out * math.nan
        return out


def test_rollback_from_weights_that_are_spoilt(tmp_path: Path) -> None:
    chosen: dict[str, Any] = {"epochs": 2, "evaluate_every": 6, "log_every": 3}
    run = go(tmp_path / "run", Fails(14, 14), "pgd_at(eps=0.1, steps=1)", rollback=True, **chosen)
    assert first(run, "not_a_number").action == "rolled back"
    losses = {line.step: line.loss for line in run.journal.steps()}
    assert [step for step, loss in losses.items() if loss is None] == [15]
    assert run.journal.steps()[-1].step == 36
    best = run.journal.best()
    assert best is not None and best.step > 15
    stopped = go(tmp_path / "stopped", Fails(14, 14), "pgd_at(eps=0.1, steps=1)", **chosen)
    assert first(stopped, "not_a_number").action == "stopped"
    assert stopped.journal.steps()[-1].step == 15


def test_a_run_does_not_roll_back_for_ever(tmp_path: Path) -> None:
    run = go(
        tmp_path / "run", Fails(14, 999), "pgd_at(eps=0.1, steps=1)", epochs=3, evaluate_every=6, log_every=3,
        rollback=True,
    )  # fmt: skip
    actions = [alarm.action for alarm in run.journal.alarms() if alarm.name == "not_a_number"]
    assert actions[-1] == "stopped" and len(actions) <= 4
    assert run.journal.marks()[-1].what == "stopped"


# ---- on the command line --------------------------------------------------------------------------------------------

MODELS = """
import torch
from torch import nn


class Detached(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(64, 10)

    def forward(self, x):
        return self.out(x.detach().flatten(1))
"""


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    (tmp_path / "models.py").write_text(MODELS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return lambda *words: run(capsys, *words)


WORDS = ("train", "models.py:Detached", "digits", "--recipe", "pgd_at(eps=0.1, steps=1)", "--epochs", "1")
SHORT = ("--set", "evaluation_examples=32", "--set", "evaluation_steps=2", "--set", "audit_examples=0")


def test_an_alarm_is_the_exit_code_and_is_told(cli: Cli) -> None:
    answer = cli(*WORDS, *SHORT, "--out", "runs/a")
    assert answer.code == 1
    assert "alarm dead_attack: In 100 % of attacked rows" in answer.err
    assert "alarm dead_attack at epoch 1: " in answer.out and "look for" in answer.out
    page = Path("runs/a/report.html").read_text(encoding="utf-8")
    assert "every gradient was zero or not finite" in page


def test_stop_on_by_name(cli: Cli) -> None:
    answer = cli(*WORDS, *SHORT, "--stop-on", "dead_attack", "--set", "log_every=2", "--out", "runs/a", "--json")
    assert answer.code == 1
    [alarm] = answer.json["alarms"]
    assert (alarm["name"], alarm["action"], alarm["step"]) == ("dead_attack", "stopped", 2)
    assert "Stopped: alarm dead_attack." in answer.err


def test_not_a_number_leaves_a_report_and_exit_code_1(cli: Cli) -> None:
    answer = cli(
        "train", "digits-cnn", "digits", "--recipe", "pgd_at(eps=0.1, steps=1)", "--epochs", "1",
        "--optimiser", "SGD(1e30)", "--set", "log_every=2", "--out", "runs/a",
    )  # fmt: skip
    assert answer.code == 1, answer.err
    assert "alarm not_a_number" in answer.out and "learning rate" in answer.out
    assert "Next" not in answer.out, "there are no weights to audit"
    assert Path("runs/a/report.html").is_file()
