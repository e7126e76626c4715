"""Sections b and c of training.py: images per second, and robust accuracy after equal time, beside the peers."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

from safetensors.torch import load_file, save_file
from training_common import EPS, FAST, SEED, STEPS, Found, Size, cifar10, network, print_part, recipe, settings, spread
from training_sides import Ours, Peers, Spent, Way, peers

import potemkin as pk
from potemkin.models import architectures
from potemkin.models.architectures import ResNet

OURS = {
    f"potemkin {way.said}": way
    for way in (FAST, Way(bf16=True, channels_last=True, inner="train"), Way(channels_last=True), Way())
}
PEERS = {
    f"{kind} {way.said}": (kind, way) for way in (Way(), FAST, Way(channels_last=True)) for kind in ("madry", "art")
}
TARGETS = {  # (ours, width or None for any) -> images per second / those of a peer in float32 NCHW, as it comes
    (f"potemkin {FAST.said}", 64): 3.0,
    (f"potemkin {FAST.said}", 16): 1.8,
    (f"potemkin {Way(channels_last=True).said}", None): 1.3,
}


def against_peers(size: Size) -> Found:
    """(b): at least 3 x at width 64 and 1.8 x at width 16 for the fast path, 1.3 x in float32 eager."""
    found: Found = {**settings(size, 0.01), "step_size": "eps / 4"}
    found["notes"] = (
        "ART: the whole batch at once in the attack (its default is 32), no progress bars, data as float32 arrays "
        "beforehand, one-hot labels; bf16 and channels-last by a wrapper around the network, for ART has no such "
        "setting on a CPU. madry: gradients at the input only. ART and ours attack in eval mode, madry in train mode; "
        "the row 'attacked in train mode' is ours with inner='train'."
    )
    with tempfile.TemporaryDirectory() as temporary, peers(Path(temporary)) as others:
        found["versions_of_peers"] = others.ask("versions")
        for width in size.widths:
            found[f"width {width}"] = _against_peers(size, width, others, Path(temporary))
    return found


def _against_peers(size: Size, width: int, others: Peers, folder: Path) -> Found:
    weights, count = folder / f"{width}.safetensors", size.count(width)
    save_file(network(width).state_dict(), weights)
    data = pk.load_data(cifar10("train"))
    sides: dict[str, Callable[[int], Spent]] = {}
    forwards: dict[str, float] = {}
    for name, way in OURS.items():
        ours = Ours(network(width), data, recipe(way), way, size.rows, lr=0.01)
        ours.steps(1)  # warms up, and is counted
        meter = ours.trainer.learner.meter
        forwards[name] = (meter.attack[0] + meter.learning[0]) / size.rows
        sides[name] = ours.steps
    for name, (kind, way) in PEERS.items():
        others.ask("make", name=name, kind=kind, **_common(size, width, weights, way), lr=0.01, step_size=EPS / 4)
        forwards[name] = others.ask("passes", name=name)["forwards"]
        sides[name] = lambda count, name=name: others.steps(name, count)
    # Ours next to a peer, so that a ratio is one of neighbours.
    order = [name for pair in zip(OURS, PEERS, strict=False) for name in pair]
    order += [name for name in sides if name not in order]
    rounds: dict[str, list[Spent]] = {name: [] for name in order}
    for turn in range(size.rounds):
        for name in order[:: 1 if turn % 2 == 0 else -1]:
            rounds[name].append(sides[name](count))
    for name in PEERS:
        others.ask("drop", name=name)
    found = _rates(rounds, forwards, count, width)
    return print_part(f"width {width}", found)


def _common(size: Size, width: int, weights: Path, way: Way) -> Found:
    """What a peer is told."""
    return {
        "source": architectures.__file__, "width": width, "weights": str(weights), "data": str(cifar10("train")),
        "rows": size.rows, "eps": EPS, "steps": STEPS, "seed": SEED, "bf16": way.bf16,
        "channels_last": way.channels_last,
    }  # fmt: skip


def _rates(rounds: dict[str, list[Spent]], forwards: dict[str, float], count: int, width: int) -> Found:
    """Images per second of every side, and of every one of ours over every peer, round by round."""
    found: Found = {"steps_per_turn": count, "images_per_second": {}, "ratios": {}, "targets": {}}
    for name, spent in rounds.items():
        found["images_per_second"][name] = {
            **spread([each.rows / each.seconds for each in spent]),
            "per_processor_second": round(statistics.median(each.rows / each.processor for each in spent), 4),
            "forwards_per_image": forwards[name],
        }
    for ours in OURS:
        for peer in PEERS:
            pairs = list(zip(rounds[ours], rounds[peer], strict=True))
            found["ratios"][f"{ours} / {peer}"] = {
                **spread([b.seconds / a.seconds for a, b in pairs]),
                "of_processor_time": spread([b.processor / a.processor for a, b in pairs]),
            }
    for (ours, at), target in TARGETS.items():
        for peer, (_, way) in PEERS.items():
            if at in (None, width) and way == Way():
                ratio = found["ratios"][f"{ours} / {peer}"]["median"]
                found["targets"][f"{ours} / {peer}"] = {"target": target, "ratio": ratio, "met": ratio >= target}
    return found


AUDIT = ("apgd()", "apgd(objective=DLR(), targets=9)")
QUICK_AUDIT = ("apgd(steps=5)", "apgd(steps=5, objective=DLR(), targets=2)")


def equal_time(size: Size, width: int = 16, lr: float = 0.1) -> Found:
    """(c): robust accuracy not lower after the same seconds. The rate is `Cyclic` over the share of the seconds used.

    Both: SGD with momentum 0.9 and weight decay 5e-4, 7 steps of 2.5 eps / 7, no augmentation, the last weights. Ours
    with what its fast path has; the peer is the madry loop in float32 NCHW.
    """
    audit = QUICK_AUDIT if size.quick else AUDIT
    with tempfile.TemporaryDirectory() as temporary, peers(Path(temporary)) as others:
        folder = Path(temporary)
        weights = folder / "first.safetensors"
        save_file(network(width).state_dict(), weights)
        own = Ours(
            network(width), pk.load_data(cifar10("train")), pk.recipes.pgd_at(eps=EPS, steps=STEPS), FAST, size.rows,
            lr, size.seconds,
        )  # fmt: skip
        others.ask("make", name="madry", kind="madry", **_common(size, width, weights, Way()), lr=lr,
                   step_size=2.5 * EPS / STEPS)  # fmt: skip
        told: Found = {"left": True}
        left, part = True, size.seconds / 20
        while left or told["left"]:
            left = left and own.train(part)
            if told["left"]:
                told = others.ask("train", name="madry", seconds=part, budget=size.seconds)
        others.ask("save", name="madry", path=str(folder / "madry.safetensors"))
        versions = others.ask("versions")
        theirs = network(width)
        theirs.load_state_dict(load_file(folder / "madry.safetensors"))
        compared = _audited(own.net, theirs, folder, audit, size.examples)
    return {
        "width": width, "seconds": size.seconds, **settings(size, lr), "step_size": "2.5 eps / 7",
        "schedule": "Cyclic() over the share of the seconds",
        "precision_potemkin": FAST.said, "precision_madry": Way().said, "audit": list(audit),
        "steps_potemkin": own.trainer.state.step, "seconds_potemkin": round(own.clock.spent, 2),
        "steps_madry": told["steps"], "seconds_madry": round(told["elapsed"], 2), "versions_of_peers": versions,
        **compared,
    }  # fmt: skip


def _audited(own: ResNet, theirs: ResNet, folder: Path, attacks: tuple[str, ...], examples: int) -> Found:
    for name, net in (("potemkin", own), ("madry", theirs)):
        plain = network(net.stem.out_channels)
        plain.load_state_dict({key: value.contiguous() for key, value in net.state_dict().items()})
        model = pk.Classifier(plain.eval(), name=name)
        pk.audit(model, cifar10("test"), pk.Linf(EPS), attacks, examples=examples, out=folder / f"audit-{name}")
    paired = pk.compare(folder / "audit-potemkin", folder / "audit-madry")
    return {
        "robust_potemkin": str(paired.robust_a), "robust_madry": str(paired.robust_b),
        "clean_potemkin": str(paired.clean_a), "clean_madry": str(paired.clean_b),
        "only_potemkin_held": paired.only_a, "only_madry_held": paired.only_b, "mcnemar_p": paired.p,
        "as_many_held": paired.only_a >= paired.only_b, "met": paired.only_a >= paired.only_b or paired.p > 0.05,
    }  # fmt: skip
