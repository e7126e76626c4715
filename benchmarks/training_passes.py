"""Sections a and e of training.py: a step beside its bare passes, and what folding takes off those."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable

from training_common import FAST, STEPS, Found, Size, cifar10, network, print_part, recipe, settings, spread
from training_sides import Bare, Ours, Spent, Way, settled

import potemkin as pk


def overhead(size: Size) -> Found:
    """(a): at most 1.05. A step of ours against the mean of the bare passes right before and right after it."""
    found: Found = {"target": 1.05, **settings(size, 1e-4), "step_size": "eps / 4"}
    for width in size.widths:
        for way in (FAST, Way(channels_last=True)):
            found[f"width {width}, {way.said}"] = print_part(f"width {width}, {way.said}", _overhead(size, width, way))
    return found


def _overhead(size: Size, width: int, way: Way) -> Found:
    data = pk.load_data(cifar10("train"))
    batch = next(iter(data.batches(size.rows)))
    net = settled(network(width), batch.inputs)
    # A rate that leaves the weights where they are: saturated logits would give denormal gradients.
    ours = Ours(copy.deepcopy(net), data, recipe(way), way, size.rows, lr=1e-4)
    bare = Bare(net, batch.inputs, batch.labels, way, STEPS, lr=1e-4)
    count = size.count(width)
    ours.steps(1), bare.steps(1)
    between, own = [bare.steps(count)], []
    for _ in range(size.rounds):
        own.append(ours.steps(count))
        between.append(bare.steps(count))

    def ratios(own_time: Callable[[Spent], float], bare_time: Callable[[Spent], float]) -> Found:
        pairs = zip(own, between, between[1:], strict=False)
        return spread([own_time(each) / ((bare_time(a) + bare_time(b)) / 2) for each, a, b in pairs])

    step = ratios(lambda each: each.seconds - each.read, lambda each: each.seconds)
    return {
        "steps_per_turn": count,
        "ratio_of_step": step,
        "ratio_with_reading": ratios(lambda each: each.seconds, lambda each: each.seconds),
        "ratio_of_processor_time_with_reading": ratios(lambda each: each.processor, lambda each: each.processor),
        "seconds_per_step": round(statistics.median(each.seconds / count for each in own), 4),
        "met": step["median"] <= 1.05,
    }


def folding(size: Size) -> Found:
    """(e): what `fold` is worth, passes of the attack alone."""
    batch = next(iter(pk.load_data(cifar10("train")).batches(size.rows)))
    found: Found = {"net": "ResNet", "rows": size.rows, "passes": STEPS}
    for width in size.widths:
        for way in (FAST, Way(channels_last=True)):
            net = settled(network(width), batch.inputs)
            sides = [Bare(net, batch.inputs, batch.labels, way, STEPS, 1e-4, folded) for folded in (False, True)]
            for side in sides:
                side.attack()
            ratios = [sides[0].attack().seconds / sides[1].attack().seconds for _ in range(size.rounds)]
            found[f"width {width}, {way.said}"] = spread(ratios)
    return found
