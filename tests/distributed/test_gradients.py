"""The gradient of two processes, half of the batch each, is that of one with the whole batch, to float tolerance.

What synchronised batch normalisation sends back between the processes is a part of it. No attack: its signs could
flip on rounding, and hide a difference or make one.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch import Tensor

from .runs import _environment, _free_port

WORKER = Path(__file__).with_name("one_step.py")


def gradients(folder: Path, world: int, parallel: str = "ddp") -> dict[str, Tensor]:
    start = [sys.executable]
    if world > 1:
        start += ["-m", "torch.distributed.run", "--nproc-per-node", str(world), "--master-port", str(_free_port())]
    folder.mkdir()
    done = subprocess.run(
        [*start, str(WORKER), str(folder), parallel],
        capture_output=True, text=True, timeout=120, env=_environment(), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return load_file(folder / "gradients.safetensors")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """One process with the whole batch."""
    return gradients(tmp_path_factory.mktemp("gradients") / "one", 1)


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_have_the_gradient_of_the_whole_batch(
    parallel: str, whole: dict[str, Tensor], tmp_path: Path
) -> None:
    halves = gradients(tmp_path / "two", 2, parallel)
    assert sorted(halves) == sorted(whole) and len(whole) == 8
    for name, wanted in whole.items():
        assert wanted.norm() > 1e-3, "a gradient of zero would prove nothing"
        assert (halves[name] - wanted).norm() <= 1e-5 * wanted.norm(), name
