"""Where a run took place: what may differ between two identical runs."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
from dataclasses import dataclass

import torch

PACKAGES = ("torch", "numpy", "pillow", "safetensors", "pydantic")


@dataclass(frozen=True)
class Typed:
    """A command line as it was typed, and the words that bring its model and data again: `--model … --data …`."""

    text: str
    again: tuple[str, ...]


def environment(device: str | torch.device, command: Typed | None = None) -> dict[str, object]:
    """Versions, machine, threads, device, date, command, and what brings model and data again where that is known."""
    device = torch.device(device)
    found: dict[str, object] = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
    }
    if command is not None:
        found |= {"command": command.text, "again": list(command.again)}
    return found
