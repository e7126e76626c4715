"""Weights: read without pickle, all of them, and every difference told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import Tensor, nn

from potemkin.errors import ModelError
from potemkin.models.weights import load_weights

WRITERS: dict[str, Callable[[dict[str, Tensor], Path], None]] = {
    "w.safetensors": lambda state, path: save_file(state, path),
    "w.pt": torch.save,
    "w.pth": torch.save,
    "w.bin": torch.save,
    "nested.pt": lambda state, path: torch.save({"state_dict": state, "epoch": 3}, path),
    "model.pth": lambda state, path: torch.save({"model": state, "optimizer": {"lr": 0.1}}, path),
    "parallel.pt": lambda state, path: torch.save({f"module.{name}": value for name, value in state.items()}, path),
}


def net(width: int = 4) -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width), nn.Linear(width, 2))


@pytest.mark.parametrize("name", WRITERS)
def test_what_was_written_is_read(name: str, tmp_path: Path) -> None:
    source, model = net(), net()
    WRITERS[name](source.state_dict(), tmp_path / name)
    load_weights(model, tmp_path / name)
    for key, value in source.state_dict().items():
        assert torch.equal(model.state_dict()[key], value)


def test_a_shared_weight_is_stored_once_and_not_missed(tmp_path: Path) -> None:
    def tied() -> nn.Sequential:
        made = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
        made[1].weight = made[0].weight
        return made

    source, model = tied(), tied()
    save_model(source, str(tmp_path / "w.safetensors"))
    load_weights(model, tmp_path / "w.safetensors")
    assert torch.equal(model[1].weight, source[0].weight)


class Touch:
    """An object that makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.marker,)


def test_a_pickle_with_code_is_refused_and_never_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    torch.save({"0.weight": Touch(marker)}, tmp_path / "w.pt")
    with pytest.raises(ModelError, match=r"refused.*safetensors\.torch\.save_file") as caught:
        load_weights(net(), tmp_path / "w.pt")
    assert not marker.exists() and "\n" not in str(caught.value)
    torch.load(tmp_path / "w.pt", weights_only=False)
    assert marker.exists()  # it would have run


def test_a_pickled_model_is_refused(tmp_path: Path) -> None:
    torch.save(net(), tmp_path / "w.pt")
    with pytest.raises(ModelError, match="holds more than tensors"):
        load_weights(net(), tmp_path / "w.pt")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_torchscript_archive_is_told_from_weights(tmp_path: Path) -> None:
    torch.jit.script(nn.Linear(3, 4)).save(str(tmp_path / "w.pt"))  # type: ignore[no-untyped-call]
    with pytest.raises(ModelError, match=r"TorchScript archive.*torch\.jit\.load"):
        load_weights(net(), tmp_path / "w.pt")


def bad(folder: Path, kind: str) -> Path:
    """A file that does not do, of one kind."""
    state = net().state_dict()
    path = folder / ("w.safetensors" if "safe" in kind else "w.pt")
    if kind == "a folder":
        path.mkdir()
    elif "truncated" in kind:
        WRITERS[path.name](state, path)
        path.write_bytes(path.read_bytes()[:200])
    elif "garbage" in kind:
        path.write_bytes(b"\x00garbage" * 20)
    elif "empty" in kind:
        path.write_bytes(b"")
    elif kind == "no tensors":
        torch.save({}, path)
    elif kind == "a list":
        torch.save([1, 2], path)
    elif kind == "a tensor":
        torch.save(torch.ones(3), path)
    elif kind == "others":
        torch.save({**state, "epoch": 3}, path)
    elif kind == "an ending":
        path = folder / "w.h5"
        path.touch()
    return path


BAD = {
    "missing": "does not exist",
    "a folder": "are a folder",
    "truncated safe": "damaged or truncated",
    "truncated": "damaged or truncated",
    "garbage safe": "damaged or truncated",
    "garbage": "damaged or truncated",
    "empty safe": "damaged or truncated",
    "empty": "damaged or truncated",
    "no tensors": "no tensors",
    "a list": "hold a list, not a state dict",
    "a tensor": "hold a Tensor, not a state dict",
    "others": r"no tensors \('epoch'\)",
    "an ending": "end in '.h5'",
}


@pytest.mark.parametrize("kind", BAD)
def test_files_that_do_not_do(kind: str, tmp_path: Path) -> None:
    path = bad(tmp_path, kind)
    with pytest.raises(ModelError, match=BAD[kind]) as caught:
        load_weights(net(), path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_every_difference_is_told(tmp_path: Path) -> None:
    state = net(width=5).state_dict()
    del state["2.bias"]
    state["3.bias"] = torch.zeros(2)
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(ModelError) as caught:
        load_weights(net(), tmp_path / "w.safetensors")
    said = str(caught.value)
    assert "1 of the model's 9 tensors are missing in the file: '2.bias'" in said
    assert "1 in the file are not in the model: '3.bias'" in said
    assert "'0.weight' is (5, 3) in the file and (4, 3) in the model" in said
    assert "; and 3 more" in said  # all but one of eight differ in width, and four are shown


def test_many_missing_names_are_shortened(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match=r"9 of the model's 9 tensors are missing.* and 3 more"):
        load_weights(net(), tmp_path / "w.safetensors")


def test_a_misfit_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    model = net()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = {name: torch.zeros_like(value) for name, value in before.items() if name != "2.bias"}
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(ModelError):
        load_weights(model, tmp_path / "w.safetensors")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
