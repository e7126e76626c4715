"""The other verbs from end to end: verify, report, compare, list, doctor, and the plain command."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import potemkin
from cli_run import MODELS, Cli, save, tiny, tree
from potemkin.core.explain import counted
from potemkin.core.registry import entries
from potemkin.evaluate.rates import Rates
from potemkin.evaluate.recheck import RIGHT_AFTER_ALL

AUDIT = ("audit", "models.py:good", "good.npz", "--threat", "Linf(0.1)", "--attack", "fgsm()")
BRING = ("--model", "models.py:good", "--data", "good.npz")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli) -> Path:
    """A user's folder after one audit into runs/a."""
    (tmp_path / "models.py").write_text(MODELS, encoding="utf-8")
    x, y = tiny()
    save(tmp_path / "good.npz", x, y)
    save(tmp_path / "moved.npz", np.clip(x + 0.05, 0, 1).astype(np.float32), y)
    save(tmp_path / "relabelled.npz", x, (y + 1) % 4)
    monkeypatch.chdir(tmp_path)
    assert cli(*AUDIT, "--out", "runs/a").code == 0
    return tmp_path


# ---- verify ---------------------------------------------------------------------------------------------------------


def test_verify_confirms_every_claim(cli: Cli, here: Path) -> None:
    outcomes = json.loads((here / "runs" / "a" / "record.json").read_bytes())["outcomes"]
    broken, held = outcomes["broken"], outcomes["held"]
    assert broken > 0 and held > 0
    answer = cli("verify", "runs/a", *BRING)
    assert answer.code == 0
    assert answer.out.splitlines() == [
        f"{broken} of {broken} claimed adversarials confirmed: in the set, in the box, goal met.",
        "16 of 16 clean predictions confirmed.",
        f"{held} held: not checked, that takes the search again.",
    ]
    told = cli("verify", "runs/a", *BRING, "--json")
    assert told.code == 0
    nothing: dict[str, object] = {"refused": [], "notes": [], "warnings": []}
    counted = {"claimed": broken, "confirmed": broken, "examples": 16, "agreed": 16, "held": held}
    assert told.json == {"passed": True} | counted | nothing


@pytest.mark.parametrize(("data", "count"), [("moved.npz", 7), ("relabelled.npz", 16)])
def test_verify_refuses_claims_about_other_data(cli: Cli, here: Path, data: str, count: int) -> None:
    answer = cli("verify", "runs/a", "--model", "models.py:good", "--data", data)
    assert answer.code == 1
    assert re.search(rf"\n{count} refused: .* \(examples \d+, \d+, \d+, …\)\n", answer.out)


def test_verify_tells_another_model(cli: Cli, here: Path) -> None:
    answer = cli("verify", "runs/a", *BRING, "--mean", "0.25", "--json")
    assert answer.code == 1
    assert answer.json["passed"] is False
    assert "fingerprint" in answer.json["notes"][0]


def test_verify_catches_a_forged_adversarial(cli: Cli, here: Path) -> None:
    """One number in one stored tensor, moved out of the set."""
    path = here / "runs" / "a" / "adversarials.safetensors"
    stored = bytearray(path.read_bytes())
    length = int.from_bytes(stored[:8], "little")
    start = 8 + length + json.loads(stored[8 : 8 + length])["inputs"]["data_offsets"][0]
    value = np.frombuffer(bytes(stored[start : start + 4]), "<f4")[0]
    stored[start : start + 4] = np.float32(value - 0.25 if value > 0.5 else value + 0.25).tobytes()
    path.write_bytes(bytes(stored))
    answer = cli("verify", "runs/a", *BRING, "--json")
    assert answer.code == 1
    assert len(answer.json["refused"]) == 1
    assert answer.json["claimed"] - answer.json["confirmed"] == 1


def test_verify_catches_a_line_that_is_not_the_models(cli: Cli, here: Path) -> None:
    """An example that held is passed off as wrong before any attack; every count and rate is made to fit."""
    folder = here / "runs" / "a"
    lines = [json.loads(text) for text in (folder / "examples.jsonl").read_text().splitlines()]
    forged = next(line for line in lines if line["outcome"] == "held")
    forged["outcome"] = "clean_wrong"
    (folder / "examples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    record = json.loads((folder / "record.json").read_bytes())
    record["outcomes"] |= {"held": record["outcomes"]["held"] - 1, "clean_wrong": 1}
    rates = Rates.of(record["outcomes"], clean_right=15).model_dump(mode="json")
    record["attacks"][0]["tried"] -= 1
    record["attacks"][0]["robust_accuracy_after"] = rates["robust_accuracy"]
    (folder / "record.json").write_text(json.dumps(record | {"rates": rates}))
    answer = cli("verify", "runs/a", *BRING)
    assert answer.code == 1
    assert "15 of 16 clean predictions confirmed." in answer.out
    assert f"1 refused: {RIGHT_AFTER_ALL} (example {forged['id']})" in answer.out


def test_verify_writes_its_result_where_it_is_told(cli: Cli, here: Path) -> None:
    answer = cli("verify", "runs/a", *BRING, "--out", "checks/a.json", "--json")
    assert json.loads((here / "checks" / "a.json").read_bytes()) == answer.json
    assert cli("verify", "runs/a", *BRING, "--out", "checks/a.json").code == 3
    assert cli("verify", "runs/a", *BRING, "--out", "checks/a.json", "--overwrite").code == 0


# ---- report ---------------------------------------------------------------------------------------------------------


def test_report_is_drawn_again_from_the_bundle_alone(cli: Cli, here: Path) -> None:
    page = here / "runs" / "a" / "report.html"
    first = page.read_bytes()
    page.unlink()
    (here / "models.py").unlink()
    (here / "good.npz").unlink()
    answer = cli("report", "runs/a")
    assert (answer.code, answer.out) == (0, "runs/a/report.html\n")
    assert page.read_bytes() == first
    told = cli("report", "runs/a", "--json").json
    assert told == {"report": "runs/a/report.html", "bytes": len(first)}


def test_report_and_compare_need_no_torch(here: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from potemkin.cli.main import main\n"
        "sys.exit(main(['report', 'runs/a']) or main(['compare', 'runs/a', 'runs/a']))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=here, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("runs/a/report.html\nNo difference shown")


# ---- compare --------------------------------------------------------------------------------------------------------


def test_compare_pairs_two_bundles(cli: Cli, here: Path) -> None:
    assert cli(*AUDIT[:3], "--threat", "Linf(0.02)", "--attack", "fgsm()", "--out", "runs/b").code == 0
    answer = cli("compare", "runs/a", "runs/b")
    assert answer.code == 0
    assert "McNemar" in answer.out and "note: The threat models differ" in answer.out
    told = cli("compare", "runs/a", "runs/b", "--json").json
    assert told["n"] == told["both_held"] + told["only_a"] + told["only_b"] + told["neither"] == 16
    assert (told["only_a"], told["only_b"] > 0) == (0, True)
    assert told["robust_b"]["value"] > told["robust_a"]["value"]


# ---- list -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shelf", "kind"),
    [
        ("attacks", "attack"), ("sets", "set"), ("objectives", "objective"), ("goals", "goal"), ("parts", "part"),
        ("data", "data"), ("models", "model"),
    ],
)  # fmt: skip
def test_list_has_one_line_for_each_registered_name(cli: Cli, shelf: str, kind: str) -> None:
    answer = cli("list", shelf)
    assert answer.code == 0
    known = entries(kind)
    assert answer.out.splitlines() == [f"{entry.usage}  {entry.summary}" for entry in known]
    told = cli("list", shelf, "--json").json[shelf]
    assert [(e["name"], e["signature"], e["summary"]) for e in told] == [(e.name, e.usage, e.summary) for e in known]


def test_list_alone_lists_everything(cli: Cli) -> None:
    told = cli("list", "--json").json
    assert sum(map(len, told.values())) == len(entries())


# ---- doctor ---------------------------------------------------------------------------------------------------------


def test_doctor_tells_versions_devices_and_what_is_missing(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import torch

    monkeypatch.setenv("POTEMKIN_DATA", str(tmp_path / "nowhere"))
    answer = cli("doctor", "--json")
    assert answer.code == 0
    assert answer.json["healthy"] is True
    found = {finding["name"]: finding for finding in answer.json["findings"]}
    assert found["torch"]["found"] == torch.__version__
    assert found["potemkin"]["found"] == potemkin.__version__
    assert counted(torch.get_num_threads(), "thread") in found["cpu"]["found"]
    assert "float32" in found["bf16 cpu"]["found"]
    assert {"cyclopts", "pydantic", "safetensors", "[vision]", "torch.compile"} <= set(found)
    assert found["POTEMKIN_DATA"]["state"] == "missing"
    (tmp_path / "nowhere" / "mnist").mkdir(parents=True)
    found = {finding["name"]: finding for finding in cli("doctor", "--json").json["findings"]}
    assert found["POTEMKIN_DATA"]["state"] == "ok" and "mnist" in found["POTEMKIN_DATA"]["found"]
    assert "All that potemkin needs is there." in cli("doctor").out


def test_doctor_says_when_torch_is_broken() -> None:
    code = "import sys; sys.modules['torch'] = None\nfrom potemkin.cli.main import main\nsys.exit(main(['doctor']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 3
    assert "Something that potemkin needs is broken" in done.stdout
    assert "pytorch.org" in done.stdout
    assert "Traceback" not in done.stderr


# ---- the command itself ---------------------------------------------------------------------------------------------


def test_the_installed_command_answers() -> None:
    command = Path(sys.executable).with_name("potemkin")
    done = subprocess.run([command, "--version"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, f"potemkin {potemkin.__version__}\n")
    done = subprocess.run(
        [sys.executable, "-m", "potemkin", "list", "nothing"], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: There is no list of 'nothing'")


def test_help_is_printed_for_the_command_alone_and_for_every_verb(cli: Cli) -> None:
    assert "audit" in cli().out
    for verb in ("audit", "verify", "report", "compare", "list", "doctor"):
        answer = cli(verb, "--help")
        assert answer.code == 0
        assert answer.out.startswith(f"Usage: potemkin {verb}")
        assert "--json" in answer.out
    for option in ("--out", "--seed", "--device", "--fail-under", "--threat", "--attack", "--weights", "--mean"):
        assert option in cli("audit", "--help").out


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["list"], 0),
        (["audit", "--help"], 0),
        ([*AUDIT, "--fail-under", "robust_accuracy=1"], 1),
        ([*AUDIT, "--fail-under", "robust_accuracy=1", "--json"], 1),
    ],
)
def test_a_reader_that_stops_early_changes_no_exit_code(words: list[str], code: int, here: Path) -> None:
    # Nobody reads at all: whatever is written first finds the pipe closed.
    script = f"{shlex.join([sys.executable, '-m', 'potemkin', *words])} | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=120, cwd=here)
    assert done.returncode == code, done.stderr
    assert "error:" not in done.stderr


def test_the_verbs_that_read_leave_everything_as_it_was(cli: Cli, here: Path) -> None:
    before = tree(here)
    for words in (("verify", "runs/a", *BRING), ("compare", "runs/a", "runs/a"), ("report", "runs/a"), ("list",)):
        assert cli(*words).code == 0
    assert tree(here) == before


def test_a_stream_that_knows_only_ascii_gets_ascii(here: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    (here / "straße.npz").write_bytes((here / "good.npz").read_bytes())
    words = [sys.executable, "-m", "potemkin", "audit", "models.py:good", "straße.npz", *AUDIT[3:]]
    done = subprocess.run([*words, "--json"], cwd=here, capture_output=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.decode("ascii"))["data"]["name"] == "straße.npz"
    done = subprocess.run(words, cwd=here, capture_output=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    assert b"Robust accuracy" in done.stdout
