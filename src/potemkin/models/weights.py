"""State dicts from a file into a network, without pickle, and with every difference told."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from potemkin.core.explain import first_line, listed
from potemkin.errors import ModelError

_NESTED = ("state_dict", "model_state_dict", "model", "net")
_CONVERT = (
    "Where you trust the file, convert it once: state = torch.load(path, weights_only=False); "
    "safetensors.torch.save_file(net_with_that_state.state_dict(), 'weights.safetensors')."
)


def load_weights(net: nn.Module, path: str | Path) -> None:
    """Copy the tensors in `path` into `net`; all of them, and nothing else.

    Reads .safetensors, or .pt/.pth/.bin with torch.load(weights_only=True), which refuses a pickle that carries code.
    A checkpoint that holds the state dict under one of "state_dict", "model_state_dict", "model", "net" is opened
    there; a prefix "module." on every name (DataParallel) is taken off.

    Raises: ModelError for a file that cannot be read, names that are missing or left over, shapes that differ.
    """
    file = Path(path)
    state = _state(file, _read(file))
    wanted = net.state_dict()
    if state and all(name.startswith("module.") for name in state) and not any(n.startswith("module.") for n in wanted):
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    _compare(file, wanted, state)
    try:
        net.load_state_dict(state, strict=False)
    except Exception as error:
        raise ModelError(f"The weights in '{file}' do not go into the model: {first_line(error)}.") from error


def _read(file: Path) -> Any:
    if not os.path.exists(file):  # os.path: a name that no file can have is just not there, where Path raises
        raise ModelError(f"The weights file '{file}' does not exist: check the path.")
    if os.path.isdir(file):
        raise ModelError(f"The weights '{file}' are a folder: name the file in it (.safetensors, .pt or .pth).")
    if file.suffix == ".safetensors":
        try:
            return load_file(file)
        except (SafetensorError, OSError) as error:
            raise ModelError(
                f"The weights '{file}' cannot be read as safetensors, damaged or truncated: {first_line(error)}."
            ) from error
    if file.suffix not in (".pt", ".pth", ".bin"):
        raise ModelError(
            f"The weights '{file}' end in '{file.suffix}': .safetensors is read, and .pt, .pth, .bin with weights_only."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch would warn of becomes the error below
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ModelError(_unreadable(file, error)) from error


def _unreadable(file: Path, error: Exception) -> str:
    said = str(error)  # torch tells its own refusals apart only in the text
    if "TorchScript" in said:
        return (
            f"The weights '{file}' are a TorchScript archive, a whole model: write a function that returns "
            "torch.jit.load(path), and name it as module:function."
        )
    if said.startswith("Weights only load failed") and "Unsupported operand" not in said:
        return (
            f"The weights '{file}' are a pickle that holds more than tensors; loading it could run code, so it was "
            f"refused. {_CONVERT}"
        )
    return f"The weights '{file}' cannot be read, damaged or truncated ({type(error).__name__}): save net.state_dict()."


def _state(file: Path, found: Any) -> dict[str, Tensor]:
    if isinstance(found, Mapping) and not any(isinstance(value, Tensor) for value in found.values()):
        inner = [found[name] for name in _NESTED if isinstance(found.get(name), Mapping)]
        found = inner[0] if len(inner) == 1 else found
    if not isinstance(found, Mapping):
        raise ModelError(
            f"The weights '{file}' hold a {type(found).__name__}, not a state dict: save net.state_dict()."
        )
    others = [str(name) for name, value in found.items() if not isinstance(value, Tensor)]
    if others or not found:
        what = f"entries that are no tensors ({listed(others)})" if others else "no tensors"
        raise ModelError(
            f"The weights '{file}' hold {what}: save the state dict alone, net.state_dict(), or under 'state_dict'."
        )
    return {str(name): tensor for name, tensor in found.items()}


def _compare(file: Path, wanted: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    # safetensors stores a shared weight under one of its names: the others are not missing
    held = {_place(wanted[name]) for name in state if name in wanted}
    missing = [name for name, tensor in wanted.items() if name not in state and _place(tensor) not in held]
    extra = [name for name in state if name not in wanted]
    differing = [
        f"'{name}' is {tuple(state[name].shape)} in the file and {tuple(wanted[name].shape)} in the model"
        for name in wanted
        if name in state and state[name].shape != wanted[name].shape
    ]
    told = []
    if missing:
        told.append(f"{len(missing)} of the model's {len(wanted)} tensors are missing in the file: {listed(missing)}")
    if extra:
        told.append(f"{len(extra)} in the file are not in the model: {listed(extra)}")
    if differing:
        told.append("; ".join(differing[:4]) + (f"; and {len(differing) - 4} more" if len(differing) > 4 else ""))
    if told:
        raise ModelError(
            f"The weights '{file}' do not fit the model. {'. '.join(told)}. They belong to another architecture, other "
            "settings of it (width, classes), or need their names changed."
        )


def _place(tensor: Tensor) -> tuple[object, ...]:
    return tensor.device, tensor.data_ptr(), tuple(tensor.shape) if tensor.data_ptr() else id(tensor)
