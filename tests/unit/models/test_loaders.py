"""What a user can type for a model, and the paragraph for everything that is none."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from potemkin.errors import ModelError
from potemkin.models.classifier import Classifier
from potemkin.models.loaders import load_model
from potemkin.threat.box import Box

MODULE = """
import sys
from torch import nn
from dataclasses import dataclass
import potemkin_neighbour
from potemkin.models.classifier import Classifier
from potemkin.models.preprocessing import Preprocessing
from potemkin.threat.box import Box

@dataclass
class Settings:
    width: int = 4

def small(): return nn.Sequential(nn.Flatten(), nn.Linear(4, Settings().width))
def ready(): return Classifier(small(), Box(-1, 1), name="mine", preprocessing=Preprocessing(0.5))
def wants(width): return nn.Linear(width, 2)
def raises(): raise ValueError("no such\\nwidth")
def leaves(): sys.exit(3)
def nothing(): return None
def gives_class(): return nn.Linear
def fixed(): return nn.Sequential(nn.Flatten(0), nn.Unflatten(0, (4, -1)), nn.Linear(2, 2))
class Net(nn.Linear):
    def __init__(self): super().__init__(4, 3)
built = nn.Linear(4, 6)
number = 7
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with the user's modules in it."""
    (tmp_path / "potemkin_mine.py").write_text(MODULE)
    (tmp_path / "potemkin_neighbour.py").write_text("")
    (tmp_path / "potemkin_broken.py").write_text("1 +\n")
    (tmp_path / "potemkin_exits.py").write_text("raise SystemExit(2)\n")
    (tmp_path / "potemkin_wants.py").write_text("import package_that_is_not_there\n")
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("potemkin_"):
            del sys.modules[name]


@pytest.mark.parametrize(("name", "classes"), [("small", 4), ("Net", 3), ("built", 6)])
@pytest.mark.parametrize(
    "where", ["potemkin_mine", "potemkin_mine.py", "./potemkin_mine.py", "{here}/potemkin_mine.py"]
)
def test_a_function_of_a_module_or_file_here(here: Path, where: str, name: str, classes: int) -> None:
    spec = f"{where.format(here=here)}:{name}"
    before = list(sys.path)
    classifier = load_model(spec, input_shape=(4,))
    assert classifier.classes == classes and classifier.name == spec and classifier.box == Box(0, 1)
    assert sys.path == before


def test_a_file_in_another_folder_finds_its_neighbours(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    assert load_model("../potemkin_mine.py:small", input_shape=(4,)).classes == 4


def test_weights_go_into_what_the_function_built(here: Path) -> None:
    state = {"1.weight": torch.full((4, 4), 2.0), "1.bias": torch.zeros(4)}
    save_file(state, here / "w.safetensors")
    classifier = load_model("potemkin_mine:small", weights="w.safetensors")
    assert torch.equal(classifier(torch.ones(8, 4)), torch.full((8, 4), 8.0))


def test_flags_become_part_of_the_model(here: Path) -> None:
    raw = load_model("potemkin_mine:built", box=(-1, 1))
    classifier = load_model("potemkin_mine:built", box=Box(-1, 1), mean=(0.5,), std=0.25)
    x = torch.rand(8, 4)
    assert classifier.box == raw.box == Box(-1, 1)
    torch.testing.assert_close(classifier(x), raw((x - 0.5) / 0.25))


def test_a_classifier_of_the_users_own_is_taken_as_declared(here: Path) -> None:
    classifier = load_model("potemkin_mine:ready", box=(-1, 1))
    assert classifier.name == "mine" and classifier.box == Box(-1, 1)
    assert repr(classifier.preprocessing) == "Preprocessing(mean=0.5)"


def test_the_built_in_model_works_and_takes_other_weights(tmp_path: Path) -> None:
    classifier = load_model("digits-cnn", input_shape=(1, 8, 8))
    assert classifier.classes == 10 and classifier.name == "digits-cnn"
    state = {name: torch.zeros_like(value) for name, value in classifier.net.state_dict().items()}
    save_file(state, tmp_path / "w.safetensors")
    assert not load_model("digits-cnn", weights=tmp_path / "w.safetensors")(torch.rand(8, 1, 8, 8)).any()


def test_an_exported_program_works(tmp_path: Path) -> None:
    program = torch.export.export(nn.Linear(4, 3), (torch.rand(8, 4),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    torch.export.save(program, tmp_path / "net.pt2")
    classifier = load_model(tmp_path / "net.pt2", mean=0.5, input_shape=(4,))
    assert classifier.classes == 3 and classifier(torch.rand(24, 4)).shape == (24, 3)


BAD: dict[str, tuple[str, dict[str, Any], str]] = {
    "unknown name": ("digit-cnn", {}, r"'digit-cnn' is unknown\. Did you mean 'digits-cnn'\?.*module:function"),
    "no name": ("", {}, "module:function"),
    "missing module": ("potemkin_mime:small", {}, r"no module 'potemkin_mime'.*Did you mean 'potemkin_mine'\?"),
    "missing package": ("nowhere.at.all:small", {}, "no module 'nowhere.at.all'"),
    "its import fails": ("potemkin_wants:small", {}, "failed while it was imported: ModuleNotFoundError: .*not_there"),
    "syntax error": ("potemkin_broken:small", {}, "failed while it was imported: SyntaxError"),
    "it exits": ("potemkin_exits:small", {}, "failed while it was imported: SystemExit"),
    "file with a syntax error": ("potemkin_broken.py:small", {}, "failed while it was imported: SyntaxError"),
    "missing file": ("nowhere.py:small", {}, "no file 'nowhere.py'"),
    "missing function": ("potemkin_mine:smal", {}, r"no function 'smal'\. Did you mean 'small'\?"),
    "no function": ("potemkin_mine:", {}, "names no function"),
    "no module": (":small", {}, "names no function"),
    "an expression": ("potemkin_mine:small()", {}, "names no function"),
    "not callable": ("potemkin_mine:number", {}, "is int, not a function"),
    "wants arguments": ("potemkin_mine:wants", {}, r"wants\(width\) is called without arguments"),
    "raises": ("potemkin_mine:raises", {}, "failed while it built the model: ValueError: no such"),
    "exits": ("potemkin_mine:leaves", {}, "failed while it built the model: SystemExit: 3"),
    "returns nothing": ("potemkin_mine:nothing", {}, "returned builtins.NoneType"),
    "returns a class": ("potemkin_mine:gives_class", {}, "Return the instance, not the class"),
    "python file alone": ("potemkin_mine.py", {}, "potemkin_mine.py:function"),
    "weights alone": ("w.safetensors", {}, "weights alone are no model.*--weights w.safetensors"),
    "pickled model": ("model.pt", {}, "never unpickled"),
    "onnx": ("model.onnx", {}, "ONNX files are not read yet; save the network it came from with torch.export"),
    "missing archive": ("nowhere.pt2", {}, "'nowhere.pt2' does not exist"),
    "archive is a folder": ("folder.pt2", {}, "'folder.pt2' is a folder"),
    "a folder": ("folder", {}, "'folder' is a folder"),
    "weights for an archive": ("net.pt2", {"weights": "w.safetensors"}, "brings its own weights"),
    "missing weights": ("potemkin_mine:small", {"weights": "no.safetensors"}, "'no.safetensors' does not exist"),
    "box upside down": ("potemkin_mine:small", {"box": (1, 0)}, "low < high"),
    "box of one": ("potemkin_mine:small", {"box": (1,)}, "pair"),
    "std of zero": ("potemkin_mine:small", {"std": 0.0}, "greater than 0"),
    "mean for other channels": (
        "potemkin_mine:small",
        {"mean": (0.1, 0.2, 0.3), "input_shape": (1, 2, 2)},
        "3 values, the inputs have 1 channels",
    ),
    "device": ("potemkin_mine:small", {"device": "cuda:77"}, "device='cuda:77'"),
    "own box": ("potemkin_mine:ready", {"box": (0, 1)}, r"with Box\(low=-1.0\), but Box\(\) was asked for"),
    "own preprocessing": ("potemkin_mine:ready", {"std": 2.0}, "declares its own preprocessing"),
    "input of another shape": ("potemkin_mine:small", {"input_shape": (3,)}, r"failed on inputs of shape \(8, 3\)"),
    "rows mixed": ("potemkin_mine:fixed", {"input_shape": (1,)}, "rows are not the examples"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_paragraph(name: str, here: Path) -> None:
    spec, arguments, message = BAD[name]
    (here / "folder").mkdir()
    (here / "folder.pt2").mkdir()
    for file in ("w.safetensors", "model.pt", "model.onnx", "net.pt2"):
        (here / file).touch()
    before = list(sys.path)
    with pytest.raises(ModelError, match=message) as caught:
        load_model(spec, **arguments)
    assert "\n" not in str(caught.value) and len(str(caught.value)) > 40
    assert sys.path == before
    assert not any(re.search(r"potemkin_user_potemkin_broken", module) for module in sys.modules)


def test_an_interrupt_while_importing_is_not_swallowed(here: Path) -> None:
    (here / "potemkin_stop.py").write_text("raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        load_model("potemkin_stop:small")


def test_the_try_out_stays_in_the_box_and_is_a_visit(here: Path) -> None:
    seen: list[torch.Tensor] = []

    class Watching(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x)
            assert not self.training
            return x

    from potemkin.models.loaders import try_out

    for box, expected in (((2, 4), 3.0), ((-float("inf"), 5), 5.0), ((-float("inf"), float("inf")), 0.0)):
        classifier = Classifier(Watching(), box)
        try_out(classifier, (2,))
        assert classifier.classes == 2 and seen[-1].unique().tolist() == [expected]
        assert classifier.net.training


def test_a_network_is_no_name_of_one() -> None:
    with pytest.raises(ModelError, match=r"a name or a path, and this is of type Linear.*pk\.Classifier\(net"):
        load_model(nn.Linear(3, 2))  # type: ignore[arg-type]
