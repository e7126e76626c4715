"""The loop and what watches it: whose draws are whose, and what follows from evaluations that are made up here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import potemkin as pk
from potemkin.attacks.parts.starts import Center
from potemkin.attacks.recipes.fgsm import step_rnd
from potemkin.attacks.recipes.pgd import pgd
from potemkin.data.arrays import ArraySource
from potemkin.models.classifier import Classifier
from potemkin.threat.objectives import DLR, Margin
from potemkin.training.assemble import judged_copy, trainer_of
from potemkin.training.evaluation import Evaluator, Subset
from potemkin.training.examples import Examples
from potemkin.training.journal import EvaluationLine
from potemkin.training.parallel import Processes
from potemkin.training.recipes import Shift, ensemble_at, free, kurakin, pgd_at
from potemkin.training.settings import Settings
from potemkin.training.stream import as_examples
from potemkin.training.task import Task
from potemkin.training.train import Run
from potemkin.training.trainer import Trainer
from reference import training as paper
from trained import linear, pair, quick, same
from training_steps import EPS, K, climbed, examples, learner, mirror, network, one_step, x_of

CPU = torch.device("cpu")

# ---- whose draws are whose -----------------------------------------------------------------------------------------


def batch_of(source: ArraySource, *places: int) -> Any:
    return next(source.batches(len(places), list(places)))


def draws(*batches: Any) -> dict[tuple[float, ...], Tensor]:
    """What the rows of a batch draw, by their inputs."""
    given = as_examples(list(batches), CPU, 3, 2, 0, 0.0, 0)
    drawn = given.streams.uniform(0, (4,), purpose=7)
    return {tuple(x.tolist()): each for x, each in zip(given.x, drawn, strict=True)}


def test_a_row_draws_the_same_whatever_extra_rows_are_mixed_in() -> None:
    random = torch.Generator().manual_seed(0)
    own, extra = (ArraySource(torch.rand(9, 5, generator=random), torch.arange(9) % 3) for _ in range(2))
    alone = draws(batch_of(own, 0, 1, 2, 3, 4, 5))
    mixed = draws(batch_of(own, 0, 1, 2, 3, 4, 5), batch_of(extra, 2, 7, 4))
    assert len(alone) == 6 and len(mixed) == 9
    assert all(torch.equal(mixed[row], drawn) for row, drawn in alone.items())
    other = draws(batch_of(own, 8), batch_of(extra, 4, 2, 0, 1))
    shared = [row for row in other if row in mixed]
    assert len(shared) == 2 and all(torch.equal(mixed[row], other[row]) for row in shared), "extra rows alike"


def test_a_search_stays_in_the_memory_format_of_the_network_and_finds_the_same(tmp_path: Path) -> None:
    data = pk.load_data((torch.rand(16, 3, 6, 6, generator=torch.Generator().manual_seed(0)), torch.arange(16) % 3))
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    found = []
    for channels_last in (False, True):
        settings = Settings(batch_size=8, evaluation_examples=8, channels_last=channels_last)
        task, alone = Task(Classifier(net), data, pgd_at(eps=0.1, steps=3), settings), Processes(0, 1, CPU)
        trainer = trainer_of(task, tmp_path / "run", alone, judged_copy(task, alone))
        given = trainer.parts(next(trainer.stream.from_step(0)))[0]
        found.append(trainer._attack(given).points)  # type: ignore[union-attr]
        memory = torch.channels_last if channels_last else torch.contiguous_format
        assert given.x.is_contiguous(memory_format=memory) and found[-1].is_contiguous(memory_format=memory)
    assert (found[0] - found[1]).abs().max() <= 0.2 and (found[0] != given.x).any()
    assert ((found[0] - found[1]).abs() > 1e-6).float().mean() < 0.02  # signs of gradients that rounding decides


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Trainer]:
    """A trainer that has not begun."""

    def made(recipe: Any) -> Trainer:
        data, settings = pk.load_data(pair()), Settings(batch_size=8, evaluation_examples=8)
        task, alone = Task(Classifier(linear()), data, recipe, settings), Processes(0, 1, CPU)
        return trainer_of(task, tmp_path / "run", alone, judged_copy(task, alone))

    return made


def test_the_same_rows_are_drawn_for_anew_in_every_epoch_and_after_a_rollback(make: Callable[..., Trainer]) -> None:
    trainer = make(pgd_at(eps=EPS, augment=(Shift(1),)))
    batches = next(trainer.stream.from_step(0))
    epoch = trainer.stream.steps_per_epoch

    def given(step: int, rollbacks: int = 0) -> Examples:
        trainer.state.step, trainer.state.rollbacks = step, rollbacks
        [part] = trainer.parts(batches)
        return part

    first, again, later, next_epoch, back = given(0), given(0), given(epoch - 1), given(epoch), given(0, 1)
    for alike in (again, later):
        assert torch.equal(alike.streams.keys, first.streams.keys) and torch.equal(alike.x, first.x)
    for other in (next_epoch, back):
        assert not (other.streams.keys == first.streams.keys).all(dim=1).any()
        assert (other.x != first.x).flatten(1).any(dim=1).sum() >= 4, "they are moved elsewhere, too"


# ---- what the inner attack asks ------------------------------------------------------------------------------------


def test_a_static_network_is_asked_through_its_own_preprocessing(monkeypatch: pytest.MonkeyPatch) -> None:
    mean, std = (0.1, 0.8), (0.2, 0.5)
    static = Classifier(network(seed=11), classes=K, preprocessing=pk.Preprocessing(mean=mean, std=std))
    monkeypatch.setattr(ensemble_at, "_opened", lambda recipe, source, device: static)
    given, slope = examples(), paper.away_from(examples().y.numpy())
    x = x_of(given)
    own = pk.Preprocessing(mean=0.3, std=0.4)
    recipe, teacher = ensemble_at(eps=EPS, sources=("a",) * 30), learner(network(), preprocessing=own)
    points = recipe.attack(teacher, given).points.double().numpy()

    def stepped(channels: Any) -> Any:
        where = channels(given.x).double().numpy()
        return (x + EPS * np.sign(paper.input_gradient(mirror(static.net), where, slope))).clip(0, 1)

    assert abs(points - stepped(static.preprocessing)).max() < 1e-6
    for wrong in (own, nn.Identity()):
        assert (abs(points - stepped(wrong)).max(axis=(1, 2, 3)) > EPS).sum() > 3, "it makes a difference"


def test_an_objective_that_needs_several_classes_gets_them() -> None:
    """DLR is replaced by the margin where there are two classes, and there only."""

    def found(objective: object) -> Any:
        attack = pgd(steps=2, objective=objective, start=Center())
        return one_step(kurakin(eps=EPS, share=1.0, attack_by=attack), network(), examples(60)).points

    ratio, margin = found(DLR()), found(Margin())
    assert (abs(ratio - margin).max(axis=(1, 2, 3)) > EPS / 2).sum() > 3


def test_random_targets_are_of_all_classes() -> None:
    net, given = network(), examples(60)
    points = one_step(kurakin(eps=EPS, share=1.0, attack_by=step_rnd()), network(), given).points
    for target in range(K):
        towards = climbed(net, given, x_of(given), 1, EPS, slope=paper.toward(np.full(60, target)))
        assert (abs(points - towards).max(axis=(1, 2, 3)) < 1e-6).sum() >= 5


# ---- what follows from evaluations ---------------------------------------------------------------------------------

N = 100


def judged(
    monkeypatch: pytest.MonkeyPatch, out: Path, robust: dict[str, list[int]], **call: Any
) -> tuple[Run, dict[int, dict[str, Tensor]]]:
    """A run whose evaluations say this, and the weights that every step left. Where nothing is robust, the training
    attack is withstood all the same: a collapse."""
    model, seen, said = linear(), {}, {part: iter(counts) for part, counts in robust.items()}

    def judge(self: Evaluator, part: Subset, step: int, epoch: float, weights: Any) -> EvaluationLine:
        held = next(said[part.part])
        return EvaluationLine(
            step=step, epoch=epoch, part=part.part, weights=weights, n=N, clean=90, majority=25,
            training_attack=max(held, 60), one_step=max(held, 60), robust=held,
        )  # fmt: skip

    def look(tick: Any) -> None:
        seen[tick.step] = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    monkeypatch.setattr(Evaluator, "judge", judge)
    return quick(out, model=model, progress=look, **call), seen


def test_after_a_collapse_the_last_good_weights_come_back_however_many_checkpoints_ago(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    robust = {"train": [60, 0, 60, 60, 60], "validation": [50] * 5}
    call = {"epochs": 3, "evaluate_every": 5, "checkpoint_every": 1, "keep_checkpoints": 2, "rollback": True}
    run, seen = judged(monkeypatch, tmp_path / "run", robust, **call)
    [alarm] = run.journal.alarms()
    assert (alarm.name, alarm.action, alarm.step) == ("catastrophic_overfitting", "rolled back", 10)
    assert same(seen[10], seen[5]), "the weights of step 5, though those of 8 and 9 are the newest kept"
    assert all(not same(seen[step], seen[5]) for step in (4, 6, 9, 11))
    assert [mark.step for mark in run.journal.marks() if mark.what == "rolled back"] == [10]
    assert max(seen) == 21


def test_weights_that_collapsed_are_never_the_last_good_ones(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Not even while the alarm that told so lasts, and is not told again."""
    robust = {"train": [60, 0, 0, 0, 0], "validation": [50] * 5}
    call = {"epochs": 3, "evaluate_every": 5, "rollback": True}
    run, _ = judged(monkeypatch, tmp_path / "run", robust, **call)
    newest = max((run.folder / "checkpoints").iterdir())
    assert json.loads((newest / "state.json").read_text(encoding="utf-8"))["state"]["good"] == 5


def test_dropout_is_drawn_anew_at_each_step_and_again_when_it_is_replayed(make: Callable[..., Trainer]) -> None:
    trainer, drawn = make(pgd_at(eps=0.1, steps=1)), []
    batch = next(trainer.stream.from_step(0))
    for step in (0, 1, 0):
        trainer.state.step = step
        trainer.parts(batch)
        drawn.append(torch.rand(8))
    assert torch.equal(drawn[0], drawn[2]) and not torch.equal(drawn[0], drawn[1])


def test_after_a_rollback_free_training_is_attacked_by_pgd_for_an_epoch(make: Callable[..., Trainer]) -> None:
    trainer = make(free(eps=0.1, replay=2))
    trainer.state.recovers_until = 2
    parts = trainer.parts(next(trainer.stream.from_step(0)))
    carried = None
    for attack in ([56, 56], [112, 112], [112, 112]):  # 7 steps on 8 rows, twice; then its own gradients again
        carried = trainer.step(parts, carried)
        assert trainer.learner.meter.attack == attack
    assert carried is not None and carried[0] is not None and carried[0].points.requires_grad


def test_the_best_weights_are_those_with_the_best_validation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Training examples say otherwise, as they do when a network overfits."""
    robust = {"train": [50, 40, 60], "validation": [40, 55, 45]}
    run, seen = judged(monkeypatch, tmp_path / "run", robust, epochs=3)
    assert [mark.step for mark in run.journal.marks() if mark.what == "best"] == [7, 14]
    assert same(load_file(run.folder / "model.safetensors"), seen[14])
    assert same(dict(run.model.net.state_dict()), seen[14]) and not same(seen[14], seen[21])


def test_of_equals_the_first_is_the_best(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """For its weights are those that were kept."""
    run, seen = judged(monkeypatch, tmp_path / "run", {"train": [50] * 3, "validation": [40, 55, 55]}, epochs=3)
    best = run.journal.best()
    assert best is not None and best.step == 14
    assert same(load_file(run.folder / "model.safetensors"), seen[14])


@pytest.mark.parametrize("patience", [1, 2, 3])
def test_patience_is_so_many_evaluations_without_a_better_one(
    patience: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Counted anew from each better one; an equal one is none."""
    validation = [30] + ([25] if patience > 1 else []) + [40] + [40, 39, 38, 37, 36]
    best = validation.index(40)
    robust = {"train": [50] * 9, "validation": validation}
    run, _ = judged(monkeypatch, tmp_path / "run", robust, epochs=9, patience=patience)
    assert len(run.journal.evaluations("validation")) == best + 1 + patience
    assert run.journal.marks()[-1].what == "stopped" and f"in {patience} evaluations" in run.journal.marks()[-1].message


class Silent(nn.Module):
    """The same answer to everything."""

    def forward(self, x: Tensor) -> Tensor:
        return 0.0 * x


def test_nobody_is_told_that_nothing_is_learnt_before_half_of_the_run(tmp_path: Path) -> None:
    chosen = {"recipe": "standard()", "epochs": 4, "batch_size": 36, "evaluation_examples": 40}
    run = quick(tmp_path / "run", model=nn.Sequential(linear(), Silent()), data=pair(400), **chosen)
    info = run.journal.info
    assert [line.step for line in run.journal.evaluations("validation")] == [10, 20, 30, 40] and info.steps == 40
    [alarm] = run.journal.alarms()
    assert (alarm.name, alarm.step) == ("not_learning", 20)
