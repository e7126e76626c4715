"""The batch: a fixed number of rows, one model call per step, rows of several attacks side by side.

codes:  0 idle   1 running   2 claims   3 finished   4 scores not finite   5 query budget used up
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from potemkin.attacks.program import Asks, Program, Reply, Rows, map_tensors
from potemkin.core.random import RowStreams
from potemkin.core.rows import finite, pad_rows, peak, round_up, select
from potemkin.engine.lane import Lane, LaneState
from potemkin.models.oracle import Meter, Oracle
from potemkin.threat.goals import Aim
from potemkin.threat.sets.base import PerturbationSet

IDLE, RUNNING, CLAIMS, FINISHED, NONFINITE, BUDGET = range(6)


@dataclass
class Seats:
    """Jobs to be placed, as tensors with n rows."""

    x: Tensor
    label: Tensor
    """What the attack steers away from; what counts as success is measured at `goal_label`."""
    target: Tensor
    goal_label: Tensor
    goal_target: Tensor
    clean: Tensor
    eps: Tensor
    steps: Tensor
    keys: Tensor

    def rows(self, perturbations: PerturbationSet, oracle: Oracle) -> Rows:
        """What a program sees of them."""
        return Rows(
            x=self.x,
            aim=Aim(self.label, self.target, self.clean),
            set=perturbations,
            region=perturbations.around(self.x, oracle.classifier.box, self.eps),
            steps=self.steps,
            streams=RowStreams(self.keys),
        )


@dataclass
class Parked:
    """A row with a claim, out of the batch: the point, the state after its next step, whether that was the last."""

    claim: Tensor
    state: LaneState
    over: bool


class Batch:
    """Rows of jobs under way. The engine places jobs and takes them out; `advance` makes one step of all of them."""

    def __init__(
        self, oracle: Oracle, perturbations: PerturbationSet, goal: Any, rows: int, retire_cycles: bool, climb: bool
    ) -> None:
        self.oracle, self.set, self.goal = oracle, perturbations, goal
        self.count, self.retire_cycles = rows, retire_cycles
        # One mode for all forward passes of a search: some networks answer otherwise, in the last bit, without a graph,
        # and a row's answer must not depend on whether another row wants a gradient.
        self.climb = climb
        self.device = oracle.classifier.device
        self.seats: Seats | None = None
        self.lanes: dict[int, Lane] = {}
        self.lane_of: list[int | None] = [None] * rows
        self.codes = torch.zeros(rows, dtype=torch.int8, device=self.device)
        self.over = torch.zeros(rows, dtype=torch.bool, device=self.device)
        self.claimed: Tensor | None = None
        self.steered = torch.zeros(rows, dtype=torch.bool, device=self.device)
        self.moved = torch.zeros(rows, dtype=torch.bool, device=self.device)
        self.meter = Meter.zeros(rows, self.device)
        self.filled = 0
        self.steps = 0
        # Waiting for the device is free on CPU, and spares freezing rows when none has to be.
        self._may_look = torch.device(self.device).type == "cpu"

    def free(self) -> list[int]:
        """Slots without a job."""
        return [slot for slot, lane in enumerate(self.lane_of) if lane is None]

    def place(
        self, attack: int, program: Program, slots: Sequence[int], seats: Seats, parked: Sequence[Parked | None]
    ) -> None:
        """Put jobs of one attack into free slots: new ones start, those that were parked go on where they were."""
        index = torch.tensor(slots, dtype=torch.int64, device=self.device)
        self._seat(index, seats)
        lane = self._lane(attack, program)
        fresh = lane.fresh(self._started(program, seats))
        for row, back in enumerate(parked):
            if back is not None:
                at = torch.tensor([row], device=self.device)
                fresh = map_tensors(partial(_written, at), fresh, back.state)
        lane.place(index, fresh)
        for slot in slots:
            self.lane_of[slot] = attack
        lane.own([slot for slot, owner in enumerate(self.lane_of) if owner == attack])
        self.codes[index] = RUNNING
        self.steered[index] = False
        self.moved[index] = False

    def charge(self, slot: int, queries: int) -> None:
        """Set a slot's meter to zero, its queries to what the example has used already."""
        self.meter.forwards[slot] = 0
        self.meter.backwards[slot] = 0
        self.meter.queries[slot] = queries

    def _seat(self, index: Tensor, new: Seats) -> None:
        if self.seats is None:
            # Empty seats hold a copy of the first job: padding that the model can digest.
            first = {name: value[:1].expand(self.count, *value.shape[1:]).clone() for name, value in vars(new).items()}
            self.seats = Seats(**first)
        changed = {name: value.index_copy(0, index, getattr(new, name)) for name, value in vars(self.seats).items()}
        self.seats = Seats(**changed)
        self.rows = self.seats.rows(self.set, self.oracle)
        self.goal_aim = Aim(self.seats.goal_label, self.seats.goal_target, self.seats.clean)

    def _started(self, program: Program, seats: Seats) -> Any:
        """Start new rows at a padded count, like everything whose last bit could depend on the row count."""
        count = seats.x.shape[0]
        padded = Seats(**{name: pad_rows(value, round_up(count)) for name, value in vars(seats).items()})
        state = program.start(padded.rows(self.set, self.oracle))
        return map_tensors(lambda leaf: leaf[:count], state)

    def _lane(self, attack: int, program: Program) -> Lane:
        if attack not in self.lanes:
            self.lanes[attack] = Lane(program, self.rows, self.retire_cycles)
        return self.lanes[attack]

    def advance(self) -> None:
        """One model call for all rows, then one step of each lane; rows that claim or are done are frozen."""
        lanes = list(self.lanes.values())
        running = self.codes == RUNNING
        query = _combined(lanes, [lane.state.query for lane in lanes])
        claimable = _combined(lanes, [lane.state.claimable for lane in lanes])
        climbs = _combined(lanes, [lane.state.climbs for lane in lanes])
        answer = self.oracle.ask(
            query,
            active=running,
            meter=self.meter,
            objective=self._objective(lanes),
            climb=self.climb,
            climbing=climbs,
            backward=not self._may_look or bool((climbs & running).any()),
        )
        # Where the query is no point of the set (a look-ahead), the model need not have an answer.
        readable = finite(answer.outputs) | answer.refused | ~claimable
        met = running & self.goal.is_met(answer.outputs, self.goal_aim) & claimable
        going = running & readable & ~answer.refused
        assert answer.value is not None
        gradient = torch.zeros_like(query) if answer.gradient is None else answer.gradient
        reply = Reply(answer.outputs, answer.value, gradient)
        self.steered |= going & (_useful(gradient) | self._blindfold(lanes))
        self.moved |= going & (query != self.rows.x).flatten(1).any(dim=1)

        # A row that claimed earlier in this stride must be frozen, too: only empty seats may step along.
        all_going = self._may_look and bool((going | (self.codes == IDLE)).all())
        done = torch.zeros_like(going)
        for lane in lanes:
            circling = lane.advance(self.rows, reply, going, all_going)
            done |= lane.mask & going & (circling | lane.state.finished)
        # A claiming row has made its step: if the claim is refused, it goes on from there, and nothing is asked twice.
        self.claimed = query if self.claimed is None else select(met, query, self.claimed)
        self.over = torch.where(met, done, self.over)
        codes = torch.where(done, FINISHED, self.codes)
        codes = torch.where(met, CLAIMS, codes)
        codes = torch.where(running & ~readable, NONFINITE, codes)
        self.codes = torch.where(running & answer.refused, BUDGET, codes).to(torch.int8)
        self.steps += 1
        self.filled += sum(len(lane.index) for lane in lanes)

    def _objective(self, lanes: list[Lane]) -> Any:
        if len(lanes) == 1:
            objective = lanes[0].program.objective
            return lambda outputs: objective(outputs, self.rows.aim)

        def value(outputs: Tensor) -> Tensor:
            # Each objective sees its own rows only: a gradient that is not finite elsewhere can not leak in.
            whole = outputs.new_zeros(outputs.shape[0])
            for lane in lanes:
                own = lane.program.objective(outputs.index_select(0, lane.index), self.rows.aim.rows(lane.index))
                whole = whole.index_copy(0, lane.index, own)
            return whole

        return value

    def _blindfold(self, lanes: list[Lane]) -> Tensor:
        """(B,) bool: rows whose program asks for no gradient, and so can not miss it."""
        free = torch.zeros_like(self.over)
        for lane in lanes:
            if lane.program.asks is not Asks.GRADIENTS:
                free = free | lane.mask
        return free

    def park(self, slots: Sequence[int]) -> dict[int, Parked]:
        """What is needed to verify the claims in these slots, and to go on if they are refused: a gather per lane."""
        assert self.claimed is not None
        found: dict[int, Parked] = {}
        for attack, lane in self.lanes.items():
            own = [slot for slot in slots if self.lane_of[slot] == attack]
            index = torch.tensor(own, dtype=torch.int64, device=self.device)
            gathered, claims = map_tensors(partial(_rows_at, index), lane.whole), self.claimed.index_select(0, index)
            over = self.over[index].tolist()
            for row, slot in enumerate(own):
                found[slot] = Parked(claims[row], map_tensors(partial(_row_of, row), gathered), over[row])
        return found

    def bests(self, slots: Sequence[int]) -> dict[int, tuple[Tensor, Tensor]]:
        """The best point (float32) and its outputs on the CPU, by slot."""
        found: dict[int, tuple[Tensor, Tensor]] = {}
        for attack, lane in self.lanes.items():
            own = [slot for slot in slots if self.lane_of[slot] == attack]
            index = torch.tensor(own, dtype=torch.int64, device=self.device)
            points = lane.state.best.index_select(0, index).to("cpu", torch.float32)
            outputs = lane.state.best_outputs.index_select(0, index).cpu()
            found.update({slot: (points[row], outputs[row]) for row, slot in enumerate(own)})
        return found

    def release(self, slots: Sequence[int]) -> None:
        """Free slots; a lane without rows is dropped with its memory."""
        for slot in slots:
            self.lane_of[slot] = None
        if slots:
            self.codes[torch.tensor(list(slots), device=self.device)] = IDLE
        for attack in list(self.lanes):
            left = [slot for slot, owner in enumerate(self.lane_of) if owner == attack]
            if left:
                self.lanes[attack].own(left)
            else:
                del self.lanes[attack]


def _combined(lanes: list[Lane], leaves: list[Tensor]) -> Tensor:
    whole = leaves[0]
    for lane, leaf in zip(lanes[1:], leaves[1:], strict=True):
        whole = whole.index_copy(0, lane.index, leaf.index_select(0, lane.index))
    return whole


def _rows_at(index: Tensor, leaf: Tensor) -> Tensor:
    return leaf.index_select(0, index)


def _row_of(row: int, leaf: Tensor) -> Tensor:
    return leaf[row : row + 1]


def _written(at: Tensor, whole: Tensor, row: Tensor) -> Tensor:
    return whole.index_copy(0, at, row)


def _useful(gradient: Tensor) -> Tensor:
    """(B,) bool: finite and not all zero. The maximum is NaN where any coordinate is."""
    largest = peak(gradient)
    useful: Tensor = (largest > 0) & torch.isfinite(largest)
    return useful
