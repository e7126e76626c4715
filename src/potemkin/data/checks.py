"""What is refused before it can spoil a verdict: NaN, labels out of range, inputs outside of the box, wrong shapes."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from potemkin.core.explain import counted
from potemkin.data.labels import check_labels
from potemkin.data.sampling import known_labels
from potemkin.data.source import Batch, DataSource, Positions, as_positions
from potemkin.errors import DataError

SLACK = 1e-6  # of the box's width: what float32 rounding on the way here may have moved
_LOOK = 64
_NAMED = 5
_DECLARE = "or declare the box that the model takes: --box LOW,HIGH (in Python: Classifier(net, box=(low, high)))."


def check_source(
    source: DataSource,
    *,
    box: tuple[float, float],
    classes: int | None = None,
    positions: Positions | None = None,
) -> None:
    """A first look, so that bad data are refused at once: sizes, shapes, all labels if known, the first 64 examples.

    `box` is (low, high), either end may be infinite; `classes` are the model's, None where unknown; `positions` are
    those that will be evaluated (None: all). The other examples are looked at by `checked_batches`.

    Errors: DataError with what was found, what was expected and what to do.
    """
    name = source.name
    if len(source) == 0 or (positions is not None and len(positions) == 0):
        raise DataError(f"There are no examples to evaluate in {name}: expected at least one.")
    _check_classes(source, classes)
    labels = known_labels(source)
    if labels is not None:
        check_labels(labels, name, classes)
    chosen = range(min(_LOOK, len(source))) if positions is None else positions[:_LOOK]
    first = _first(source, chosen)
    check_batch(first, name, box=box, classes=classes, input_shape=source.input_shape)
    again = _first(source, chosen)
    if not (torch.equal(first.inputs, again.inputs) and torch.equal(first.labels, again.labels)):
        raise DataError(
            f"{name} gave other inputs or labels when the first {counted(len(first), 'example')} had to be read a "
            "second time: a random augmentation, or shuffling? An evaluation needs fixed examples; switch that off."
        )


def checked_batches(
    source: DataSource, positions: Positions | None, size: int, box: tuple[float, float], classes: int | None
) -> Iterator[Batch]:
    """`source.batches(size, positions)`, each batch checked before it is handed on (nothing is read twice)."""
    wanted = as_positions(positions, len(source))
    done = 0
    for batch in source.batches(size, positions):
        check_batch(batch, source.name, box=box, classes=classes, input_shape=source.input_shape)
        if not np.array_equal(batch.positions.numpy(), wanted[done : done + len(batch)]):
            raise DataError(f"{source.name} gave other examples than those asked for, from number {done} on.")
        done += len(batch)
        yield batch
    if done != len(wanted):
        raise DataError(f"{source.name} gave {counted(done, 'example')}, expected {len(wanted)}: some were skipped.")


def check_batch(
    batch: Batch,
    name: str,
    *,
    box: tuple[float, float],
    classes: int | None = None,
    input_shape: tuple[int, ...] | None = None,
) -> None:
    """Refuse a batch: wrong types or shapes, NaN or infinite inputs, labels out of range, inputs outside the box."""
    _check_form(batch, name, input_shape)
    check_labels(batch.labels.numpy(), name, classes)
    finite = torch.isfinite(batch.inputs).flatten(1).all(dim=1)
    if not bool(finite.all()):
        raise DataError(
            f"The inputs of {name} are NaN or infinite in {_share(~finite)}: {_named(batch, ~finite)}. Mend or leave "
            "out these examples (np.isfinite(inputs))."
        )
    _check_box(batch, name, box)


def _first(source: DataSource, positions: Positions) -> Batch:
    for batch in source.batches(_LOOK, positions):
        return batch
    raise DataError(
        f"{source.name} gave no examples, though its length is {len(source)}: look at what its batches() yields."
    )


def _check_form(batch: Batch, name: str, input_shape: tuple[int, ...] | None) -> None:
    count = len(batch.ids)
    shape = tuple(batch.inputs.shape)
    if batch.inputs.dtype != torch.float32 or batch.labels.dtype != torch.int64:
        found = f"{batch.inputs.dtype} and {batch.labels.dtype}"
        raise DataError(f"{name} gave inputs and labels of {found}, expected torch.float32 and torch.int64.")
    if batch.inputs.device.type != "cpu" or batch.labels.device.type != "cpu":
        raise DataError(f"{name} gave a batch on {batch.inputs.device}: give it on the CPU, the evaluation moves it.")
    if batch.labels.shape != (count,) or batch.positions.shape != (count,) or shape[:1] != (count,):
        found = f"inputs {shape}, labels {tuple(batch.labels.shape)}, positions {tuple(batch.positions.shape)}"
        raise DataError(f"{name} gave a batch of {count} ids with {found}: expected one of each per id.")
    if input_shape is not None and shape[1:] != tuple(input_shape):
        raise DataError(f"{name} gave inputs of shape {shape[1:]}, but its examples have shape {tuple(input_shape)}.")


def _check_classes(source: DataSource, classes: int | None) -> None:
    held = source.classes
    if classes is None or held is None or held == classes:
        return
    names = ", ".join((source.class_names or [])[:_NAMED])
    listed = f" ({names}{', ...' if held > _NAMED else ''})" if names else ""
    if held > classes:
        raise DataError(
            f"There are {held} classes in {source.name}{listed}, but the model answers for {classes}: do they belong "
            "together?"
        )
    if getattr(source, "labels_by_rank", False):
        raise DataError(
            f"{source.name} has {counted(held, 'class subfolder')}{listed}, but the model answers for {classes}: a "
            "label is the rank of its subfolder's name, so these cannot be the model's class numbers. Add the missing "
            "subfolders (empty ones count), or give a 'path.py:function' that returns (inputs, labels)."
        )


def _check_box(batch: Batch, name: str, box: tuple[float, float]) -> None:
    low, high = float(box[0]), float(box[1])
    width = high - low
    # A half-open box has no width; then the finite end gives the scale.
    scale = width if math.isfinite(width) else max([1.0] + [abs(end) for end in (low, high) if math.isfinite(end)])
    inputs = batch.inputs.flatten(1)
    outside = ((inputs < low - SLACK * scale) | (inputs > high + SLACK * scale)).any(dim=1)
    if not bool(outside.any()):
        return
    inputs = inputs.double()
    least, most = float(inputs.min()), float(inputs.max())
    mean, std = float(inputs.mean()), float(inputs.std(correction=0))
    raise DataError(
        f"The inputs of {name} lie outside of the box [{low:g}, {high:g}] in {_share(outside)}: "
        f"{_named(batch, outside)}. Found there: min {least:.4g}, max {most:.4g}, mean {mean:.4g}, std {std:.4g}. "
        f"{_advice(batch.inputs, mean, std, (low, high))}"
    )


def _advice(inputs: Tensor, mean: float, std: float, box: tuple[float, float]) -> str:
    least, most = float(inputs.min()), float(inputs.max())
    span = f"[{box[0]:g}, {box[1]:g}]"
    if inputs.dim() == 2:
        return _advice_for_features(least, most, mean, std, span)
    if box == (0.0, 1.0) and least >= 0 and most <= 255 and bool((inputs == inputs.round()).all()):
        top = 16 if most <= 16 else 255
        return (
            f"They look like pixels from 0 to {top}: divide by {top}, or give uint8 images, which are divided by 255."
        )
    if box == (0.0, 1.0) and -1 <= least < -0.5 and most <= 1:
        return (
            "They look scaled to [-1, 1]: give (inputs + 1) / 2, or declare the box that the model takes, --box=-1,1 "
            "(in Python: Classifier(net, box=(-1, 1)))."
        )
    if least < 0 and abs(mean) < 0.8 and 0.3 < std < 2.5 and most < 20:
        return (
            "They look normalised. Mean and std belong to the model (--mean and --std; in Python "
            "Classifier(net, preprocessing=pk.Preprocessing(mean=..., std=...))): "
            f"give pixels in {span}, so that eps is measured in the box."
        )
    return f"Scale the inputs into {span}, {_DECLARE}"


def _advice_for_features(least: float, most: float, mean: float, std: float, span: str) -> str:
    """For rows of features: there is no pixel range to go back to."""
    if least < 0 and abs(mean) < 0.8 and 0.3 < std < 2.5:
        end = math.ceil(max(4.0, -least, most))
        return (
            f"Standardised features? Declare their range: --box=-{end},{end} or --box=-inf,inf "
            f"(in Python: Classifier(net, box=(-{end}, {end})))."
        )
    return f"Scale the features into {span}, {_DECLARE}"


def _share(which: Tensor) -> str:
    """ "3 of the 64 examples looked at", and no "1 of the 1 examples"."""
    if len(which) == 1:
        return "the one example looked at"
    return f"{int(which.sum())} of the {len(which)} examples looked at"


def _named(batch: Batch, which: Tensor) -> str:
    places = np.flatnonzero(which.numpy())
    listed = ", ".join(repr(batch.ids[place]) for place in places[:_NAMED])
    more = f" and {len(places) - _NAMED} more" if len(places) > _NAMED else ""
    return f"{'ids' if len(places) > 1 else 'id'} {listed}{more}"
