"""The second look itself: every clean prediction and every claim of a bundle, asked of the model again."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from potemkin.core.random import RowStreams, row_keys
from potemkin.core.rows import finite, pad_rows
from potemkin.data.source import Batch, DataSource, id_key
from potemkin.engine.verifier import Verdict, Verifier
from potemkin.errors import DataError, ModelError
from potemkin.evaluate.bundle_read import Bundle
from potemkin.evaluate.lines import ExampleLine
from potemkin.evaluate.rounding import slack
from potemkin.evaluate.verification import Verification
from potemkin.models.oracle import Meter
from potemkin.threat.goals import NO_TARGET, Aim, best_other, output_of

LARGEST = 4096
"""Rows of a batch at most, whatever the record says: others differ in rounding only, and memory is not the record's."""

OTHER_EXAMPLE = "the data hold another example, or another label, at its position"
NOT_FINITE = "the model's scores on the clean input are not finite, and the record does not say so"
OTHER_CLASS = "the model predicts another class on the clean input"
RIGHT_AFTER_ALL = "the record calls it wrong before any attack, but the model gets it right"
OTHER_DISTANCE = "the line says another distance than the stored input has"
OTHER_ATTACKED = "the line says another prediction under attack than the model gives for the stored input"
WRONG_BEFORE = "the model gets it wrong before any attack, and the record does not say so"


@dataclass
class Recheck:
    """One bundle under a second look; `found` is filled in as the batches go by."""

    bundle: Bundle
    source: DataSource
    verifier: Verifier
    found: Verification
    surely_right: int = 0
    tied: int = 0

    def run(self) -> None:
        """Look at all lines, in batches padded as those of the audit were."""
        rows = min(self.bundle.record.settings.rows, LARGEST)
        lines = iter(self.bundle.lines)
        for batch in self.source.batches(rows, [line.position for line in self.bundle.lines]):
            self._batch(list(islice(lines, len(batch))), batch, rows)
        if self.found.examples != len(self.bundle.lines):
            raise DataError(
                f"{self.source.name} gave {self.found.examples} of the {len(self.bundle.lines)} examples asked for."
            )
        self._count_right()

    def _batch(self, lines: list[ExampleLine], batch: Batch, rows: int) -> None:
        oracle = self.verifier.oracle
        centers = oracle.classifier.box.clip(batch.inputs).to(oracle.classifier.device)
        active = torch.arange(rows, device=centers.device) < len(batch)
        meter = Meter.zeros(rows, centers.device)
        clean = oracle.ask(pad_rows(centers, rows), active=active, meter=meter, purpose="clean").outputs[: len(batch)]
        if int(batch.labels.max()) >= clean.shape[1]:
            raise ModelError(
                f"The labels go up to {int(batch.labels.max())}, but the model has {clean.shape[1]} outputs (classes 0 "
                f"to {clean.shape[1] - 1}): are these the data, and is this the model, that were audited?"
            )
        contradictions = self._contradictions(lines, batch, clean)
        broken = [row for row, line in enumerate(lines) if line.outcome == "broken"]
        verdicts = dict(zip(broken, self._verdicts(lines, batch, centers, clean, broken), strict=True))
        for row, (line, why) in enumerate(zip(lines, contradictions, strict=True)):
            verdict = verdicts.get(row)
            self.found.examples += 1
            self.found.agreed += why is None
            if why is None and verdict is not None:
                self.found.confirmed += verdict.valid
                why = verdict.why or self._misquoted(line, verdict)
            if why is not None:
                self.found.refused[line.id] = why

    def _contradictions(self, lines: list[ExampleLine], batch: Batch, clean: Tensor) -> list[str | None]:
        """Per line, what the model says otherwise about the clean input; ties in rounding contradict nothing."""
        labels = batch.labels.to(clean.device)
        allowed = slack(clean, self.verifier.oracle.classifier.dtype)
        margin = output_of(clean, labels) - best_other(clean, labels)
        seen = torch.tensor([line.prediction for line in lines], device=clean.device)
        known = (seen >= 0) & (seen < clean.shape[1])
        predicted = known & (clean.amax(dim=1) - output_of(clean, seen.clamp(0, clean.shape[1] - 1)) <= allowed)
        readable, right, wrong = finite(clean), margin > allowed, margin < -allowed
        self.surely_right += int((readable & right).sum())
        self.tied += int((readable & ~right & ~wrong).sum())
        told = torch.stack((readable, predicted, right, wrong), dim=1).tolist()
        same = [
            name == line.id and label == line.label
            for name, label, line in zip(batch.ids, batch.labels.tolist(), lines, strict=True)
        ]
        return [
            _contradiction(line, *row) if fits else OTHER_EXAMPLE
            for line, fits, row in zip(lines, same, told, strict=True)
        ]

    def _verdicts(
        self, lines: list[ExampleLine], batch: Batch, centers: Tensor, clean: Tensor, broken: list[int]
    ) -> list[Verdict]:
        """What the verifier says of the stored adversarials of these rows, around the data's own inputs."""
        if not broken:
            return []
        start = lines[broken[0]].adversarial or 0
        claims = torch.from_numpy(self.bundle.tensor("inputs", start, start + len(broken)).copy()).to(clean.device)
        index = torch.tensor(broken)
        keys = torch.tensor([id_key(batch.ids[row]) for row in broken])
        streams = RowStreams(
            row_keys(self.bundle.record.seed, keys, 0, torch.tensor(NO_TARGET), torch.tensor(NO_TARGET))
        )
        labels, outputs = batch.labels[index], clean[index.to(clean.device)]
        targets = self.verifier.threat.goal.targets(outputs.cpu(), labels, streams)
        aim = Aim(labels.to(clean.device), targets.to(clean.device), outputs)
        eps = torch.full((len(broken),), self.verifier.threat.set.eps, device=clean.device)
        return self.verifier.verify(claims, centers[index.to(clean.device)], aim, eps)

    def _misquoted(self, line: ExampleLine, verdict: Verdict) -> str | None:
        """Whether the line says of a claim that stands what the verifier sees; ties in rounding may go either way."""
        if line.distance is None or not math.isclose(line.distance, verdict.distance, rel_tol=1e-6, abs_tol=1e-9):
            return OTHER_DISTANCE
        seen, outputs = line.attack_prediction, verdict.outputs
        if seen is None or not 0 <= seen < len(outputs):
            return OTHER_ATTACKED
        allowed = slack(outputs.unsqueeze(0), self.verifier.oracle.classifier.dtype)
        return None if bool(outputs.max() - outputs[seen] <= allowed) else OTHER_ATTACKED

    def _count_right(self) -> None:
        """Clean accuracy is a count, and stands in no line: it has to be that of the model, too."""
        counted = self.bundle.record.rates.attack_success_rate.n
        agree = self.found.agreed == self.found.examples
        if agree and not self.surely_right <= counted <= self.surely_right + self.tied:
            self.found.notes.append(
                f"the record counts {counted} examples as right before the attack, but the model gets "
                f"{self.surely_right} right"
            )


def _contradiction(line: ExampleLine, readable: bool, predicted: bool, right: bool, wrong: bool) -> str | None:
    if not readable:
        return None if line.outcome == "error" else NOT_FINITE
    if not predicted:
        return OTHER_CLASS
    if line.outcome == "clean_wrong":
        return RIGHT_AFTER_ALL if right else None
    return WRONG_BEFORE if wrong else None
