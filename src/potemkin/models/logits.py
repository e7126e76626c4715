"""What a network returned, read as logits (B, K), or refused with what to do about it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from potemkin.core.explain import counted
from potemkin.errors import ModelError

_WANTED = (
    "A classifier returns one tensor of floating-point scores of shape (B, K): a row per example, a column per class."
)


def as_logits(returned: object, rows: int, classes: int | None = None) -> tuple[Tensor, bool]:
    """Return (logits (B, K) with K >= 2, whether the network has one logit).

    A one-logit network, (B,) or (B, 1), becomes (0, z): softmax of the pair is the sigmoid of z, class 1 is "z > 0".
    Cost: no host synchronisation; only types and shapes are read. NaN passes.
    Raises: ModelError for anything else, and for another number of classes than declared.
    """
    if not isinstance(returned, Tensor):
        raise ModelError(f"{_not_a_tensor(returned)} {_WANTED}")
    shape = tuple(returned.shape)
    if not returned.is_floating_point():
        advice = " These look like decided labels: return the scores before the argmax." if returned.dim() == 1 else ""
        raise ModelError(f"The model returned a tensor of dtype {returned.dtype} and shape {shape}.{advice} {_WANTED}")
    one_logit = shape in ((rows,), (rows, 1))
    if one_logit:
        returned = torch.stack((torch.zeros_like(returned), returned), dim=1).reshape(rows, 2)
    elif len(shape) != 2 or shape[0] != rows or shape[1] == 0:
        found = f"shape {shape} for {counted(rows, 'example')}"
        raise ModelError(f"The model returned {found}.{_shape_advice(shape, rows)} {_WANTED}")
    if classes is not None and returned.shape[1] != classes:
        found = "one logit, that is 2 classes" if one_logit else f"{returned.shape[1]} classes"
        raise ModelError(f"The model returned {found} (shape {shape}), but {classes} were declared (`classes`).")
    return returned, one_logit


def _not_a_tensor(returned: object) -> str:
    if isinstance(returned, Mapping):
        parts = {str(key): _named(value) for key, value in returned.items()}
        pick = next((key for key in parts if "logit" in key.lower()), next(iter(parts), "logits"))
        listed = ", ".join(f"'{key}': {value}" for key, value in parts.items()) or "no keys"
        return (
            f"The model returned a dict with {listed}. Choose one: wrap the network so that forward ends in ['{pick}']."
        )
    if isinstance(returned, tuple | list):
        listed = ", ".join(_named(value) for value in returned) or "nothing"
        return (
            f"The model returned a {type(returned).__name__} of {listed}. "
            "Choose one: wrap the network so that forward ends in [0] (or the place of the logits)."
        )
    return f"The model returned {_named(returned)}."


def _named(value: object) -> str:
    return f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else f"{type(value).__name__}"


def _shape_advice(shape: tuple[int, ...], rows: int) -> str:
    if len(shape) > 2 and shape[0] == rows and all(size == 1 for size in shape[2:]):
        return " Add .flatten(1) at the end of its forward."
    if len(shape) > 2 and shape[0] == rows:
        return " That is a map or a sequence of scores, not one answer per example: pool it, or choose a position."
    if len(shape) == 1 or (len(shape) == 2 and shape[0] != rows):
        return (
            " Its rows are not the examples: a reshape or flatten in its forward mixes them (flatten from dimension 1)."
        )
    return ""


def fixed_answer(net: nn.Module, x: Tensor) -> Tensor:
    """Logits of x as the network stands, without a graph; whatever it draws is drawn from the same seed each time."""
    with torch.random.fork_rng(devices=[x.device] if x.is_cuda else []), torch.no_grad():
        torch.manual_seed(0)
        return as_logits(net(x.clone()), len(x), None)[0]
