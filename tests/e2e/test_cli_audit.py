"""`potemkin audit` from end to end: verdict, bundle, JSON, gates, and the options that change what is evaluated."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

import potemkin as pk
from cli_run import MODELS, Answer, Cli, save, tiny
from potemkin.cli.threats import DEFAULT_ATTACKS
from potemkin.evaluate.bundle_read import read_bundle
from potemkin.report.provenance import commands

DIGITS = ("audit", "digits-cnn", "digits", "--threat", "Linf(0.1)", "--attack", "fgsm()", "--examples", "24")
OWN = ("audit", "models.py:good", "good.npz", "--threat", "Linf(0.1)", "--attack", "fgsm()")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder with a model and data, and nothing else."""
    (tmp_path / "models.py").write_text(MODELS, encoding="utf-8")
    save(tmp_path / "good.npz", *tiny())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lines_of(answer: Answer, start: str) -> list[str]:
    return [line for line in answer.out.splitlines() if line.startswith(start)]


def test_the_verdict_is_printed_and_the_bundle_is_written(cli: Cli, here: Path) -> None:
    answer = cli(*DIGITS, "--out", "runs/a")
    assert answer.code == 0, answer.err
    bundle = read_bundle(here / "runs" / "a")
    record = bundle.record
    assert (record.n, record.complete) == (24, True)
    assert 0 < record.outcomes["broken"] < 24
    [headline] = lines_of(answer, "Robust accuracy")
    assert headline == f"Robust accuracy {record.rates.robust_accuracy}"
    [threat] = lines_of(answer, "threat")
    assert threat.endswith(record.threat.sentence)
    rows = {line.split()[0]: line.split()[1] for line in lines_of(answer, "  ") if len(line.split()) > 1}
    assert (rows["held"], rows["broken"]) == (str(record.outcomes["held"]), str(record.outcomes["broken"]))
    assert rows["fgsm()"] == str(24 - record.outcomes["clean_wrong"])
    page = (here / "runs" / "a" / "report.html").read_text(encoding="utf-8")
    assert str(record.outcomes["broken"]) in page
    assert lines_of(answer, "report") == ["report    runs/a/report.html"]


def test_the_command_that_is_printed_verifies_the_bundle(cli: Cli) -> None:
    answer = cli(*OWN, "--out", "runs/a b", "--mean", "0.5", "--std", "0.25")
    [line] = lines_of(answer, "check it")
    words = shlex.split(line.removeprefix("check it"))
    words = words[words.index("verify") :]  # behind the name of the command, or its path where a shell does not find it
    assert words[:2] == ["verify", "runs/a b"]
    assert cli(*words).code == 0
    bundle = read_bundle("runs/a b")
    assert ["potemkin", *words] == shlex.split(commands(bundle.record, bundle.folder)[1].text), "the report's differs"


def test_a_run_from_python_is_what_its_printed_command_runs(cli: Cli, here: Path) -> None:
    given = pk.ThreatModel(pk.Linf(0.1), pk.Targeted(1), eight_bit=True)
    model, attacks = pk.load_model("models.py:good", box=(-1, 1)), [pk.fgsm(), pk.pgd(steps=3)]
    chosen: dict[str, Any] = {"sample": "random", "examples": 9, "seed": 3}
    chosen |= {"rows": 16, "retire_cycles": False, "stride": 2, "out": "runs/python"}
    record = pk.audit(model, "good.npz", given, attacks, **chosen)
    command, *_ = commands(record, Path("runs/python"))
    assert cli(*shlex.split(command.text)[1:], "--out", "runs/typed").code == 0
    typed = read_bundle("runs/typed").record
    differs = {
        "environment",
        "timing",
        "settings",
        "batch_fill",
        "cost",
    }  # the stride has no option: no outcome needs it
    assert typed.model_dump(exclude=differs) == record.model_dump(exclude=differs)
    assert typed.settings == record.settings.model_copy(update={"stride": 1})
    files = [here / "runs" / name / "examples.jsonl" for name in ("python", "typed")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_the_command_line_is_recorded_as_it_could_be_typed(cli: Cli, here: Path) -> None:
    words = (*DIGITS, "--out", "runs/it's here")
    cli(*words)
    command = read_bundle(here / "runs" / "it's here").record.environment["command"]
    assert shlex.split(command) == ["potemkin", *words]


def test_without_out_nothing_is_written_and_that_is_said(cli: Cli, here: Path) -> None:
    before = sorted(path.name for path in here.iterdir() if path.name != "__pycache__")
    answer = cli(*OWN)
    assert answer.code == 0
    assert "Nothing was written: give --out" in answer.out
    assert sorted(path.name for path in here.iterdir() if path.name != "__pycache__") == before


def test_json_is_one_object_and_equals_the_record_on_disk(cli: Cli, here: Path) -> None:
    answer = cli(*DIGITS, "--out", "runs/a", "--json")
    assert answer.json == json.loads((here / "runs" / "a" / "record.json").read_bytes())
    assert f"Robust accuracy {100 * answer.json['rates']['robust_accuracy']['value']:.1f} %" in answer.err
    assert "Loading" not in answer.err


def test_what_a_model_prints_does_not_get_into_the_json(cli: Cli) -> None:
    answer = cli("audit", "models.py:Chatty", "good.npz", *OWN[3:], "--json")
    assert answer.json["complete"] is True
    assert "a line of the model's own" in answer.err


def test_each_step_is_said_before_it_takes_time(cli: Cli) -> None:
    told = cli(*OWN).err.splitlines()
    assert [line.split(" …")[0] for line in told] == [
        "Loading PyTorch",
        "Loading the data good.npz",
        "Loading the model models.py:good",
        "Attacking on cpu with fgsm()",
    ]


def test_without_an_attack_the_usual_ones_run(cli: Cli) -> None:
    for threat in ("Linf(0.05)", "L2(0.2)", "L1(0.5)"):
        answer = cli(*OWN[:3], "--threat", threat, "--json")
        assert [attack["recipe"] for attack in answer.json["attacks"]] == list(DEFAULT_ATTACKS), threat
        assert answer.json["outcomes"]["error"] == 0
        assert answer.json["outcomes"]["broken"] + answer.json["outcomes"]["held"] == 16
    assert "no --attack: the usual ones" in cli(*OWN[:5]).err


@pytest.mark.parametrize(
    ("gate", "code"),
    [
        (("--fail-under", "clean_accuracy=1.0"), 0),
        (("--fail-under", "robust_accuracy=0"), 0),
        (("--fail-under", "robust_accuracy=1"), 1),
        (("--fail-over", "attack_success_rate=1"), 0),
        (("--fail-over", "attack_success_rate=0.01"), 1),
        (("--fail-under", "clean_accuracy=1.0", "--fail-under", "robust_accuracy=1"), 1),
        (("--fail-under", "clean_accuracy=1.0", "--fail-over", "robust_accuracy=1"), 0),
    ],
)
def test_gates_decide_the_exit_code(cli: Cli, gate: tuple[str, ...], code: int) -> None:
    answer = cli(*OWN, *gate)
    assert answer.code == code, answer.out
    assert len(lines_of(answer, "gate ")) == len(gate) // 2
    assert len(lines_of(answer, "gate FAILED")) == code


def test_a_gate_that_fails_keeps_the_bundle(cli: Cli, here: Path) -> None:
    assert cli(*OWN, "--fail-under", "robust_accuracy=1", "--out", "runs/a").code == 1
    assert read_bundle(here / "runs" / "a").record.complete


def test_a_gate_uses_the_lower_bound(cli: Cli) -> None:
    """Undecided examples are not held: a model without finite scores passes no gate on robust accuracy."""
    answer = cli("audit", "models.py:NotFinite", "good.npz", *OWN[3:], "--fail-under", "robust_accuracy=0.01", "--json")
    assert answer.code == 1
    assert answer.json["outcomes"]["error"] == 16
    assert "gate FAILED: robust_accuracy is 0 %" in answer.err


# These models are right nearly always, and no rate is beyond 100 %: without alarms, both gates pass.
GATES = ("--fail-under", "clean_accuracy=0.5", "--fail-over", "attack_success_rate=1")
ALARMING = {
    "batch_dependent": ("models.py:LooksAround", ()),
    "randomised": ("models.py:Noisy", ()),
    "no_gradient_path": ("models.py:Detached", ()),
    "accuracy_far_from_declared": ("models.py:good", ("--declared-accuracy", "0.01")),
}


@pytest.mark.parametrize("alarm", ALARMING)
def test_a_rate_beside_an_alarm_passes_no_gate(cli: Cli, here: Path, alarm: str) -> None:
    model, more = ALARMING[alarm]
    words = ("audit", model, "good.npz", "--threat", "Linf(0.02)", "--attack", "fgsm()", *more)
    answer = cli(*words, *GATES, "--out", "runs/a")
    record = read_bundle(here / "runs" / "a").record
    names = [smell.name for smell in record.alarms]
    assert alarm in names and set(names) <= {alarm, "error_examples"}
    assert record.rates.clean_accuracy.value > 0.5, "the gate itself would pass"
    assert answer.code == 1
    assert lines_of(answer, "gate passed") == [] and len(lines_of(answer, "gate FAILED")) == 2
    [why] = lines_of(answer, "gates FAILED for the alarm")
    assert ", ".join(names) in why and why.endswith("rates with alarms pass no gate")
    without = cli(*words)
    assert without.code == 0 and f"alarm {alarm}: " in without.out and "gate" not in without.out.split("alarm ")[0]


def test_warnings_and_notes_fail_no_gate(cli: Cli, here: Path) -> None:
    words = ("audit", "models.py:Net", "good.npz", "--threat", "Linf(0.02)", "--attack", "noise(draws=3)")
    answer = cli(*words, *GATES, "--out", "runs/a")
    assert {smell.severity for smell in read_bundle(here / "runs" / "a").record.smells} == {"note", "warning"}
    assert answer.code == 0 and len(lines_of(answer, "gate passed")) == 2


def test_a_model_that_changes_is_a_failed_evaluation(cli: Cli, here: Path) -> None:
    answer = cli("audit", "models.py:WritesLater", "good.npz", *OWN[3:], "--rows", "16", "--out", "runs/a")
    assert answer.code == 4
    assert "alarm model_changed" in answer.out
    assert [smell.name for smell in read_bundle(here / "runs" / "a").record.alarms] == ["model_changed"]


def test_a_module_in_the_working_directory_is_found(cli: Cli, here: Path) -> None:
    (here / "potemkin_cli_mine.py").write_text(MODELS, encoding="utf-8")
    assert cli("audit", "potemkin_cli_mine:good", *OWN[2:]).code == 0


def test_preprocessing_becomes_part_of_the_model(cli: Cli) -> None:
    plain, normalised = cli(*OWN, "--json").json, cli(*OWN, "--mean", "0.5", "--std", "0.25", "--json").json
    assert "mean=0.5" in normalised["model"]["preprocessing"]
    assert normalised["smells"] == plain["smells"] == []
    assert normalised["model"]["fingerprint"] != plain["model"]["fingerprint"]
    # Linear scores: a shift and a scale change no decision, so the same examples fall.
    assert normalised["outcomes"] == plain["outcomes"]


def test_the_threat_can_be_said_in_parts_or_as_a_whole(cli: Cli) -> None:
    parts = cli(
        *OWN[:3], "--threat", "Linf(0.1)", "--goal", "LeastLikely()", "--access", "scores", "--eight-bit",
        "--attack", "noise(draws=5)", "--json",
    )  # fmt: skip
    whole = cli(
        *OWN[:3], "--threat", "ThreatModel(Linf(0.1), LeastLikely(), Access('scores'), eight_bit=True)",
        "--attack", "noise(draws=5)", "--json",
    )  # fmt: skip
    assert parts.json["threat"] == whole.json["threat"]
    assert parts.json["outcomes"] == whole.json["outcomes"]
    assert "least likely" in parts.json["threat"]["sentence"]


def test_options_reach_the_run(cli: Cli) -> None:
    words = (*OWN, "--examples", "5", "--sample", "random", "--seed", "3", "--rows", "16", "--no-cycles")
    told = cli(*words, "--box", "-1,2", "--declared-accuracy", "0.01", "--json").json
    assert told["data"]["sample"] == "random 5 of 16 (seed 3)"
    assert (told["seed"], told["settings"]["rows"], told["settings"]["retire_cycles"]) == (3, 16, False)
    assert told["threat"]["box"] == [-1.0, 2.0]
    assert [smell["name"] for smell in told["smells"]] == ["accuracy_far_from_declared"]


def test_overwrite_replaces_a_bundle(cli: Cli, here: Path) -> None:
    assert cli(*OWN, "--out", "runs/a").code == 0
    assert cli(*OWN, "--out", "runs/a", "--overwrite", "--seed", "5", "--no-report").code == 0
    assert read_bundle(here / "runs" / "a").record.seed == 5
    assert not (here / "runs" / "a" / "report.html").exists()


def test_grey_levels_in_place_of_a_fraction_are_noticed(cli: Cli) -> None:
    answer = cli(*OWN[:3], "--threat", "Linf(8)", "--attack", "fgsm()")
    assert answer.code == 0
    assert "Did you mean 8/255?" in answer.err
    assert "Did you mean" not in cli(*OWN).err


def test_a_report_that_fails_does_not_cost_the_verdict(cli: Cli, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import potemkin.report.render

    def broken(folder: Path) -> Path:
        raise RuntimeError("a template is missing")

    monkeypatch.setattr(potemkin.report.render, "render", broken)
    answer = cli(*OWN, "--out", "runs/a")
    assert answer.code == 0
    assert "a template is missing" in answer.err
    assert lines_of(answer, "Robust accuracy") and not lines_of(answer, "report")
    assert read_bundle(here / "runs" / "a").record.complete


def test_debug_shows_where_it_went_wrong(cli: Cli) -> None:
    answer = cli("audit", "models.py:Breaks", *OWN[2:], "--debug")
    assert answer.code == 3
    assert "IndexError" in answer.err and "Traceback" in answer.err
    assert "Traceback" not in cli("audit", "models.py:Breaks", *OWN[2:]).err
