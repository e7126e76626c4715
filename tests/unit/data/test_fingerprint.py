"""The fingerprint: the same for the same examples however they are read, another for any change."""

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from potemkin.core.random import text_key
from potemkin.data.arrays import ArraySource
from potemkin.data.load import load_data
from potemkin.data.source import Fingerprint, fingerprint, id_key
from potemkin.errors import ConfigError
from unit.data.builders import classes, pixels

IMAGES = pixels(11, 4, 4)
LABELS = classes(11)


def of(images=IMAGES, labels=LABELS, ids=None, indices=None):
    return ArraySource(images, labels, ids=ids).fingerprint(indices)


@given(st.integers(1, 20))
def test_the_batch_size_does_not_matter(size):
    assert fingerprint(ArraySource(IMAGES, LABELS), size=size) == of()


def test_it_is_a_sha256_over_ids_labels_and_inputs():
    expected = hashlib.sha256(b"potemkin data 1 [1, 4, 4]\n")
    for place in (4, 2):
        expected.update(f"2:i{place}".encode())
        expected.update(int(LABELS[place]).to_bytes(8, "little"))
        expected.update((IMAGES[place].astype("<f4") / np.float32(255)).tobytes())
    assert of(indices=[4, 2]) == f"sha256:{expected.hexdigest()}"


def test_any_change_changes_it():
    other_pixel, other_label = IMAGES.copy(), LABELS.copy()
    other_pixel[7, 2, 2] ^= 1
    other_label[7] ^= 1
    found = [
        of(),
        of(other_pixel),
        of(labels=other_label),
        of(ids=range(1, 12)),
        of(ids=[str(i) for i in range(11)]),
        of(indices=range(10)),
        of(indices=list(range(11))[::-1]),
        of(IMAGES.reshape(11, 2, 8)),
    ]
    assert len(set(found)) == len(found)


def test_it_says_the_same_for_the_same_values_however_stored():
    assert of((IMAGES / np.float32(255))[:, None].astype(np.float32)) == of()


def test_the_digits_have_not_changed():
    assert (
        load_data("digits").fingerprint() == "sha256:dce1c464423d668a474cfb3a7fa09310528b1e00bb333a4e4fe38a593db51a41"
    )


def test_it_can_grow_while_batches_stream_by():
    source = ArraySource(IMAGES, LABELS)
    grown = Fingerprint(source.input_shape)
    for batch in source.batches(4):
        grown.add(batch)
    assert grown.hexdigest() == of()


def test_id_keys():
    assert id_key(7) == 7
    assert id_key(-3) == -3
    assert id_key(np.int64(9)) == 9 and type(id_key(np.int64(9))) is int
    assert id_key("cat/1.png") == text_key("cat/1.png") != id_key("cat/2.png")
    torch.tensor([id_key("cat/1.png")], dtype=torch.int64)
    for wrong in (True, 1.0, None, (1,)):
        with pytest.raises(ConfigError, match="example id"):
            id_key(wrong)
