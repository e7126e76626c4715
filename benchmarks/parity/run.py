"""The same attacks here and in Foolbox, torchattacks, ART and pyautoattack: where we differ, and why.

    POTEMKIN_PEERS_PYTHON=.venv-peers/bin/python python benchmarks/parity/run.py [--rows 64] [--keep FOLDER]

Same network, inputs, eps, step size, number of steps and start on both sides, float32. A peer runs in a process of its
own, in an environment of its own. Ends with 1 if something differs for no known reason, or if a known reason does not
explain what is seen: every reason is an experiment, described in README.md.
"""

from __future__ import annotations

import argparse
import copy
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from cases import CASES, EPS, PROBES, Case
from network import DigitsNetwork, Plateau
from ours import SETS, Walk, variant, walk
from reasons import REASONS, Evidence, apart
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import potemkin as pk
from potemkin.core.random import RowStreams, row_keys
from potemkin.threat.goals import Aim


@dataclass
class Setting:
    """What both sides are given."""

    net: DigitsNetwork
    x: Tensor
    y: Tensor
    targets: Tensor
    starts: dict[str, Tensor]


def prepare(rows: int) -> Setting:
    """The digits network that ships, and digits that it gets right (peers skip others, each in its own way)."""
    net = DigitsNetwork()
    net.load_state_dict(pk.load_model("digits-cnn").net.state_dict())
    net.eval().requires_grad_(False)
    batch = next(iter(pk.load_data("digits").batches(512)))
    with torch.no_grad():
        right = net(batch.inputs).argmax(1) == batch.labels
        x, y = batch.inputs[right][:rows], batch.labels[right][:rows]
        targets = net(x).argsort(1)[:, -2]
    streams = RowStreams(row_keys(0, torch.arange(len(x)), 0, torch.tensor(-1), torch.tensor(0)))
    first = torch.zeros(len(x), dtype=torch.int64)
    starts = {
        norm: kind(EPS[norm]).around(x, pk.Box(0, 1)).surface(streams, first).clamp(0, 1) for norm, kind in SETS.items()
    }
    return Setting(net, x, y, targets, starts)


def run_peers(python: str, setting: Setting, folder: Path) -> None:
    """Hand over, run, and let the peers' own output pass by unless they fail."""
    save_file(dict(setting.net.state_dict()), folder / "weights.safetensors")
    starts = {f"start_{norm}": start for norm, start in setting.starts.items()}
    given = {"x": setting.x, "y": setting.y, "targets": setting.targets, **starts}
    save_file({name: value.contiguous() for name, value in given.items()}, folder / "inputs.safetensors")
    script = Path(__file__).parent / "peers.py"
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run([python, str(script), str(folder)], env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"the peers' process failed:\n{done.stderr[-2000:]}")


class Comparison:
    """One case and one peer: what the peer wrote, our walk from the same start, and what can be said of them."""

    def __init__(self, setting: Setting, case: Case, peer: str, folder: Path) -> None:
        self.setting, self.case, self.peer, self.folder = setting, case, peer, folder
        self.theirs = load_file(folder / f"{peer}.{case.name}.safetensors")
        self.net: nn.Module = setting.net
        self.x, self.y = setting.x, setting.y
        if case.name == "plateau":
            self.net, self.x, self.y = Plateau(), torch.full((8, 1, 8, 8), 0.5), torch.zeros(8, dtype=torch.int64)
        if case.double:
            self.net, self.x = copy.deepcopy(setting.net).double(), setting.x.double()
        self.mine = self._walk()
        self.apart = apart(self.points(self.mine), self.theirs["points"])

    def _walk(self, part: str | None = None, double: bool = False) -> Walk:
        case, net, x = self.case, self.net, self.x
        if double:
            net, x = copy.deepcopy(net).double(), x.double()
        start = self.theirs.get("start", self.setting.starts[case.norm] if case.method == "apgd" else None)
        start = None if start is None else start.to(x.dtype)
        program = None if part is None else variant(part, case, x[0].numel())
        return walk(case, net, x, self.y, start=start, targets=self.setting.targets, program=program)

    def points(self, found: Walk) -> Tensor:
        """What the peers return: APGD its best point, the others their last."""
        return found.best if self.case.method == "apgd" else found.final

    @torch.no_grad()
    def wrong(self, points: Tensor) -> Tensor:
        predicted: Tensor = self.net(points).argmax(1)
        return predicted != self.y

    def right(self, points: Tensor) -> float:
        """Percentage of rows that the model still gets right there."""
        return 100 * float((~self.wrong(points)).float().mean())

    @torch.no_grad()
    def loss(self, points: Tensor) -> Tensor:
        """The case's objective, each row's own, by our own code for both sides."""
        targets = torch.full_like(self.y, -1)
        if self.case.objective == "targeted dlr":
            targets = self.setting.targets
        objective = pk.CrossEntropy() if self.case.objective == "ce" else pk.DLR()
        values: Tensor = objective(self.net(points), Aim(self.y, targets))
        return values

    def evidence(self) -> Evidence:
        def retry(part: str, double: bool) -> Tensor:
            return self.points(self._walk(part, double)).to(self.x.dtype)

        return Evidence(self.theirs, retry, self.wrong, self.loss)

    def row(self) -> tuple[bool, list[str]]:
        """Whether nothing is unexplained, and the line of the table."""
        theirs, mine = self.theirs["points"], self.points(self.mine)
        gap = float((mine - theirs).abs().max())
        cells = [
            self.case.name,
            self.peer,
            f"{int(self.apart.sum())}/{len(self.y)}",
            f"{gap:.1e}",
            f"{float(self.loss(mine).mean()):.4f} / {float(self.loss(theirs).mean()):.4f}",
            f"{self.right(mine):.1f} / {self.right(theirs):.1f}",
        ]
        reason = REASONS.get((self.case.name, self.peer))
        if not self.apart.any():
            return True, [*cells, "the same" if reason is None else f"the same now; it used to be that it {reason.why}"]
        if reason is None:
            return False, [*cells, "UNEXPLAINED"]
        holds, said = reason.experiment(self.evidence())
        return holds, [*cells, f"{'' if holds else 'NOT EXPLAINED BY: '}it {reason.why} ({said})"]


def default_step(setting: Setting, folder: Path) -> str:
    """ART's own default for APGD's first step is 0.1, whatever eps is; the paper's is 2 eps."""
    losses: list[float] = []
    for name in ("ART-default-step", "APGD-CE-100"):
        case = next(c for c in (*CASES, *PROBES) if c.name == name)
        found = Comparison(setting, case, "art", folder)
        losses.append(float(found.loss(found.theirs["visited_best"]).mean()))
    default, paper = losses
    return f"ART's APGD, best point visited: loss {default:.4f} with its default first step 0.1, {paper:.4f} with 2 eps"


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=64)
    options.add_argument("--keep", type=Path, help="a folder for what the two sides hand each other")
    given = options.parse_args()
    python = os.environ.get("POTEMKIN_PEERS_PYTHON")
    if not python:
        sys.exit("POTEMKIN_PEERS_PYTHON is not set: the python of an environment made as requirements.txt says.")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        setting = prepare(given.rows)
        run_peers(python, setting, folder)
        return show(setting, folder)


def show(setting: Setting, folder: Path) -> int:
    console, table, fine = Console(width=200), Table(), True
    for heading in ("attack", "peer", "rows apart", "max gap", "loss ours / theirs", "right % ours / theirs", "why"):
        table.add_column(heading)
    for case in (*CASES, *(c for c in PROBES if c.name == "plateau")):
        for peer in case.peers:
            error = folder / f"{peer}.{case.name}.error.txt"
            if error.exists():
                fine = False
                table.add_row(case.name, peer, *[""] * 4, "FAILED: " + error.read_text("utf-8").splitlines()[-1])
                continue
            explained, cells = Comparison(setting, case, peer, folder).row()
            fine &= explained
            table.add_row(*cells)
    console.print(table)
    console.print(default_step(setting, folder))
    console.print((folder / "versions.txt").read_text("utf-8").replace("\n", ", "))
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
