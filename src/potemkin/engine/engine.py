"""The engine: a continuous batch of jobs, verified claims, results in the order of the data.

    while work remains:  admit examples (one clean pass)  ->  refill free slots  ->  `stride` steps  ->  retire  ->  verify

An example has one real job in flight; its next one follows from its own earlier outcomes. A fallen example costs nothing
more, and memory stays flat however long the data are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from potemkin.attacks.program import Asks, Attack, Program
from potemkin.core.canonical import show
from potemkin.core.random import row_keys, text_key
from potemkin.data.source import Batch as DataBatch
from potemkin.engine.admission import Admission
from potemkin.engine.batch import BUDGET, CLAIMS, FINISHED, NONFINITE, RUNNING, Batch, Seats
from potemkin.engine.claims import ClaimQueue
from potemkin.engine.jobs import End, Example, Finish, Flight, Point, Result, Spent, Stage, Tally, settle
from potemkin.engine.plan import Cascade, Plan
from potemkin.engine.verifier import Verifier
from potemkin.models.oracle import Oracle
from potemkin.threat.threat_model import ThreatModel


@dataclass(frozen=True)
class Settings:
    """How the engine runs; nothing here changes an outcome except `rows`, whose effect is rounding."""

    rows: int = 128
    """Rows of the batch, a multiple of 8."""
    stride: int = 1
    """Steps between two looks at which rows are done; more where looking waits for a device."""
    verify_rows: int = 32
    """Row count of the verifier's own forward pass."""
    retire_cycles: bool = True
    """Retire deterministic rows that came back to a state they had been in."""
    speculate: bool = True
    """Fill the batch with later jobs when nothing else is left."""
    dtype: torch.dtype = torch.float32


class Engine:
    """Runs attacks on a stream of examples and yields each example's `Result`, in the order of the data."""

    def __init__(
        self,
        oracle: Oracle,
        threat: ThreatModel,
        attacks: Iterable[Attack],
        *,
        seed: int = 0,
        settings: Settings = Settings(),
        on_step: Callable[[], None] | None = None,
    ) -> None:
        self.on_step = on_step
        self.oracle, self.threat, self.attacks = oracle, threat, tuple(attacks)
        self.seed, self.settings = seed, settings
        self.plan: Plan = Cascade(self.attacks, threat.set.eps)
        self.attack_keys = [text_key(show(attack)) for attack in self.attacks]
        self.batch = Batch(oracle, threat.set, threat.goal, settings.rows, settings.retire_cycles)
        self.claims = ClaimQueue(Verifier(oracle, threat, settings.verify_rows))
        self.ready: list[Flight] = []
        self.seated: dict[int, Flight] = {}
        self.examples: list[Example] = []
        self.results: dict[int, Result] = {}
        self.speculative = Spent()
        self.told = 0
        self._programs: dict[int, Program] = {}
        # Running ahead would spend a query budget that the real job may still need.
        self._may_speculate = settings.speculate and threat.access.queries is None

    def run(self, batches: Iterable[DataBatch]) -> Iterator[Result]:
        """Attack every example of `batches`; yield results in their order as soon as they are known."""
        admission = Admission(self, batches)
        while True:
            admission.fill(len(self.batch.free()) - len(self.ready))
            yield from self._tell()
            self._refill(dry=admission.dry)
            if self.seated:
                for _ in range(self.settings.stride):
                    self.batch.advance()
                self._retire()
                if self.on_step is not None:
                    self.on_step()
            if self.claims.full or (self.claims.waiting and not self.seated and not self.ready):
                self._verify()
            if not (self.seated or self.ready or self.claims.waiting) and admission.dry:
                break
        yield from self._tell()

    @property
    def fill(self) -> float:
        """Share of the rows computed in the search that belonged to a job."""
        return self.batch.filled / max(1, self.batch.steps * self.settings.rows)

    def begin(self, example: Example) -> None:
        """Give an example its first job."""
        self.examples.append(example)
        self._proceed(example)

    def tell(self, result: Result) -> None:
        """Note a result; it is yielded when all before it are known."""
        self.results[result.order] = result

    def _tell(self) -> Iterator[Result]:
        while self.told in self.results:
            yield self.results.pop(self.told)
            self.told += 1

    # ---- slots ----------------------------------------------------------------------------------------------------

    def _refill(self, dry: bool) -> None:
        free = self.batch.free()
        if self._may_speculate and dry and not self.ready and len(free) >= 8:
            self._run_ahead(len(free))
        asks = next(iter(self.batch.lanes.values())).program.asks if self.batch.lanes else None
        groups: dict[int, list[Flight]] = {}
        waiting: list[Flight] = []
        for flight in self.ready:
            wants = self._program(flight.job.attack).asks
            asks = asks or wants
            # Programs that need no gradient wait for a batch of their own: they must not pay for backwards.
            if free and (wants is Asks.GRADIENTS) == (asks is Asks.GRADIENTS):
                groups.setdefault(flight.job.attack, []).append(flight)
                free.pop()
            else:
                waiting.append(flight)
        self.ready = waiting
        for attack, flights in groups.items():
            self._seat(attack, flights)

    def _seat(self, attack: int, flights: list[Flight]) -> None:
        slots = self.batch.free()[: len(flights)]
        states = [flight.state for flight in flights]
        self.batch.place(attack, self._program(attack), slots, self._seats(attack, flights), states)
        for slot, flight in zip(slots, flights, strict=True):
            used = flight.example.spent.queries + flight.spent.queries
            self.batch.charge(slot, used)
            flight.stage, flight.state = Stage.RUNNING, None
            self.seated[slot] = flight

    def _seats(self, attack: int, flights: list[Flight]) -> Seats:
        device, dtype = self.batch.device, self.settings.dtype
        jobs, examples = [flight.job for flight in flights], [flight.example for flight in flights]

        def whole(values: list[int]) -> Tensor:
            return torch.tensor(values, dtype=torch.int64)

        targets, restarts = whole([job.target for job in jobs]), whole([job.restart for job in jobs])
        keys = whole([example.key for example in examples])
        return Seats(
            x=torch.stack([example.inputs for example in examples]).to(device, dtype),
            label=whole([job.label for job in jobs]).to(device),
            target=targets.to(device),
            goal_target=whole([example.goal_target for example in examples]).to(device),
            clean=torch.stack([example.clean_outputs for example in examples]).to(device, dtype),
            eps=torch.tensor([job.eps for job in jobs], dtype=dtype, device=device),
            steps=whole([job.steps for job in jobs]).to(device),
            keys=row_keys(self.seed, keys, self.attack_keys[attack], targets, restarts).to(device),
        )

    def _program(self, attack: int) -> Program:
        if attack not in self._programs:
            classes = self.oracle.classifier.classes or 2
            norm, targeted = self.threat.set.norm_name, self.threat.goal.targeted
            self._programs[attack] = self.attacks[attack].program(classes, norm, targeted)
        return self._programs[attack]

    def _retire(self) -> None:
        """Take out every row that is not running any more."""
        codes = self.batch.codes.tolist()
        over = [slot for slot in self.seated if codes[slot] != RUNNING]
        if not over:
            return
        index = torch.tensor(over, dtype=torch.int64, device=self.batch.device)
        meter = self.batch.meter.take(index)
        passes = zip(meter.forwards.tolist(), meter.backwards.tolist(), strict=True)
        signals = self.batch.signal[index].tolist()
        states = self.batch.states([slot for slot in over if codes[slot] == CLAIMS])
        bests = self.batch.bests([slot for slot in over if codes[slot] != CLAIMS])
        for slot, (forwards, backwards), signal in zip(over, passes, signals, strict=True):
            flight = self.seated.pop(slot)
            flight.spent += Spent(forwards, backwards, forwards)
            flight.signal = flight.signal or signal or flight.job.eps == 0
            if flight.stage is not Stage.RUNNING:
                continue  # cancelled while it ran
            if codes[slot] == CLAIMS:
                flight.stage, flight.state = Stage.CLAIMED, states[slot]
                self.claims.add(flight)
            else:
                self._finish(flight, *self._ending(flight, codes[slot]), Point(*bests[slot], float("nan")))
        self.batch.release(over)

    def _ending(self, flight: Flight, code: int) -> tuple[End, str | None]:
        recipe = show(self.attacks[flight.job.attack])
        if code == NONFINITE:
            return End.NONFINITE, f"{recipe}: the model's scores became NaN or infinite during the search"
        if code == BUDGET:
            return End.BUDGET, f"the budget of {self.threat.access.queries} queries per example is used up"
        assert code == FINISHED
        if flight.refusals:
            return End.REFUSED, f"{recipe}: {len(flight.refusals)} claims refused; the last one {flight.refusals[-1]}"
        if not flight.signal:
            return End.BLIND, f"{recipe}: no usable signal: all gradients were zero or not finite, or nothing moved"
        return End.HELD, None

    def _verify(self) -> None:
        for flight, verdict in self.claims.settle(self.batch.device):
            if flight.stage is not Stage.CLAIMED:
                continue  # cancelled while it waited
            if verdict.valid:
                point = Point(flight.state.query[0].to("cpu", torch.float32), verdict.outputs.cpu(), verdict.distance)
                self._finish(flight, End.BROKEN, None, point)
            else:
                flight.refusals.append(verdict.why or "was refused")
                flight.stage = Stage.READY
                self.ready.insert(0, flight)

    # ---- examples -------------------------------------------------------------------------------------------------

    def _finish(self, flight: Flight, end: End, why: str | None, point: Point | None) -> None:
        flight.stage, flight.state = Stage.DONE, None
        flight.finish = Finish(flight.job, end, why, flight.spent, point, len(flight.refusals))
        example = flight.example
        if end is End.BROKEN:
            self._cancel(example, example.flights.index(flight) + 1)
        self._proceed(example)

    def _proceed(self, example: Example) -> None:
        """Count the finished jobs whose turn it is; then go on with the next one, or conclude."""
        while example.flights and example.flights[0].finish is not None:
            finish = example.flights.pop(0).finish
            assert finish is not None
            example.finished.append(finish)
            example.spent += finish.spent
            if finish.end is End.BROKEN or finish.end is End.BUDGET:
                self._cancel(example, 0)
                return self._conclude(example)
        if example.flights:
            return None
        job = self.plan.next(example, example.finished)
        if job is None:
            return self._conclude(example)
        example.flights.append(Flight(example, job))
        self.ready.append(example.flights[0])
        return None

    def _cancel(self, example: Example, first: int) -> None:
        """Drop the flights from number `first` on; what they cost was speculation."""
        for flight in example.flights[first:]:
            if flight.stage is Stage.RUNNING:
                slot = next(slot for slot, seated in self.seated.items() if seated is flight)
                del self.seated[slot]
                forwards, backwards = int(self.batch.meter.forwards[slot]), int(self.batch.meter.backwards[slot])
                flight.spent += Spent(forwards, backwards, forwards)
                self.batch.release([slot])
            elif flight in self.ready:
                self.ready.remove(flight)
            flight.stage = Stage.DONE
            self.speculative += flight.spent
        del example.flights[first:]

    def _conclude(self, example: Example) -> None:
        self.examples.remove(example)
        outcome, why, story = settle(example.finished)
        tallies: dict[int, Tally] = {}
        for finish in example.finished:
            tally = tallies.setdefault(finish.job.attack, Tally())
            tally.jobs, tally.spent, tally.refused = (
                tally.jobs + 1,
                tally.spent + finish.spent,
                tally.refused + finish.refused,
            )
        result = Result(
            example.order,
            example.id,
            example.position,
            example.label,
            example.inputs,
            example.clean_outputs,
            outcome,
            why,
            example.spent,
            point=None if story is None else story.point,
            attacks=tallies,
        )
        result.broken_by = story.job if outcome == "broken" and story is not None else None
        self.tell(result)

    def _run_ahead(self, free: int) -> None:
        """Start jobs that will count only if all earlier ones of their example fail."""
        progress = True
        while progress and len(self.ready) < free:
            progress = False
            for example in self.examples:
                if len(self.ready) >= free or any(flight.finish is not None for flight in example.flights[1:]):
                    continue
                job = self.plan.next(example, example.finished, ahead=len(example.flights))
                if job is not None:
                    example.flights.append(Flight(example, job))
                    self.ready.append(example.flights[-1])
                    progress = True
