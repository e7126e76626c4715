"""`potemkin train` from end to end: the folder it leaves, what can be done with it, stopping and going on; pk.train."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import potemkin as pk
from cli_run import MODELS, Answer, Cli, save, tiny
from potemkin.core.canonical import show
from potemkin.core.registry import entries
from potemkin.evaluate.bundle_read import read_bundle
from potemkin.models.digits_cnn import DigitsCNN
from potemkin.training.journal import read_journal
from trained import QUICK, checkpoints, linear, log, pair, quick, same, tensors

RECIPE = "pgd_at(eps=0.1, steps=2)"
SHORT = ("--set", "evaluation_examples=32", "--set", "evaluation_steps=2", "--set", "audit_examples=24")
LEARNS = ("--epochs", "3", "--batch-size", "64", "--optimiser", "AdamW(learning_rate=0.004)")
"""Enough for the digits to be told apart: a network at chance is an alarm of the audit, and exit code 1."""
DIGITS = ("train", "digits-cnn", "digits", "--recipe", RECIPE, *LEARNS, *SHORT)
OWN = ("train", "models.py:good", "good.npz", "--recipe", RECIPE, "--batch-size", "8", "--device", "cpu", *SHORT)
ATTACK = ("--threat", "Linf(0.1)", "--attack", "fgsm()", "--device", "cpu")

pytestmark = pytest.mark.usefixtures("here")


def lines_of(answer: Answer, start: str) -> list[str]:
    return [line for line in answer.out.splitlines() if line.startswith(start)]


# ---- what a run leaves ----------------------------------------------------------------------------------------------


def test_a_run_leaves_a_folder_to_go_on_from(cli: Cli, here: Path) -> None:
    """Everything that is promised, and the commands that are printed work."""
    answer = cli(*DIGITS, "--out", "runs/a")
    assert answer.code == 0, answer.err
    folder = here / "runs" / "a"
    assert sorted(path.name for path in folder.iterdir() if path.name != "tensorboard") == [
        "audit", "checkpoints", "log.jsonl", "model.json", "model.safetensors", "report.html", "run.json",
    ]  # fmt: skip
    journal, record = read_journal(folder), read_bundle(folder / "audit").record
    assert (journal.info.recipe, journal.info.model.spec) == (RECIPE, "digits-cnn")
    assert journal.info.data.spec == "digits(part='train')", "its training part, not what it is audited on"
    assert shlex.split(journal.info.command or "") == ["potemkin", *DIGITS, "--out", "runs/a"]
    assert (journal.info.examples, journal.info.steps) == (1297 - 129, 3 * 18)
    assert journal.marks()[-1].what == "finished"
    assert (record.n, record.data.total, record.data.name) == (24, 500, "digits")
    assert [attack.recipe for attack in record.attacks] == ["apgd()", "apgd(objective=DLR(), targets=9)"]
    assert lines_of(answer, "Robust accuracy") == [f"Robust accuracy {record.rates.robust_accuracy}"]
    assert lines_of(answer, "Clean accuracy") == [f"Clean accuracy  {record.rates.clean_accuracy}"]
    assert lines_of(answer, "Report") == ["Report          runs/a/report.html"]
    assert lines_of(answer, "Audit report") == ["Audit report    runs/a/audit/report.html"]
    assert (folder / "audit" / "report.html").is_file()
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "pgd_at" in page and f"{100 * record.rates.robust_accuracy.high:.1f}" in page

    [told] = lines_of(answer, "Next")
    words = shlex.split(told)
    again = cli(*words[words.index("audit") :], "--examples", "24")
    assert again.code == 0, again.err
    second = read_bundle(here / "runs" / "a-audit").record
    assert second.model.fingerprint == record.model.fingerprint
    assert second.seed != record.seed
    searches = [sum(attack.jobs for attack in each.attacks) for each in (second, record)]
    assert searches[0] > 2 * searches[1], "it looks harder than the run did"
    assert second.rates.robust_accuracy.value <= record.rates.robust_accuracy.value
    assert cli("verify", "runs/a/audit", "--model", "runs/a", "--data", "digits").code == 0

    (folder / "report.html").unlink()
    drawn = cli("report", "runs/a")
    assert (drawn.code, drawn.out.strip()) == (0, "runs/a/report.html")
    assert (folder / "report.html").read_text(encoding="utf-8") == page


def test_the_next_command_can_be_typed(cli: Cli, here: Path) -> None:
    """A name with a space in it; where no test data were given, those that were trained on are not named for them."""
    answer = cli(*OWN, "--epochs", "0.2", "--out", "runs/my run", "--test", "good.npz")
    [told] = lines_of(answer, "Next")
    words = shlex.split(told)
    assert words[words.index("audit") :][:5] == ["audit", "runs/my run", "good.npz", "--threat", "Linf(0.1)"]
    assert words[-4:] == ["--seed", "1", "--out", "runs/my run-audit"]
    again = cli(*words[words.index("audit") :])
    assert again.code == 0, again.err
    [other] = lines_of(
        cli(*OWN, "--epochs", "0.2", "--out", "runs/my run", "--test", "good.npz", "--overwrite"), "Next"
    )
    assert other.endswith("--out 'runs/my run-audit-2'"), "what is there already is not proposed"
    [without] = lines_of(cli(*OWN, "--epochs", "0.2", "--out", "runs/b"), "Next")
    assert "audit runs/b TEST_DATA" in without
    starts = {line[:16].rstrip() for line in answer.out.splitlines() if line[16:17].strip()}
    assert {"Robust accuracy", "Clean accuracy", "Threat", "Report", "Next"} <= starts, "one under the other"


def test_json_is_one_object_and_people_read_stderr(cli: Cli, here: Path) -> None:
    answer = cli(*OWN, "--epochs", "2", "--out", "runs/a", "--json")
    assert answer.code == 0, answer.err
    told = answer.json
    assert (told["run"], told["report"], told["alarms"]) == ("runs/a", "runs/a/report.html", [])
    assert told["audit"] == json.loads((here / "runs" / "a" / "audit" / "record.json").read_bytes())
    best = read_journal(here / "runs" / "a").best()
    assert best is not None and told["best"] == best.model_dump(mode="json")
    assert "Robust accuracy" in answer.err and "Loading" not in answer.err and "epoch 1" not in answer.err


def test_each_step_is_said_before_it_takes_time(cli: Cli) -> None:
    told = cli(*OWN, "--epochs", "2", "--out", "runs/a").err.splitlines()
    assert [line.split(" …")[0] for line in told if line.endswith("…")] == [
        "Loading PyTorch", "Loading the data good.npz", "Loading the model models.py:good",
        f"Training with {RECIPE} on cpu", "evaluating",
        "Auditing the best weights with APGD on 6 examples", "Drawing the report",
    ]  # fmt: skip
    assert [line.partition(":")[0] for line in told if line.startswith("epoch")] == ["epoch 1", "epoch 2"]


def test_list_recipes_tells_all_of_them(cli: Cli) -> None:
    answer = cli("list", "recipes")
    assert answer.code == 0
    assert [line.partition("(")[0] for line in answer.out.splitlines()] == [entry.name for entry in entries("recipe")]
    assert {"pgd_at", "trades", "mart", "fast", "n_fgsm", "free", "kurakin", "goodfellow"} <= {
        entry.name for entry in entries("recipe")
    }


def test_options_reach_the_run(cli: Cli, here: Path) -> None:
    words = ("--seed", "7", "--optimiser", "AdamW(0.004)", "--schedule", "Cosine()", "--accumulate", "2", "--patience")
    more = (
        "5",
        "--stop-on",
        "label_leaking",
        "--set",
        "clip=0.5",
        "--set",
        "checkpoint_every=3",
        "--precision",
        "bf16",
    )
    save(here / "other.npz", *tiny(32))
    data = ("--validation", "other.npz", "--test", "other.npz")
    assert cli(*OWN, "--epochs", "0.9", *words, *more, *data, "--out", "runs/a").code == 0
    info = read_journal(here / "runs" / "a").info
    expected = {"seed": 7, "schedule": "Cosine()", "accumulate": 2, "patience": 5, "clip": 0.5, "precision": "bf16"}
    expected |= {"stop_on": "('label_leaking',)", "checkpoint_every": 3, "epochs": 0.9, "batch_size": 8}
    assert {name: info.settings[name] for name in expected} == expected
    assert "0.004" in info.settings["optimiser"]
    assert (info.steps, info.examples) == (7, 64)
    assert info.validation.spec == "other.npz" and info.validation.details["examples"] == 32
    assert checkpoints(here / "runs" / "a") == ["step-00000006", "step-00000007"]
    assert read_bundle(here / "runs" / "a" / "audit").record.data.total == 32


# ---- models ---------------------------------------------------------------------------------------------------------


def test_built_in_models_begin_anew_unless_weights_are_given(cli: Cli, here: Path) -> None:
    """One step at a rate of nothing: what is exported is what it began with."""
    words = (*DIGITS[:5], "--epochs", "0.05", "--optimiser", "SGD(1e-30)", *SHORT[:-1], "audit_examples=0")
    for name, more in (("a", ()), ("b", ()), ("c", ("--seed", "1")), ("d", ("--weights", "runs/c/model.safetensors"))):
        assert cli(*words, *more, "--out", f"runs/{name}").code == 0
    stored = {name: load_file(here / "runs" / name / "model.safetensors") for name in "abcd"}
    torch.manual_seed(0)
    assert same(stored["a"], DigitsCNN().state_dict())
    assert same(stored["a"], stored["b"]) and same(stored["c"], stored["d"]) and not same(stored["a"], stored["c"])


def test_preprocessing_comes_back_with_the_run(cli: Cli, here: Path) -> None:
    """The logits of the run are those of its weights behind (x - mean) / std, and the audit sees them."""
    words = ("--mean", "0.3", "--std", "0.25", "--box", "0,1")
    assert cli(*DIGITS, *words, "--out", "runs/a").code == 0
    x = next(iter(pk.load_data("digits").batches(32))).inputs
    net = DigitsCNN().eval()
    net.load_state_dict(load_file(here / "runs" / "a" / "model.safetensors"))
    model = pk.load_model("runs/a")
    with torch.no_grad():
        assert torch.equal(model(x), net((x - 0.3) / 0.25))
        assert not torch.allclose(model(x), net(x))
    trained = read_bundle(here / "runs" / "a" / "audit").record
    assert "mean=0.3, std=0.25" in (trained.model.preprocessing or "")
    told = cli("audit", "runs/a", "digits", *ATTACK, "--examples", "24", "--json").json
    assert told["model"]["preprocessing"] == trained.model.preprocessing
    assert told["rates"]["clean_accuracy"] == trained.rates.clean_accuracy.model_dump(mode="json")


OWN_PREPROCESSING = """
import potemkin as pk


class Squared(nn.Module):
    def forward(self, x):
        return x * x


def squared():
    return pk.Classifier(Net(), box=(0, 2), preprocessing=Squared(), name="squared")
"""


def test_a_preprocessing_of_the_users_own_comes_back_too(cli: Cli, here: Path) -> None:
    (here / "models.py").write_text(MODELS + OWN_PREPROCESSING, encoding="utf-8")
    words = ("train", "models.py:squared", *OWN[2:], "--epochs", "1", "--out", "runs/a")
    assert cli(*words).code == 0
    model, x = pk.load_model("runs/a"), pair()[0]
    assert (model.box.low, model.box.high) == (0, 2)
    weight = load_file(here / "runs" / "a" / "model.safetensors")["weight"]
    with torch.no_grad():
        assert torch.allclose(model(x), (x * x).flatten(1) @ weight.T * 4)
    told = cli("audit", "runs/a", "good.npz", *ATTACK, "--json").json
    recorded = read_bundle(here / "runs" / "a" / "audit").record
    assert told["model"]["fingerprint"] == recorded.model.fingerprint


def test_a_model_of_ones_own_is_found_by_relative_path(cli: Cli, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From where it was trained; from elsewhere the message says where it was looked for."""
    (here / "mine").mkdir()
    (here / "models.py").rename(here / "mine" / "models.py")
    words = ("train", "mine/models.py:good", *OWN[2:], "--epochs", "1", "--out", "runs/a")
    assert cli(*words).code == 0
    assert cli("audit", "runs/a", "good.npz", *ATTACK).code == 0
    assert cli("audit", "./runs/../runs/a", "good.npz", *ATTACK).code == 0
    monkeypatch.chdir(here / "mine")
    answer = cli("audit", "../runs/a", "../good.npz", *ATTACK)
    assert answer.code == 3
    assert "'mine/models.py:good'" in answer.error and "the folder that you are in" in answer.error
    monkeypatch.chdir(here)
    (here / "potemkin_train_mine.py").write_text(MODELS, encoding="utf-8")
    assert cli("train", "potemkin_train_mine:good", *OWN[2:], "--epochs", "0.2", "--out", "runs/b").code == 0
    assert cli("audit", "runs/b", "good.npz", *ATTACK).code == 0


def test_a_run_is_trained_on_from_another(cli: Cli, here: Path) -> None:
    """And from that one again: the last has its own weights, and the architecture of the first."""
    assert cli(*OWN, "--epochs", "1", "--mean", "0.5", "--out", "runs/a").code == 0
    for before, after in (("a", "b"), ("b", "c")):
        words = ("train", f"runs/{before}", *OWN[2:], "--optimiser", "SGD(1e-30)", "--epochs", "0.2")
        assert cli(*words, "--out", f"runs/{after}").code == 0
    x = pair()[0]
    with torch.no_grad():
        first, last = (pk.load_model(f"runs/{name}")(x) for name in "ac")
    assert torch.equal(first, last), "nothing was learnt on the way, and nothing lost"
    for gone in ("a", "b"):
        (here / "runs" / gone / "model.safetensors").unlink()
    assert torch.equal(pk.load_model("runs/c")(x).detach(), last), "it needs no weights but its own"


def test_a_reference_names_what_to_set(cli: Cli, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POTEMKIN_DATA", raising=False)
    for name, file in (("mnist", "mnist/train.npz"), ("cifar10", "cifar10/train.npz")):
        answer = cli("train", "--reference", name, "--out", "runs/a")
        assert answer.code == 3
        assert "POTEMKIN_DATA is not set" in answer.error and file in answer.error and "np.savez" in answer.error
    monkeypatch.setenv("POTEMKIN_DATA", str(here))
    answer = cli("train", "--reference", "mnist", "--out", "runs/a")
    assert answer.code == 3 and "POTEMKIN_DATA has no mnist/train.npz" in answer.error
    assert not (here / "runs").exists()


def test_a_reference_brings_everything_and_options_change_it(cli: Cli, here: Path) -> None:
    words = ("--reference", "digits", "--epochs", "4", "--set", "evaluate_every=54", *SHORT)
    answer = cli("train", *words, "--out", "runs/a")
    assert answer.code == 0, answer.err
    info = read_journal(here / "runs" / "a").info
    assert (info.model.spec, info.data.spec) == ("digits-cnn", "digits(part='train')")
    assert "EMA" in info.recipe and "AdamW" in info.settings["optimiser"]
    assert (info.settings["epochs"], info.settings["evaluate_every"]) == (4, 54)
    assert {line.weights for line in read_journal(here / "runs" / "a").evaluations("validation")} == {"average"}
    assert cli("train", "--resume", "runs/a").code == 0


# ---- the folder -----------------------------------------------------------------------------------------------------


def test_overwrite_replaces_a_run_and_nothing_else(cli: Cli, here: Path) -> None:
    assert cli(*OWN, "--epochs", "2", "--out", "runs/a").code == 0
    (here / "runs" / "a" / "notes.txt").write_text("mine", encoding="utf-8")
    refused = cli(*OWN, "--epochs", "1", "--out", "runs/a")
    assert refused.code == 3 and "--resume runs/a" in refused.error and "--overwrite" in refused.error
    assert cli(*OWN, "--epochs", "1", "--out", "runs/a", "--overwrite", "--seed", "3").code == 0
    journal = read_journal(here / "runs" / "a")
    assert (journal.info.seed, journal.info.steps, journal.steps()[-1].step) == (3, 7, 7)
    assert checkpoints(here / "runs" / "a") == ["step-00000000", "step-00000007"]
    assert (here / "runs" / "a" / "notes.txt").read_text(encoding="utf-8") == "mine"


def test_a_finished_run_can_be_resumed_and_stays_as_it_is(cli: Cli, here: Path) -> None:
    folder = here / "runs" / "a"
    first = cli(*OWN, "--epochs", "1", "--out", "runs/a", "--json")
    before, lines = tensors(folder), log(folder)
    again = cli("train", "--resume", "runs/a", "--json")
    assert again.code == first.code == 0, again.err
    assert same(tensors(folder), before) and log(folder) == lines
    assert again.json["best"] == first.json["best"]
    assert again.json["audit"]["outcomes"] == first.json["audit"]["outcomes"]


# ---- stopping -------------------------------------------------------------------------------------------------------

# A test run in the background of a shell may ignore SIGINT, and its children would, too.
START = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from potemkin.cli.main import main
sys.exit(main())
"""
SLOW = '''

class Patient(Net):
    """Says every learning pass, and takes its time in the ninth where a file asks it to: something to interrupt."""

    passes = 0

    def forward(self, x):
        if self.training:
            self.passes += 1
            print("learns", file=sys.stderr, flush=True)
            if self.passes == 9 and os.path.exists("slowly"):
                time.sleep(2)
        return self.scores(x)
'''
PATIENT = ("train", "models.py:Patient", *OWN[2:], "--epochs", "4", "--set", "checkpoint_every=5")


def interrupted(here: Path, *more: str, twice: bool = False, number: int = signal.SIGINT) -> tuple[int, str]:
    """Start the patient run, stop it in its ninth step as a terminal would (the whole group), and wait for its end."""
    (here / "models.py").write_text(MODELS + SLOW, encoding="utf-8")
    (here / "slowly").touch()
    process = subprocess.Popen(
        [sys.executable, "-c", START, *PATIENT, *more], cwd=here, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stderr is not None
    learnt, said = 0, []
    for line in process.stderr:
        said.append(line)
        learnt += line == "learns\n"
        if learnt == 9 and line == "learns\n":
            os.killpg(process.pid, number)
        if twice and "Stopping" in line:
            time.sleep(0.05)  # so that the line above is not cut in the middle
            os.killpg(process.pid, number)
            twice = False
    assert process.stdout is not None
    out = process.stdout.read()
    (here / "slowly").unlink()
    return process.wait(timeout=60), "".join(said) + out


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The patient run, with nobody in its way."""
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "models.py").write_text(MODELS + SLOW, encoding="utf-8")
    save(folder / "good.npz", *tiny(64))
    done = subprocess.run(
        [sys.executable, "-c", START, *PATIENT, "--out", "runs/a"], cwd=folder, capture_output=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / "runs" / "a"


@pytest.mark.parametrize(
    ("number", "more"),
    [(signal.SIGINT, ("--workers", "2")), (signal.SIGTERM, ())],
    ids=["Ctrl-C, with workers", "SIGTERM"],
)
def test_a_run_that_is_stopped_writes_a_checkpoint_and_a_resume_ends_alike(
    number: int, more: tuple[str, ...], here: Path, undisturbed: Path, cli: Cli
) -> None:
    code, said = interrupted(here, *more, "--out", "runs/a", number=number)
    folder = here / "runs" / "a"
    assert code == 4, said
    assert said.count("Stopping in good order: what is done will be kept") == 1
    assert "go on with potemkin train --resume runs/a" in said and "Traceback" not in said
    mark = read_journal(folder).marks()[-1]
    assert (mark.what, mark.step) == ("interrupted", 9)
    assert [line.split("potemkin ")[-1] for line in said.splitlines() if line.startswith("Next")] == [
        "train --resume runs/a"
    ]
    assert checkpoints(folder)[-1] == "step-00000009"
    assert not (folder / "audit").exists() and not (folder / ".lock").exists()

    answer = cli("train", "--resume", "runs/a")
    assert answer.code == 0, answer.err
    assert same(tensors(folder), tensors(undisturbed))
    assert same(load_file(folder / "model.safetensors"), load_file(undisturbed / "model.safetensors"))
    assert [line for line in log(folder) if line["kind"] == "evaluation"] == [
        line for line in log(undisturbed) if line["kind"] == "evaluation"
    ]
    assert [mark.what for mark in read_journal(folder).marks() if mark.what in ("resumed", "finished")] == [
        "resumed", "finished",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("number", "more", "twice"),
    [(signal.SIGINT, (), True), (signal.SIGTERM, ("--workers", "1"), False)],
    ids=["a second Ctrl-C", "SIGTERM to the processes that read data, too"],
)
def test_a_run_that_is_cut_off_names_the_checkpoint_to_go_on_from(
    number: int, more: tuple[str, ...], twice: bool, here: Path, undisturbed: Path, cli: Cli
) -> None:
    code, said = interrupted(here, *more, "--out", "runs/a", number=number, twice=twice)
    assert code == 4, said
    assert "Traceback" not in said and "unexpected" not in said
    [error] = [line for line in said.splitlines() if line.startswith("error: ")]
    assert checkpoints(here / "runs" / "a")[-1] == "step-00000007"
    assert "the newest checkpoint in runs/a is that of step 7" in error
    assert "go on with potemkin train --resume runs/a" in error
    assert cli("train", "--resume", "runs/a").code == 0
    assert same(tensors(here / "runs" / "a"), tensors(undisturbed))


# ---- in Python ------------------------------------------------------------------------------------------------------


def test_arrays_are_trained_on_in_python(tmp_path: Path) -> None:
    """Torch and numpy alike; the network learns in place, and `model` is the best of it."""
    x, y = pair()
    net = linear()
    net.train()
    before = {name: t.clone() for name, t in net.state_dict().items()}
    state = torch.get_rng_state()
    run = pk.train(net, (x, y), pk.recipes.pgd_at(eps=0.1, steps=2), out=tmp_path / "run", **QUICK | {"epochs": 2})
    assert torch.equal(torch.get_rng_state(), state), "the global generator is the user's"
    assert not same(dict(net.state_dict()), before)
    assert run.record is None and run.folder == tmp_path / "run"
    assert same(dict(run.model.net.state_dict()), load_file(tmp_path / "run" / "model.safetensors"))
    assert not run.model.net.training
    arrays = (x.numpy(), y.numpy())
    again = quick(tmp_path / "again", data=arrays, epochs=2)
    assert log(again.folder) == log(run.folder) and same(tensors(again.folder), tensors(run.folder))
    other = quick(tmp_path / "other", epochs=2, seed=1)
    assert not same(tensors(other.folder), tensors(run.folder))


def test_the_audit_at_the_end_is_on_the_test_data(tmp_path: Path) -> None:
    x, y = pair(96)
    run = quick(tmp_path / "run", data=(x[:64], y[:64]), test=(x[64:], y[64:]), audit_examples=20)
    assert run.record is not None
    assert (run.record.n, run.record.data.total) == (20, 32)
    held_out = quick(tmp_path / "held", audit_examples=20).record
    assert held_out is not None and (held_out.n, held_out.data.total) == (6, 6)


def test_progress_is_told_after_every_step(tmp_path: Path) -> None:
    seen: list[Any] = []
    run = quick(tmp_path / "run", epochs=2, progress=seen.append)
    assert [tick.step for tick in seen if not tick.evaluating] == list(range(1, run.journal.info.steps + 1))
    assert [tick.step for tick in seen if tick.evaluating] == [7, 14]
    assert seen[-1].steps == 14 and seen[-1].epoch == 2.0


GIVEN: dict[str, str] = {
    "ensemble_at": "ensemble_at(eps=0.1, sources=('digits-cnn',))",
    "free": "free(eps=0.1, replay=3)",
    "kurakin": "kurakin(delay=0.0)",
}


@pytest.mark.parametrize("name", [entry.name for entry in entries("recipe")])
def test_every_recipe_trains_an_epoch_on_the_digits(name: str, tmp_path: Path) -> None:
    [batch] = pk.load_data("digits(part='train')").batches(1297)
    keep = batch.labels < (2 if name in ("softplus", "l1_logistic") else 10)
    classes = int(batch.labels[keep].max()) + 1
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, classes))
    before = {name: t.clone() for name, t in net.state_dict().items()}
    data = (batch.inputs[keep], batch.labels[keep])
    recipe = GIVEN.get(name, f"{name}(eps=0.1)")
    run = quick(tmp_path / "run", model=net, data=data, recipe=recipe, batch_size=64, evaluation_examples=64)
    assert run.journal.info.recipe == show(pk.parse(recipe))
    last = run.journal.steps()[-1]
    assert last.step == run.journal.info.steps and last.loss is not None
    assert last.cost.learning.forwards >= 64 * last.step
    assert (last.cost.attack.forwards > 0) == (name not in ("standard", "softplus", "l1_logistic", "free"))
    assert not same(dict(net.state_dict()), before)
    chance = run.journal.evaluations("validation")[-1]
    assert chance.clean > 1.5 * chance.n / classes, "it learnt something"
    assert np.isfinite([float(t.abs().max()) for t in tensors(run.folder).values()]).all()
