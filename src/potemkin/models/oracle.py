"""The model as the adversary may call it: every forward, backward and query counted, more than declared refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from potemkin.core.explain import first_line
from potemkin.errors import AccessError, ConfigError, ModelError, PotemkinError
from potemkin.models.classifier import Classifier
from potemkin.threat.access import Access

Purpose = Literal["clean", "search", "verify", "check"]


@dataclass
class Cost:
    """Passes over rows that were really computed, padding included. A backward is input-only: one forward's worth."""

    forwards: int = 0
    backwards: int = 0

    @property
    def forward_equivalents(self) -> int:
        return self.forwards + self.backwards


@dataclass
class Meter:
    """What each row has spent so far: three int64 tensors (B,)."""

    forwards: Tensor
    backwards: Tensor
    queries: Tensor

    @staticmethod
    def zeros(rows: int, device: str | torch.device = "cpu") -> Meter:
        """A meter at zero for `rows` rows."""
        forwards, backwards, queries = torch.zeros(3, rows, dtype=torch.int64, device=device).unbind()
        return Meter(forwards, backwards, queries)

    def take(self, index: Tensor) -> Meter:
        """The rows at `index` (int64 positions or a boolean mask), as a meter of their own."""
        return Meter(self.forwards[index], self.backwards[index], self.queries[index])


@dataclass
class Answer:
    """What one ask returned, at exactly the queried points; everything detached, in the dtype asked in.

    outputs: (B, K) logits; one-hot decisions under decision access; NaN in refused rows.
    value: (B,) the objective, NaN in refused rows; None without an objective.
    gradient: (B, ...) of the value with respect to the query, 0 in rows that do not climb; None if not asked for.
    refused: (B,) bool, rows whose query budget is used up: neither counted nor answered.
    detached: the outputs do not depend on the query through any differentiable path (an argmax, a no_grad, a rounding
        inside the model): `gradient` is all zeros because there is none, no backward ran, none was counted.
    """

    outputs: Tensor
    value: Tensor | None = None
    gradient: Tensor | None = None
    refused: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.bool))
    detached: bool = False

    def __post_init__(self) -> None:
        if self.refused.shape != self.outputs.shape[:1]:  # left out: nothing was refused
            self.refused = torch.zeros(self.outputs.shape[0], dtype=torch.bool, device=self.outputs.device)


@dataclass
class Oracle:
    """A metered classifier under declared access.

    `physical` totals the rows really computed, by purpose; the meters hold what each row is charged. Access and query
    budget bind the adversary, that is purpose "search"; "clean", "verify" and "check" are the evaluator's own look.

    >>> oracle = Oracle(Classifier(torch.nn.Flatten()))
    >>> meter, active = Meter.zeros(8), torch.ones(8, dtype=torch.bool)
    >>> answer = oracle.ask(torch.rand(8, 3), active=active, meter=meter, objective=lambda z: z[:, 0], climb=True)
    >>> answer.gradient[0].tolist(), meter.backwards.sum().item(), oracle.physical["search"].forward_equivalents
    ([1.0, 0.0, 0.0], 8, 16)
    """

    classifier: Classifier
    access: Access = field(default_factory=Access)
    physical: dict[Purpose, Cost] = field(
        default_factory=lambda: {"clean": Cost(), "search": Cost(), "verify": Cost(), "check": Cost()}
    )

    def ask(
        self,
        query: Tensor,
        *,
        active: Tensor,
        meter: Meter,
        objective: Callable[[Tensor], Tensor] | None = None,
        climb: bool = False,
        climbing: Tensor | None = None,
        backward: bool = True,
        purpose: Purpose = "search",
    ) -> Answer:
        """One forward on all rows of `query` and, with `climb`, one input-only backward of the objective.

            value_b = objective(f(x))_b,    gradient_b = d value_b / d x_b     for the rows that climb

        Args:
            query: (B, ...) points to ask about, any rank; float32, or float64 if the network is float64 too.
            active: (B,) bool, the rows that are charged; the others are padding.
            meter: (B,) counts, written in place: forwards and queries +1 where active, backwards +1 where climbing too.
            objective: (B, K) -> (B,), always maximised, row by row. Under decision access it sees the decisions.
            climb: whether any row wants a gradient; a Python bool, so that no tensor has to be looked at.
            climbing: (B,) bool, the rows that want it; None: all active ones.
            backward: False where the caller knows that no row wants it now: the forward of a climbing step, whose last
                bit may differ from one without a graph, and zeros for the gradient.
            purpose: whose look it is; see the class.

        Cost: B forwards, B backwards with `climb` and `backward`; no host synchronisation.
        Raises: AccessError for a gradient that the access does not allow; ConfigError for an objective that is not one
            number per row; ModelError when the model fails in either direction.
        """
        searching = purpose == "search"
        if climb:
            self._check_climb(objective, searching)
        refused = self._refused(active, meter) if searching else torch.zeros_like(active)
        counted = active & ~refused
        wanted = (counted if climbing is None else counted & climbing) if climb else None
        decided = searching and not self.access.allows("scores")
        outputs, value, gradient, detached = self._passes(query, objective, wanted, backward, decided)
        meter.forwards += counted
        meter.queries += counted
        self.physical[purpose].forwards += query.shape[0]
        if wanted is not None and gradient is not None:
            meter.backwards += wanted
            self.physical[purpose].backwards += query.shape[0]
        elif wanted is not None:
            gradient = torch.zeros_like(query, requires_grad=False)
        if searching and self.access.queries is not None:
            outputs = outputs.masked_fill(refused.unsqueeze(1), torch.nan)
            value = None if value is None else value.masked_fill(refused, torch.nan)
        return Answer(outputs, value, gradient, refused, detached)

    def _check_climb(self, objective: Callable[[Tensor], Tensor] | None, searching: bool) -> None:
        if objective is None:
            raise ConfigError("climb=True needs an objective: the number per row whose gradient is wanted.")
        if searching and not self.access.allows("gradients"):
            raise AccessError(
                f"A gradient was asked for, but the adversary sees only {self.access.level}. "
                "Use an attack that needs no gradients, or declare Access('gradients')."
            )

    def _refused(self, active: Tensor, meter: Meter) -> Tensor:
        if self.access.queries is None:
            return torch.zeros_like(active)
        return active & (meter.queries >= self.access.queries)

    def _passes(
        self,
        query: Tensor,
        objective: Callable[[Tensor], Tensor] | None,
        wanted: Tensor | None,
        backward: bool,
        decided: bool,
    ) -> tuple[Tensor, Tensor | None, Tensor | None, bool]:
        """Return (outputs, value, gradient, detached): the only place where the network runs.

        The gradient is None where no backward ran.
        """
        # A caller's inference mode would leave no graph behind; whether there is one is decided here alone.
        with torch.inference_mode(False), torch.set_grad_enabled(wanted is not None):
            leaf = query.detach().clone() if query.is_inference() else query.detach()
            leaf = leaf.to(device=self.classifier.device, dtype=self.classifier.answer_dtype(query))
            leaf = leaf.requires_grad_(wanted is not None)
            outputs = self.classifier.forward(leaf)
            if outputs.is_inference():
                outputs = outputs.clone()
            shown = decisions(outputs) if decided else outputs
            value = None if objective is None else _per_row(objective(shown), outputs)
            if wanted is None or value is None:
                return shown.detach(), None if value is None else value.detach(), None, False
            gradient = _input_gradient(value, leaf, wanted) if backward else None
            return shown.detach(), value.detach(), gradient, backward and gradient is None


def decisions(outputs: Tensor) -> Tensor:
    """One-hot (B, K) of the greatest output (the lowest index among ties); rows with a NaN stay NaN."""
    hot = torch.zeros_like(outputs).scatter_(1, outputs.detach().argmax(dim=1, keepdim=True), 1.0)
    return hot.masked_fill(outputs.detach().isnan().any(dim=1, keepdim=True), torch.nan)


def _per_row(value: Tensor, outputs: Tensor) -> Tensor:
    if not isinstance(value, Tensor) or value.shape != outputs.shape[:1]:
        found = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise ConfigError(
            f"The objective returned {found} for outputs of shape {tuple(outputs.shape)}; one number per row is "
            f"needed, shape ({outputs.shape[0]},): reduce over classes, never over rows."
        )
    return value


def _input_gradient(value: Tensor, leaf: Tensor, wanted: Tensor) -> Tensor | None:
    """Gradient of each wanted row's value with respect to that row; None where no path leads back to the input."""
    if not value.requires_grad:
        return None
    try:
        # Weighting by the mask is the gradient of the sum over the wanted rows: the others are not paid for.
        found = torch.autograd.grad(value, leaf, grad_outputs=wanted.to(value.dtype), allow_unused=True)[0]
    except PotemkinError:
        raise
    except Exception as error:  # a user's module raises anything; the cause stays chained
        raise ModelError(
            f"The model's backward pass failed: {type(error).__name__}: {first_line(error)}. Its gradient with "
            "respect to the input is needed: replace the operation that has none, or declare Access('scores') and use "
            "attacks without gradients."
        ) from error
    return None if found is None else found.detach()
