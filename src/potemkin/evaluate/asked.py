"""What was asked: the threat model, the model, the data and the settings of a run, as plain data."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from potemkin.evaluate.fields import Count, Number, Plain, Text


class ThreatInfo(Plain):
    """The threat model as data. A side of the box that is unbounded is null."""

    sentence: Text
    notation: Text
    norm: Text
    eps: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    goal: Text
    access: Text
    eight_bit: bool
    box: tuple[Number, Number]


class ModelInfo(Plain):
    """Which model."""

    name: Text
    fingerprint: Text
    parameters: Count
    classes: Count
    input_shape: list[Count]
    preprocessing: Text | None = None
    one_logit: bool = False


class DataInfo(Plain):
    """Which examples: `examples` were chosen out of `total`, `sample` says how."""

    name: Text
    fingerprint: Text
    total: Count
    examples: Count
    sample: Text
    class_names: list[Text] | None = None


class Settings(Plain):
    """What the engine ran with; outcomes are promised identical at equal settings."""

    rows: Count
    stride: Count
    verify_rows: Count
    retire_cycles: bool
    dtype: Text
    device_type: Text
