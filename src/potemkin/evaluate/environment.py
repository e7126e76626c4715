"""Where a run took place: what may differ between two identical runs."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform

import torch

PACKAGES = ("torch", "numpy", "pillow", "safetensors", "pydantic")


def environment(device: str | torch.device, command: str | None = None) -> dict[str, object]:
    """Versions, machine, threads, device, date and command."""
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
        found["command"] = command
    return found
