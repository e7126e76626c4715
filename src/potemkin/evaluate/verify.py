"""Check a bundle again: anyone with the model and the data can re-verify what it claims."""

from __future__ import annotations

from pathlib import Path

import torch

from potemkin.core.canonical import show
from potemkin.core.checks import number
from potemkin.core.notation import parse
from potemkin.data.load import load_data
from potemkin.data.source import DataSource
from potemkin.engine.verifier import Verifier
from potemkin.errors import BundleError, ConfigError, DataError
from potemkin.evaluate.asked import ThreatInfo
from potemkin.evaluate.bundle_read import Bundle, read_bundle
from potemkin.evaluate.prepare import as_classifier, check_rows
from potemkin.evaluate.recheck import LARGEST, Recheck
from potemkin.evaluate.verification import Verification
from potemkin.models.classifier import Classifier
from potemkin.models.oracle import Oracle
from potemkin.threat.box import Box
from potemkin.threat.threat_model import ThreatModel


def verify(bundle: str | Path | Bundle, model: Classifier | torch.nn.Module, data: object) -> Verification:
    """Re-check every adversarial and every clean prediction of a bundle against the model and the data.

    Each stored tensor is run in a fresh float32 forward pass and must lie in the set around *the data's own* input, lie
    in the box, and meet the goal of the recorded threat model. Each example is asked about without an attack: what the
    model gets right must not be called `clean_wrong`, what it gets wrong must be, and the recorded prediction must be
    its own; two scores closer than rounding may decide either way. A broken line's distance and prediction under attack
    must be those of its tensor, and what the record counts and calls the threat model must agree with its lines and its
    notation. Nothing else is taken from the bundle than the tensors, the ids with their positions, the threat model,
    the seed and the row counts.

    Not checked, and mostly not to be checked without searching again: that an example *held* (its line is confirmed in
    its clean prediction alone), which of the attacks broke one and with which restart and target, costs, settings,
    seeds (but for the targets that they draw), smells, confidences, pictures, how the examples were chosen, and what is
    told of model and data beside their fingerprints.

    Args:
        bundle: a run folder, or what `read_bundle` returned; of a run that was cut short, what it holds is checked.
        model, data: as for `audit`.

    Returns:
        `Verification`; print it, or ask `.passed`.

    Cost:
        1 forward per example and 1 per broken one (2 with `eight_bit`), and what fills the batches up: those of the
        clean inputs have as many rows as the audit's (at most 4096), those of the claims as many as its verifier's.

    Raises:
        BundleError, ModelError, DataError: what was brought cannot be used.
    """
    bundle = bundle if isinstance(bundle, Bundle) else read_bundle(bundle)
    classifier = as_classifier(model)
    source = load_data(data)
    record = bundle.record
    threat, box = _recorded(bundle)
    _check_fits(source, bundle)
    found = Verification(claimed=record.outcomes["broken"], confirmed=0, held=record.outcomes["held"])
    found.warnings += [f"the record carries an alarm, {smell.name}: {smell.message}" for smell in record.alarms]
    if classifier.fingerprint() != record.model.fingerprint:
        found.notes.append(_other_model(classifier, record.model.preprocessing))
    if box != classifier.box:
        found.notes.append(f"the model's box is {classifier.box!r}, the record's {box!r}")
    if record.complete and not _same_data(source, bundle):
        found.notes.append("the data are not those that were audited: their fingerprint differs")
    verifier = Verifier(Oracle(classifier), threat, record.settings.verify_rows)
    with classifier.guest():
        Recheck(bundle, source, verifier, found).run()
    return found


def _check_fits(source: DataSource, bundle: Bundle) -> None:
    last = max((line.position for line in bundle.lines), default=-1)
    if last >= len(source):
        raise DataError(
            f"The bundle names position {last}, but {source.name} has {len(source)} examples: are these the data that "
            f"were audited ({bundle.record.data.name})?"
        )
    recorded, given = tuple(bundle.record.model.input_shape), tuple(source.input_shape)
    if given != recorded:
        raise DataError(f"The bundle's inputs have shape {recorded}, the data's {given}.")


def _same_data(source: DataSource, bundle: Bundle) -> bool:
    positions = [line.position for line in bundle.lines]
    return not positions or source.fingerprint(positions) == bundle.record.data.fingerprint


def _recorded(bundle: Bundle) -> tuple[ThreatModel, Box]:
    """The threat model and the box that the record names; what no potemkin wrote there is the bundle's fault."""
    record = bundle.record
    try:
        threat = ThreatModel.of(parse(record.threat.notation, kind=("threat", "set")))
        box = Box.of((_open(record.threat.box[0], "-inf"), _open(record.threat.box[1], "inf")))
        check_rows(record.settings.rows)
        check_rows(record.settings.verify_rows)
        number("verify_rows", record.settings.verify_rows, high=LARGEST)
        number("seed", record.seed, low=-(2**63), high=2**63 - 1)
        _check_told(record.threat, threat, box)
    except ConfigError as error:
        raise BundleError(
            f"The record in {bundle.folder} says what cannot be: {error} Take an untouched copy, or audit again."
        ) from error
    return threat, box


def _check_told(told: ThreatInfo, threat: ThreatModel, box: Box) -> None:
    """ConfigError where the threat model is told otherwise than in its notation, from which it is rebuilt."""
    meant = {
        "sentence": threat.sentence(box),
        "norm": threat.set.norm_name,
        "eps": threat.set.eps,
        "goal": show(threat.goal),
        "access": show(threat.access),
        "eight_bit": threat.eight_bit,
    }
    for name, value in meant.items():
        if getattr(told, name) != value:
            raise ConfigError(
                f"by its notation {told.notation} the {name} of the threat model is {value!r}, found "
                f"{getattr(told, name)!r}."
            )


def _other_model(classifier: Classifier, recorded: str | None) -> str:
    """That the fingerprint differs, and by what, where the preprocessing tells."""
    given = None if classifier.preprocessing is None else repr(classifier.preprocessing)
    told = "the model is not the one that was audited: its fingerprint differs"
    if given == recorded:
        return told
    return f"{told}; the record has the preprocessing {recorded or 'none'}, this model {given or 'none'}"


def _open(side: float | None, otherwise: str) -> float:
    return float(otherwise) if side is None else side
