"""Datasets, DataLoaders and other iterables: the same examples on every reading, or a refusal."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from potemkin.data.checks import check_source
from potemkin.data.load import load_data
from potemkin.errors import DataError
from unit.data.builders import classes, pixels

X = torch.from_numpy(np.random.default_rng(0).random((11, 1, 4, 4), dtype=np.float32))
Y = torch.from_numpy(classes(11))
TENSORS = TensorDataset(X, Y)


class Mapped(Dataset):
    classes = ("ant", "bee", "cow")

    def __init__(self, change=lambda x: x):
        self.change = change

    def __len__(self):
        return len(X)

    def __getitem__(self, index):
        if not 0 <= index < len(X):
            raise IndexError(index)
        return self.change(X[index]), int(Y[index])


class Streamed(IterableDataset):
    def __iter__(self):
        return iter(zip(X, Y, strict=True))


class SizedStream(Streamed):
    def __len__(self):
        return len(X)


class Batches:
    """Neither a Dataset nor a loader: batches of 4, 4 and 3, `len` counts batches."""

    def __len__(self):
        return 3

    def __iter__(self):
        return iter([(X[i : i + 4], Y[i : i + 4]) for i in range(0, 11, 4)])


SOURCES = {
    "tensor dataset": TENSORS,
    "mapped": Mapped(),
    "subset": Subset(TENSORS, range(11)),
    "list": list(zip(X, Y.tolist(), strict=True)),
    "sized stream": SizedStream(),
    "batches": Batches(),
    "loader": DataLoader(TENSORS, batch_size=3),
    "loader of one": DataLoader(Mapped(), batch_size=1),
    "loader, not batched": DataLoader(TENSORS, batch_size=None),
    "loader of a stream": DataLoader(SizedStream(), batch_size=4),
    "loader with batch sampler": DataLoader(TENSORS, batch_sampler=[[0, 1, 2], [3], [4, 5, 6, 7, 8], [9, 10]]),
    "workers": DataLoader(TENSORS, batch_size=4, num_workers=1),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_all_give_the_same_examples_again_and_again(kind):
    source = load_data(SOURCES[kind])
    assert (len(source), source.input_shape) == (11, (1, 4, 4))
    for size in (4, 11) if kind == "workers" else (1, 4, 5, 11, 64):
        batches = list(source.batches(size))
        assert [len(batch) for batch in batches] == [min(size, 11 - i) for i in range(0, 11, size)]
        assert torch.equal(torch.cat([batch.inputs for batch in batches]), X)
        assert torch.equal(torch.cat([batch.labels for batch in batches]), Y)
        assert [i for batch in batches for i in batch.ids] == list(range(11))
    some = list(source.batches(3, [1, 5, 6, 9]))
    assert [batch.positions.tolist() for batch in some] == [[1, 5, 6], [9]]
    assert torch.equal(torch.cat([batch.inputs for batch in some]), X[[1, 5, 6, 9]])
    assert source.fingerprint() == load_data((X, Y)).fingerprint()
    check_source(source, box=(0, 1), classes=3)
    assert source.input_shape == (1, 4, 4)


def test_drop_last_is_taken_into_account():
    source = load_data(DataLoader(TENSORS, batch_size=4, drop_last=True))
    assert len(source) == 8
    assert sum(len(batch) for batch in source.batches(3)) == 8


def test_class_names_of_a_dataset():
    assert load_data(Mapped()).class_names == ["ant", "bee", "cow"]
    assert load_data(DataLoader(Mapped(), batch_size=4)).classes == 3


def test_pictures_and_uint8_arrays_become_images():
    colour = pixels(2, 6, 5, 3)
    expected = torch.from_numpy(colour.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255))
    for make in (Image.fromarray, np.asarray, torch.from_numpy):
        (batch,) = load_data([(make(array), 0) for array in colour]).batches(2)
        assert torch.equal(batch.inputs, expected)


def test_the_global_generator_of_torch_does_not_move():
    loader = load_data(DataLoader(TENSORS, batch_size=4))
    before = torch.get_rng_state()
    list(loader.batches(4))
    assert torch.equal(torch.get_rng_state(), before)


def test_loaders_are_read_in_their_order_only():
    with pytest.raises(DataError, match="own order only: ask for ascending positions"):
        list(load_data(DataLoader(TENSORS, batch_size=4)).batches(2, [3, 1]))


def test_random_augmentation_is_noticed():
    noisy = load_data(Mapped(lambda x: (x + 0.1 * torch.rand_like(x)).clamp(0, 1)))
    with pytest.raises(DataError, match="read a second time: a random augmentation"):
        check_source(noisy, box=(0, 1))


class Shrinking:
    """Says 5, gives fewer each time."""

    left = 6

    def __len__(self):
        return 5

    def __iter__(self):
        self.left -= 1
        return iter([(X[i], 0) for i in range(self.left)])


def test_an_iterable_that_ends_early():
    source = load_data(Shrinking())
    with pytest.raises(DataError, match="ended after 4 examples, expected 5"):
        list(source.batches(2))


class Uneven(Batches):
    def __iter__(self):
        return iter([(X[:4], Y[:4]), (X[:4, :, :2], Y[:4]), (X[:3].double(), Y[:3])])


def failing():
    raise RuntimeError("disk on fire")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ((x, y) for x, y in TENSORS), "a generator, which can be read only once.*Give a list"),
        (lambda: zip(X, Y, strict=True), "a zip, which can be read only once"),
        (lambda: iter([(X[0], 0)]), "can be read only once"),
        (lambda: Streamed(), "does not know its length.*__len__"),
        (lambda: DataLoader(Streamed(), batch_size=2), "does not know its length"),
        (lambda: DataLoader(TENSORS, shuffle=True), "shuffles .RandomSampler.*shuffle=False"),
        (list, "holds no examples"),
        (lambda: TensorDataset(X[:0], Y[:0]), "no examples in TensorDataset"),
        (lambda: Mapped, "Mapped itself, not what it makes: call it, Mapped()"),
        (lambda: failing, "failing itself, not what it makes: call it"),
        (lambda: 7, "a int, which cannot be read"),
        (lambda: None, "a NoneType, which cannot be read"),
        (lambda: {"x": X, "y": Y}, "a dict with keys 'x', 'y': give a tuple"),
        (lambda: [{"image": X[0], "label": 0}], "is a dict with keys 'image', 'label', expected pairs"),
        (lambda: [(X[0], 0, 0)], "example 0 .* is a tuple of 3, expected pairs"),
        (lambda: TensorDataset(X), "is a tuple of 1, expected pairs"),
        (lambda: list(X), "are 11 arrays, expected two"),
        (lambda: [(X[0], 0), (X[1, :, :2], 0)], r"Example 1 .* shape \(1, 2, 4\), but the first .*\(1, 4, 4\)"),
        (lambda: [(X[0], 0), (X[1].double(), 0)], "Example 1 .* is float64 .*but the first is float32"),
        (lambda: Uneven(), r"Item 1 of .* shape \(1, 2, 4\), but the first .*\(1, 4, 4\)"),
        (lambda: [(X[0], 0.5), (X[1], 1)], "labels of .* are float64"),
        (lambda: [(X[0], "ant")], "are texts such as 'ant'.*return_inverse"),
        (lambda: [(X[0], -1)], "labels of .* include -1"),
        (lambda: [(X[0], [0, 1, 0])], "one-hot.*argmax"),
        (lambda: [(X[0], [0, 1]), (X[0], 1)], "different shapes"),
        (lambda: [("cat.png", 0)], "expected numbers"),
        (lambda: Mapped(lambda x: failing()), "Reading example 0 .* failed: RuntimeError: disk on fire"),
        (lambda: DataLoader(Mapped(lambda x: failing())), "Reading .* failed: RuntimeError: disk on fire"),
    ],
)
def test_refused(make, said):
    with pytest.raises(DataError, match=said):
        list(load_data(make()).batches(4))
