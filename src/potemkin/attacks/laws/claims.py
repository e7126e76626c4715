"""What a search says of itself: its best point, its cost, and what its future depends on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch

from potemkin.attacks.laws.models import hostile
from potemkin.attacks.laws.subject import Subject, first, same_rows
from potemkin.attacks.laws.trial import MOVES, ROWS, WIDTH, Run, Trial
from potemkin.attacks.program import Asks


def best(subject: Subject) -> Iterator[str]:
    """`best`, `best_value` and `best_outputs` are those of the best claimable query, the last one included."""
    for trial in (subject.rough(), subject.linear().trial.short()):
        run = trial.run()
        value = torch.full((ROWS,), -torch.inf)
        point, outputs = run.last.best.clone(), run.last.best_outputs.clone()
        for query, state, reply, alive in run.answered():
            better = alive & state.claimable & (reply.value > value)
            value = torch.where(better, reply.value, value)
            point[better], outputs[better] = query[better], reply.outputs[better]
        wrong = run.last.best_value != value
        if wrong.any():
            row = first(wrong)
            yield (
                f"row {row} says that its best objective is {float(run.last.best_value[row]):.6g}; the best of its "
                f"claimable queries, the last one included, is {float(value[row]):.6g}"
            )
        elif not torch.equal(point, run.last.best):
            yield f"the best point of row {first(~same_rows(point, run.last.best))} is not the query that was best"
        elif not torch.equal(outputs, run.last.best_outputs):
            yield "the best outputs are not those of the best query"


def cost(subject: Subject) -> Iterator[str]:
    """Counted forwards, backwards and jobs are the declared ones, for every number of moves."""
    trial = subject.rough()
    counts = torch.arange(ROWS) % (MOVES + 1)
    whole = trial.attack.steps_for(subject.set.eps)
    run = replace(trial, steps=counts.clamp(min(whole, 1), whole)).run()
    climbs = run.program.asks is Asks.GRADIENTS
    forwards, backwards = torch.zeros(ROWS, dtype=torch.int64), torch.zeros(ROWS, dtype=torch.int64)
    for _, state, _, alive in run.answered():
        forwards += alive
        backwards += alive & state.climbs & climbs
    for row, steps in enumerate(run.rows.steps.tolist()):
        counted, declared = (int(forwards[row]), int(backwards[row])), run.program.cost(steps)
        if not run.last.finished[row]:
            yield f"with {steps} moves, the search is not finished after the declared {declared[0]} forwards"
            return
        if counted != (declared[0], declared[1] if climbs else counted[1]):
            yield f"with {steps} moves, {counted} forwards and backwards were counted and {declared} are declared"
            return
    yield from _cost_of_all_jobs(trial)


def _cost_of_all_jobs(trial: Trial) -> Iterator[str]:
    attack, eps, norm = trial.attack, trial.set.eps, trial.set.norm_name
    jobs = attack.runs * len(trial.aims())
    one = trial.program.cost(attack.steps_for(eps))
    declared, expected = attack.cost(eps, trial.classes, norm), (jobs * one[0], jobs * one[1])
    if attack.jobs(trial.classes, False) != jobs:
        yield f"{attack.jobs(trial.classes, False)} jobs are declared; runs and targets make {jobs}"
    if declared != expected:
        yield f"cost() declares {declared} for all jobs; {jobs} jobs of {one} make {expected}"


def longer(subject: Subject) -> Iterator[str]:
    """From the same start, more moves never end at a worse best value."""
    trial = subject.rough()
    if trial.attack.steps_for(subject.set.eps) == 0:
        return
    values = [replace(trial, steps=torch.full((ROWS,), steps)).run().last.best_value for steps in (3, 6, 12)]
    for fewer, more in pairwise(values):
        worse = more < fewer
        if worse.any():
            row = first(worse)
            yield f"row {row} reaches {float(fewer[row]):.6g} and, with twice the moves, {float(more[row]):.6g}"
            return


def recurrence(subject: Subject) -> Iterator[str]:
    """Where the leaves that `recurrence` returns come back, so do all later queries: a cycling row may be retired."""
    for trial in (subject.rough(), subject.linear().trial, replace(subject.rough(), model=hostile(WIDTH)["plateau"])):
        if trial.attack.steps_for(subject.set.eps) == 0:
            return
        run = replace(trial, steps=torch.full((ROWS,), 3 * MOVES)).run()
        kept = [run.program.recurrence(state) for state in run.states]
        for early in range(0, len(kept), 4):
            for late in range(early + 1, len(kept) - 1):
                if (finding := _goes_elsewhere(run, kept, early, late)) is not None:
                    yield finding
                    return


def _goes_elsewhere(run: Run, kept: list[Any], early: int, late: int) -> str | None:
    if kept[early] is None or kept[late] is None:
        return None
    same = ~run.states[late].finished
    for a, b in zip(kept[early], kept[late], strict=True):
        same = same & same_rows(a, b)
    for ahead in range(1, len(run.queries) - late):
        alive = same & ~run.states[late + ahead].finished
        apart = alive & ~same_rows(run.queries[early + ahead], run.queries[late + ahead])
        if apart.any():
            return (
                f"row {first(apart)} has the same recurrence after {early} and {late} moves, but asks about another "
                f"point {ahead} later: something else decides, so recurrence() must return it, or None"
            )
    return None
