"""Admission: the clean pass. Only examples that were right before the attack get jobs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from potemkin.core.outcomes import Outcome
from potemkin.core.random import RowStreams, row_keys
from potemkin.core.rows import finite, pad_rows
from potemkin.data.source import Batch as DataBatch
from potemkin.data.source import id_key
from potemkin.engine.dispatch import Dispatch
from potemkin.engine.jobs import Example, Result, Spent
from potemkin.engine.setup import Setup
from potemkin.errors import ModelError
from potemkin.models.oracle import Meter
from potemkin.threat.goals import NO_TARGET, strictly_right

WINDOW_BYTES = 512 * 2**20
WINDOW_EXAMPLES = 2**16
"""How much of the data may wait behind one slow example before the engine stops reading on: memory stays flat."""
CLEAN = Spent(forwards=1)
"""Every example costs one forward before anything else."""


class Admission:
    """Reads data batch by batch, asks for the clean scores, and hands the examples that are right to the engine."""

    def __init__(self, setup: Setup, dispatch: Dispatch, batches: Iterable[DataBatch]) -> None:
        self.setup, self.dispatch = setup, dispatch
        self.dry = False
        self._batches: Iterator[DataBatch] = iter(batches)
        self._read = 0
        self._window = math.inf

    def fill(self, wanted: int) -> None:
        """Read on until `wanted` more jobs are ready, a result is due, the window is full, or the data end."""
        dispatch = self.dispatch
        goal = len(dispatch.ready) + max(0, wanted)
        while len(dispatch.ready) < goal and self._read - dispatch.told < self._window:
            if self.dry or dispatch.due:
                return
            batch = next(self._batches, None)
            if batch is None:
                self.dry = True
                return
            rows = self.setup.settings.rows
            for start in range(0, len(batch.ids), rows):
                self._admit(batch, slice(start, start + rows))

    def _admit(self, batch: DataBatch, part: slice) -> None:
        setup = self.setup
        box = setup.oracle.classifier.box
        # Rounding on the way here may have left an input a last bit outside; a set needs its centre inside.
        inputs, labels = box.clip(batch.inputs[part]), batch.labels[part].to(torch.int64)
        fitting = WINDOW_BYTES // max(1, inputs[0].numel() * 4)
        self._window = max(setup.settings.rows * 2, min(WINDOW_EXAMPLES, fitting))
        outputs = self._clean_outputs(inputs)
        if int(labels.max()) >= outputs.shape[1] or int(labels.min()) < 0:
            raise ModelError(
                f"The labels go from {int(labels.min())} to {int(labels.max())}, but the model has {outputs.shape[1]} "
                f"outputs (classes 0 to {outputs.shape[1] - 1}). Labels count from 0; is this the right model for "
                "these data?"
            )
        keys = torch.tensor([id_key(name) for name in batch.ids[part]], dtype=torch.int64)
        none = torch.full_like(keys, NO_TARGET)
        streams = RowStreams(row_keys(setup.seed, keys, 0, none, none))
        goal_targets = setup.threat.goal.targets(outputs, labels, streams)
        aims = [self._aims(number, outputs, labels, goal_targets, keys) for number in range(len(setup.attacks))]
        right, readable = strictly_right(outputs, labels).tolist(), finite(outputs).tolist()
        for row, name in enumerate(batch.ids[part]):
            example = Example(
                order=self._read,
                id=name,
                position=int(batch.positions[part][row]),
                key=int(keys[row]),
                inputs=inputs[row],
                label=int(labels[row]),
                goal_target=int(goal_targets[row]),
                clean_outputs=outputs[row],
                aims=[aim[row] for aim in aims],
                spent=CLEAN,
            )
            self._read += 1
            self._sort(example, readable[row], right[row])

    def _sort(self, example: Example, readable: bool, right: bool) -> None:
        if not readable:
            self._close(example, "error", "the model's scores on the clean input are not finite", right=False)
        elif not right:
            self._close(example, "clean_wrong", None, right=False)
        elif self.setup.threat.goal.targeted and example.goal_target == NO_TARGET:
            self._close(example, "error", "the true class is the target itself: leave such examples out", right=True)
        else:
            self.dispatch.begin(example)

    def _close(self, example: Example, outcome: Outcome, why: str | None, right: bool) -> None:
        self.dispatch.tell(
            Result(
                example.order, example.id, example.position, example.label, example.inputs, example.clean_outputs,
                outcome, why, example.spent, right=right,
            )
        )  # fmt: skip

    def _clean_outputs(self, inputs: Tensor) -> Tensor:
        setup = self.setup
        rows, device = setup.settings.rows, setup.device
        count = inputs.shape[0]
        active = torch.arange(rows, device=device) < count
        padded = pad_rows(inputs, rows).to(device, setup.settings.dtype)
        answer = setup.oracle.ask(padded, active=active, meter=Meter.zeros(rows, device), purpose="clean")
        return answer.outputs[:count].cpu()

    def _aims(
        self, number: int, outputs: Tensor, labels: Tensor, goal_targets: Tensor, keys: Tensor
    ) -> list[list[tuple[int, int]]]:
        """Per example, the (label, target) pairs of one attack; a targeted goal replaces the attack's own choice."""
        setup = self.setup
        if setup.threat.goal.targeted:
            return [[(label, target)] for label, target in zip(labels.tolist(), goal_targets.tolist(), strict=True)]
        none = torch.full_like(keys, NO_TARGET)
        streams = RowStreams(row_keys(setup.seed, keys, setup.attack_keys[number], none, none))
        label, target = setup.attacks[number].targeting.aims(outputs, labels, streams)
        return [list(zip(*pair, strict=True)) for pair in zip(label.tolist(), target.tolist(), strict=True)]
