"""The other side: runs in the peers' environment, never imports potemkin.

    python peers.py FOLDER

reads weights.safetensors and inputs.safetensors in FOLDER, and writes PEER.CASE.safetensors for every case of every
peer: `points`, and `start` where the peer drew it itself. A peer that fails leaves PEER.CASE.error.txt instead.
"""

from __future__ import annotations

import copy
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from cases import CASES, PROBES, Case
from network import DigitsNetwork, Plateau
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

SEED = 0


@dataclass
class Problem:
    """A model, and what both sides were given: inputs, labels, starts and targets for the attacks that take them."""

    net: nn.Module
    x: Tensor
    y: Tensor
    starts: dict[str, Tensor]
    targets: Tensor

    def double(self) -> Problem:
        starts = {norm: start.double() for norm, start in self.starts.items()}
        return Problem(copy.deepcopy(self.net).double(), self.x.double(), self.y, starts, self.targets)


Run = Callable[[Case, Problem], dict[str, Tensor]]


def foolbox(case: Case, problem: Problem) -> dict[str, Tensor]:
    from foolbox import PyTorchModel
    from foolbox import attacks as fa

    model = PyTorchModel(problem.net, bounds=(0, 1), device="cpu")
    moving = {"abs_stepsize": case.step_size, "steps": case.steps, "random_start": False}
    attack = {
        ("fgm", "linf"): lambda: fa.LinfFastGradientAttack(),
        ("fgm", "l2"): lambda: fa.L2FastGradientAttack(),
        ("bim", "linf"): lambda: fa.LinfBasicIterativeAttack(**moving),
        ("pgd", "linf"): lambda: fa.LinfPGD(**moving),
        ("pgd", "l2"): lambda: fa.L2PGD(**moving),
        ("mi", "linf"): lambda: fa.LinfMomentumIterativeFastGradientMethod(**moving, momentum=1.0),
    }[case.method, case.norm]()
    _, points, _ = attack(model, problem.x, problem.y, epsilons=case.eps)
    return {"points": points}


def torchattacks(case: Case, problem: Problem) -> dict[str, Tensor]:
    import torchattacks as ta

    net, eps, alpha, steps = problem.net, case.eps, case.step_size, case.steps
    if case.method == "apgd":
        norm = {"linf": "Linf", "l2": "L2"}[case.norm]
        attack = ta.APGD(net, norm=norm, eps=eps, steps=steps, seed=SEED, loss=case.objective)
        torch.random.manual_seed(SEED)
        start = _autoattack_start(case, problem.x)
        torch.random.manual_seed(SEED)
        best, _, _, _ = attack.attack_single_run(problem.x, problem.y)
        return {"points": best, "start": start}
    attack = {
        ("fgm", "linf"): lambda: ta.FGSM(net, eps=eps),
        ("bim", "linf"): lambda: ta.BIM(net, eps=eps, alpha=alpha, steps=steps),
        ("pgd", "linf"): lambda: ta.PGD(net, eps=eps, alpha=alpha, steps=steps, random_start=False),
        ("pgd", "l2"): lambda: ta.PGDL2(net, eps=eps, alpha=alpha, steps=steps, random_start=False),
        ("mi", "linf"): lambda: ta.MIFGSM(net, eps=eps, alpha=alpha, steps=steps, decay=1.0),
        ("ni", "linf"): lambda: ta.NIFGSM(net, eps=eps, alpha=alpha, steps=steps, decay=1.0),
    }[case.method, case.norm]()
    return {"points": attack(problem.x, problem.y)}


def _autoattack_start(case: Case, x: Tensor) -> Tensor:
    """The random point on the ball's surface that APGD draws first, clipped into the box."""
    t = 2 * torch.rand(x.shape) - 1 if case.norm == "linf" else torch.randn(x.shape)
    length = t.abs().flatten(1).amax(1) if case.norm == "linf" else t.flatten(1).norm(dim=1)
    return (x + case.eps * t / length.view(-1, 1, 1, 1)).clamp(0, 1)


def art(case: Case, problem: Problem) -> dict[str, Tensor]:
    import numpy as np
    from art.attacks import evasion as ae
    from art.estimators.classification import PyTorchClassifier
    from art.utils import projection, random_sphere

    x, y = problem.x.numpy(), problem.y.numpy()
    model = PyTorchClassifier(
        problem.net, nn.CrossEntropyLoss(), x.shape[1:], 10, clip_values=(0, 1), device_type="cpu"
    )
    order = {"linf": np.inf, "l2": 2}[case.norm]
    ball = {"norm": order, "eps": case.eps, "eps_step": case.step_size, "batch_size": len(x)}
    moving = {**ball, "max_iter": case.steps, "verbose": False}
    if case.method == "apgd":
        np.random.seed(SEED)
        shift = random_sphere(len(x), x[0].size, case.eps, order).reshape(x.shape).astype(np.float32)
        start = x + projection(np.clip(x + shift, 0, 1) - x, case.eps, order)
        np.random.seed(SEED)
        attack = ae.AutoProjectedGradientDescent(model, **moving, loss_type="cross_entropy", nb_random_init=1)
        with visiting(problem.net) as visited:
            points = torch.from_numpy(attack.generate(x, y))
        best = best_of(visited, problem)
        return {"points": points, "start": torch.from_numpy(start), "visited_last": visited[-1], "visited_best": best}
    attack = {
        "fgm": lambda: ae.FastGradientMethod(model, **ball),
        "bim": lambda: ae.BasicIterativeMethod(model, **{k: v for k, v in moving.items() if k != "norm"}),
        "pgd": lambda: ae.ProjectedGradientDescentPyTorch(model, **moving, num_random_init=0),
        "mi": lambda: ae.MomentumIterativeMethod(model, **moving, decay=1.0),
    }[case.method]()
    return {"points": torch.from_numpy(attack.generate(x, y))}


def pyautoattack(case: Case, problem: Problem) -> dict[str, Tensor]:
    from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted

    norm = {"linf": "Linf", "l2": "L2", "l1": "L1"}[case.norm]
    settings = {"n_iter": case.steps, "norm": norm, "eps": case.eps, "seed": SEED, "device": "cpu"}
    if case.objective == "targeted dlr":
        attack = APGDAttack_targeted(problem.net, **settings)
        attack.y_target = problem.targets
    else:
        attack = APGDAttack(problem.net, **settings, loss=case.objective)
    attack.init_hyperparam(problem.x)
    start = problem.starts[case.norm]
    if case.norm != "l1":
        best, _, _, _ = attack.attack_single_run(problem.x.clone(), problem.y, x_init=start)
        return {"points": best}
    third = -(-3 * case.steps // 10)
    iterations = [third, third, case.steps - 2 * third]
    torch.random.manual_seed(SEED)
    noise = torch.randn_like(problem.x)
    torch.random.manual_seed(SEED)
    best, _, _, _ = attack.decr_eps_pgd(
        problem.x.clone(), problem.y, [3 * case.eps, 2 * case.eps, case.eps], iterations
    )
    return {"points": best, "start": problem.x + noise}


@contextmanager
def visiting(net: nn.Module) -> Iterator[list[Tensor]]:
    """Collect every full batch that the model is asked about."""
    seen: list[Tensor] = []
    handle = net.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().clone()))
    try:
        yield seen
    finally:
        handle.remove()


@torch.no_grad()
def best_of(visited: list[Tensor], problem: Problem) -> Tensor:
    """The visited point with the largest cross-entropy, per row, the clean inputs left out."""
    best, most = problem.x.clone(), torch.full((len(problem.x),), -torch.inf)
    for points in visited:
        if points.shape != problem.x.shape or torch.equal(points, problem.x):
            continue
        values = nn.functional.cross_entropy(problem.net(points), problem.y, reduction="none")
        better = values > most
        best[better], most[better] = points[better], values[better]
    return best


PEERS: dict[str, Run] = {
    "foolbox": foolbox,
    "torchattacks": torchattacks,
    "art": art,
    "pyautoattack": pyautoattack,
}
DISTRIBUTIONS = {"art": "adversarial-robustness-toolbox"}


@contextmanager
def precision(double: bool) -> Iterator[None]:
    """Float64 throughout: some peers say float() or the default dtype in the middle of a run."""
    cast = torch.Tensor.float
    if double:
        torch.set_default_dtype(torch.float64)
        torch.Tensor.float = torch.Tensor.double
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)
        torch.Tensor.float = cast


def problems(folder: Path) -> tuple[Problem, Problem]:
    """The digits, and the plateau."""
    stored = load_file(folder / "inputs.safetensors")
    starts = {name.removeprefix("start_"): value for name, value in stored.items() if name.startswith("start_")}
    net = DigitsNetwork()
    net.load_state_dict(load_file(folder / "weights.safetensors"))
    digits = Problem(net.eval(), stored["x"], stored["y"], starts, stored["targets"])
    flat, zeros = torch.full((8, 1, 8, 8), 0.5), torch.zeros(8, dtype=torch.int64)
    return digits, Problem(Plateau().eval(), flat, zeros, {}, zeros)


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    digits, plateau = problems(folder)
    for case in (*CASES, *PROBES):
        for peer in case.peers:
            problem = plateau if case.name == "plateau" else digits
            try:
                with precision(case.double):
                    found = PEERS[peer](case, problem.double() if case.double else problem)
            except Exception:  # noqa: BLE001 - one peer's failure is a row of the table, not the end of the others
                (folder / f"{peer}.{case.name}.error.txt").write_text(traceback.format_exc(), encoding="utf-8")
                continue
            found = {key: value.detach().clone().contiguous() for key, value in found.items()}
            save_file(found, folder / f"{peer}.{case.name}.safetensors")
    lines = [f"{peer} {version(DISTRIBUTIONS.get(peer, peer))}" for peer in PEERS]
    (folder / "versions.txt").write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
