"""Bad training calls, on the command line and in Python: one paragraph with the value, what is allowed, what to do.

Each comes with the right exit code, without a traceback, before anything is learnt, and leaves everything on disk as it
was. What goes wrong later (disk, memory, a damaged folder) is in test_training_faults.py.
"""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import potemkin as pk
from bundles import write_bundle
from cli_run import MODELS, run, save, tiny, tree
from potemkin.errors import BundleError, ConfigError, DataError, ModelError, PotemkinError
from trained import linear, pair, quick

LONGEST = 1200
COUNT = 64

TRAINABLE = (
    MODELS
    + '''

class Fixed(Net):
    """Nothing in it can learn."""

    def __init__(self):
        super().__init__()
        self.weight.requires_grad_(False)


class Bare(nn.Module):
    """No parameters at all."""

    def forward(self, x):
        return x.flatten(1)[:, :4]


class Pooled(nn.Module):
    """Takes pictures of any size: a wrong one is no error of its own."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 1)

    def forward(self, x):
        return self.conv(x).mean(dim=(2, 3))
'''
)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that the calls below may name, good and bad."""
    folder = tmp_path_factory.mktemp("bad_training")
    (folder / "models.py").write_text(TRAINABLE, encoding="utf-8")
    x, y = tiny(COUNT)
    _data(folder, x, y)
    _radii(folder)
    _shards(folder)
    (folder / "notes.txt").write_text("not data\n", encoding="utf-8")
    (folder / "runs" / "foreign").mkdir(parents=True)
    (folder / "runs" / "foreign" / "thesis.tex").write_text("do not lose me", encoding="utf-8")
    write_bundle(folder / "runs" / "bundle", {"held": 4, "broken": 4}, (1, 4, 4))
    (folder / "runs" / "cut").mkdir()
    (folder / "runs" / "cut" / "run.json").write_text('{"potemkin": "0.2', encoding="utf-8")
    (folder / "runs" / "other").mkdir()
    (folder / "runs" / "other" / "run.json").write_text('{"schema_version": "9"}', encoding="utf-8")
    return folder


def _data(folder: Path, x: np.ndarray, y: np.ndarray) -> None:
    gap, late, far = x.copy(), x.copy(), y.copy()
    gap[:, 0, 0, 0] = np.nan
    late[:, 0, 3, 3] = 7
    far[5] = 9
    save(folder / "good.npz", x, y)
    save(folder / "gap.npz", gap, y)
    save(folder / "beyond.npz", late, y)
    save(folder / "from_one.npz", x, y + 1)
    save(folder / "far_label.npz", x, far)
    save(folder / "one_label.npz", x, np.zeros_like(y))
    save(folder / "float_labels.npz", x, y.astype(np.float32))
    save(folder / "constant.npz", np.full_like(x, 0.5), y)
    save(folder / "normalised.npz", (x - 0.5) / 0.25, y)
    save(folder / "bytes_as_floats.npz", (x * 255).round(), y)
    save(folder / "empty.npz", x[:0], y[:0])
    save(folder / "one.npz", x[:1], y[:1])
    save(folder / "wide.npz", np.repeat(x, 2, axis=3), y)


def _radii(folder: Path) -> None:
    np.save(folder / "short.npy", np.full(COUNT - 1, 0.1))
    np.save(folder / "below.npy", np.linspace(-0.1, 0.1, COUNT))
    np.save(folder / "square.npy", np.full((8, 8), 0.1))
    np.save(folder / "objects.npy", np.array([{"eps": 0.1}] * COUNT, dtype=object), allow_pickle=True)


def _shards(folder: Path) -> None:
    """Two shards, whole; and the same with the second one cut in the middle of a picture."""
    body = io.BytesIO()
    Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4) * 15).save(body, format="PNG")
    for kind in ("whole", "cut"):
        (folder / kind).mkdir()
        for number in range(2):
            with tarfile.open(folder / kind / f"s-{number}.tar", "w") as tar:
                for at in range(16):
                    for name, data in ((f"{number}{at:02d}.png", body.getvalue()), (f"{number}{at:02d}.cls", b"1")):
                        info = tarfile.TarInfo(name)
                        info.size = len(data)
                        tar.addfile(info, io.BytesIO(data))
    path = folder / "cut" / "s-1.tar"
    path.write_bytes(path.read_bytes()[:9000])


@dataclass(frozen=True)
class Bad:
    """A command line, its exit code, and what the paragraph must hold: the value, the allowed, the advice."""

    words: tuple[str, ...]
    code: int
    says: tuple[str, ...]


def train(*says: str, code: int, model: str | None = "models.py:good", data: str | None = "good.npz", **options) -> Bad:
    """`potemkin train` that is right but for what is given; an option given as None is left out."""
    chosen: dict[str, object] = {"recipe": "pgd_at(eps=0.1, steps=1)", "out": "runs/new", "device": "cpu"}
    chosen |= {"epochs": 1, "batch_size": 8}
    words = ["train", *(word for word in (model, data) if word is not None)]
    for name, value in (chosen | options).items():
        for one in value if isinstance(value, list) else [value]:
            if one is not None:
                words += [f"--{name.replace('_', '-')}"] + ([] if one is True else [str(one)])
    return Bad(tuple(words), code, says)


def setting(text: str, *says: str, code: int = 2, **options) -> Bad:
    return train(*says, code=code, set=text, **options)


def resume(*words: str, code: int, says: tuple[str, ...]) -> Bad:
    return Bad(("train", *words), code, says)


BIG = 2**70
COMMANDS = {
    # what is typed
    "nothing": resume(code=2, says=("--out",)),
    "no out": train("--out FOLDER", code=2, out=None),
    "no model": train("MODEL DATA", code=2, model=None, data=None),
    "no data": train("MODEL DATA", code=2, data=None),
    "no recipe": train("--recipe", "pgd_at(eps=8/255)", "potemkin list recipes", code=2, recipe=None),
    "a word too many": Bad((*train(code=2).words, "fast()"), 2, ("'fast()'", "quote")),
    "misspelt option": train("--epoch", "--epochs", code=2, epoch=3),
    # the recipe
    "an empty recipe": train("empty", "recipe", code=2, recipe=""),
    "half a recipe": train("pgd_at(eps=", "notation", code=2, recipe="pgd_at(eps="),
    "an unknown recipe": train("pgd_ad", "'pgd_at'", "trades", code=2, recipe="pgd_ad()"),
    "an attack as recipe": train("'pgd' is an attack", "pgd_at", code=2, recipe="pgd(steps=3)"),
    "code as recipe": train("__import__", "notation", code=2, recipe="__import__('os').mkdir('owned')"),
    "a misspelt argument": train("epsilon", "eps", code=2, recipe="pgd_at(epsilon=0.1)"),
    "eps below zero": train("-0.1", "at least 0", code=2, recipe="pgd_at(eps=-0.1)"),
    "eps as text": train("'8/255'", "number", code=2, recipe="trades(eps='8/255')"),
    "eps is NaN": train("nan", "number", code=2, recipe="fast(eps=nan)"),
    "eps beyond float32": train("eps", "3.4e+38", code=2, recipe="fast(eps=1e300)"),
    "a norm that is none": train("'Linff'", "'Linf'", "'L2'", code=2, recipe="pgd_at(norm='Linff')"),
    "no steps": train("steps", "at least 1", code=2, recipe="pgd_at(steps=0)"),
    "a mode that is none": train("'both'", "'eval', 'train'", code=2, recipe="pgd_at(inner='both')"),
    "an iterate that is none": train("'first'", "'last', 'best'", code=2, recipe="pgd_at(keep='first')"),
    "a ramp over everything": train("eps_ramp", "less than 1", code=2, recipe="pgd_at(eps_ramp=1)"),
    "a number as average": train("0.99", "EMA(0.995)", code=2, recipe="pgd_at(average=0.99)"),
    "a number as augmentation": train("Shift(4)", "Flip()", code=2, recipe="pgd_at(augment=(4,))"),
    "a number as set": train("sets=(0.1,)", "Linf(8/255)", code=2, recipe="pgd_at(sets=(0.1,))"),
    "eps and sets": train("not both", code=2, recipe="pgd_at(eps=0.1, sets=(L2(1),))"),
    "a share above 1": train("share", "at most 1", code=2, recipe="kurakin(share=2)"),
    "a set as attack": train("attack_by=", "step_ll()", code=2, recipe="kurakin(attack_by=Linf(0.1))"),
    "a clean weight above 1": train("clean_weight", "at most 1", "1.5", code=2, recipe="goodfellow(clean_weight=1.5)"),
    "weights moved backwards": train("awp", "at least 0", code=2, recipe="pgd_at(awp=-1)"),
    "an ensemble of nothing": train("sources", "runs/a", code=2, recipe="ensemble_at()"),
    "an ensemble of strangers": train("runs/no", "module:function", code=3, recipe="ensemble_at(sources=('runs/no',))"),
    "an ensemble for other inputs": train(
        "digits-cnn", "(8, 1, 4, 4)", code=3, recipe="ensemble_at(sources=('digits-cnn',))"
    ),
    "radii for other classes": train("2 radii", "4 classes", code=2, recipe="pgd_at(eps=PerClass((0.1, 0.2)))"),
    "radii that are not there": train("none.npy", "np.save", code=3, recipe="pgd_at(eps=PerExample('none.npy'))"),
    "radii for other data": train("short.npy", "63", "64", "save", code=3, recipe="fast(eps=PerExample('short.npy'))"),
    "radii below zero": train("below.npy", "at least 0", code=3, recipe="fast(eps=PerExample('below.npy'))"),
    "radii in a square": train("(8, 8)", "one number per", code=3, recipe="fast(eps=PerExample('square.npy'))"),
    "radii as a pickle": train("objects.npy", "np.save", code=3, recipe="pgd_at(eps=PerExample('objects.npy'))"),
    "extra data that the recipe does not take": train("extra=SHARE", code=2, extra="good.npz"),
    "a share of extra data that are not there": train("0.5", "extra", code=2, recipe="pgd_at(extra=0.5)"),
    # the settings
    "no epochs": train("epochs", "greater than 0", "0", code=2, epochs=0),
    "epochs in words": train("--epochs", "many", "a number", code=2, epochs="many"),
    "epochs without end": train("epochs", "inf", code=2, epochs="inf"),
    "an empty batch": train("batch_size", "at least 1", code=2, batch_size=0),
    "a batch larger than the data": train("good.npz", "58 training", "128", "batch_size", code=3, batch_size=128),
    "a batch that cannot be cut": train("batch_size=8", "accumulate=3", code=2, accumulate=3),
    "an unknown optimiser": train("Adam", "AdamW(", code=2, optimiser="Adam()"),
    "a schedule as optimiser": train("Cosine()", "SGD(learning_rate=0.1)", code=2, optimiser="Cosine()"),
    "an optimiser as schedule": train("SGD()", "Cyclic()", code=2, schedule="SGD()"),
    "no learning rate": train("of SGD", "greater than 0", code=2, optimiser="SGD(0)"),
    "a seed below zero": train("seed", "at least 0", "-1", code=2, seed=-1),
    "a seed beyond 64 bits": train("seed", "2**63", code=2, seed=BIG),
    "a precision that is none": train("'fp16'", "'bf16'", code=2, precision="fp16"),
    "a parallelism that is none": train("'dp'", "'ddp', 'fsdp'", code=2, parallel="dp"),
    "an alarm that is none": train("'overfitting'", "robust_overfitting", code=2, stop_on="overfitting"),
    "no patience": train("patience", "at least 1", code=2, patience=0),
    "fewer than no workers": train("workers", "at least 0", code=2, workers=-1),
    "a setting that is none": setting("batchsize=8", "'batchsize=8'", "'batch_size'"),
    "a setting without a value": setting("clip", "clip=VALUE"),
    "a setting of nothing": setting("clip=", "clip"),
    "a setting in words": setting("clip=little", "clip", "little"),
    "a precision as setting": setting("precision=float16", "precision", "'float32', 'bf16'"),
    "stop on one word": setting("stop_on='dead_attack'", "stop_on", "('dead_attack',)"),
    "all examples held out": setting("holdout=64", "64", "validation data", code=3),
    "held out beside validation": setting("holdout=8", "holdout=8", "leave one out", validation="good.npz"),
    "never evaluated": setting("evaluate_every=0", "evaluate_every", "at least 1"),
    "an unknown reference": train("'mnst'", "'mnist'", code=2, reference="mnst", model=None, data=None, recipe=None),
    "a reference and a model": train("--reference", code=2, reference="digits"),
    # resuming
    "resume nothing": resume("--resume", "runs/no", code=3, says=("runs/no", "run.json", "--out")),
    "resume a file": resume("--resume", "notes.txt", code=3, says=("notes.txt",)),
    "resume a foreign folder": resume("--resume", "runs/foreign", code=3, says=("runs/foreign", "run.json")),
    "resume an audit": resume("--resume", "runs/bundle", code=3, says=("runs/bundle", "no training run")),
    "resume half a description": resume("--resume", "runs/cut", code=3, says=("run.json", "truncated")),
    "resume what is to come": resume("--resume", "runs/other", code=3, says=("run.json", "schema_version", "'1'")),
    "resume and more": resume("--resume", "runs/cut", "--epochs", "3", code=2, says=("--resume", "leave")),
    "resume into another": resume("--resume", "runs/cut", "--out", "runs/new", code=2, says=("--resume", "leave")),
    # the data
    "data that are not there": train("'no.npz'", "no such file", code=3, data="no.npz"),
    "NaN": train("NaN", "gap.npz", code=3, data="gap.npz"),
    "inputs outside of the box": train("beyond.npz", "[0, 1]", "--box", code=3, data="beyond.npz"),
    "normalised inputs": train("normalised", "--mean", code=3, data="normalised.npz"),
    "bytes as floats": train("divide by 255", code=3, data="bytes_as_floats.npz"),
    "labels counted from 1": train("1 to 4", "Subtract 1", code=3, data="from_one.npz"),
    "a label beyond the classes": train("9", "0 to 3", code=3, data="far_label.npz"),
    "one label": train("one_label.npz", "one label", "Check the labels", code=3, data="one_label.npz"),
    "labels as floats": train("float32", "astype", code=3, data="float_labels.npz"),
    "constant inputs": train("constant.npz", "nothing to learn from", code=3, data="constant.npz"),
    "no examples": train("empty.npz", "no examples", code=3, data="empty.npz"),
    "too few examples": train("one.npz", "1 example:", "validation data", code=3, data="one.npz", batch_size=1),
    "half a shard": train("s-1.tar", "shard", "faulty='leave out'", code=3, data="cut/s-{0..1}.tar"),
    "shards of one class": train("one label", code=3, data="whole/s-{0..1}.tar"),
    "validation of another shape": train("wide.npz", "(1, 4, 8)", "(1, 4, 4)", code=3, validation="wide.npz"),
    "validation of another shape, any taken": train(
        "wide.npz", "(1, 4, 8)", "(1, 4, 4)", code=3, validation="wide.npz", model="models.py:Pooled"
    ),
    "validation outside of the box": train("beyond.npz", "[0, 1]", code=3, validation="beyond.npz"),
    "validation with other labels": train("far_label.npz", "0 to 3", code=3, validation="far_label.npz"),
    "extra data of another shape": train(
        "wide.npz", "(1, 4, 8)", code=3, extra="wide.npz", recipe="pgd_at(eps=0.1, steps=1, extra=0.5)"
    ),
    "test data that are not there": train("'no.npz'", code=3, test="no.npz"),
    "test data of another shape": train("wide.npz", "(1, 4, 8)", code=3, test="wide.npz"),
    "test data with other labels": train("1 to 4", code=3, test="from_one.npz"),
    "test data with NaN": train("NaN", code=3, test="gap.npz"),
    # the model
    "an unknown model": train("'resnet18'", "module:function", code=3, model="resnet18"),
    "no such function": train("'goood'", "'good'", code=3, model="models.py:goood"),
    "a function that raises": train("no such checkpoint", code=3, model="models.py:fails"),
    "a dict of outputs": train("'logits'", "wrap", code=3, model="models.py:AsDict"),
    "decided labels": train("int64", "argmax", code=3, model="models.py:Decided"),
    "a model for other inputs": train("(8, 1, 4, 4)", code=3, model="digits-cnn"),
    "a width of nothing": train("width", "at least 1", code=3, model="small_cnn(width=0)"),
    "a model without parameters": train("Bare", "learn", code=3, model="models.py:Bare"),
    "a model whose parameters are fixed": train("Fixed", "requires_grad", code=3, model="models.py:Fixed"),
    "weights that are not there": train("'no.pt'", code=3, weights="no.pt"),
    "a mean for other channels": train("1 channel", code=3, mean="0.5,0.5"),
    "std 0": train("std", "greater than 0", code=2, std="0"),
    "a box upside down": train("low < high", code=2, box="1,0"),
    "a logistic recipe for four classes": train("nn.Linear", "one or two outputs", code=3, recipe="softplus(eps=0.1)"),
    # where the run goes
    "out is a file": train("notes.txt", "--out", code=3, out="notes.txt"),
    "out is below a file": train("notes.txt", "--out", code=3, out="notes.txt/run"),
    "out is too long a name": train("too long", "another --out", code=3, out="n" * 300),
    "out is somebody's": train("runs/foreign", "--out", code=3, out="runs/foreign"),
    "out is somebody's, and overwrite": train("runs/foreign", "--out", code=3, out="runs/foreign", overwrite=True),
    "out is an audit": train("runs/bundle", "--out", code=3, out="runs/bundle", overwrite=True),
    "out holds a run": train("runs/cut", "--resume", "--overwrite", code=3, out="runs/cut"),
}  # fmt: skip

if not torch.cuda.is_available():
    COMMANDS["a GPU that is not there"] = train("'cuda'", "'cpu'", code=2, device="cuda")


@pytest.mark.parametrize("bad", COMMANDS.values(), ids=COMMANDS.keys())
def test_a_bad_training_command_is_answered_in_one_paragraph(
    bad: Bad, shelf: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shelf)
    before = tree(shelf)
    try:
        answer = run(capsys, *bad.words)
        after = tree(shelf)
    finally:
        shutil.rmtree(shelf / "runs" / "new", ignore_errors=True)  # for those that come after
    assert answer.code == bad.code, answer.err
    assert answer.out == ""
    assert [word for word in bad.says if word not in answer.error] == [], answer.error
    assert "Traceback" not in answer.err
    assert len(answer.error) < LONGEST
    assert sorted(after) == sorted(before)
    assert after == before


@pytest.mark.parametrize("name", ["an unknown recipe", "NaN", "a batch larger than the data", "resume nothing"])
def test_with_json_the_error_is_json_too(
    name: str, shelf: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shelf)
    answer = run(capsys, *COMMANDS[name].words, "--json")
    told = answer.json["error"]
    assert (told["exit_code"], told["message"]) == (COMMANDS[name].code, answer.error)
    assert told["type"] in {"ConfigError", "DataError", "BundleError"}


def test_the_good_command_is_good(
    shelf: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """So that the calls above fail for their own reason."""
    monkeypatch.chdir(shelf)
    answer = run(capsys, *train(code=0, out=tmp_path / "run", validation="good.npz", test="good.npz").words)
    assert answer.code == 0, answer.err
    assert "error" not in answer.err and (tmp_path / "run" / "model.safetensors").is_file()


# ---- what is trained on all the same, and told ----------------------------------------------------------------------


@pytest.fixture
def noted(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., str]:
    """Train the good model on these arrays, and return what was said meanwhile."""

    def go(x: np.ndarray, y: np.ndarray, **options: object) -> str:
        (tmp_path / "models.py").write_text(TRAINABLE, encoding="utf-8")
        save(tmp_path / "data.npz", x, y)
        monkeypatch.chdir(tmp_path)
        answer = run(capsys, *train(code=0, data="data.npz", set="audit_examples=0", **options).words)
        assert answer.code == 0, answer.err
        return answer.err

    return go


def test_a_class_that_is_missing_is_told(noted: Callable[..., str]) -> None:
    x, y = tiny(COUNT)
    told = noted(x[y != 2], y[y != 2])
    assert "No training example has class 2, of the model's 4" in told
    assert "Check the labels" in told


def test_a_few_constant_inputs_are_told(noted: Callable[..., str]) -> None:
    x, y = tiny(COUNT)
    x[[3, 17]] = 0.25
    told = noted(x, y, validation="data.npz")
    assert "2 of 64 training inputs looked at are constant: " in told
    assert "17" in told and "leave them out" in told


def test_grey_levels_in_place_of_a_fraction_are_told(noted: Callable[..., str]) -> None:
    told = noted(*tiny(COUNT), recipe="fast(eps=8)")
    assert "eps 8 reaches from end to end of the box [0.0, 1.0]. Did you mean 8/255?" in told


def test_good_data_are_trained_on_without_a_word(noted: Callable[..., str]) -> None:
    told = noted(*tiny(COUNT))
    assert not any(word in told for word in ("Check", "constant", "Did you mean"))


# ---- the same in Python ---------------------------------------------------------------------------------------------

X, Y = pair(COUNT)
PYTHON: dict[str, tuple[dict[str, object], type[PotemkinError], tuple[str, ...]]] = {
    "no model": ({"model": None}, ConfigError, ("NoneType", "Classifier")),
    "a name as model": ({"model": "digits-cnn"}, ConfigError, ("str", "load_model")),
    "a class as model": ({"model": nn.Linear}, ConfigError, ("type", "Classifier")),
    "one array as data": ({"data": X}, DataError, ("(64, 1, 4, 4)", "(inputs, labels)")),
    "labels that are floats": ({"data": (X, Y.float())}, DataError, ("float32", "astype")),
    "inputs beyond the box": ({"data": (X * 3, Y)}, DataError, ("[0, 1]", "box")),
    "no recipe": ({"recipe": None}, ConfigError, ("recipe=None", "pgd_at")),
    "a number as recipe": ({"recipe": 8 / 255}, ConfigError, ("recipe=0.03", "pgd_at")),
    "an attack as recipe": ({"recipe": pk.pgd()}, ConfigError, ("recipe=pgd()", "pgd_at")),
    "a recipe that is not called": ({"recipe": pk.recipes.fast}, ConfigError, ("recipe=", "fast", "pgd_at")),
    "a misspelt setting": ({"epoch": 3}, ConfigError, ("'epoch'", "'epochs'", "batch_size")),
    "a learning rate": ({"lr": 0.1}, ConfigError, ("lr", "optimiser=SGD(learning_rate=")),
    "inputs and labels apart": ({"data": X, "recipe": Y}, ConfigError, ("one argument", "(x, y)")),
    "epochs as text": ({"epochs": "3"}, ConfigError, ("epochs", "'3'", "number")),
    "half a row": ({"batch_size": 8.5}, ConfigError, ("batch_size", "8.5", "integer")),
    "an optimiser that is none": ({"optimiser": "EMA(0.9)"}, ConfigError, ("EMA", "SGD(")),
    "a schedule misspelt": ({"schedule": "cosine"}, ConfigError, ("'cosine'", "Cosine()")),
    "one alarm": ({"stop_on": "dead_attack"}, ConfigError, ("stop_on", "('dead_attack',)")),
    "no alarms": ({"stop_on": None}, ConfigError, ("stop_on", "('dead_attack',)")),
    "a word as switch": ({"rollback": "yes"}, ConfigError, ("rollback", "True or False", "'yes'")),
    "resume and overwrite": ({"resume": True, "overwrite": True}, ConfigError, ("overwrite", "leave one out")),
    "resume nothing": ({"resume": True}, BundleError, ("run.json", "--out")),
    "a zero byte": ({"out": "a\0b"}, BundleError, ("zero byte", "another --out")),
    "a long name": ({"out": "n" * 300}, BundleError, ("too long", "another --out")),
    "validation of another shape": ({"validation": (X[:, :, :2], Y)}, DataError, ("(1, 2, 4)", "(1, 4, 4)")),
    "test data of another shape": ({"test": (X[:, :, :2], Y)}, DataError, ("(1, 2, 4)", "(1, 4, 4)")),
    "a data loader": (
        {"data": DataLoader(TensorDataset(X, Y), batch_size=8)}, DataError, ("order", "loader.dataset"),
    ),
    "a network in float64": ({"model": linear().double()}, ModelError, ("float64", "net.float()")),
    "a closed form behind a preprocessing": (
        {
            "recipe": pk.recipes.softplus(eps=0.1), "data": (X, Y % 2),
            "model": pk.Classifier(linear(2), preprocessing=pk.Preprocessing(mean=0.5)),
        },
        ModelError, ("preprocessing", "leave that out"),
    ),
    "nothing that learns": ({"model": linear().requires_grad_(False)}, ModelError, ("learns", "requires_grad")),
    "a closed form for a deep network": (
        {"recipe": pk.recipes.softplus(eps=0.1), "model": nn.Sequential(linear(), nn.Linear(4, 4))}, ModelError,
        ("one nn.Linear",),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PYTHON)
def test_a_bad_training_call_in_python_raises_one_paragraph(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    other, kind, says = PYTHON[name]
    with pytest.raises(kind) as caught:
        quick(**({"out": Path("run")} | other))  # type: ignore[arg-type]
    text = str(caught.value)
    assert [word for word in says if word not in text] == [], text
    assert "\n\n" not in text
    assert len(text) < LONGEST
    assert list(tmp_path.iterdir()) == []
