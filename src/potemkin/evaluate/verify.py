"""Check a bundle again: anyone with the model and the data can re-verify every claimed adversarial."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch

from potemkin.core.checks import number
from potemkin.core.notation import parse
from potemkin.core.random import RowStreams, row_keys
from potemkin.core.rows import pad_rows
from potemkin.data.load import as_source, load_data
from potemkin.data.source import DataSource, id_key
from potemkin.engine.verifier import Verifier
from potemkin.errors import BundleError, ConfigError, DataError
from potemkin.evaluate.bundle_read import Bundle, read_bundle
from potemkin.evaluate.prepare import as_classifier, check_rows
from potemkin.evaluate.record import ExampleLine
from potemkin.models.classifier import Classifier
from potemkin.models.oracle import Meter, Oracle
from potemkin.threat.box import Box
from potemkin.threat.goals import NO_TARGET, Aim
from potemkin.threat.threat_model import ThreatModel


@dataclass
class Verification:
    """What a second look at a bundle found."""

    claimed: int
    """Adversarials in the bundle."""
    confirmed: int
    refused: dict[int | str, str] = field(default_factory=dict)
    """Example id -> why its adversarial does not count."""
    notes: list[str] = field(default_factory=list)
    """What differs from the recorded run: another model, another box."""
    warnings: list[str] = field(default_factory=list)
    """What the record itself warns of: that its adversarials are confirmed does not mend it."""

    @property
    def passed(self) -> bool:
        """Whether every claim was confirmed on the recorded model and data."""
        return not self.refused and not self.notes

    def reasons(self) -> list[str]:
        """One line per reason of refusal, the most frequent first, with its count and up to three examples."""
        names: dict[str, list[str]] = {}
        for name, why in self.refused.items():
            names.setdefault(why, []).append(str(name))
        told = []
        for why, ids in sorted(names.items(), key=lambda item: -len(item[1])):
            examples = f"example{'s' if len(ids) > 1 else ''} {', '.join(ids[:3])}{', …' if len(ids) > 3 else ''}"
            told.append(f"{len(ids)} refused: {why} ({examples})")
        return told

    def __str__(self) -> str:
        lines = [f"{self.confirmed} of {self.claimed} claimed adversarials confirmed: in the set, in the box, goal met"]
        lines += [f"note: {note}" for note in self.notes]
        lines += [f"warning: {warning}" for warning in self.warnings]
        return "\n".join(lines + self.reasons())


def verify(bundle: str | Path | Bundle, model: Classifier | torch.nn.Module, data: object) -> Verification:
    """Re-check every adversarial of a bundle against the model, the data and the recorded threat model.

    Each stored tensor is run in a fresh float32 forward pass and must lie in the set around *the data's own* input, lie
    in the box, and meet the goal. Nothing is taken from the bundle but the tensors, the ids and the threat model.

    Args:
        bundle: a run folder, or what `read_bundle` returned.  model, data: as for `audit`.

    Returns:
        `Verification`; print it, or ask `.passed`.

    Cost:
        2 forwards per broken example.

    Raises:
        BundleError, ModelError, DataError: what was brought cannot be used.
    """
    bundle = bundle if isinstance(bundle, Bundle) else read_bundle(bundle)
    classifier = as_classifier(model)
    source = (
        data if isinstance(data, DataSource) else load_data(data) if isinstance(data, str | Path) else as_source(data)
    )
    record = bundle.record
    threat, box = _recorded(bundle)
    found = Verification(claimed=record.outcomes["broken"], confirmed=0)
    found.warnings += [f"the record carries an alarm, {smell.name}: {smell.message}" for smell in record.alarms]
    if classifier.fingerprint() != record.model.fingerprint:
        found.notes.append(_other_model(classifier, record.model.preprocessing))
    if box != classifier.box:
        found.notes.append(f"the model's box is {classifier.box!r}, the record's {box!r}")
    if record.complete and not _same_data(source, bundle):
        found.notes.append("the data are not those that were audited: their fingerprint differs")
    broken = [line for line in bundle.lines if line.outcome == "broken"]
    oracle = Oracle(classifier)
    verifier = Verifier(oracle, threat, record.settings.verify_rows)
    with classifier.guest():
        for chunk in _chunks(broken, record.settings.verify_rows):
            _check(chunk, bundle, source, verifier, oracle, found)
    return found


def _same_data(source: DataSource, bundle: Bundle) -> bool:
    positions = [line.position for line in bundle.lines]
    fits = tuple(source.input_shape) == tuple(bundle.record.model.input_shape)
    if not positions or not fits or max(positions) >= len(source):
        return True  # data that do not fit have an error of their own, which says more
    return source.fingerprint(positions) == bundle.record.data.fingerprint


def _recorded(bundle: Bundle) -> tuple[ThreatModel, Box]:
    """The threat model and the box that the record names; what no potemkin wrote there is the bundle's fault."""
    record = bundle.record
    try:
        threat = ThreatModel.of(parse(record.threat.notation, kind=("threat", "set")))  # type: ignore[arg-type]
        box = Box.of((_open(record.threat.box[0], "-inf"), _open(record.threat.box[1], "inf")))
        check_rows(record.settings.verify_rows)
        number("verify_rows", record.settings.verify_rows, high=4096)
        number("seed", record.seed, low=-(2**63), high=2**63 - 1)
        if (threat.set.eps, threat.sentence(box)) != (record.threat.eps, record.threat.sentence):
            raise ConfigError(f"its notation {record.threat.notation} is not its sentence, {record.threat.sentence!r}.")
    except ConfigError as error:
        raise BundleError(
            f"The record in {bundle.folder} says what cannot be: {error} Take an untouched copy, or audit again."
        ) from error
    return threat, box


def _other_model(classifier: Classifier, recorded: str | None) -> str:
    """That the fingerprint differs, and by what, where the preprocessing tells."""
    given = None if classifier.preprocessing is None else repr(classifier.preprocessing)
    told = "the model is not the one that was audited: its fingerprint differs"
    if given == recorded:
        return told
    return f"{told}; the record has the preprocessing {recorded or 'none'}, this model {given or 'none'}"


def _open(side: float | None, otherwise: str) -> float:
    return float(otherwise) if side is None else side


def _chunks(lines: list[ExampleLine], size: int) -> Iterator[list[ExampleLine]]:
    for start in range(0, len(lines), size):
        yield lines[start : start + size]


def _check(
    lines: list[ExampleLine],
    bundle: Bundle,
    source: DataSource,
    verifier: Verifier,
    oracle: Oracle,
    found: Verification,
) -> None:
    positions = [line.position for line in lines]
    if max(positions) >= len(source):
        raise DataError(
            f"The bundle names position {max(positions)}, but {source.name} has {len(source)} examples: are these the "
            f"data that were audited ({bundle.record.data.name})?"
        )
    batch = next(iter(source.batches(len(lines), positions)))
    start = lines[0].adversarial or 0
    device = oracle.classifier.device
    claims = torch.from_numpy(bundle.tensor("inputs", start, start + len(lines)).copy()).to(device)
    if claims.shape != batch.inputs.shape:
        raise DataError(
            f"The bundle's inputs have shape {tuple(claims.shape[1:])}, the data's {tuple(batch.inputs.shape[1:])}."
        )
    centers = oracle.classifier.box.clip(batch.inputs).to(device)
    labels = batch.labels.to(device)
    padded = pad_rows(centers, verifier.rows)
    active = torch.ones(verifier.rows, dtype=torch.bool, device=device)
    meter = Meter.zeros(verifier.rows, device)
    clean = oracle.ask(padded, active=active, meter=meter, purpose="clean").outputs[: len(lines)]
    keys = torch.tensor([id_key(name) for name in batch.ids])
    streams = RowStreams(row_keys(bundle.record.seed, keys, 0, torch.tensor(NO_TARGET), torch.tensor(NO_TARGET)))
    aim = Aim(labels, verifier.threat.goal.targets(clean.cpu(), labels.cpu(), streams).to(device), clean)
    eps = torch.full((len(lines),), verifier.threat.set.eps, device=device)
    same = [
        name == line.id and label == line.label
        for name, label, line in zip(batch.ids, labels.tolist(), lines, strict=True)
    ]
    for line, verdict, fits in zip(lines, verifier.verify(claims, centers, aim, eps), same, strict=True):
        if not fits:
            found.refused[line.id] = "the data hold another example, or another label, at its position"
        elif verdict.valid:
            found.confirmed += 1
        else:
            found.refused[line.id] = verdict.why or "refused"
