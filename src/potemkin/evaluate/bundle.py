"""The bundle: the folder that an evaluation leaves behind, everything needed to check it again.

    record.json                 the Record
    examples.jsonl              one ExampleLine per example, in data order
    adversarials.safetensors    "inputs" (broken, *shape): the exact float32 tensors that were verified;
                                "positions" (n): each line's place in the data;
                                "gallery_clean" and "gallery_attempt" (g, *shape): the pictures of the report
    report.html                 drawn from the three above

Writing lives in `bundle_write`, reading in `bundle_read`; neither loads torch.
"""

from __future__ import annotations

from potemkin.evaluate.bundle_read import Bundle, read_bundle
from potemkin.evaluate.bundle_write import BundleWriter

__all__ = ["Bundle", "BundleWriter", "read_bundle"]
