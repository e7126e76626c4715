"""The main job: threat model x attacks x data -> Record."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from potemkin import __version__
from potemkin.attacks.program import Attack
from potemkin.core.canonical import show
from potemkin.core.checks import number
from potemkin.data.checks import check_source, checked_batches
from potemkin.data.load import load_data
from potemkin.data.sampling import Choice, choose_from
from potemkin.data.source import Batch, DataSource, Fingerprint
from potemkin.engine.engine import Engine
from potemkin.engine.setup import Settings
from potemkin.errors import ModelChangedError
from potemkin.evaluate import asked
from potemkin.evaluate.bundle_read import RECORD
from potemkin.evaluate.bundle_write import BundleWriter
from potemkin.evaluate.collect import Collector
from potemkin.evaluate.defaults import DEFAULT_ATTACKS
from potemkin.evaluate.environment import Typed, environment
from potemkin.evaluate.interrupts import uninterrupted
from potemkin.evaluate.prepare import as_classifier, cheapest_first, check_plan, check_rows, settings_for
from potemkin.evaluate.rates import Rates
from potemkin.evaluate.record import Record, Smell
from potemkin.evaluate.smells.again import look_again, not_looked
from potemkin.evaluate.smells.examine import examine
from potemkin.evaluate.smells.plan import suspect_plan
from potemkin.evaluate.smells.reflect import reflect
from potemkin.models.classifier import Classifier
from potemkin.models.oracle import Oracle
from potemkin.threat.sets.base import PerturbationSet
from potemkin.threat.threat_model import ThreatModel


@dataclass(frozen=True)
class Progress:
    """What a progress display may show: counts so far.

    `settled` examples have an outcome. The first `done` of the data are among them, which `held` counts: a fair sample,
    where the others that are settled are those that fell early.
    """

    settled: int
    done: int
    total: int
    held: int
    done_forwards: int
    """What those first ones needed; `seated_forwards` are all rows that belonged to a job so far."""
    seated_forwards: int
    forwards: int
    """Rows that were computed, padding and all."""
    seconds: float


def audit(
    model: Classifier | torch.nn.Module,
    data: object,
    threat: ThreatModel | PerturbationSet | str,
    attacks: Sequence[Attack | str] | Attack | str = DEFAULT_ATTACKS,
    *,
    seed: int = 0,
    examples: int | None = None,
    sample: str = "first",
    rows: int = 128,
    stride: int | None = None,
    retire_cycles: bool = True,
    speculate: bool = True,
    declared_accuracy: float | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    command: Typed | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Record:
    """Attack every chosen example within the threat model and say how each ended.

    Robust accuracy = examples that held / n; an example counts as broken only if the verifier's own float32 forward
    pass confirmed the exact tensor that is stored. Attacks run as a cascade, cheapest first, and an example that falls
    costs nothing more. The model comes back as it was.

    Args:
        model: a `Classifier`, or an nn.Module that takes inputs in [0, 1] and returns (B, K) logits.
        data: a name ("digits"), a path (.npz, idx, image folder), "module:function", a pair (inputs, labels), a torch
            data set or loader, or a `DataSource`.
        threat: a `ThreatModel`, or a set such as `Linf(8/255)`: then untargeted, gradients allowed.
        attacks: one or several recipes, for example `[pgd(steps=50, restarts=5), apgd()]`; left out: APGD with two
            objectives. Threat and attacks may be given in the notation of the command line, as texts.
        seed: of all random draws; an example's draws depend on (seed, its id, attack, target, restart) alone.
        examples, sample: how many, chosen "first", "random" or "balanced".
        rows: row count of the batch, a multiple of 8. Outcomes are byte-identical at one row count.
        stride: steps between looks at which rows are done; 1 on CPU, 8 elsewhere.
        retire_cycles: stop deterministic rows that came back to an earlier state (same outcome, lower cost,
            unless queries are limited).
        speculate: fill the emptying batch with later jobs.
        declared_accuracy: the clean accuracy that the model's owner claims; a smell is raised if it is far off.
        out: folder for the bundle (record.json, examples.jsonl, adversarials.safetensors).
        overwrite: replace an old bundle there.
        command: what was typed, for the record; the command line gives it.
        progress: called after every step of the engine.

    Returns:
        The `Record`. After Ctrl-C: the Record of what is done, marked incomplete.

    Cost:
        At most 1 clean forward plus each attack's declared cost per example, and 4 forwards and 2 backwards of one
        batch to look at the model before and after; verification, padding and speculation come on top. `Record.cost`
        says what it was.

    Raises:
        ConfigError: a setting is wrong, or an attack asks for more than the threat model allows.
        DataError, ModelError, BundleError: what was brought cannot be used.

    Example:
        >>> import torch, potemkin as pk
        >>> x, y = torch.rand(16, 4), torch.zeros(16, dtype=torch.int64)
        >>> record = pk.audit(torch.nn.Linear(4, 2), (x, y), pk.Linf(0.1), pk.fgsm())
        >>> record.n
        16
    """
    classifier, threat = as_classifier(model), ThreatModel.of(threat)
    source = load_data(data)
    check_rows(rows)
    if stride is not None:
        number("stride", stride, low=1, integer=True)
    if declared_accuracy is not None:
        number("declared_accuracy", declared_accuracy, low=0.0, high=1.0)
    choice = choose_from(source, examples, sample, seed)
    check_source(
        source, box=(classifier.box.low, classifier.box.high), classes=classifier.classes, positions=choice.positions
    )
    settings = settings_for(classifier, rows, stride, retire_cycles, speculate)
    run = Run(classifier, source, choice, threat, check_plan(attacks, threat, classifier.box), seed, settings)
    return run.go(declared_accuracy, out, overwrite, command, progress)


@dataclass
class Run:
    """One audit under way."""

    classifier: Classifier
    source: DataSource
    choice: Choice
    threat: ThreatModel
    attacks: tuple[Attack, ...]
    seed: int
    settings: Settings

    def go(
        self,
        declared: float | None,
        out: str | Path | None,
        overwrite: bool,
        command: Typed | None,
        progress: Callable[[Progress], None] | None,
    ) -> Record:
        began = time.perf_counter()
        oracle = Oracle(self.classifier, self.threat.access)
        writer = None if out is None else BundleWriter(out, input_shape=self.source.input_shape, overwrite=overwrite)
        collector = Collector(writer, self.threat.access.allows("scores"))
        try:
            changed, why = self._attack(oracle, collector, progress, began)
            if why is not None and not collector.n and out is not None and (Path(out) / RECORD).exists():
                raise KeyboardInterrupt  # nothing is no reason to give up the bundle that is there
            smells = suspect_plan(self.attacks, self.threat, self.classifier.box)
            smells += reflect(self.checkup, collector, declared, changed, self.classifier.class_count)
            seconds = time.perf_counter() - began
            record = self._record(oracle, collector, smells, why, command, seconds)
            return record if writer is None else writer.finish(record)
        finally:
            if writer is not None:
                writer.abort()

    def _attack(
        self, oracle: Oracle, collector: Collector, progress: Callable[[Progress], None] | None, began: float
    ) -> tuple[str | None, str | None]:
        """Run the engine; return (what changed in the model, why the run is incomplete)."""
        changed = why = None
        self.fingerprint = self.classifier.fingerprint()
        try:
            with self.classifier.guest() as in_train_mode:
                self.checkup = examine(oracle, next(self._batches()), self.settings, self.attacks, in_train_mode)
                self._prepare(oracle)
                if progress is not None:
                    self.engine.on_step = lambda: progress(self._progress(oracle, collector, began))
                try:
                    for result in self.engine.run(self._batches(collector.fingerprint(self.source.input_shape))):
                        with uninterrupted():  # an example is counted and written, or neither
                            collector.add(result, self.attacks)
                    self.checkup.smells += look_again(oracle, self.checkup, self.settings.rows)
                except KeyboardInterrupt:
                    why = "interrupted"
                    if collector.n == len(self.choice.positions):
                        self.checkup.smells += not_looked()
        except ModelChangedError as error:
            changed = str(error)
        return changed, why

    def _prepare(self, oracle: Oracle) -> None:
        classes = self.classifier.class_count
        self.attacks = cheapest_first(self.attacks, self.threat, classes)
        retire = self.settings.retire_cycles and self.checkup.may_retire
        self.settings = replace(self.settings, retire_cycles=retire)
        self.engine = Engine(oracle, self.threat, self.attacks, seed=self.seed, settings=self.settings)

    def _batches(self, fingerprint: Fingerprint | None = None) -> Iterator[Batch]:
        box = (self.classifier.box.low, self.classifier.box.high)
        batches = checked_batches(self.source, self.choice.positions, self.settings.rows, box, self.classifier.classes)
        for batch in batches:
            if fingerprint is not None:
                fingerprint.add(batch)
            yield batch

    def _progress(self, oracle: Oracle, collector: Collector, began: float) -> Progress:
        forwards = sum(cost.forwards for cost in oracle.physical.values())
        total = len(self.choice.positions)
        settled = collector.n + self.engine.dispatch.waiting
        seconds = time.perf_counter() - began
        return Progress(
            settled=settled,
            done=collector.n,
            total=total,
            held=collector.outcomes["held"],
            done_forwards=collector.useful.forwards,
            seated_forwards=self.engine.batch.filled + settled,
            forwards=forwards,
            seconds=seconds,
        )

    def _record(
        self,
        oracle: Oracle,
        collector: Collector,
        smells: list[Smell],
        why: str | None,
        command: Typed | None,
        seconds: float,
    ) -> Record:
        total = len(self.choice.positions)
        incomplete = why if collector.n < total else None
        data_fingerprint = (
            collector.hash.hexdigest() if incomplete is None else self.source.fingerprint(self.choice.positions)
        )
        passes = sum(cost.forward_equivalents for cost in oracle.physical.values())
        return Record(
            potemkin=__version__,
            complete=incomplete is None,
            why_incomplete=incomplete,
            threat=self._threat_info(),
            model=self._model_info(),
            data=asked.DataInfo(
                name=self.source.name,
                fingerprint=data_fingerprint,
                total=len(self.source),
                examples=total,
                sample=self.choice.sample,
                class_names=self.source.class_names,
            ),
            seed=self.seed,
            settings=asked.Settings(
                rows=self.settings.rows,
                stride=self.settings.stride,
                verify_rows=self.settings.verify_rows,
                retire_cycles=self.settings.retire_cycles,
                dtype="float32",
                device_type=torch.device(self.classifier.device).type,
            ),
            attacks=collector.summaries(self.attacks),
            outcomes=dict(collector.outcomes),
            rates=Rates.of({str(name): count for name, count in collector.outcomes.items()}, collector.clean_right),
            cost=collector.costs(oracle.physical, self.engine.dispatch.speculative),
            batch_fill=self.engine.fill,
            smells=smells,
            timing={"seconds": seconds, "forward_equivalents_per_second": passes / max(seconds, 1e-9)},
            environment=environment(self.classifier.device, command),
        )

    def _threat_info(self) -> asked.ThreatInfo:
        box = self.classifier.box
        return asked.ThreatInfo(
            sentence=self.threat.sentence(box),
            notation=show(self.threat.set if self.threat == ThreatModel(self.threat.set) else self.threat),
            norm=self.threat.set.norm_name,
            eps=self.threat.set.eps,
            goal=show(self.threat.goal),
            access=show(self.threat.access),
            eight_bit=self.threat.eight_bit,
            box=(box.low, box.high),
        )

    def _model_info(self) -> asked.ModelInfo:
        preprocessing = self.classifier.preprocessing
        return asked.ModelInfo(
            name=self.classifier.name,
            fingerprint=self.fingerprint,
            parameters=self.classifier.parameter_count,
            classes=self.classifier.class_count,
            input_shape=list(self.source.input_shape),
            preprocessing=None if preprocessing is None else repr(preprocessing),
            one_logit=self.classifier.one_logit,
        )
