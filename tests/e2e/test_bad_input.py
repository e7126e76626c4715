"""Bad calls, on the command line and in Python: one paragraph that names the value, what is allowed and what to do.

Each comes with the right exit code or exception, without a traceback, and leaves everything on disk as it was.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import potemkin as pk
from bundles import write_bundle
from cli_run import MODELS, run, save, tiny, tree
from potemkin.errors import BundleError, ConfigError, DataError, ModelError, PotemkinError

LONGEST = 1200
AUDIT = ("audit", "models.py:good", "good.npz", "--threat", "Linf(0.1)", "--attack", "fgsm()", "--device", "cpu")


class Tripwire:
    """Leaves a file behind if anybody unpickles it."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (Path("unpickled"),)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that the calls below may name, good and bad."""
    folder = tmp_path_factory.mktemp("bad_input")
    (folder / "models.py").write_text(MODELS, encoding="utf-8")
    x, y = tiny()
    _data(folder, x, y)
    (folder / "notes.txt").write_text("not data\n", encoding="utf-8")
    (folder / "broken.py").write_text("import no_such_package\n", encoding="utf-8")
    _weights(folder)
    _bundles(folder)
    return folder


def _data(folder: Path, x: np.ndarray, y: np.ndarray) -> None:
    gap, last = x.copy(), y.copy()
    gap[3, 0, 0, 0] = np.nan
    last[5] = 9
    save(folder / "good.npz", x, y)
    save(folder / "gap.npz", gap, y)
    save(folder / "far_label.npz", x, last)
    save(folder / "from_one.npz", x, y + 1)
    save(folder / "negative.npz", x, y - 1)
    save(folder / "float_labels.npz", x, y.astype(np.float32))
    save(folder / "one_hot.npz", x, np.eye(4)[y])
    save(folder / "empty.npz", x[:0], y[:0])
    save(folder / "normalised.npz", (x - 0.5) / 0.25, y)
    save(folder / "bytes_as_floats.npz", (x * 255).round(), y)
    save(folder / "uint16.npz", (x[:, 0] * 65535).astype(np.uint16), y)
    save(folder / "channels_last.npz", np.repeat(x.transpose(0, 2, 3, 1), 3, axis=3), y)
    save(folder / "short.npz", x, y[:-2])
    save(folder / "wide.npz", np.repeat(x, 2, axis=3), y)
    np.savez(folder / "no_labels.npz", x=x)
    hostile = np.empty(1, dtype=object)
    hostile[0] = Tripwire()
    np.savez(folder / "hostile.npz", x=hostile, y=y)
    (folder / "cut.npz").write_bytes((folder / "good.npz").read_bytes()[:400])
    (folder / "data.pkl").write_bytes(b"\x80\x04N.")


def _weights(folder: Path) -> None:
    save_file({"weight": torch.zeros(4, 16)}, folder / "good.safetensors")
    save_file({"weight": torch.zeros(4, 25)}, folder / "other.safetensors")
    (folder / "cut.safetensors").write_bytes((folder / "good.safetensors").read_bytes()[:40])
    torch.save({"weight": torch.zeros(4, 16), "extra": Tripwire()}, folder / "hostile.pt")
    (folder / "model.onnx").write_bytes(b"\x08\x07")


def _bundles(folder: Path) -> None:
    runs = folder / "runs"
    counts = {"held": 4, "broken": 4}
    for name in ("whole", "cut_record", "cut_lines", "cut_tensors", "no_tensors", "future", "no_threat"):
        write_bundle(runs / name, counts, (1, 4, 4))
    write_bundle(runs / "elsewhere", counts, (1, 4, 4), line={"label": 77})
    for name, file in (
        ("cut_record", "record.json"),
        ("cut_lines", "examples.jsonl"),
        ("cut_tensors", "adversarials.safetensors"),
    ):
        path = runs / name / file
        path.write_bytes(path.read_bytes()[:-30])
    (runs / "no_tensors" / "adversarials.safetensors").unlink()
    record = runs / "future" / "record.json"
    record.write_text(record.read_text(encoding="utf-8").replace('"schema_version": "1"', '"schema_version": "9"'))
    record = runs / "no_threat" / "record.json"
    record.write_text(record.read_text(encoding="utf-8").replace('"Linf(0.1)"', '"Linff(0.1)"'))
    (runs / "foreign").mkdir()
    (runs / "foreign" / "thesis.tex").write_text("do not lose me", encoding="utf-8")


@dataclass(frozen=True)
class Bad:
    """A command line, its exit code, and what the paragraph must hold: the value, the allowed, the advice."""

    words: tuple[str, ...]
    code: int
    says: tuple[str, ...]


def audit(*says: str, code: int, model: str = "models.py:good", data: str = "good.npz", **options: object) -> Bad:
    """`potemkin audit` that is right but for what is given; an option given as None is left out."""
    chosen: dict[str, object] = {"threat": "Linf(0.1)", "attack": "fgsm()", "device": "cpu", "out": "runs/new"}
    chosen |= options
    words = ["audit", model, data]
    for name, value in chosen.items():
        for one in value if isinstance(value, list) else [value]:
            if one is not None:
                words += [f"--{name.replace('_', '-')}"] + ([] if one is True else [str(one)])
    return Bad(tuple(words), code, says)


def call(*words: str, code: int, says: tuple[str, ...]) -> Bad:
    """Any other command line."""
    return Bad(words, code, says)


COMMANDS = {
    # what is typed
    "unknown verb": call("adit", code=2, says=("adit", "audit", "--help")),
    "no model": call("audit", code=2, says=("MODEL", "digits-cnn", "--help")),
    "no data": call("audit", "models.py:good", code=2, says=("DATA", ".npz")),
    "no threat": audit("--threat", "Linf(8/255)", "potemkin list sets", code=2, threat=None),
    "an option without its value": call(*AUDIT, "--seed", code=2, says=("--seed", "--help")),
    "unknown option": call(*AUDIT, "--batch-size", "8", code=2, says=("--batch-size", "--help")),
    "misspelt option": call(*AUDIT, "--exmples", "8", code=2, says=("--exmples", "--examples")),
    "a word too many": call(*AUDIT, "pgd()", code=2, says=("'pgd()'", "quote")),
    "an option twice": call(*AUDIT, "--seed", "1", "--seed", "2", code=2, says=("--seed", "multiple")),
    "a switch with a value": call(*AUDIT, "--overwrite=maybe", code=2, says=("--overwrite", "maybe", "switch")),
    "no such list": call("list", "atacks", code=2, says=("'atacks'", "'attacks'", "models")),
    # the threat
    "empty threat": audit("empty", "set", code=2, threat=""),
    "half a notation": audit("Linf(", "Linf(8/255)", code=2, threat="Linf("),
    "unknown set": audit("Linff", "'Linf'", "L2", code=2, threat="Linff(0.1)"),
    "wrong argument of a set": audit("epsilon", "eps", code=2, threat="Linf(epsilon=0.1)"),
    "a set without eps": audit("Linf", "eps", code=2, threat="Linf()"),
    "negative eps": audit("-0.1", "at least 0", code=2, threat="Linf(-0.1)"),
    "eps is NaN": audit("nan", "number", code=2, threat="Linf(nan)"),
    "eps is infinite": audit("inf", "finite", code=2, threat="L2(inf)"),
    "eps is text": audit("'8/255'", "number", code=2, threat="Linf('8/255')"),
    "an attack as threat": audit("pgd", "Linf", code=2, threat="pgd()"),
    "code as threat": audit("__import__", "notation", code=2, threat="__import__('os').mkdir('owned')"),
    "a grid on L2": audit("Grid", "L2", "eight_bit", code=2, threat="Grid(L2(0.5))"),
    "a mask that does not fit": audit("99", "(1, 4, 4)", code=2, threat="Masked(Linf(0.1), Rectangle(0, 0, 99, 99))"),
    "8 bits without a box": audit("eight_bit", "box", code=2, eight_bit=True, box="-inf,inf"),
    "the goal said twice": audit("--goal", "--threat", code=2, threat="ThreatModel(Linf(0.1))", goal="LeastLikely()"),
    "a goal that is no class": audit("'cat'", "integer", code=2, goal="Targeted('cat')"),
    "a class that the model has not": audit("99", "0 to 3", code=2, goal="Targeted(99)"),
    "an unknown goal": audit("Untargetted", "'Untargeted'", code=2, goal="Untargetted()"),
    "an unknown access": audit("'logits'", "scores", code=2, access="Access('logits')"),
    "no queries": audit("queries", "at least 1", code=2, access="Access('scores', queries=0)"),
    "an attack beyond the access": audit("fgsm()", "gradients", "noise()", code=2, access="scores"),
    "no attack for the access": audit("--attack", "gradients", code=2, access="scores", attack=None),
    # the attacks
    "a set as attack": audit("Linf", "pgd", code=2, attack="Linf(0.1)"),
    "an unknown attack": audit("pdg", "'pgd'", "apgd", code=2, attack="pdg(steps=5)"),
    "an empty attack": audit("empty", "attack", code=2, attack=""),
    "wrong argument of an attack": audit("iterations", "steps", code=2, attack="pgd(iterations=5)"),
    "no steps": audit("steps", "at least 1", "0", code=2, attack="pgd(steps=0)"),
    "half a step": audit("steps", "integer", "2.5", code=2, attack="pgd(steps=2.5)"),
    "steps as text": audit("steps", "'ten'", code=2, attack="bim(steps='ten')"),
    "two step sizes": audit("relative_step_size", "one", code=2, attack="pgd(step_size=0.1, relative_step_size=1)"),
    "restarts from one point": audit("Center()", "restarts", code=2, attack="pgd(restarts=2, start=Center())"),
    "a set as objective": audit("Linf", "objective", code=2, attack="apgd(objective=Linf(0.1))"),
    "text as objective": audit("'dlr'", "CrossEntropy()", code=2, attack="pgd(objective='dlr')"),
    "the same attack twice": audit("fgsm()", "twice", code=2, attack=["fgsm()", "fgsm"]),
    # the run
    "rows that are no multiple of 8": audit("rows=12", "multiples of 8", "16", code=2, rows=12),
    "no rows": audit("rows", "at least 8", "0", code=2, rows=0),
    "rows as text": audit("--rows", "many", "whole number", code=2, rows="many"),
    "no examples": audit("examples", "at least 1", "0", code=2, examples=0),
    "fewer than no examples": audit("examples", "at least 1", "-1", code=2, examples=-1),
    "an unknown sample": audit("'rnadom'", "first", "'random'", code=2, sample="rnadom"),
    "a seed as text": audit("--seed", "lucky", "whole number", code=2, seed="lucky"),
    "a seed beyond 64 bits": audit("seed", "2**63", code=2, seed=2**70),
    "an accuracy in percent": audit("declared_accuracy", "92", "at most 1", code=2, declared_accuracy=92),
    "a gate on nothing": audit("'robustness'", "robust_accuracy", code=2, fail_under="robustness=0.4"),
    "a gate without a value": audit("robust_accuracy", "=0.40", code=2, fail_under="robust_accuracy"),
    "a gate in percent": audit("'40'", "0.4?", code=2, fail_under="robust_accuracy=40"),
    "a gate on NaN": audit("'nan'", "from 0 to 1", code=2, fail_over="attack_success_rate=nan"),
    # the model's options
    "a box upside down": audit("1.0", "low < high", "(0, 1)", code=2, box="1,0"),
    "half a box": audit("--box", "'1'", "LOW,HIGH", code=2, box="1"),
    "a box of words": audit("--box", "'dark,light'", "0,1", code=2, box="dark,light"),
    "a mean of words": audit("--mean", "'a,b'", "0.485", code=2, mean="a,b"),
    "a mean for other channels": audit("(0.5, 0.5)", "1 channel", code=3, mean="0.5,0.5"),
    "std 0": audit("std", "0.0", "greater than 0", code=2, std="0"),
    "mean and std that differ": audit("2 values", "3", code=2, mean="0.1,0.2", std="1,1,1"),
    "no size": audit("resize", "at least 1", code=2, resize="0"),
    "a size in words": audit("--resize", "'big'", "224", code=2, resize="big"),
    "a crop beyond the image": audit("crop=9", "4 x 4", "resize", code=3, crop="9"),
    "an unknown device": audit("'gpu'", "'cpu'", "'cuda'", code=2, device="gpu"),
    "an image size for arrays": audit("image_size=32", "image folders", code=2, image_size=32),
    # the data
    "a file that is not there": audit("'no.npz'", "no such file", ".npz", code=3, data="no.npz"),
    "a name that is none": audit("'digit'", "'digits'", code=2, data="digit"),
    "a model as data": audit("digits-cnn", "model", "data", code=2, data="digits-cnn"),
    "a part that is none": audit("'validation'", "train", code=2, data="digits(part='validation')"),
    "a module that is not there": audit("'my_data'", "folder", code=3, data="my_data:load"),
    "a function that fails": audit("no_data", "not mounted", code=3, data="models.py:no_data"),
    "a function that returns nothing": audit("returned None", "(inputs, labels)", code=3, data="models.py:nothing"),
    "an npz with pickled objects": audit("'x'", "pickle", "np.stack", code=3, data="hostile.npz"),
    "half an npz": audit("cut.npz", "savez", code=3, data="cut.npz"),
    "an npz without labels": audit("labels, y", "found x", code=3, data="no_labels.npz"),
    "a pickle": audit("data.pkl", "pickle", "np.savez_compressed", code=3, data="data.pkl"),
    "a text file": audit("notes.txt", ".npz", code=3, data="notes.txt"),
    "NaN": audit("NaN", "id 3", code=3, data="gap.npz"),
    "a label beyond the classes": audit("9", "0 to 3", code=3, data="far_label.npz"),
    "labels counted from 1": audit("1 to 4", "Subtract 1", code=3, data="from_one.npz"),
    "a negative label": audit("-1", "counted from 0", code=3, data="negative.npz"),
    "labels as floats": audit("float32", "astype", code=3, data="float_labels.npz"),
    "one-hot labels": audit("(16, 4)", "argmax", code=3, data="one_hot.npz"),
    "no examples in the file": audit("empty.npz", "no examples", code=3, data="empty.npz"),
    "normalised inputs": audit("[0, 1]", "normalised", "--mean", code=3, data="normalised.npz"),
    "bytes as floats": audit("[0, 1]", "divide by 255", code=3, data="bytes_as_floats.npz"),
    "16-bit images": audit("uint16", "65535", code=3, data="uint16.npz"),
    "floats with channels last": audit("(16, 4, 4, 3)", "transpose(0, 3, 1, 2)", code=3, data="channels_last.npz"),
    "fewer labels than inputs": audit("16 inputs", "14 labels", code=3, data="short.npz"),
    "data of another shape": audit("(8, 1, 4, 8)", "shape", code=3, data="wide.npz"),
    # the model
    "an unknown model": audit("'resnet18'", "digits-cnn", "module:function", code=3, model="resnet18"),
    "no such module": audit("'my_models'", "module:function", code=3, model="my_models:net"),
    "no such function": audit("'goood'", "'good'", code=3, model="models.py:goood"),
    "a module that does not import": audit("broken.py", "no_such_package", code=3, model="broken.py:net"),
    "a function with arguments": audit("needs", "width", "without arguments", code=3, model="models.py:needs"),
    "a function that raises": audit("no such checkpoint", "RuntimeError", code=3, model="models.py:fails"),
    "a function that returns None": audit("NoneType", "torch.nn.Module", code=3, model="models.py:nothing"),
    "a class, not an instance": audit("type", "instance", code=3, model="models.py:a_class"),
    "weights as model": audit("good.safetensors", "--weights", code=3, model="good.safetensors"),
    "a model in another format": audit("model.onnx", "torch.export", code=3, model="model.onnx"),
    "an archive that is not there": audit("'net.pt2'", "torch.export.save", code=3, model="net.pt2"),
    "a dict of outputs": audit("'logits'", "wrap", code=3, model="models.py:AsDict"),
    "a tuple of outputs": audit("tuple", "[0]", code=3, model="models.py:AsTuple"),
    "a map of scores": audit("(8, 4, 2, 2)", "pool", code=3, model="models.py:AsMap"),
    "decided labels": audit("int64", "argmax", code=3, model="models.py:Decided"),
    "rows that are mixed": audit("(1, 32)", "rows", code=3, model="models.py:Mixed"),
    "a model that breaks later": audit("Breaks", "index 7", "shape", code=3, model="models.py:Breaks"),
    "a model that fills the memory": audit("memory", "--rows", code=4, model="models.py:Full"),
    "a model that writes to itself": audit("'calls'", "changed", code=4, model="models.py:Writes"),
    "weights that are not there": audit("'no.pt'", "path", code=3, weights="no.pt"),
    "weights of another model": audit("(4, 25)", "(4, 16)", code=3, weights="other.safetensors"),
    "weights cut short": audit("cut.safetensors", "truncated", code=3, weights="cut.safetensors"),
    "weights with code": audit("hostile.pt", "refused", "safetensors", code=3, weights="hostile.pt"),
    # numbers that nothing holds
    "steps beyond 64 bits": audit("steps", "2**63 - 1", code=2, attack=f"pgd(steps={2**70})"),
    "a step beyond float32": audit("1e+300", "3.4e+38", code=2, attack="pgd(step_size=1e300)"),
    "an eps beyond float32": audit("eps", "3.4e+38", code=2, threat=f"Linf({10**60})"),
    "an eps of 400 digits": audit("Linf(1000", "512 bits", code=2, threat=f"Linf({10**400})"),
    "a box beyond float32": audit("1e+39", "3.4e+38", code=2, box="0,1e39"),
    "more rows than examples anywhere": audit("80000000000", "1048576", code=2, rows=8 * 10**10),
    # where the bundle goes
    "a model of too long a name": audit("unknown", "module:function", code=3, model="n" * 300),
    "a module of too long a name": audit("no file", "path", code=3, model=f"{'n' * 300}.py:net"),
    "an archive of too long a name": audit("does not exist", "torch.export", code=3, model=f"{'n' * 300}.pt2"),
    "weights of too long a name": audit("does not exist", "path", code=3, weights="n" * 300),
    "data of too long a name": audit("too long", code=3, data="n" * 300),
    "a report of too long a name": call("report", "n" * 300, code=3, says=("folder", "audit --out")),
    "verify into too long a name": call(
        "verify", "runs/whole", "--model", "models.py:good", "--data", "good.npz", "--out", "n" * 300, code=3,
        says=("too long", "another --out"),
    ),
    "out is too long a name": audit("too long", "another --out", code=3, out="n" * 300),
    "out is a folder of somebody's": audit("runs/foreign", "not a bundle", "--out", code=3, out="runs/foreign"),
    "out is a file": audit("notes.txt", "file", "--out", code=3, out="notes.txt"),
    "out is below a file": audit("notes.txt", "--out", code=3, out="notes.txt/run"),
    "out holds a bundle": audit("runs/whole", "--overwrite", code=3, out="runs/whole"),
    # bundles
    "a report of nothing": call("report", "runs/no", code=3, says=("runs/no", "audit --out")),
    "a report of a file": call("report", "notes.txt", code=3, says=("notes.txt", "folder")),
    "a report of a foreign folder": call("report", "runs/foreign", code=3, says=("runs/foreign", "record.json")),
    "a record cut short": call("report", "runs/cut_record", code=3, says=("record.json", "truncated")),
    "lines cut short": call("report", "runs/cut_lines", code=3, says=("examples.jsonl", "truncated")),
    "tensors cut short": call("report", "runs/cut_tensors", code=3, says=("adversarials.safetensors", "truncated")),
    "tensors that are missing": call("report", "runs/no_tensors", code=3, says=("adversarials.safetensors",)),
    "a schema to come": call("report", "runs/future", code=3, says=("'9'", "'1'")),
    "verify without a model": call("verify", "runs/whole", code=2, says=("--model", "digits-cnn")),
    "verify nothing": call(
        "verify", "runs/no", "--model", "models.py:good", "--data", "good.npz", code=3, says=("runs/no", "folder")
    ),
    "verify a record cut short": call(
        "verify", "runs/cut_record", "--model", "models.py:good", "--data", "good.npz", code=3, says=("truncated",)
    ),
    "verify a threat that is none": call(
        "verify", "runs/no_threat", "--model", "models.py:good", "--data", "good.npz", code=3,
        says=("runs/no_threat", "Linff", "untouched copy"),
    ),
    "verify on data of another shape": call(
        "verify", "runs/whole", "--model", "digits-cnn", "--data", "digits", code=3, says=("(1, 4, 4)", "(1, 8, 8)")
    ),
    "verify into a file that is there": call(
        "verify", "runs/whole", "--model", "models.py:good", "--data", "good.npz", "--out", "notes.txt", code=3,
        says=("notes.txt", "--overwrite"),
    ),
    "compare with nothing": call("compare", "runs/whole", "runs/no", code=3, says=("runs/no", "folder")),
    "compare one thing": call("compare", "runs/whole", code=2, says=("B", "two folders")),
    "compare what shares nothing": call(
        "compare", "runs/whole", "runs/elsewhere", code=3, says=("share no example", "--examples")
    ),
}  # fmt: skip

if not torch.cuda.is_available():
    COMMANDS["a GPU that is not there"] = audit("'cuda'", "'cpu'", code=2, device="cuda")


@pytest.mark.parametrize("bad", COMMANDS.values(), ids=COMMANDS.keys())
def test_a_bad_command_is_answered_in_one_paragraph(
    bad: Bad, shelf: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shelf)
    before = tree(shelf)
    answer = run(capsys, *bad.words)
    assert answer.code == bad.code, answer.err
    assert answer.out == ""
    assert [word for word in bad.says if word not in answer.error] == [], answer.error
    assert "Traceback" not in answer.err
    assert len(answer.error) < LONGEST
    assert tree(shelf) == before


@pytest.mark.parametrize(
    "name", ["unknown verb", "negative eps", "NaN", "a dict of outputs", "a model that fills the memory"]
)
def test_with_json_the_error_is_json_too(
    name: str, shelf: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shelf)
    answer = run(capsys, *COMMANDS[name].words, "--json")
    told = answer.json["error"]
    assert (told["exit_code"], told["message"]) == (COMMANDS[name].code, answer.error)
    assert told["type"] in {"UsageError", "ConfigError", "DataError", "ModelError", "OutOfMemory"}


def test_the_table_is_as_long_as_it_should_be() -> None:
    assert len(COMMANDS) >= 40


def test_the_good_call_is_good(
    shelf: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """So that the calls above fail for their own reason."""
    monkeypatch.chdir(shelf)
    answer = run(capsys, *AUDIT, "--out", str(tmp_path / "run"))
    assert answer.code == 0, answer.err
    assert (tmp_path / "run" / "report.html").is_file()
    assert run(capsys, *AUDIT, "--weights", "good.safetensors").code == 0


# ---- the same in Python ---------------------------------------------------------------------------------------------

Call = Callable[[], object]


def linear(classes: int = 4) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, classes))


def pair(count: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    x, y = tiny(count)
    return torch.from_numpy(x), torch.from_numpy(y)


def evaluate(**other: object) -> Call:
    """`pk.audit` that is right but for what is given."""
    chosen: dict[str, object] = {"model": linear(), "data": pair(), "threat": pk.Linf(0.1), "attacks": pk.fgsm()}
    return lambda: pk.audit(**(chosen | other))  # type: ignore[arg-type]


def disturb(**other: object) -> Call:
    """`pk.perturb` that is right but for what is given."""
    x, y = pair()
    chosen: dict[str, object] = {"model": linear(), "x": x, "y": y, "threat": pk.Linf(0.1), "attack": pk.fgsm()}
    return lambda: pk.perturb(**(chosen | other))  # type: ignore[arg-type]


X, Y = pair()
PYTHON: dict[str, tuple[Call, type[PotemkinError], tuple[str, ...]]] = {
    "no model": (evaluate(model=None), ConfigError, ("NoneType", "Classifier")),
    "a name as model": (evaluate(model="digits-cnn"), ConfigError, ("str", "load_model")),
    "a class as model": (evaluate(model=nn.Linear), ConfigError, ("type", "Classifier")),
    "one array as data": (evaluate(data=X), DataError, ("(8, 1, 4, 4)", "(inputs, labels)")),
    "a dict as data": (evaluate(data={"x": X, "y": Y}), DataError, ("'x'", "(inputs, labels)")),
    "a number as data": (evaluate(data=42), DataError, ("int",)),
    "labels that are floats": (evaluate(data=(X, Y.float())), DataError, ("float32", "astype")),
    "inputs beyond the box": (evaluate(data=(X * 3, Y)), DataError, ("[0, 1]", "box")),
    "a number as threat": (evaluate(threat=8 / 255), ConfigError, ("0.03", "Linf(8/255)")),
    "a misspelt text as threat": (evaluate(threat="Linff(0.1)"), ConfigError, ("Linff(0.1)", "'Linf'", "ThreatModel")),
    "no attacks": (evaluate(attacks=[]), ConfigError, ("attack", "pgd")),
    "None as attacks": (evaluate(attacks=None), ConfigError, ("None", "pgd")),
    "a number as attack": (evaluate(attacks=[40]), ConfigError, ("40", "pgd")),
    "a set as attack": (evaluate(attacks=[pk.Linf(0.1)]), ConfigError, ("Linf", "pgd")),
    "an unknown attack": (evaluate(attacks="pdg"), ConfigError, ("pdg", "'pgd'")),
    "the same attack twice": (evaluate(attacks=[pk.fgsm(), pk.fgsm()]), ConfigError, ("fgsm()", "twice")),
    "more than the access": (
        evaluate(threat=pk.ThreatModel(pk.Linf(0.1), access=pk.Access("scores"))), ConfigError, ("fgsm()", "gradients"),
    ),
    "rows": (evaluate(rows=12), ConfigError, ("12", "multiples of 8")),
    "rows as text": (evaluate(rows="128"), ConfigError, ("'128'", "integer")),
    "a stride that goes nowhere": (evaluate(stride=0), ConfigError, ("stride", "0", "at least 1")),
    "no examples": (evaluate(examples=0), ConfigError, ("examples", "at least 1")),
    "an unknown sample": (evaluate(sample="last"), ConfigError, ("'last'", "balanced")),
    "a seed that is no integer": (evaluate(seed=0.5), ConfigError, ("0.5", "integer")),
    "an accuracy in percent": (evaluate(declared_accuracy=92.0), ConfigError, ("92.0", "at most 1")),
    "an out that is a file": (evaluate(out=__file__), BundleError, ("is a file", "folder")),
    "a class beyond the model": (
        evaluate(threat=pk.ThreatModel(pk.Linf(0.1), pk.Targeted(99))), ConfigError, ("99", "0 to 3"),
    ),
    "x of whole numbers": (disturb(x=(X * 255).long()), DataError, ("int64", "floats")),
    "x that is numpy": (disturb(x=X.numpy()), DataError, ("ndarray", "torch.as_tensor")),
    "x with NaN": (disturb(x=torch.full_like(X, torch.nan)), DataError, ("NaN",)),
    "y of another length": (disturb(y=Y[:3]), DataError, ("(3,)", "(8,)")),
    "y beyond the classes": (disturb(y=Y + 9), ModelError, ("12", "4")),
    "no rows in perturb": (disturb(rows=0), ConfigError, ("rows", "0", "at least 8")),
    "a seed in perturb": (disturb(seed="lucky"), ConfigError, ("seed", "'lucky'")),
    "eps as text": (lambda: pk.Linf("8/255"), ConfigError, ("'8/255'", "number")),  # type: ignore[arg-type]
    "eps below 0": (lambda: pk.L2(-1.0), ConfigError, ("-1.0", "at least 0")),
    "eps is NaN": (lambda: pk.L1(float("nan")), ConfigError, ("nan", "finite")),
    "eps is a truth value": (lambda: pk.Linf(True), ConfigError, ("True", "number")),
    "a box upside down": (lambda: pk.Box(1, 0), ConfigError, ("low=1", "high=0")),
    "steps beyond 64 bits": (lambda: pk.pgd(steps=2**70), ConfigError, ("steps", str(2**70), "2**63 - 1")),
    "a step beyond float32": (lambda: pk.pgd(step_size=1e300), ConfigError, ("step_size", "1e+300", "3.4e+38")),
    "an eps of 400 digits": (lambda: pk.Linf(10**400), ConfigError, ("eps", "1329 bits", "3.4e+38")),
    "queries beyond 64 bits": (lambda: pk.Access(queries=10**30), ConfigError, ("queries", "2**63 - 1")),
    "a box beyond float32": (lambda: pk.Classifier(linear(), box=(0, 1e39)), ConfigError, ("1e+39", "3.4e+38")),
    "a mean of 400 digits": (lambda: pk.Preprocessing(mean=10**400), ConfigError, ("mean", "one number")),
    "more rows than examples anywhere": (evaluate(rows=8 * 10**10), ConfigError, ("80000000000", "1048576")),
    "such rows in perturb": (disturb(rows=8 * 10**10), ConfigError, ("80000000000", "1048576")),
    "an out with a zero byte": (evaluate(out="a\0b"), BundleError, ("zero byte", "another --out")),
    "an out that is too long a name": (evaluate(out="n" * 300), BundleError, ("too long", "another --out")),
    "half a class": (lambda: pk.Targeted(1.5), ConfigError, ("1.5", "integer")),  # type: ignore[arg-type]
    "a mask below zero": (lambda: pk.Rectangle(-1, 0, 2, 2), ConfigError, ("-1", "at least 0")),
    "one class": (lambda: pk.Classifier(linear(), classes=1), ConfigError, ("1", "at least 2")),
    "a function as network": (lambda: pk.Classifier(torch.sum), ModelError, ("function", "module")),  # type: ignore[arg-type]
    "a dict from the model": (
        evaluate(model=type("AsDict", (nn.Module,), {"forward": lambda self, x: {"logits": x}})()), ModelError,
        ("'logits'", "wrap"),
    ),
    "an unknown model": (lambda: pk.load_model("resnet18"), ModelError, ("'resnet18'", "digits-cnn")),
    "a bundle that is not there": (lambda: pk.read_bundle("no/such/run"), BundleError, ("no/such/run", "folder")),
    "half a notation": (lambda: pk.parse("pgd(steps="), ConfigError, ("pgd(steps=", "notation")),
}  # fmt: skip


@pytest.mark.parametrize("name", PYTHON)
def test_a_bad_call_in_python_raises_one_paragraph(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    wrong, kind, says = PYTHON[name]
    with pytest.raises(kind) as caught:
        wrong()
    text = str(caught.value)
    assert [word for word in says if word not in text] == [], text
    assert "\n\n" not in text
    assert len(text) < LONGEST
    assert list(tmp_path.iterdir()) == []


def test_sensible_numbers_stay_allowed() -> None:
    """A radius without an end, and steps across the whole of it."""
    record = pk.audit(linear(), pair(), pk.Linf(1e30), pk.pgd(steps=2, step_size=1e30))
    assert record.threat.eps == 1e30
    assert evaluate(rows=1024)()


def test_a_run_that_fails_leaves_the_old_bundle_as_it_was(
    shelf: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shelf)
    shutil.copytree(shelf / "runs" / "whole", shelf / "runs" / "kept")
    before = tree(shelf)
    words = audit(model="models.py:Breaks", out="runs/kept", overwrite=True, code=3).words
    assert run(capsys, *words).code == 3
    assert tree(shelf) == before
    assert json.loads((shelf / "runs" / "kept" / "record.json").read_bytes())["schema_version"] == "1"
    shutil.rmtree(shelf / "runs" / "kept")
