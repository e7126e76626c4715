"""What `potemkin train` says: hints before anything is loaded, the list of settings, and figures at the end."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from cli_run import Answer, Cli, save, tiny, tree
from potemkin.core.canonical import default_text
from potemkin.threat.sets.base import spoken
from potemkin.training.recipes import n_fgsm
from potemkin.training.recipes.base import Recipe
from potemkin.training.reference import REFERENCES
from potemkin.training.settings import Settings

OWN = ("train", "models.py:good", "good.npz", "--recipe", "pgd_at(eps=0.1, steps=2)", "--batch-size", "8")
SHORT = ("--epochs", "1", "--device", "cpu", "--set", "evaluation_examples=16", "--set", "audit_examples=0")

pytestmark = pytest.mark.usefixtures("here")


def refused(answer: Answer, code: int, *told: str) -> None:
    assert answer.code == code, answer.err
    for each in told:
        assert each in answer.error


@pytest.mark.parametrize(
    ("model", "data", "told"),
    [
        ("digits", "digits-cnn", "potemkin train digits-cnn digits"),
        ("good.npz", "models.py:good", "'good.npz' names data, where the model belongs"),
        ("digits(part='train')", "digits", "names data, where the model belongs"),
        ("models.py:good", "resnet(width=8)", "'resnet(width=8)' names a model, where the data belong"),
    ],
)
def test_swapped_arguments_are_told_as_such(cli: Cli, here: Path, model: str, data: str, told: str) -> None:
    refused(cli("train", model, data, "--recipe", "fast(eps=0.1)", "--out", "runs/a"), 2, told)
    assert not (here / "runs").exists()


def test_the_folder_of_a_run_is_a_model_and_no_data(cli: Cli) -> None:
    assert cli(*OWN, *SHORT, "--out", "runs/a").code == 0
    refused(cli("train", "good.npz", "runs/a", "--recipe", "fast(eps=0.1)", "--out", "runs/b"), 2, "train runs/a good")
    assert cli("train", "runs/a", *OWN[2:], *SHORT, "--out", "runs/b").code == 0


@pytest.mark.parametrize("option", ["--test", "--validation", "--extra"])
def test_data_that_are_missing_are_named_by_their_option(cli: Cli, option: str) -> None:
    answer = cli(*OWN, *SHORT, option, "gone.npz", "--out", "runs/a")
    assert answer.code in (2, 3)
    assert answer.error.startswith(f"{option} gone.npz: ")
    assert "Loading the model" not in answer.err, "before anything else is waited for"


def test_a_folder_that_is_taken_is_refused_before_anything_is_loaded(cli: Cli, here: Path) -> None:
    assert cli(*OWN, *SHORT, "--out", "runs/a").code == 0
    (here / "notes").mkdir()
    (here / "notes" / "a.txt").write_text("mine", encoding="utf-8")
    before = tree(here)
    again = cli(*OWN, *SHORT, "--out", "runs/a")
    refused(again, 3, "--resume runs/a", "--overwrite", "another --out")
    foreign = cli(*OWN, *SHORT, "--out", "notes")
    refused(foreign, 3, "notes holds something that is no training run", "another --out")
    assert "Loading" not in again.err + foreign.err
    assert tree(here) == before


@pytest.mark.parametrize("option", ["--test", "--validation"])
def test_the_training_data_in_another_place_are_warned_about(cli: Cli, here: Path, option: str) -> None:
    save(here / "other.npz", *tiny(32))
    told = f"The {option.removeprefix('--')} data are the training data"
    assert told in cli(*OWN, *SHORT, option, "./good.npz", "--out", "runs/a").err
    assert "are the training data" not in cli(*OWN, *SHORT, option, "other.npz", "--out", "runs/b").err


def test_all_settings_are_listed_with_their_meaning(cli: Cli) -> None:
    """In the words of the class itself, and none is left out."""
    lines = cli("train", "--set", "help").out.splitlines()
    fields = dataclasses.fields(Settings)
    assert [line.partition("=")[0] for line in lines] == [field.name for field in fields]
    meanings = [line.partition("  ")[2] for line in lines]
    assert all(meanings) and len({*meanings}) == len(meanings), "each says what it means, and no other does"
    assert "epochs=10  sweeps over the training data; may be a fraction." in lines
    [holdout] = [line for line in lines if line.startswith("holdout")]
    assert holdout.endswith("None: a tenth, at most 1,000."), "what goes on in the next line belongs to it"
    told = cli("train", "--set", "help", "--json").json["settings"]
    assert [each["name"] for each in told] == [field.name for field in fields]
    refused(cli(*OWN, "--set", "epoch=3", "--out", "runs/a"), 2, "Did you mean 'epochs'?", "--set help")
    refused(cli(*OWN, "--epochs", "3", "--set", "epochs=5", "--out", "runs/a"), 2, "epochs is given twice, 3.0 and")
    refused(cli(*OWN, "--set", "clip=1", "--set", "clip=2", "--out", "runs/a"), 2, "clip is given twice, 1 and")
    shown = cli("train", "--help").out
    assert "--set help" in " ".join(shown.replace("│", " ").split())


def test_the_speed_is_told_at_the_end(cli: Cli) -> None:
    answer = cli(*OWN, *SHORT, "--out", "runs/a")
    [told] = [line for line in answer.out.splitlines() if line.startswith("Speed")]
    assert re.fullmatch(r"Speed           [\d,]+ examples/s on average, evaluations included", told)
    assert cli("train", "--resume", "runs/a", "--json").json["examples_per_second"] > 0


def test_a_report_of_neither_says_what_both_are(cli: Cli, here: Path) -> None:
    (here / "empty").mkdir()
    for name in ("nope", "empty"):
        refused(cli("report", name), 3, name, "`potemkin audit --out`", "`potemkin train --out`")


def test_a_report_draws_the_page_of_the_runs_audit_too(cli: Cli, here: Path) -> None:
    assert cli(*OWN, *SHORT[:-1], "audit_examples=6", "--out", "runs/a").code == 0
    pages = [here / "runs" / "a" / "report.html", here / "runs" / "a" / "audit" / "report.html"]
    before = [page.read_text(encoding="utf-8") for page in pages]
    for page in pages:
        page.unlink()
    assert cli("report", "runs/a").code == 0
    assert [page.read_text(encoding="utf-8") for page in pages] == before


GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guide" / "train-a-robust-model.md"


def test_the_guide_has_every_setting_and_every_shared_argument_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", GUIDE.read_text(encoding="utf-8"), re.MULTILINE))
    for kind in (Settings, Recipe):
        told = {field.name: rows.get(field.name) for field in dataclasses.fields(kind)}
        assert told == {field.name: default_text(field.default) for field in dataclasses.fields(kind)}


def test_the_guide_has_the_reference_runs_that_there_are() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `(.+?)`, (.+?) at (.+?) \|", GUIDE.read_text(encoding="utf-8"), re.MULTILINE)
    said = {name: (model, how, eps) for name, model, how, eps in rows}
    assert said.keys() == REFERENCES.keys() - {"digits"}
    for name, (model, how, eps) in said.items():
        recipe = REFERENCES[name].recipe
        assert (model, eps) == (REFERENCES[name].model, spoken(recipe.radius).partition(" (")[0])
        assert how == ("N-FGSM" if isinstance(recipe, n_fgsm) else f"PGD-{recipe.steps}, searched within "
                       f"{recipe.stretch * recipe.eps:.2g}, audited")  # fmt: skip


def test_under_torchrun_the_first_process_alone_speaks(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tables, or two JSON objects, would be one too many."""
    monkeypatch.setattr("potemkin.cli.train.first_process", lambda: False)
    monkeypatch.setattr("potemkin.cli.train_request.first_process", lambda: False)
    for more in ((), ("--json",)):
        answer = cli(*OWN, *SHORT, "--out", f"runs/{len(more)}", *more)
        assert (answer.code, answer.out, answer.err) == (0, "", "")
