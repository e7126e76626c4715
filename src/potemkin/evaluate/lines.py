"""How each example ended: the lines of examples.jsonl, and those that the report shows."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from potemkin.core.outcomes import Outcome
from potemkin.evaluate.fields import Count, ExampleId, Number, Plain, Text, Whole


class GalleryItem(Plain):
    """An example that the report shows; `index` is its row in gallery_clean and gallery_attempt."""

    id: ExampleId
    index: Count
    label: Whole
    clean_prediction: Whole
    attack_prediction: Whole | None
    clean_confidence: Number
    attack_confidence: Number
    outcome: Outcome
    distance: Number
    broken_by: Text | None


class ExampleLine(Plain):
    """One line of examples.jsonl.

    clean_confidence is the softmax of the label's class on the clean input, attack_confidence that of the predicted
    class under attack. Where the example stood among the others is not part of the line, so that lines are identical
    whatever the order and the company: `position` (in the data) stands in adversarials.safetensors, and `adversarial`
    (the row of its tensor `inputs`) is the number of broken lines before this one.
    """

    id: ExampleId
    position: Annotated[int, Field(ge=0, exclude=True)] = 0
    label: Whole
    prediction: Whole
    outcome: Outcome
    why: Text | None = None
    broken_by: Text | None = None
    restart: Whole | None = None
    target: Whole | None = None
    distance: Number = None
    attack_prediction: Whole | None = None
    clean_confidence: Number = None
    attack_confidence: Number = None
    forwards: Count = 0
    backwards: Count = 0
    queries: Count = 0
    adversarial: Annotated[int | None, Field(ge=0, exclude=True)] = None
