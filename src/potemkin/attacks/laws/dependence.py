"""On what a row may depend: on itself and its own random draws, never on its neighbours or its form."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from potemkin.attacks.laws.subject import Subject, first, same_rows, strays
from potemkin.attacks.laws.trial import ROWS, WIDTH, inputs
from potemkin.core.rows import flat


def invariance(subject: Subject) -> Iterator[str]:
    """A row asks the same, to the last bit, in another order, among other rows, and at another row count."""
    trial = subject.rough()
    whole = trial.run()
    generator = torch.Generator().manual_seed(3)
    others = {
        "in another order": torch.randperm(ROWS, generator=generator),
        "among copies of four rows": torch.tensor([9, 2, 7, 0]).repeat(ROWS // 4),
        "among 8 rows instead of 16": torch.arange(8),
    }
    for what, index in others.items():
        part = trial.take(index).run()
        for number, (one, other) in enumerate(zip(whole.answered(), part.answered(), strict=False)):
            differ = other[3] & ~same_rows(one[0][index], other[0])
            if differ.any():
                yield f"query {number} of row {int(index[first(differ)])} is another one {what}"
                break


def randomness(subject: Subject) -> Iterator[str]:
    """The same key gives the same bits; another seed, restart or example gives others if, and only if, it is random."""
    trial = subject.rough()
    once, again = trial.run(), trial.run()
    if not all(torch.equal(a, b) for a, b in zip(once.queries, again.queries, strict=True)):
        yield "two runs with the same key ask about different points: draw from rows.streams only"
        return
    random = trial.program.random
    if trial.attack.runs > 1 and not random:
        yield f"{trial.attack.runs} runs without random draws repeat each other"
    others = {
        "seed": replace(trial, seed=trial.seed + 1),
        "restart": replace(trial, restart=1),
        "example": replace(trial, ids=torch.arange(ROWS) + ROWS),
    }
    aim = once.rows.aim
    for what, other in others.items():
        queries = zip(once.queries, other.run(aim).queries, strict=True)
        differ = torch.stack([~same_rows(a, b) for a, b in queries]).any(dim=0)
        if random and not differ.all():
            yield f"another {what} does not change the queries of row {first(~differ)}, although `random` is declared"
        if not random and differ.any():
            yield f"another {what} changes the queries of row {first(differ)}, although no `random` is declared"


def shapes(subject: Subject) -> Iterator[str]:
    """Rows of rank 1, 2 and 3, transposed and channels-last ones give the same; float64 stays float64."""
    trial = subject.rough()
    plain = trial.run()
    forms = {
        "as rows of rank 1": trial.x.reshape(ROWS, WIDTH),
        "as rows of rank 2": trial.x.reshape(ROWS, 4, 8),
        "in channels-last memory": trial.x.contiguous(memory_format=torch.channels_last),
        "in transposed memory": trial.x.transpose(0, 3).contiguous().transpose(0, 3),
    }
    for what, x in forms.items():
        if "rank" in what and not subject.set.any_shape:
            continue
        run = replace(trial, x=x).run()
        if not all(torch.equal(flat(a), flat(b)) for a, b in zip(plain.queries, run.queries, strict=True)):
            yield f"the same inputs {what} give other queries"
    wide = replace(trial, x=inputs(trial.box, torch.float64)).run()
    kept = {tensor.dtype for tensor in (*wide.queries, wide.last.best, wide.last.best_value)}
    if kept != {torch.float64}:
        yield f"float64 inputs become {', '.join(sorted(map(str, kept - {torch.float64})))}"
    yield from strays(wide)
    reach = float(trial.set.eps) * 1e-3
    apart = (flat(wide.queries[0]) - flat(plain.queries[0])).abs().amax(dim=1) > reach
    if apart.any():
        yield f"float64 and float32 begin row {first(apart)} at different points"
