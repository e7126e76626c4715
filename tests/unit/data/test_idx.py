"""idx files: plain and gzip, checked before anything is believed."""

import struct

import numpy as np
import pytest

from potemkin.data.load import load_data
from potemkin.errors import DataError
from unit.data.builders import classes, idx_bytes, pixels, write_idx

X, Y = pixels(6, 5, 4), classes(6).astype(np.uint8)


@pytest.mark.parametrize("zipped", [False, True])
def test_images_with_the_labels_beside(tmp_path, zipped):
    source = load_data(write_idx(tmp_path, idx_bytes(X), idx_bytes(Y), zipped=zipped))
    (batch,) = source.batches(6)
    assert source.input_shape == (1, 5, 4)
    assert np.array_equal(batch.inputs[:, 0].numpy(), X.astype(np.float32) / np.float32(255))
    assert batch.labels.tolist() == Y.tolist()


def test_one_zipped_and_the_other_not_and_dots_in_names(tmp_path):
    images = write_idx(tmp_path, idx_bytes(X), None, zipped=True)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(Y))
    assert len(load_data(images)) == 6
    (tmp_path / "train-images.idx3-ubyte").write_bytes(idx_bytes(X))
    (tmp_path / "train-labels.idx1-ubyte").write_bytes(idx_bytes(Y))
    assert len(load_data(tmp_path / "train-images.idx3-ubyte")) == 6


def test_recognised_by_content_too(tmp_path):
    (tmp_path / "my-images.bin").write_bytes(idx_bytes(X))
    (tmp_path / "my-labels.bin").write_bytes(idx_bytes(Y))
    assert len(load_data(tmp_path / "my-images.bin")) == 6


HUGE = struct.pack(">BBBBIII", 0, 0, 8, 3, 2**32 - 1, 2**16, 2**16)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(
    ("images", "labels", "said"),
    [
        (idx_bytes(X)[:-1], idx_bytes(Y), "holds 6x5x4 = 120 values, but there are only 119.*truncated"),
        (idx_bytes(X) + b"\0", idx_bytes(Y), "holds 6x5x4 = 120 values, but there are more"),
        (idx_bytes(X)[:9], idx_bytes(Y), "ends inside its header"),
        (b"", idx_bytes(Y), "is no idx file"),
        (b"PK\x03\x04" + bytes(99), idx_bytes(Y), "is no idx file: it starts with 0x504b0304"),
        (HUGE + bytes(50), idx_bytes(Y), "but there are only 50"),
        (idx_bytes(X.astype(">f4"), 0x0D), idx_bytes(Y), "holds float32, expected uint8.*npz"),
        (idx_bytes(Y), idx_bytes(Y), "is the idx file of the labels: give that of the images"),
        (idx_bytes(X), idx_bytes(Y[:4]), "6 inputs but 4 labels"),
        (idx_bytes(X), idx_bytes(X), "has 3 dimensions.*expected 1"),
        (idx_bytes(X), None, "no labels file beside it: found neither .*t10k-labels-idx1-ubyte nor .*[.]gz"),
        (idx_bytes(X[:0]), idx_bytes(Y[:0]), "no examples in"),
    ],
)
def test_refused(tmp_path, zipped, images, labels, said):
    with pytest.raises(DataError, match=said):
        load_data(write_idx(tmp_path, images, labels, zipped=zipped))


def test_a_damaged_gzip(tmp_path):
    path = write_idx(tmp_path, idx_bytes(X), idx_bytes(Y), zipped=True)
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(DataError, match=r"cannot be read .*damaged or truncated"):
        load_data(path)


def test_a_name_from_which_no_labels_file_follows(tmp_path):
    (tmp_path / "pictures.bin").write_bytes(idx_bytes(X))
    with pytest.raises(DataError, match=r"name of its labels file is not known.*train-labels-idx1-ubyte"):
        load_data(tmp_path / "pictures.bin")
