"""What makes a resumed run another one, though its recipe, settings and tensors are the same; what a new one warns of.

Damaged folders, and what is given in other words than it began with, are in test_training_faults.py.
"""

from __future__ import annotations

import copy
import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cli_run import tree
from potemkin.errors import BundleError, ConfigError, PotemkinError
from potemkin.training.task import LOOKED_AT
from trained import Interrupted, checkpoints, log, pair, quick, same, stop_at, tensors


def net(between: nn.Module) -> nn.Sequential:
    """Always with the same weights, whatever stands between the layers: it has none."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), between, nn.Linear(8, 4))


def go(out: Path, **other: Any) -> None:
    quick(out, **({"model": net(nn.ReLU()), "epochs": 3} | other))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three epochs of seven steps that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    go(folder)
    return folder


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """The same run, killed after step 16: its newest checkpoint is that of step 14."""
    with pytest.raises(Interrupted):
        go(tmp_path / "run", progress=stop_at(16))
    assert checkpoints(tmp_path / "run") == ["step-00000007", "step-00000014"]
    return tmp_path / "run"


def refused(kind: type[PotemkinError], *says: str, out: Path, **other: Any) -> None:
    """It says so, and leaves its checkpoints and its weights as they were."""
    before = tree(out)
    with pytest.raises(kind) as caught:
        go(out, resume=True, **other)
    assert [word for word in says if word not in str(caught.value)] == [], str(caught.value)
    after = tree(out)
    kept = [name for name in before if name.startswith(("checkpoints", "model", "run.json"))]
    assert all(before[name] == after[name] for name in kept) and len(kept) > 6


def edit(path: Path, change: Callable[[Any], None]) -> None:
    told = json.loads(path.read_text(encoding="utf-8"))
    change(told)
    path.write_text(json.dumps(told, indent=2, sort_keys=True), encoding="utf-8")


@pytest.mark.parametrize(("name", "value"), [("seed", 5), ("steps", 999), ("notes", ["all is well"])])
def test_a_run_json_that_was_edited_after_the_checkpoint(name: str, value: Any, begun: Path, whole: Path) -> None:
    held = (begun / "run.json").read_bytes()
    edit(begun / "run.json", lambda told: told.update({name: value}))
    refused(BundleError, "run.json was changed after the checkpoint at step 14", "Put it back", out=begun)
    (begun / "run.json").write_bytes(held)
    go(begun, resume=True)
    assert same(tensors(begun), tensors(whole)) and log(begun) == log(whole)


def test_a_network_whose_code_was_changed(begun: Path, whole: Path) -> None:
    """Its tensors are the same; what is made of them is not."""
    refused(ConfigError, "With the weights of step 14", "its code was changed", out=begun, model=net(nn.Tanh()))
    go(begun, resume=True, model=nn.Sequential(*net(nn.LeakyReLU(0.0))))
    assert same(tensors(begun), tensors(whole)), "what answers alike is the same network"


def unseen(count: int) -> int:
    """A place between those that the fingerprint of so many examples looks at."""
    seen = {int(k * (count - 1) / (LOOKED_AT - 1)) for k in range(LOOKED_AT)}
    return next(k for k in range(count // 2, count) if not {k - 1, k, k + 1} & seen)


def relabelled(data: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """One label of many is another."""
    x, y = data[0], data[1].clone()
    y[unseen(len(y))] += 1 if y[unseen(len(y))] < 3 else -1
    return x, y


@pytest.mark.parametrize("part", ["data", "validation"])
def test_labels_of_examples_that_the_fingerprint_does_not_look_at(part: str, tmp_path: Path) -> None:
    many = pair(4 * LOOKED_AT)
    call: dict[str, Any] = {"epochs": 0.05, "data": many, "validation": (many[0] * 0.9, many[1])}
    go(tmp_path / "run", **call)
    changed = call | {part: relabelled(call[part])}
    named = "training" if part == "data" else "validation"
    refused(
        ConfigError,
        f"the {named} data arrays have other labels. Resume",
        out=tmp_path / "run",
        **changed,
    )
    go(tmp_path / "run", resume=True, **call)


def test_numbers_of_another_step_in_a_checkpoint(begun: Path, whole: Path) -> None:
    """As somebody has them who renames or mixes folders."""
    newest = begun / "checkpoints" / "step-00000014"
    shutil.copy(begun / "checkpoints" / "step-00000007" / "state.json", newest / "state.json")
    refused(BundleError, "step-00000014", "it is that of step 7", "Remove its folder", out=begun)
    shutil.rmtree(newest)
    go(begun, resume=True)
    assert same(tensors(begun), tensors(whole))


def test_copies_of_checkpoints_are_none(begun: Path, whole: Path) -> None:
    for copied in ("step-00000007.bak", "step-00000014 (copy)", "step-99999999.bak"):
        shutil.copytree(begun / "checkpoints" / "step-00000007", begun / "checkpoints" / copied)
    go(begun, resume=True)
    assert log(begun) == log(whole)
    left = [name for name in checkpoints(begun) if len(name) > len("step-00000007")]
    assert len(left) == 3, "they are somebody's, and stay"
    for name in left:
        shutil.rmtree(begun / "checkpoints" / name)
    assert checkpoints(begun) == checkpoints(whole) and same(tensors(begun), tensors(whole))


# ---- what a new run warns of ----------------------------------------------------------------------------------------

X, Y = pair()
WARNINGS: dict[str, tuple[dict[str, Any], str]] = {
    "test": ({"test": (X.clone(), Y.clone())}, "The test data are the training data"),
    "validation": ({"validation": (X.clone(), Y.clone())}, "The validation data are the training data"),
    "radius": ({"recipe": "pgd_at(eps=0, steps=2)"}, "eps is 0: nothing is attacked"),
}


def told(out: Path, **other: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        run = quick(out, epochs=0.1, **copy.deepcopy(other))
    ours = [warning for warning in found if warning.filename.endswith("trained.py")]  # who called pk.train
    assert [str(warning.message) for warning in ours] == run.journal.info.notes
    return run.journal.info.notes


@pytest.mark.parametrize("name", WARNINGS)
def test_what_makes_the_figures_mean_nothing_is_told(name: str, tmp_path: Path) -> None:
    other, says = WARNINGS[name]
    [note] = told(tmp_path / "run", **other)
    assert note.startswith(says)


def test_a_run_of_which_there_is_nothing_to_tell(tmp_path: Path) -> None:
    assert told(tmp_path / "run", validation=(0.9 * X, Y), test=(0.8 * X, Y)) == []
