"""What `potemkin doctor` looks at: each probe is quick, raises nothing, and says how to get what is missing."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from potemkin import __version__
from potemkin.core.explain import counted, first_line

DISTRIBUTION = "potemkin-ml"
REQUIRED = ("torch", "numpy", "pillow", "safetensors", "pydantic", "rich", "cyclopts", "jinja2")
EXTRAS = {
    "vision": "torchvision's models and weights",
    "parquet": "parquet files as data",
    "tensorboard": "scalars of training runs for TensorBoard",
    "test": "the test suite",
    "dev": "lint and types",
    "docs": "the check of the pages",
}
_COMPILERS = ("c++", "g++", "clang++")


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report. ok: there; missing: optional, not there; broken: potemkin needs it."""

    name: str
    state: Literal["ok", "missing", "broken"]
    found: str
    advice: str = ""


def examine() -> list[Finding]:
    """Everything, in the order in which people ask."""
    found = [Finding("potemkin", "ok", __version__), _python(), *_packages()]
    probes: tuple[Callable[[], Iterator[Finding]], ...] = (_devices, _bfloat16)
    for probe in probes:
        try:
            found += probe()
        except (ImportError, OSError, RuntimeError, AttributeError) as error:
            name = probe.__name__.strip("_")
            told = f"{type(error).__name__}: {first_line(error)}"
            found.append(Finding(name, "broken", told, "Install PyTorch anew: https://pytorch.org"))
    return [*found, _compiler(), *_extras(), _data()]


def _python() -> Finding:
    return Finding("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}")


def _packages() -> Iterator[Finding]:
    for name in _required(None):
        try:
            yield Finding(name, "ok", importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Finding(name, "broken", "not installed", f"pip install {name}")


def _required(extra: str | None) -> list[str]:
    """Names of the packages that potemkin's own metadata ask for, with one extra or with none."""
    try:
        lines = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:  # run from a checkout that was never installed
        return list(REQUIRED) if extra is None else []
    names = []
    for line in lines:
        requirement, _, marker = line.partition(";")
        of = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", marker)
        if (of[1] if of else None) == extra:
            names.append(re.split(r"[\s<>=!~\[(]", requirement.strip())[0])
    return names


def _devices() -> Iterator[Finding]:
    import torch

    cores = os.cpu_count() or 1
    told = f"{counted(cores, 'core')}; PyTorch uses {counted(torch.get_num_threads(), 'thread')}"
    yield Finding("cpu", "ok", told, _threads(cores))
    if not torch.cuda.is_available():
        built = torch.version.cuda
        why = "this PyTorch was built for the CPU only" if built is None else f"built for CUDA {built}, no GPU found"
        yield Finding("cuda", "missing", why, "Only needed for speed: `--device cuda` wants a GPU and a CUDA build.")
        return
    for number in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(number)
        yield Finding(f"cuda:{number}", "ok", f"{card.name}, {card.total_memory / 2**30:.0f} GiB")


def _threads(cores: int) -> str:
    given = os.environ.get("OMP_NUM_THREADS")
    return f"OMP_NUM_THREADS={given} decides that; {counted(cores, 'core')} can be had." if given else ""


def _bfloat16() -> Iterator[Finding]:
    """Seconds for a product of matrices in bfloat16 against float32: emulated bfloat16 is many times slower."""
    import torch

    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    for device in devices:
        ratio = _seconds(torch.bfloat16, device) / _seconds(torch.float32, device)
        if ratio <= 1.2:
            yield Finding(f"bf16 {device}", "ok", f"{1 / ratio:.1f} times the speed of float32 (a 512 x 512 product)")
        else:
            told = f"works, but {ratio:.1f} times slower than float32: emulated"
            yield Finding(f"bf16 {device}", "missing", told, "Nothing to do: verdicts are float32 anyway.")


def _seconds(dtype: object, device: str) -> float:
    """The best of three: this asks what the machine can do, not what else it is doing."""
    import torch

    a = torch.ones(512, 512, dtype=dtype, device=device)  # type: ignore[call-overload]
    best = float("inf")
    for _ in range(4):
        began = time.perf_counter()
        float((a @ a)[0, 0])  # reading a value waits for the device
        best = min(best, time.perf_counter() - began)
    return max(best, 1e-9)


def _compiler() -> Finding:
    """torch.compile on the CPU writes C++ and needs a compiler and Python's headers."""
    name = "torch.compile"
    named = os.environ.get("CXX")
    path = shutil.which(named) if named else next(filter(None, map(shutil.which, _COMPILERS)), None)
    if path is None:
        looked = f"CXX={named} is not there" if named else f"none of {', '.join(_COMPILERS)} is there"
        return Finding(name, "missing", f"no C++ compiler: {looked}", "apt-get install g++, or xcode-select --install")
    if not (Path(sysconfig.get_paths()["include"]) / "Python.h").is_file():
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        return Finding(
            name, "missing", f"{path}, but Python's headers are missing", f"apt-get install python{version}-dev"
        )
    return Finding(name, "ok", f"{path}, with Python's headers")


def _extras() -> Iterator[Finding]:
    for extra, purpose in EXTRAS.items():
        names = _required(extra)
        missing = [name for name in names if not _importable(name)]
        if names and not missing:
            yield Finding(f"[{extra}]", "ok", f"for {purpose}: {', '.join(names)}")
        elif missing:
            told = f"for {purpose}: {', '.join(missing)} not here, or not working"
            yield Finding(f"[{extra}]", "missing", told, f"pip install '{DISTRIBUTION}[{extra}]'")


def _importable(name: str) -> bool:
    """Whether a package is there; torchvision is tried, since it may be a build that does not fit this PyTorch."""
    try:
        importlib.metadata.version(name)
        if name == "torchvision":
            importlib.import_module(name)
    except (importlib.metadata.PackageNotFoundError, ImportError, RuntimeError, OSError, AttributeError):
        return False
    return True


def _data() -> Finding:
    given = os.environ.get("POTEMKIN_DATA")
    how = "Set POTEMKIN_DATA to a folder of data sets, such as cifar10/test.npz; digits are built in."
    if not given:
        return Finding("POTEMKIN_DATA", "missing", "not set", how)
    folder = Path(given)
    if not folder.is_dir():
        return Finding("POTEMKIN_DATA", "missing", f"{given} is not a folder", how)
    inside = sorted(item.name for item in folder.iterdir() if not item.name.startswith("."))
    more = f" and {len(inside) - 6} more" if len(inside) > 6 else ""
    return Finding("POTEMKIN_DATA", "ok", f"{given}: {', '.join(inside[:6]) or 'empty'}{more}")
