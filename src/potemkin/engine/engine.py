"""The engine: a continuous batch of jobs, verified claims, results in the order of the data.

    while work remains:  admit examples (one clean pass), refill free slots, make `stride` steps, retire, verify

An example has one real job in flight; its next one follows from its own earlier outcomes. A fallen example costs
nothing more, and memory stays flat however long the data are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from potemkin.attacks.program import Attack, Program
from potemkin.core.canonical import show
from potemkin.core.explain import counted
from potemkin.core.random import row_keys
from potemkin.data.source import Batch as DataBatch
from potemkin.engine.admission import Admission
from potemkin.engine.batch import BUDGET, CLAIMS, FINISHED, NONFINITE, RUNNING, Batch, Seats
from potemkin.engine.claims import ClaimQueue
from potemkin.engine.dispatch import Dispatch
from potemkin.engine.jobs import End, Flight, Point, Result, Spent, Stage
from potemkin.engine.plan import Cascade
from potemkin.engine.setup import Settings, Setup
from potemkin.engine.verifier import Verifier
from potemkin.models.oracle import Oracle
from potemkin.threat.threat_model import ThreatModel


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
        self.setup = Setup(oracle, threat, tuple(attacks), seed, settings)
        climbs = self.setup.climbs
        self.batch = Batch(oracle, threat.set, threat.goal, settings.rows, settings.retire_cycles, climbs)
        self.claims = ClaimQueue(Verifier(oracle, threat, settings.verify_rows))
        self.dispatch = Dispatch(Cascade(self.setup.attacks, threat.set.eps), self._recall)
        self.seated: dict[int, Flight] = {}
        self._programs: dict[int, Program] = {}
        # Running ahead would spend a query budget that the real job may still need.
        self._may_speculate = settings.speculate and threat.access.queries is None

    def run(self, batches: Iterable[DataBatch]) -> Iterator[Result]:
        """Attack every example of `batches`; yield results in their order as soon as they are known."""
        admission = Admission(self.setup, self.dispatch, batches)
        while True:
            admission.fill(len(self.batch.free()) - len(self.dispatch.ready))
            if self.dispatch.due:
                yield from self.dispatch.results()
                continue
            self._refill(dry=admission.dry)
            if self.seated:
                for _ in range(self.setup.settings.stride):
                    self.batch.advance()
                self._retire()
                if self.on_step is not None:
                    self.on_step()
            if self.claims.full or (self.claims.waiting and not self.seated and not self.dispatch.ready):
                self._verify()
            if not (self.seated or self.dispatch.ready or self.claims.waiting) and admission.dry:
                break
        yield from self.dispatch.results()

    @property
    def fill(self) -> float:
        """Share of the rows computed in the search that belonged to a job."""
        return self.batch.filled / max(1, self.batch.steps * self.setup.settings.rows)

    def _refill(self, dry: bool) -> None:
        free = self.batch.free()
        if self._may_speculate and dry and not self.dispatch.ready and len(free) >= 8:
            self.dispatch.run_ahead(len(free))
        groups: dict[int, list[Flight]] = {}
        for flight in self.dispatch.ready[: len(free)]:
            groups.setdefault(flight.job.attack, []).append(flight)
        self.dispatch.ready = self.dispatch.ready[len(free) :]
        for attack, flights in groups.items():
            self._seat(attack, flights)

    def _seat(self, attack: int, flights: list[Flight]) -> None:
        slots = self.batch.free()[: len(flights)]
        parked = [flight.parked for flight in flights]
        self.batch.place(attack, self._program(attack), slots, self._seats(attack, flights), parked)
        for slot, flight in zip(slots, flights, strict=True):
            used = flight.example.spent.queries + flight.spent.queries
            self.batch.charge(slot, used)
            flight.stage, flight.parked = Stage.RUNNING, None
            self.seated[slot] = flight

    def _seats(self, attack: int, flights: list[Flight]) -> Seats:
        device, dtype = self.batch.device, self.setup.settings.dtype
        jobs, examples = [flight.job for flight in flights], [flight.example for flight in flights]

        def whole(values: list[int]) -> Tensor:
            return torch.tensor(values, dtype=torch.int64)

        targets, restarts = whole([job.target for job in jobs]), whole([job.restart for job in jobs])
        keys = whole([example.key for example in examples])
        return Seats(
            x=torch.stack([example.inputs for example in examples]).to(device, dtype),
            label=whole([job.label for job in jobs]).to(device),
            target=targets.to(device),
            goal_label=whole([example.label for example in examples]).to(device),
            goal_target=whole([example.goal_target for example in examples]).to(device),
            clean=torch.stack([example.clean_outputs for example in examples]).to(device, dtype),
            eps=torch.tensor([job.eps for job in jobs], dtype=dtype, device=device),
            steps=whole([job.steps for job in jobs]).to(device),
            keys=row_keys(self.setup.seed, keys, self.setup.attack_keys[attack], targets, restarts).to(device),
        )

    def _program(self, attack: int) -> Program:
        if attack not in self._programs:
            classes = self.setup.oracle.classifier.class_count
            norm, targeted = self.setup.threat.set.norm_name, self.setup.threat.goal.targeted
            self._programs[attack] = self.setup.attacks[attack].program(classes, norm, targeted)
        return self._programs[attack]

    def _retire(self) -> None:
        """Take out every row that is not running any more."""
        codes = self.batch.codes.tolist()
        over = [slot for slot in self.seated if codes[slot] != RUNNING]
        if not over:
            return
        index = torch.tensor(over, dtype=torch.int64, device=self.batch.device)
        seen = zip(self.batch.steered[index].tolist(), self.batch.moved[index].tolist(), strict=True)
        claims = [slot for slot in over if codes[slot] == CLAIMS]
        parked = self.batch.park(claims) if claims else {}
        bests = self.batch.bests([slot for slot in over if codes[slot] != CLAIMS])
        for slot, spent, (steered, moved) in zip(over, self._spent(over), seen, strict=True):
            flight = self.seated.pop(slot)
            flight.spent += spent
            flight.steered, flight.moved = steered, moved
            if codes[slot] == CLAIMS:
                flight.stage, flight.parked = Stage.CLAIMED, parked[slot]
                self.claims.add(flight)
            else:
                self.dispatch.finish(flight, *self._ending(flight, codes[slot]), Point(*bests[slot], float("nan")))
        self.batch.release(over)

    def _ending(self, flight: Flight, code: int) -> tuple[End, str | None]:
        recipe = show(self.setup.attacks[flight.job.attack])
        if code == NONFINITE:
            return End.NONFINITE, f"{recipe}: the model's scores became NaN or infinite during the search"
        if code == BUDGET:
            return (
                End.BUDGET,
                f"the budget of {counted(self.setup.threat.access.queries or 0, 'query')} per example is used up",
            )
        assert code == FINISHED
        if flight.refusals:
            refused = counted(len(flight.refusals), "claim")
            return End.REFUSED, f"{recipe}: {refused} refused; the last one {flight.refusals[-1]}"
        if flight.job.eps == 0:
            return End.HELD, None
        if not flight.steered:
            return End.BLIND, f"{recipe}: no usable signal: all gradients were zero or not finite"
        if not flight.moved:
            return End.BLIND, f"{recipe}: nothing moved: every point that was asked about is the input itself"
        return (End.CONTROL if self.setup.attacks[flight.job.attack].control else End.HELD), None

    def _verify(self) -> None:
        for flight, verdict in self.claims.settle(self.batch.device):
            if flight.stage is not Stage.CLAIMED:
                continue  # cancelled while it waited
            parked = flight.parked
            assert parked is not None
            if verdict.valid:
                point = Point(parked.claim.to("cpu", torch.float32), verdict.outputs.cpu(), verdict.distance)
                self.dispatch.finish(flight, End.BROKEN, None, point)
                continue
            flight.refusals.append(verdict.why or "was refused")
            if parked.over:
                best, outputs = parked.state.program.best[0], parked.state.program.best_outputs[0]
                point = Point(best.to("cpu", torch.float32), outputs.cpu(), float("nan"))
                self.dispatch.finish(flight, *self._ending(flight, FINISHED), point)
            else:
                self.dispatch.resume(flight)

    def _recall(self, flight: Flight) -> Spent:
        """Take a running flight out of the batch; return what its row has spent."""
        slot = next(slot for slot, seated in self.seated.items() if seated is flight)
        del self.seated[slot]
        spent = self._spent([slot])[0]
        self.batch.release([slot])
        return spent

    def _spent(self, slots: list[int]) -> list[Spent]:
        """What the rows in these slots have spent since they were seated."""
        meter = self.batch.meter.take(torch.tensor(slots, dtype=torch.int64, device=self.batch.device))
        passes = zip(meter.forwards.tolist(), meter.backwards.tolist(), strict=True)
        return [Spent(forwards, backwards, queries=forwards) for forwards, backwards in passes]
