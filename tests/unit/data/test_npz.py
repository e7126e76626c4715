"""npz files: keys, names, streaming; pickle never."""

import numpy as np
import pytest

from potemkin.data.load import load_data
from potemkin.errors import DataError
from unit.data.builders import classes, pixels, write_npz

X, Y = pixels(5, 6, 4), classes(5)


@pytest.mark.parametrize("inputs", ["images", "inputs", "x"])
@pytest.mark.parametrize("labels", ["labels", "y"])
def test_keys(tmp_path, inputs, labels):
    path = write_npz(tmp_path / "some.npz", **{inputs: X, labels: Y, "extra": np.zeros(3)})
    source = load_data(path)
    assert (len(source), source.input_shape, source.classes, source.class_names) == (5, (1, 6, 4), None, None)
    (batch,) = source.batches(9)
    assert batch.ids == [0, 1, 2, 3, 4]
    assert batch.labels.tolist() == Y.tolist()
    assert np.array_equal(batch.inputs[:, 0].numpy(), X.astype(np.float32) / np.float32(255))


@pytest.mark.parametrize("key", ["names", "class_names"])
def test_names_of_the_classes(tmp_path, key):
    names = ["ant", "bee", "cow", "dog"]
    source = load_data(str(write_npz(tmp_path / "some.npz", x=X, y=Y, **{key: np.array(names)})))
    assert (source.classes, source.class_names) == (4, names)


def test_the_name_is_short(tmp_path):
    (tmp_path / "home" / "ada").mkdir(parents=True)
    assert load_data(write_npz(tmp_path / "home" / "ada" / "x.npz", x=X, y=Y)).name == "ada/x.npz"


def test_a_float64_file_stays_as_it_is_until_served(tmp_path):
    values = np.random.default_rng(0).random((5, 3))
    (batch,) = load_data(write_npz(tmp_path / "x.npz", x=values, y=Y)).batches(5)
    assert np.array_equal(batch.inputs.numpy(), values.astype(np.float32))


def test_members_that_are_not_needed_are_not_read(tmp_path):
    objects = np.array([{"a": 1}], dtype=object)
    path = tmp_path / "x.npz"
    np.savez(path, allow_pickle=True, x=X, y=Y, notes=objects)
    assert len(load_data(path)) == 5


class Bomb:
    """Unpickled, it would leave a mark."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (open, (str(self.mark), "w"))


@pytest.mark.parametrize("key", ["x", "y"])
def test_pickles_are_refused_and_never_run(tmp_path, key):
    mark = tmp_path / "mark"
    members = {"x": X, "y": Y, key: np.array([Bomb(mark)] * 5, dtype=object)}
    path = tmp_path / "x.npz"
    np.savez(path, allow_pickle=True, **members)
    with pytest.raises(DataError, match=rf"'{key}' in .* object array.*pickle runs code: refused"):
        load_data(path)
    assert not mark.exists()


def test_damaged_files(tmp_path):
    good = write_npz(tmp_path / "good.npz", x=X, y=Y).read_bytes()
    bad = tmp_path / "bad.npz"
    for content in (b"", b"no zip at all", good[: len(good) // 2], good[:-30]):
        bad.write_bytes(content)
        with pytest.raises(DataError, match=r"bad\.npz is no readable npz file"):
            load_data(bad)
    for place in range(0, len(good), 7):  # a flipped byte: either refused as data, or it was not in what is read
        bad.write_bytes(good[:place] + bytes([good[place] ^ 0xFF]) + good[place + 1 :])
        try:
            list(load_data(bad).batches(5))
        except DataError as error:
            assert "bad.npz" in str(error)


def test_a_bare_array_under_the_wrong_name(tmp_path):
    with (tmp_path / "x.npz").open("wb") as file:
        np.save(file, X)
    with pytest.raises(DataError, match=r"one bare array.*np\.savez_compressed"):
        load_data(tmp_path / "x.npz")
