"""What goes wrong in the middle: disk, memory, damaged folders, changed data. What there was stays usable, and is told.

The commands that are wrong from the start are in test_training_bad_input.py.
"""

from __future__ import annotations

import copy
import errno
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import potemkin as pk
from cli_run import MODELS, Cli, save, tiny, tree
from potemkin.errors import BundleError, ConfigError, ModelError, PotemkinError, TrainingError
from potemkin.training import checkpoint
from potemkin.training.journal import read_journal
from trained import RECIPE, Interrupted, checkpoints, linear, log, pair, quick, same, stop_at, tensors

WORDS = ("train", "models.py:good", "good.npz", "--recipe", RECIPE, "--batch-size", "8", "--device", "cpu")
SHORT = ("--set", "audit_examples=0", "--set", "evaluation_examples=16", "--set", "evaluation_steps=2")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three epochs that nobody disturbed: 21 steps, checkpoints at 14 and 21."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    quick(folder, epochs=3)
    return folder


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """The same run, killed after step 16: its newest checkpoint is that of step 14."""
    with pytest.raises(Interrupted):
        quick(tmp_path / "run", epochs=3, progress=stop_at(16))
    assert checkpoints(tmp_path / "run") == ["step-00000007", "step-00000014"]
    return tmp_path / "run"


def refused(kind: type[PotemkinError], *says: str, **call: Any) -> str:
    """What `pk.train` says when it refuses."""
    with pytest.raises(kind) as caught:
        quick(**({"epochs": 3} | call))
    text = str(caught.value)
    assert [word for word in says if word not in text] == [], text
    assert "\n\n" not in text and len(text) < 1500
    return text


# ---- a run that goes on ---------------------------------------------------------------------------------------------


def test_a_killed_run_goes_on_as_if_nothing_had_been(begun: Path, whole: Path) -> None:
    quick(begun, epochs=3, resume=True)
    assert same(tensors(begun), tensors(whole))
    assert log(begun) == log(whole)
    assert not (begun / ".lock").exists()


def test_half_a_last_line_of_the_log_is_no_damage(begun: Path, whole: Path) -> None:
    """A kill in the middle of a write."""
    with (begun / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"kind":"step","step":21,"epo')
    assert read_journal(begun).lines
    quick(begun, epochs=3, resume=True)
    assert log(begun) == log(whole)


def test_a_damaged_line_of_the_log_is_named(begun: Path) -> None:
    path = begun / "log.jsonl"
    path.write_text("not a line\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    refused(BundleError, "Line 1 of", "log.jsonl", "remove that line", out=begun, resume=True)
    path.write_text(path.read_text(encoding="utf-8").replace("not a line\n", ""), encoding="utf-8")
    quick(begun, epochs=3, resume=True)


def test_a_finished_run_has_nothing_to_go_on_with(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "run")
    before = log(whole)
    quick(tmp_path / "run", epochs=3, resume=True)
    assert log(tmp_path / "run") == before
    assert same(tensors(tmp_path / "run"), tensors(whole))


# ---- resumed with something else ------------------------------------------------------------------------------------

X, Y = pair()
OTHERS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "another recipe": ({"recipe": "fast(eps=0.1)"}, ("recipe", "pgd_at(eps=0.1, steps=2)", "fast(eps=0.1)")),
    "another network": ({"model": nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Linear(8, 4))}, ("tensors",)),
    "other inputs": ({"data": ((X * 0.9), Y)}, ("the training data",)),
    "other labels": ({"data": (X, (Y + 1) % 4)}, ("the training data",)),
    "more data": ({"data": pair(128)}, ("the number of training examples", "58", "116")),
    "other validation data": ({"validation": (X * 0.9, Y)}, ("the validation data",)),
    "another batch": ({"batch_size": 16}, ("batch_size was 8, now 16",)),
    "more epochs": ({"epochs": 5}, ("epochs was 3, now 5",)),
    "another seed": ({"seed": 1}, ("seed was 0, now 1",)),
    "another schedule": ({"schedule": pk.parse("Flat()")}, ("schedule", "Cyclic()", "Flat()")),
    "another box": ({"model": pk.Classifier(linear(), box=(-1, 1))}, ("the threat model", "[0, 1]", "[-1, 1]")),
    "another preprocessing": (
        {"model": pk.Classifier(linear(), preprocessing=pk.Preprocessing(mean=0.5))}, ("the preprocessing", "mean=0.5"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_a_run_goes_on_as_it_began_or_not_at_all(name: str, whole: Path) -> None:
    other, says = OTHERS[name]
    before = tree(whole)
    refused(ConfigError, *says, "Resume with what it began with", out=whole, resume=True, **other)
    assert tree(whole) == before


def test_other_radii_in_the_same_file_are_another_run(tmp_path: Path) -> None:
    radii, call = (
        tmp_path / "eps.npy",
        {"out": tmp_path / "run", "recipe": f"fast(eps=PerExample('{tmp_path}/eps.npy'))"},
    )
    np.save(radii, np.full(64, 0.1, np.float32))
    quick(**call)
    np.save(radii, np.full(64, 0.05, np.float32))
    refused(ConfigError, "what the recipe reads", "eps.npy", epochs=1, resume=True, **call)
    np.save(radii, np.full(64, 0.1, np.float32))
    quick(**call, resume=True)


def test_other_weights_of_a_static_network_are_another_run(tmp_path: Path, here: Path) -> None:
    source = pk.load_model("models.py:good")
    quick(tmp_path / "source", model=source)
    edit(tmp_path / "source" / "model.json", lambda told: told | {"architecture": "models.py:good"})
    call = {"out": tmp_path / "run", "recipe": f"ensemble_at(eps=0.1, sources=('{tmp_path}/source',))"}
    quick(**call)
    held = tmp_path / "source" / "model.safetensors"
    weights = load_file(held)
    save_file({name: tensor + 0.1 for name, tensor in weights.items()}, held)
    refused(ConfigError, "what the recipe reads", "source", epochs=1, resume=True, **call)
    save_file(weights, held)
    quick(**call, resume=True)


def test_what_decides_no_bit_may_differ(begun: Path, whole: Path) -> None:
    quick(begun, epochs=3, resume=True, workers=1, keep_checkpoints=1)
    assert same(tensors(begun), tensors(whole))
    assert checkpoints(begun) == ["step-00000021"]


def test_changed_files_are_noticed_by_a_resume(here: Path, cli: Cli) -> None:
    assert cli(*WORDS, *SHORT, "--epochs", "1", "--out", "run").code == 0
    x, y = tiny(64)
    save(here / "good.npz", x, (y + 1) % 4)
    answer = cli("train", "--resume", "run")
    assert answer.code == 2
    assert "the training data good.npz have other examples or labels. Resume" in answer.error
    assert "sha256" not in answer.error and "the validation data" not in answer.error, "which are a part of them"
    save(here / "good.npz", x, y)
    text = MODELS.replace("def good():\n    return Net().eval()", "def good():\n    return nn.Sequential(Net())")
    assert text != MODELS
    (here / "models.py").write_text(text, encoding="utf-8")
    answer = cli("train", "--resume", "run")
    assert answer.code == 2
    assert "the network's tensors was 'sha256:" in answer.error and "Resume with what it began with" in answer.error
    (here / "models.py").write_text(MODELS, encoding="utf-8")
    assert cli("train", "--resume", "run").code == 0


def test_a_run_from_python_is_resumed_in_python(whole: Path, cli: Cli) -> None:
    answer = cli("train", "--resume", str(whole))
    assert answer.code == 2
    assert "pk.train(..., resume=True)" in answer.error


# ---- damaged folders ------------------------------------------------------------------------------------------------


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    path.write_text(json.dumps(change(json.loads(path.read_text(encoding="utf-8")))), encoding="utf-8")


DAMAGES: dict[str, Callable[[Path], None]] = {
    "half the tensors": lambda newest: cut(next(newest.glob("*.safetensors"))),
    "no tensors": lambda newest: next(newest.glob("*.safetensors")).unlink(),
    "noise for tensors": lambda newest: next(newest.glob("*.safetensors")).write_bytes(b"noise" * 99),
    "half the numbers": lambda newest: cut(newest / "state.json"),
    "numbers of another kind": lambda newest: (newest / "state.json").write_text("[1, 2]"),
    "no tensors named": lambda newest: edit(newest / "state.json", lambda told: {"state": told["state"]}),
    "a number nobody knows": lambda newest: edit(
        newest / "state.json", lambda told: told | {"state": told["state"] | {"mood": "good"}}
    ),
    "a number in words": lambda newest: edit(
        newest / "state.json", lambda told: told | {"state": told["state"] | {"seconds": "many"}}
    ),
    "a step as a text": lambda newest: edit(
        newest / "state.json", lambda told: told | {"state": told["state"] | {"since_best": "1"}}
    ),
    "a score in words": lambda newest: edit(
        newest / "state.json", lambda told: told | {"state": told["state"] | {"best": "good"}}
    ),
    "a tensor nobody has": lambda newest: edit(
        newest / "state.json", lambda told: told | {"tensors": [*told["tensors"], "optimiser.1.weight.mood"]}
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_goes_on(name: str, begun: Path, whole: Path) -> None:
    newest = begun / "checkpoints" / "step-00000014"
    DAMAGES[name](newest)
    text = refused(BundleError, "step-00000014", "Remove its folder", out=begun, resume=True)
    assert "Error(" not in text, "the user's words, not a class of torch's"
    shutil.rmtree(newest)
    quick(begun, epochs=3, resume=True)
    assert same(tensors(begun), tensors(whole))


def test_what_was_never_finished_is_no_checkpoint(begun: Path, whole: Path) -> None:
    """A kill while a checkpoint is written leaves a hidden folder, or one without state.json."""
    shutil.copytree(begun / "checkpoints" / "step-00000014", begun / "checkpoints" / ".step-00000021")
    (begun / "checkpoints" / "step-00000099").mkdir()
    quick(begun, epochs=3, resume=True)
    assert log(begun) == log(whole)
    assert not list((begun / "checkpoints").glob(".*"))
    (begun / "checkpoints" / "step-00000099").rmdir()
    assert same(tensors(begun), tensors(whole))


def test_without_any_checkpoint_a_resume_begins_anew(begun: Path, whole: Path) -> None:
    shutil.rmtree(begun / "checkpoints")
    quick(begun, epochs=3, resume=True)
    assert same(tensors(begun), tensors(whole))
    assert log(begun) == log(whole)


INFOS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "an option that is none": (
        lambda info: info | {"model": info["model"] | {"details": {"options": {"colour": "red"}}}}, "colour",
    ),
    "options that are none": (lambda info: info | {"model": info["model"] | {"details": {"options": 7}}}, "int"),
    "a setting that is none": (lambda info: info | {"settings": info["settings"] | {"mood": 1}}, "mood"),
    "a setting out of range": (lambda info: info | {"settings": info["settings"] | {"epochs": -1}}, "epochs"),
    "code as optimiser": (
        lambda info: info | {"settings": info["settings"] | {"optimiser": "__import__('os')"}}, "__import__",
    ),
    "a list": (lambda info: [info], "should be an object"),
}  # fmt: skip


@pytest.mark.parametrize("name", INFOS)
def test_a_changed_run_json_is_refused(name: str, here: Path, cli: Cli) -> None:
    assert cli(*WORDS, *SHORT, "--epochs", "0.2", "--out", "run").code == 0
    change, word = INFOS[name]
    edit(here / "run" / "run.json", change)
    answer = cli("train", "--resume", "run")
    assert answer.code == 3, answer.err
    assert "run.json" in answer.error and word in answer.error and "untouched copy" in answer.error


# ---- model.json of somebody else ------------------------------------------------------------------------------------

DEEP = "[" * 100_000 + "]" * 100_000
HOSTILE: dict[str, tuple[Callable[[dict[str, Any]], Any] | str, str]] = {
    "its own architecture": (lambda told: told | {"architecture": "run"}, "itself"),
    "its own, by another way": (lambda told: told | {"architecture": "./run/../run"}, "itself"),
    "a file for architecture": (lambda told: told | {"architecture": "run/model.safetensors"}, "--weights"),
    "code of its own": (lambda told: told | {"architecture": "run/payload.py:net"}, "which is not run"),
    "code of its own, by another way": (lambda told: told | {"architecture": "run/../run/payload.py:net"}, "--weights"),
    "a number for architecture": (lambda told: told | {"architecture": 7}, "7"),
    "a list for architecture": (lambda told: told | {"architecture": ["digits-cnn"]}, "digits-cnn"),
    "no name at all": (lambda told: told | {"architecture": "a\0b"}, "no name"),
    "an empty name": (lambda told: told | {"architecture": ""}, "''"),
    "another architecture": (lambda told: told | {"architecture": "digits-cnn"}, "do not fit"),
    "no architecture": (lambda told: {"box": told["box"]}, "architecture"),
    "a Python object": (lambda told: told | {"architecture": None}, "Python object"),
    "a box of text": (lambda told: told | {"box": "everything"}, "everything"),
    "a box that is a set": (lambda told: told | {"box": "Rectangle(0, 0, 1, 1)"}, "Box(low, high)"),
    "a box upside down": (lambda told: told | {"box": "Box(1, 0)"}, "low"),
    "code for a box": (lambda told: told | {"box": "__import__('os').mkdir('owned')"}, "__import__"),
    "two classes": (lambda told: told | {"classes": 2}, "4 classes"),
    "classes in words": (lambda told: told | {"classes": "many"}, "'many'"),
    "a mean in words": (
        lambda told: told | {"preprocessing": told["preprocessing"] | {"mean": "dark"}}, "'dark'",
    ),
    "an std of 0": (lambda told: told | {"preprocessing": told["preprocessing"] | {"std": 0}}, "greater than 0"),
    "a list for preprocessing": (lambda told: told | {"preprocessing": [1, 2]}, "no object"),
    "another version": (lambda told: told | {"schema_version": "2"}, "schema_version is '2'"),
    "more than is known": (lambda told: told | {"run_me": "x"}, "run_me"),
    "no recipe": (lambda told: {k: v for k, v in told.items() if k != "recipe"}, "recipe"),
    "a list": (lambda told: [told], "no object"),
    "half of it": ('{"architecture": "mod', "model.json"),
    "depths": (DEEP, "model.json"),
    "deep preprocessing": ('{"architecture": "x", "box": "Box()", "preprocessing": ' + DEEP + "}", "model.json"),
    "deep notation": (lambda told: told | {"box": "(" * 30_000 + ")" * 30_000}, "model.json"),
    "noise": ("\x00\x01\x02", "model.json"),
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a run of the user's own model."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "models.py").write_text(MODELS, encoding="utf-8")
    save(folder / "good.npz", *tiny(64))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        model = pk.load_model("models.py:good")
        quick(folder / "run", model=model, epochs=0.2)
    edit(folder / "run" / "model.json", lambda told: told | {"architecture": "models.py:good"})
    yield folder


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_model_json_ends_in_one_paragraph(
    name: str, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> None:
    shutil.copytree(trained, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    path, (change, word) = Path("run/model.json"), HOSTILE[name]
    Path("run/payload.py").write_text("open('owned', 'w').close()\n", encoding="utf-8")
    if callable(change):
        edit(path, change)
    else:
        path.write_text(change, encoding="utf-8")
    before = tree(tmp_path)
    answer = cli("audit", "run", "good.npz", "--threat", "Linf(0.1)", "--attack", "fgsm()", "--device", "cpu")
    assert answer.code == 3, answer.err
    assert word in answer.error
    assert "unexpected" not in answer.error and len(answer.error) < 1500
    assert tree(tmp_path) == before


def test_two_runs_that_name_each_other_are_found_out(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> None:
    for name, other in (("a", "b"), ("b", "c"), ("c", "b")):
        shutil.copytree(trained / "run", tmp_path / name)
        path = tmp_path / name / "model.json"
        path.write_text(path.read_text(encoding="utf-8").replace("models.py:good", other), encoding="utf-8")
    save(tmp_path / "good.npz", *tiny(64))
    monkeypatch.chdir(tmp_path)
    answer = cli("audit", "a", "good.npz", "--threat", "Linf(0.1)", "--attack", "fgsm()")
    assert answer.code == 3
    assert "a/model.json is damaged" in answer.error and "itself" in answer.error


# ---- disk -----------------------------------------------------------------------------------------------------------


def full(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("where", ["tensors", "numbers", "moving"])
def test_a_full_disk_leaves_the_checkpoint_before_it(
    where: str, tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an engineer of the disk would do it: the third checkpoint cannot be written."""
    folder = tmp_path / "run"
    real = checkpoint.save

    def save_until(place: Path, step: int, *rest: Any) -> Path:
        if step < 14:
            return real(place, step, *rest)
        with pytest.MonkeyPatch.context() as patch:
            if where == "tensors":
                patch.setattr("torch.distributed.checkpoint.hf_storage.HuggingFaceStorageWriter.write_data", full)
            elif where == "numbers":
                patch.setattr(checkpoint.json, "dump", full)
            else:
                patch.setattr(Path, "rename", full)
            return real(place, step, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "save", save_until)
        text = refused(TrainingError, "step 14", "No space left", "disk space", "step 7 is intact", out=folder)
    assert f"pk.train(..., out={str(folder)!r}, resume=True)" in text, "it was started from Python"
    assert checkpoints(folder) == ["step-00000000", "step-00000007"]
    assert not (folder / ".lock").exists()
    quick(folder, epochs=3, resume=True)
    assert same(tensors(folder), tensors(whole))
    assert log(folder) == log(whole)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real disk with 400 KiB on it, where we may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(place)]
    try:
        mounted = subprocess.run(mount, capture_output=True, timeout=30, check=False).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("a small disk cannot be mounted here: that takes root")
    yield place
    subprocess.run(["umount", str(place)], timeout=30, check=True)


def test_a_disk_that_is_really_full(small_disk: Path, tmp_path: Path) -> None:
    def filling(tick: Any) -> None:
        if tick.step == 10 and tick.rows:
            with suppress(OSError), (small_disk / "filler").open("wb", buffering=0) as file:
                while True:
                    file.write(b"\0" * 4096)

    folder = small_disk / "run"
    wide = nn.Sequential(nn.Flatten(), nn.Linear(16, 512), nn.ReLU(), nn.Linear(512, 4))
    with pytest.raises(PotemkinError) as caught:
        quick(folder, model=copy.deepcopy(wide), epochs=3, progress=filling, keep_checkpoints=1)
    assert "No space left" in str(caught.value) and "disk space" in str(caught.value)
    assert "step-00000007" in checkpoints(folder)
    (small_disk / "filler").unlink()
    quick(folder, model=copy.deepcopy(wide), epochs=3, resume=True, keep_checkpoints=1)
    quick(tmp_path / "run", model=copy.deepcopy(wide), epochs=3, keep_checkpoints=1)
    assert same(tensors(folder), tensors(tmp_path / "run"))
    assert log(folder) == log(tmp_path / "run")


def test_a_disk_that_is_full_for_the_log_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.open

    def opened(path: Path, mode: str = "r", *rest: Any, **named: Any) -> Any:
        return full() if path.name == "log.jsonl" and "a" in mode else real(path, mode, *rest, **named)

    monkeypatch.setattr(Path, "open", opened)
    refused(BundleError, "log.jsonl", "No space left", "disk space", out=tmp_path / "run")
    assert checkpoints(tmp_path / "run") == ["step-00000000"]


def test_a_disk_that_is_full_for_the_weights_leaves_the_old_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    quick(folder, epochs=3)
    kept = (folder / "model.safetensors").read_bytes()
    real = Path.write_bytes

    def written(path: Path, data: bytes) -> int:
        if "model.safetensors" in path.name:
            real(path, data[:100])
            full()
        return real(path, data)

    shutil.rmtree(folder / "checkpoints" / "step-00000021")
    shutil.rmtree(folder / "checkpoints" / "step-00000014")
    monkeypatch.setattr(Path, "write_bytes", written)
    refused(BundleError, "model.safetensors", "No space left", out=folder, resume=True)
    assert (folder / "model.safetensors").read_bytes() == kept
    assert [path.name for path in folder.glob(".model*")] == []


def test_a_folder_that_may_not_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Permissions mean nothing to root, which runs the tests in places: so the system's answer is made up."""

    def denied(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", denied)
    refused(BundleError, "run cannot be written", "Permission denied", "another --out", out=tmp_path / "run")


# ---- memory ---------------------------------------------------------------------------------------------------------


class Hungry(nn.Module):
    """A network whose memory is full from some learning pass on."""

    def __init__(self, error: Exception, after: int = 9) -> None:
        super().__init__()
        self.inner, self.error, self.left = linear(), error, after

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() and not x.requires_grad:
            self.left -= 1
            if self.left < 0:
                raise self.error
        out: Tensor = self.inner(x)
        return out


FULL = {
    "on a GPU": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 640.00 GiB"),
    "on a CPU": RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
    "in Python": MemoryError("unable to allocate 640 GiB"),
}


@pytest.mark.parametrize("where", FULL)
def test_memory_that_runs_out_names_the_settings_to_lower(where: str, tmp_path: Path) -> None:
    folder, error = tmp_path / "run", FULL[where]
    says = ("step 9", "batch_size", "accumulate", "bf16", "intact", str(error)[:30])
    refused(TrainingError, *says, out=folder, model=Hungry(error))
    assert checkpoints(folder) == ["step-00000000", "step-00000007"]
    quick(folder, epochs=3, resume=True, model=Hungry(error, after=99))


def test_an_error_of_the_models_own_is_not_taken_for_memory(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="an index is wrong"):
        quick(tmp_path / "run", model=Hungry(RuntimeError("an index is wrong")), epochs=3)
    assert not (tmp_path / "run" / ".lock").exists()


def test_on_the_command_line_the_advice_is_that_of_training(here: Path, cli: Cli) -> None:
    (here / "hungry.py").write_text(
        MODELS
        + """

class Hungry(Net):
    def forward(self, x):
        if self.training:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 640.00 GiB")
        return self.scores(x)
""",
        encoding="utf-8",
    )
    answer = cli("train", "hungry.py:Hungry", *WORDS[2:], *SHORT, "--epochs", "1", "--out", "run")
    assert answer.code == 4
    assert re.search(r"Memory ran out at step 0 .*640.* Lower batch_size, or raise accumulate", answer.error)
    assert "--rows" not in answer.error


# ---- two at once ----------------------------------------------------------------------------------------------------


def test_two_runs_in_one_folder_are_refused(tmp_path: Path) -> None:
    """The second one comes in the middle of the first, which goes on."""
    folder, answers = tmp_path / "run", []

    def look(tick: Any) -> None:
        if tick.step == 9 and tick.rows:
            for how in ({}, {"overwrite": True}, {"resume": True}):
                with pytest.raises(BundleError) as caught:
                    quick(folder, epochs=3, **how)
                answers.append(str(caught.value))

    quick(folder, epochs=3, progress=look)
    assert "resume=True" in answers[0] and "--overwrite" in answers[0]
    assert all("Another process trains" in told and "another --out" in told for told in answers[1:])
    assert read_journal(folder).marks()[-1].what == "finished"


def test_the_lock_of_a_killed_run_locks_nothing(begun: Path) -> None:
    (begun / ".lock").write_bytes(b"")
    quick(begun, epochs=3, resume=True)


def test_a_run_without_weights_yet_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        quick(tmp_path / "run", epochs=3, progress=stop_at(3))
    with pytest.raises(ModelError, match=r"no model\.safetensors yet.*Resume it"):
        pk.load_model(tmp_path / "run")
