"""Who gets which job next: examples in flight, their jobs in plan order, and the results in data order."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from potemkin.engine.jobs import End, Example, Finish, Flight, Point, Result, Spent, Stage, Tally, settle
from potemkin.engine.plan import Plan


class Dispatch:
    """Gives every example its jobs one after the other, and counts only those whose turn came.

    `recall(flight)` takes a flight out of the batch, if it is there, and returns what its row has spent since it was
    seated: jobs that ran ahead are called off when an earlier one succeeds.
    """

    def __init__(self, plan: Plan, recall: Callable[[Flight], Spent]) -> None:
        self.plan, self._recall = plan, recall
        self.ready: list[Flight] = []
        self.speculative = Spent()
        self.told = 0
        self._examples: dict[int, Example] = {}
        self._results: dict[int, Result] = {}

    def begin(self, example: Example) -> None:
        """Give an example its first job."""
        self._examples[example.order] = example
        self._proceed(example)

    def tell(self, result: Result) -> None:
        """Note a result; it is yielded when all before it are known."""
        self._results[result.order] = result

    def results(self) -> Iterator[Result]:
        """Yield the results that are known without a gap."""
        while self.due:
            yield self._results.pop(self.told)
            self.told += 1

    @property
    def due(self) -> bool:
        """Whether a result can be yielded."""
        return self.told in self._results

    @property
    def waiting(self) -> int:
        """Results that are known, but wait for an example before them."""
        return len(self._results)

    def finish(self, flight: Flight, end: End, why: str | None, point: Point | None) -> None:
        """End a job, and go on with its example."""
        flight.stage, flight.parked = Stage.DONE, None
        flight.finish = Finish(flight.job, end, why, flight.spent, point, len(flight.refusals))
        if end is End.BROKEN:
            self._call_off(flight.example, flight.example.flights.index(flight) + 1)
        self._proceed(flight.example)

    def resume(self, flight: Flight) -> None:
        """Send a job whose claim was refused back to its search, before all others."""
        flight.stage = Stage.READY
        self.ready.insert(0, flight)

    def run_ahead(self, free: int) -> None:
        """Start jobs that will count only if all earlier ones of their example fail."""
        progress = True
        while progress and len(self.ready) < free:
            progress = False
            for example in self._examples.values():
                # Behind a claim, or a later job that is over already, nothing is likely to count.
                settled = any(flight.stage in (Stage.CLAIMED, Stage.DONE) for flight in example.flights)
                if len(self.ready) >= free or settled:
                    continue
                job = self.plan.next(example, example.finished, ahead=len(example.flights))
                if job is not None:
                    example.flights.append(Flight(example, job))
                    self.ready.append(example.flights[-1])
                    progress = True

    def _proceed(self, example: Example) -> None:
        """Count the finished jobs whose turn it is; then go on with the next one, or conclude."""
        while example.flights and example.flights[0].finish is not None:
            finish = example.flights.pop(0).finish
            assert finish is not None
            example.finished.append(finish)
            example.spent += finish.spent
            if finish.end in (End.BROKEN, End.BUDGET):
                self._call_off(example, 0)
                return self._conclude(example)
        if example.flights:
            return None
        job = self.plan.next(example, example.finished)
        if job is None:
            return self._conclude(example)
        example.flights.append(Flight(example, job))
        self.ready.append(example.flights[0])
        return None

    def _call_off(self, example: Example, first: int) -> None:
        """Drop the flights from number `first` on; what they cost was speculation."""
        for flight in example.flights[first:]:
            if flight.stage is Stage.RUNNING:
                flight.spent += self._recall(flight)
            elif flight.stage is Stage.READY:
                self.ready.remove(flight)
            flight.stage = Stage.DONE
            self.speculative += flight.spent
        del example.flights[first:]

    def _conclude(self, example: Example) -> None:
        del self._examples[example.order]
        outcome, why, story = settle(example.finished)
        tallies: dict[int, Tally] = {}
        for finish in example.finished:
            tally = tallies.setdefault(finish.job.attack, Tally())
            tally.jobs += 1
            tally.spent += finish.spent
            tally.refused += finish.refused
        self.tell(
            Result(
                order=example.order,
                id=example.id,
                position=example.position,
                label=example.label,
                inputs=example.inputs,
                clean_outputs=example.clean_outputs,
                outcome=outcome,
                why=why,
                spent=example.spent,
                broken_by=story.job if outcome == "broken" and story is not None else None,
                point=None if story is None else story.point,
                attacks=tallies,
            )
        )
